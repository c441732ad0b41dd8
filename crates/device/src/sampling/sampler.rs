//! The reference sampler: the steps of [`super`], one row at a time.
//!
//! Cost for a vocabulary of n: one pass for the largest logit and one for the sum behind the log probability; with a temperature
//! other than 1 or an edited row one or two more; filters gather the few candidates that they can leave, skipping whole
//! blocks that cannot hold any. No sort.

use super::candidates::{self, Candidate};
use super::passes::{BLOCK, Passes, larger};
use super::weight::{self, LogSoftmax, exponent, weight};
use super::{SamplingParams, SlotState, TokenMask, philox};
use crate::batch::Sampled;

/// One row's logits and how its token is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// `[n_vocab]`.
    pub logits: &'a [f32],
    /// See [`super`].
    pub params: &'a SamplingParams,
    /// Tokens that may be chosen; all where absent.
    pub mask: Option<&'a TokenMask>,
    /// The position in the sequence that the chosen token will have: that of the row plus 1.
    pub position: usize,
}

/// The reference sampler: scratch memory only, taken with the first row; nothing of one call changes the next one's result.
#[derive(Debug, Default)]
pub struct Sampler {
    /// `[n_vocab]`: the logits after steps 1 to 4, where these change any.
    edited: Vec<f32>,
    blocks: Blocks,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// One that makes its passes so.
    #[must_use]
    pub fn with(passes: Passes) -> Sampler {
        Sampler { blocks: Blocks { passes, ..Blocks::default() }, ..Sampler::default() }
    }

    /// Chooses a token and adds it to the slot's answer.
    ///
    /// Where no token may be chosen (every logit is −∞ or NaN, masked or banned) the result is [`Sampled::nothing`].
    pub fn sample(&mut self, row: Row<'_>, slot: &mut SlotState) -> Sampled {
        let sampled = self.choose(row, slot).unwrap_or_else(Sampled::nothing);
        slot.push(sampled.token);
        sampled
    }

    /// How likely a given token is after these logits, `[n_vocab]`, and the likeliest `n` beside it: the numbers that
    /// [`Sampler::sample`] gives where it chooses that token. Logits that are no distribution (all −∞ or NaN) give −∞ and none beside it.
    pub fn score(&mut self, logits: &[f32], token: u32, n: u32) -> Sampled {
        let max = self.blocks.find_max(logits);
        if max == f32::INFINITY {
            return self.score(&without_infinity(logits), token, n);
        }
        if max == f32::NEG_INFINITY {
            return Sampled { token, ..Sampled::nothing() };
        }
        let (score, _) = self.scores(logits, max, n);
        score.of(token)
    }

