//! The host's part of a step's sampling: what each row asks for, as the device reads it.

use device::batch::SlotId;
use device::sampling::{MAX_LOGIT_BIAS, SamplingParams, TokenMask, philox, weight};

use super::args::{self, SampleRow};

/// How one row's token is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// Whose history counts and grows.
    pub slot: SlotId,
    /// Valid for the vocabulary: [`SamplingParams::validate`].
    pub params: &'a SamplingParams,
    /// Tokens that may be chosen; all where absent.
    pub mask: Option<&'a TokenMask>,
    /// The position in the sequence that the chosen token will have.
    pub position: usize,
    /// Where the slot has several rows in the step: the guessed tokens between its last one and this row.
    pub guesses: Option<&'a [u32]>,
}

/// The rows of one step, to be copied to the device: [`StepRows::rows`] and [`StepRows::area`].
#[derive(Clone, Debug, Default)]
pub struct StepRows {
    rows: Vec<SampleRow>,
    area: Vec<u32>,
    /// Scratch: a bias in the order of ids.
    pairs: Vec<(u32, f32)>,
}

impl StepRows {
    /// Forgets the last step's.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.area.clear();
    }

    /// Adds the next row. A slot may appear once in a step, or in consecutive rows that are checked.
    pub fn push(&mut self, choice: Choice<'_>) {
        let Choice { slot, params: p, mask, position, guesses } = choice;
        let mut row = SampleRow {
            scale: weight::scale(p.temperature),
            repetition: p.repetition_penalty,
            presence: p.presence_penalty,
            frequency: p.frequency_penalty,
            slot: slot.cast_signed(),
            n_alternatives: p.n_alternatives,
            ..SampleRow::PADDING
        };
        if p.repetition_penalty != 1.0 || p.presence_penalty != 0.0 || p.frequency_penalty != 0.0 {
            row.flags |= args::PENALTIES;
        }
        if let Some(mask) = mask {
            row.flags |= args::MASK;
            row.mask = self.area.len() as u32;
            self.area.extend_from_slice(mask.words());
        }
        if !p.logit_bias.is_empty() {
            row.flags |= args::BIAS;
            row.bias = self.area.len() as u32;
            row.n_bias = self.add_bias(&p.logit_bias);
        }
        if let Some(guesses) = guesses {
            row.flags |= args::CHECKED;
            row.guesses = self.area.len() as u32;
            self.area.push(guesses.len() as u32);
            self.area.extend_from_slice(guesses);
        }
        if p.is_greedy() {
            row.flags |= args::GREEDY;
        } else {
            row.bits = philox::token_bits(p.seed, position as u64);
            row.top_k = p.top_k;
            for (wanted, flag, field, p) in [
                (p.top_p < 1.0, args::TOP_P, &mut row.top_p, p.top_p),
                (p.min_p > 0.0, args::MIN_P, &mut row.min_p, p.min_p),
                (p.typical_p < 1.0, args::TYPICAL, &mut row.typical_p, p.typical_p),
            ] {
                if wanted {
                    row.flags |= flag;
                    *field = weight::fraction(p);
                }
            }
        }
        self.rows.push(row);
    }

    /// Adds a bias's pairs, those of one id together and in the list's order: floating point sums depend on it.
    fn add_bias(&mut self, bias: &[(u32, f32)]) -> u32 {
        self.pairs.clear();
        self.pairs.extend(bias.iter().take(MAX_LOGIT_BIAS));
        self.pairs.sort_by_key(|&(id, _)| id);
        self.area.extend(self.pairs.iter().flat_map(|&(id, value)| [id, value.to_bits()]));
        self.pairs.len() as u32
    }

    /// Fills up with rows for which nothing is sampled.
    pub fn pad_to(&mut self, n_row: usize) {
        self.rows.resize(self.rows.len().max(n_row), SampleRow::PADDING);
    }

    /// For the buffer `rows`.
    #[must_use]
    pub fn rows(&self) -> &[SampleRow] {
        &self.rows
    }

    /// For the buffer `area`; often empty.
    #[must_use]
    pub fn area(&self) -> &[u32] {
        &self.area
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_what_their_parameters_ask_for_and_no_more() {
        let plain = SamplingParams { seed: 5, ..SamplingParams::default() };
        let mut mask = TokenMask::none(40);
        mask.allow(33);
        let edited = SamplingParams {
            temperature: 0.0,
            top_p: 0.5,
            presence_penalty: 1.0,
            logit_bias: vec![(7, 1.0), (3, 2.0), (7, 3.0)],
            n_alternatives: 4,
            ..SamplingParams::default()
        };
        let filtered = SamplingParams { top_k: 40, top_p: 0.5, min_p: 1.0, typical_p: 0.25, ..plain.clone() };
        let mut step = StepRows::default();
        for (slot, params, mask) in [(2, &plain, None), (0, &edited, Some(&mask)), (1, &filtered, None)] {
            step.push(Choice { slot, params, mask, position: 9, guesses: None });
        }
        step.pad_to(5);
        let [a, b, c, d, e] = step.rows() else { panic!("{:?}", step.rows()) };
        assert_eq!((a.slot, a.flags, a.bits, a.n_bias), (2, 0, philox::token_bits(5, 9), 0));
        assert_eq!(b.flags, args::GREEDY | args::MASK | args::PENALTIES | args::BIAS);
        assert_eq!((b.mask, b.bias, b.n_bias, b.n_alternatives, b.bits), (0, 2, 3, 4, 0));
        assert_eq!(step.area()[..2], [0, 2]);
        assert_eq!(step.area()[2..], [3, 2f32.to_bits(), 7, 1f32.to_bits(), 7, 3f32.to_bits()]);
        assert_eq!((c.flags, c.top_k), (args::TOP_P | args::MIN_P | args::TYPICAL, 40));
        assert_eq!((c.top_p, c.min_p, c.typical_p), (1 << 31, 1 << 32, 1 << 30));
        assert_eq!((d, e), (&SampleRow::PADDING, &SampleRow::PADDING));
        step.clear();
        for guesses in [&[][..], &[8, 9]] {
            step.push(Choice { slot: 1, params: &plain, mask: None, position: 9, guesses: Some(guesses) });
        }
        let [first, third] = step.rows() else { panic!("{:?}", step.rows()) };
        assert_eq!(
            (first.flags, first.guesses, third.flags, third.guesses),
            (args::CHECKED, 0, args::CHECKED, 1)
        );
        assert_eq!(step.area(), [0, 2, 8, 9]);
        step.clear();
        assert!(step.rows().is_empty() && step.area().is_empty());
    }
}