    /// The log probabilities of a row with this largest logit, and the sum of its weights.
    fn scores<'a>(&mut self, logits: &'a [f32], max: f32, n: u32) -> (Scores<'a>, u64) {
        let total = self.blocks.find_sums(logits, max, weight::scale(1.0));
        let best = if n == 0 { Vec::new() } else { self.blocks.best(logits, n as usize) };
        (Scores { logits, softmax: LogSoftmax::new(max, total), best }, total)
    }

    fn choose(&mut self, row: Row<'_>, slot: &mut SlotState) -> Option<Sampled> {
        let max = self.blocks.find_max(row.logits);
        if max == f32::INFINITY {
            // Only a broken model gives +∞, so this may cost an allocation.
            return self.choose(Row { logits: &without_infinity(row.logits), ..row }, slot);
        }
        if max == f32::NEG_INFINITY {
            return None;
        }
        let (scores, total) = self.scores(row.logits, max, row.params.n_alternatives);
        let token = if edits(row) {
            let mut z = std::mem::take(&mut self.edited);
            edit(&mut z, row, slot);
            let max = self.blocks.find_max(&z);
            let token =
                if max > f32::NEG_INFINITY { self.pick(Row { logits: &z, ..row }, max, None) } else { None };
            self.edited = z;
            token?
        } else {
            self.pick(row, max, Some(total))?
        };
        Some(scores.of(token))
    }

    /// Steps 5 to 11 for edited logits with this maximum. `total` is given where the blocks hold the sums of temperature 1.
    fn pick(&mut self, row: Row<'_>, max: f32, total: Option<u64>) -> Option<u32> {
        let Row { logits: z, params, .. } = row;
        if params.is_greedy() {
            return self.blocks.first_of(z, max);
        }
        let scale = weight::scale(params.temperature);
        let bits = philox::token_bits(params.seed, row.position as u64);
        let truncates = params.top_p < 1.0 || params.min_p > 0.0;
        let candidates = if params.top_k == 0 && params.typical_p >= 1.0 {
            let total = match total {
                Some(total) if params.temperature == 1.0 => total,
                _ => self.blocks.find_sums(z, max, scale),
            };
            if !truncates {
                return self.blocks.draw(z, max, scale, bits);
            }
            let least = candidates::least_exponent(params, z.len(), total);
            self.gather(z, max, scale, |z| exponent(z, max, scale) >= least);
            candidates::top_p(&mut self.candidates, params.top_p, total);
            &mut self.candidates
        } else {
            let least = self.blocks.bound_of_best(params.top_k as usize);
            self.gather(z, max, scale, |z| z >= least);
            let candidates = &mut self.candidates;
            candidates::top_k(candidates, params.top_k as usize);
            candidates::typical(candidates, params.typical_p, max, scale);
            let total = candidates::total(candidates);
            candidates::top_p(candidates, params.top_p, total);
            candidates
        };
        candidates::min_p(candidates, params.min_p);
        candidates::draw(candidates, bits)
    }

    /// Every token of positive weight that `keep`, which must be monotonic, lets through.
    fn gather(&mut self, z: &[f32], max: f32, scale: f32, keep: impl Fn(f32) -> bool) {
        self.candidates.clear();
        for (b, block) in z.chunks(BLOCK).enumerate() {
            if !keep(self.blocks.max[b]) {
                continue;
            }
            for (i, &z) in block.iter().enumerate() {
                if keep(z) {
                    let weight = weight(exponent(z, max, scale));
                    if weight > 0 {
                        self.candidates.push(Candidate::new((b * BLOCK + i) as u32, z, weight));
                    }
                }
            }
        }
    }
}

/// A row's own distribution, before any step changes it.
struct Scores<'a> {
    logits: &'a [f32],
    softmax: LogSoftmax,
    /// The likeliest ids.
    best: Vec<u32>,
}

impl Scores<'_> {
    /// A token with its log probability, beside the likeliest.
    fn of(self, token: u32) -> Sampled {
        let logit = |id: u32| self.logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
        let logprob = |id| self.softmax.of(logit(id));
        let alternatives = self.best.iter().map(|&id| (id, logprob(id))).collect();
        Sampled { token, logprob: logprob(token), alternatives }
    }
}

/// +∞ and NaN as −∞.
fn without_infinity(logits: &[f32]) -> Vec<f32> {
    logits.iter().map(|&l| if l < f32::INFINITY { l } else { f32::NEG_INFINITY }).collect()
}

/// Whether steps 1 to 4 change any logit.
fn edits(row: Row<'_>) -> bool {
    let p = row.params;
    row.mask.is_some() || !p.logit_bias.is_empty() || penalises(p)
}

fn penalises(p: &SamplingParams) -> bool {
    p.repetition_penalty != 1.0 || p.presence_penalty != 0.0 || p.frequency_penalty != 0.0
}

/// Steps 1 to 4. Ids past the vocabulary are not there to edit.
fn edit(z: &mut Vec<f32>, row: Row<'_>, slot: &mut SlotState) {
    let p = row.params;
    z.clear();
    z.extend_from_slice(row.logits);
    if let Some(mask) = row.mask {
        for (id, z) in z.iter_mut().enumerate() {
            if !mask.allows(id as u32) {
                *z = f32::NEG_INFINITY;
            }
        }
    }
    for &(id, bias) in &p.logit_bias {
        if let Some(z) = z.get_mut(id as usize) {
            *z += bias;
        }
    }
    if !penalises(p) {
        return;
    }
    for (id, count) in slot.counts() {
        let Some(z) = z.get_mut(id as usize) else { continue };
        *z = if *z > 0.0 { *z / p.repetition_penalty } else { *z * p.repetition_penalty };
        if count > 0 {
            *z = (*z - count as f32 * p.frequency_penalty) - p.presence_penalty;
        }
    }
}

/// What is known of each block of logits. `[ceil(n_vocab / BLOCK)]`.
#[derive(Debug, Default)]
struct Blocks {
    passes: Passes,
    /// The largest that is a number.
    max: Vec<f32>,
    /// The sum of the weights.
    sum: Vec<u64>,
    /// Scratch of [`Blocks::bound_of_best`].
    order: Vec<f32>,
}

impl Blocks {
    /// The largest logit; −∞ where there is none. NaN is passed over.
    fn find_max(&mut self, z: &[f32]) -> f32 {
        (self.passes.largest)(z, &mut self.max);
        self.max.iter().copied().fold(f32::NEG_INFINITY, larger)
    }

    /// The sum of all weights.
    fn find_sums(&mut self, z: &[f32], max: f32, scale: f32) -> u64 {
        (self.passes.sums)(z, (max, scale), &mut self.sum);
        self.sum.iter().sum()
    }

    /// The lowest id whose logit is `max`.
    fn first_of(&self, z: &[f32], max: f32) -> Option<u32> {
        let block = self.max.iter().position(|&m| m == max)? * BLOCK;
        let within = z.get(block..)?.iter().position(|&z| z == max)?;
        Some((block + within) as u32)
    }

    /// Step 11 where nothing was filtered, from the sums of [`Blocks::find_sums`].
    fn draw(&self, z: &[f32], max: f32, scale: f32, bits: u64) -> Option<u32> {
        let total: u64 = self.sum.iter().sum();
        let mut r = ((u128::from(bits) * u128::from(total)) >> 64) as u64;
        for (b, (&sum, block)) in self.sum.iter().zip(z.chunks(BLOCK)).enumerate() {
            if r >= sum {
                r -= sum;
                continue;
            }
            for (i, &z) in block.iter().enumerate() {
                let weight = weight(exponent(z, max, scale));
                if r < weight {
                    return Some((b * BLOCK + i) as u32);
                }
                r -= weight;
            }
        }
        None
    }

    /// A logit that at least `k` logits reach: the k-th largest of the blocks' maxima. −∞ for k = 0 or with fewer blocks.
    fn bound_of_best(&mut self, k: usize) -> f32 {
        if k == 0 || k > self.max.len() {
            return f32::NEG_INFINITY;
        }
        self.order.clear();
        self.order.extend_from_slice(&self.max);
        *self.order.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
    }

    /// The first `n` ids by rank whose logits are above −∞.
    fn best(&mut self, z: &[f32], n: usize) -> Vec<u32> {
        let least = self.bound_of_best(n);
        let mut keys: Vec<u64> = Vec::new();
        for (b, block) in z.chunks(BLOCK).enumerate().filter(|&(b, _)| self.max[b] >= least) {
            let reaching = block.iter().enumerate().filter(|&(_, &z)| z >= least && z > f32::NEG_INFINITY);
            keys.extend(reaching.map(|(i, &z)| candidates::rank_key((b * BLOCK + i) as u32, z)));
        }
        if n < keys.len() {
            keys.select_nth_unstable_by(n, |a, b| b.cmp(a));
            keys.truncate(n);
        }
        keys.sort_unstable_by(|a, b| b.cmp(a));
        keys.into_iter().map(|key| !(key as u32)).collect()
    }
}

impl Sampled {
    /// What comes back where no token may be chosen: token 0, an id that a step run ahead can safely compute before it is thrown away,
    /// with the log probability −∞, which no chosen token has.
    #[must_use]
    pub fn nothing() -> Sampled {
        Sampled { token: 0, logprob: f32::NEG_INFINITY, alternatives: Vec::new() }
    }

    /// Whether a token was chosen.
    #[must_use]
    pub fn is_choice(&self) -> bool {
        self.logprob > f32::NEG_INFINITY
    }
}
