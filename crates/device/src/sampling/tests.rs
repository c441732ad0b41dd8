//! Does each step of the sampler do what the module's text says, and nothing else?

use super::philox::{philox4x32_10, token_bits};
use super::weight::{exp2, exponent, scale, share, weight};
use super::*;

/// The vectors published with Random123 (kat_vectors, philox4x32 10).
#[test]
fn philox_gives_the_published_vectors() {
    for (counter, key, expected) in [
        ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ] {
        assert_eq!(philox4x32_10(counter, key), expected);
    }
}

#[test]
fn exp2_is_close_and_defined_everywhere() {
    let mut worst = 0f64;
    for i in 0..400_000 {
        let e = -(i as f32) * 3e-4;
        let exact = f64::from(e).exp2();
        worst = worst.max((f64::from(exp2(e)) - exact).abs() / exact);
    }
    assert!(worst < 3e-7, "{worst}");
    assert_eq!((weight(0.0), weight(-1.0), weight(-40.0), weight(-42.0)), (1 << 40, 1 << 39, 1, 0));
    assert_eq!((weight(f32::NEG_INFINITY), weight(f32::NAN), weight(-1e30)), (0, 0, 0));
}

/// A generator for the tests: numbers in [0, 1).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 += 1;
        (token_bits(99, self.0) >> 40) as f32 / (1u64 << 24) as f32
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() * n as f32) as usize
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }
}

/// The text of the module as code, with sorts.
fn plainly(row: Row<'_>, prompt: &[u32], answer: &[u32]) -> Option<u32> {
    let p = row.params;
    let mut z: Vec<f32> =
        row.logits.iter().map(|&l| if l < f32::INFINITY { l } else { f32::NEG_INFINITY }).collect();
    for (id, z) in z.iter_mut().enumerate() {
        if row.mask.is_some_and(|m| !m.allows(id as u32)) {
            *z = f32::NEG_INFINITY;
        }
        for &(i, bias) in &p.logit_bias {
            *z += if i == id as u32 { bias } else { 0.0 };
        }
        let count = answer.iter().filter(|&&a| a == id as u32).count();
        if count > 0 || prompt.contains(&(id as u32)) {
            *z = if *z > 0.0 { *z / p.repetition_penalty } else { *z * p.repetition_penalty };
        }
        if count > 0 {
            *z = (*z - count as f32 * p.frequency_penalty) - p.presence_penalty;
        }
    }
    let max = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY {
        return None;
    }
    if p.temperature == 0.0 {
        return z.iter().position(|&z| z == max).map(|id| id as u32);
    }
    let e = |id: usize| exponent(z[id], max, scale(p.temperature));
    let w = |id: usize| weight(e(id));
    let sum = |ids: &[usize]| ids.iter().map(|&id| w(id)).sum::<u64>();
    let start = |ids: &mut Vec<usize>, fraction: f32| {
        let need = share(sum(ids), fraction);
        let n = (1..=ids.len()).find(|&n| sum(&ids[..n]) >= need).unwrap();
        ids.truncate(n);
    };
    let mut ids: Vec<usize> = (0..z.len()).filter(|&id| w(id) > 0).collect();
    ids.sort_by(|&a, &b| z[b].partial_cmp(&z[a]).unwrap());
    if p.top_k > 0 {
        ids.truncate(p.top_k as usize);
    }
    if p.typical_p < 1.0 {
        let fixed = |id: usize| (f64::from(e(id)) * 1_048_576.0).trunc() as i128;
        let weighted: i128 = ids.iter().map(|&id| i128::from(w(id)) * fixed(id)).sum();
        let mean = weighted.div_euclid(i128::from(sum(&ids)));
        let rank = ids.clone();
        ids.sort_by_key(|&id| ((mean - fixed(id)).abs(), rank.iter().position(|&r| r == id)));
        start(&mut ids, p.typical_p);
        ids.sort_by_key(|&id| rank.iter().position(|&r| r == id));
    }
    if p.top_p < 1.0 {
        start(&mut ids, p.top_p);
    }
    let least = share(w(ids[0]), p.min_p);
    ids.retain(|&id| w(id) >= least);
    ids.sort_unstable();
    let r = ((u128::from(token_bits(p.seed, row.position as u64)) * u128::from(sum(&ids))) >> 64) as u64;
    (1..=ids.len()).find(|&n| sum(&ids[..n]) > r).map(|n| ids[n - 1] as u32)
}

#[test]
fn the_sampler_does_what_the_text_says() {
    let mut numbers = Numbers(0);
    let mut sampler = Sampler::default();
    let mut nothing = 0;
    for case in 0..3000 {
        let n_vocab = numbers.one_of(&[1, 2, 127, 128, 129, 700]);
        // Coarse logits make ties; a few are not numbers.
        let spread = numbers.one_of(&[0.0, 1.0, 8.0, 40.0]);
        let coarse = numbers.next() < 0.5;
        let logits: Vec<f32> = (0..n_vocab)
            .map(|_| match numbers.below(200) {
                0 => numbers.one_of(&[f32::NAN, f32::NEG_INFINITY, f32::INFINITY, -0.0]),
                _ => {
                    let l = (numbers.next() - 0.5) * spread;
                    if coarse { l.round() } else { l }
                }
            })
            .collect();
        let params = SamplingParams {
            temperature: numbers.one_of(&[0.0, 0.3, 1.0, 1.0, 1.7, 1e-38]),
            top_k: numbers.one_of(&[0, 0, 1, 3, 40]),
            top_p: numbers.one_of(&[1.0, 1.0, 0.95, 0.5, 0.0]),
            min_p: numbers.one_of(&[0.0, 0.0, 0.05, 0.5, 1.0]),
            typical_p: numbers.one_of(&[1.0, 1.0, 0.9, 0.2, 0.0]),
            repetition_penalty: numbers.one_of(&[1.0, 1.0, 1.3]),
            presence_penalty: numbers.one_of(&[0.0, 0.0, 0.4]),
            frequency_penalty: numbers.one_of(&[0.0, 0.0, 0.7]),
            logit_bias: (0..numbers.below(3))
                .map(|_| (numbers.below(n_vocab + 1) as u32, numbers.one_of(&[-2.0, 3.5, f32::NEG_INFINITY])))
                .collect(),
            seed: case,
            n_alternatives: numbers.one_of(&[0, 0, 5]),
        };
        let mask = (numbers.next() < 0.2).then(|| {
            let mut mask = TokenMask::none(n_vocab);
            (0..n_vocab as u32).filter(|_| numbers.next() < 0.3).for_each(|id| mask.allow(id));
            mask
        });
        let prompt: Vec<u32> = (0..numbers.below(20)).map(|_| numbers.below(n_vocab) as u32).collect();
        let mut slot = SlotState::default();
        slot.begin(prompt.clone().into());
        let mut answer = Vec::new();
        for step in 0..3 {
            let row =
                Row { logits: &logits, params: &params, mask: mask.as_ref(), position: prompt.len() + step };
            let expected = plainly(row, &prompt, &answer);
            let sampled = sampler.sample(row, &mut slot);
            assert_eq!(sampled.is_choice().then_some(sampled.token), expected, "case {case} {params:?}");
            nothing += usize::from(expected.is_none());
            answer.push(sampled.token);
            assert_eq!(slot.last(), Some(sampled.token));
        }
    }
    assert!(nothing > 20, "the cases reach rows that allow nothing");
}

#[test]
fn log_probabilities_are_the_models_own() {
    let logits = [1.0, 3.0, f32::NAN, 3.0, -2.0, f32::NEG_INFINITY];
    let params = SamplingParams {
        temperature: 0.0,
        n_alternatives: 20,
        logit_bias: vec![(4, 50.0)],
        ..Default::default()
    };
    let row = Row { logits: &logits, params: &params, mask: None, position: 0 };
    let sampled = Sampler::default().sample(row, &mut SlotState::default());
    let log_sum = [1f64, 3.0, 3.0, -2.0].iter().map(|l| l.exp()).sum::<f64>().ln();
    assert_eq!(sampled.token, 4);
    assert_eq!(Sampler::default().score(&logits, 4, 20), sampled);
    let nothing = Sampler::default().score(&[f32::NAN; 3], 1, 20);
    assert_eq!((nothing.token, nothing.is_choice(), nothing.alternatives), (1, false, vec![]));
    assert!((f64::from(sampled.logprob) - (-2.0 - log_sum)).abs() < 1e-6);
    assert_eq!(sampled.alternatives.iter().map(|a| a.0).collect::<Vec<_>>(), [1, 3, 0, 4]);
    for (id, logprob) in sampled.alternatives {
        assert!((f64::from(logprob) - (f64::from(logits[id as usize]) - log_sum)).abs() < 1e-6);
    }
}

/// Pearson's statistic over 20,000 draws from eight tokens stays under the 0.1 % bound for seven degrees of freedom.
#[test]
fn draws_follow_the_softmax() {
    let logits = [0.0, 1.0, -1.0, 2.0, 0.5, -0.5, 1.5, -3.0];
    let params = SamplingParams { temperature: 0.8, seed: 7, ..Default::default() };
    let mut sampler = Sampler::default();
    let mut slot = SlotState::default();
    let mut counts = [0f64; 8];
    let n = 20_000;
    for position in 0..n {
        let row = Row { logits: &logits, params: &params, mask: None, position };
        counts[sampler.sample(row, &mut slot).token as usize] += 1.0;
    }
    let weights = logits.map(|l: f32| (f64::from(l) / 0.8).exp());
    let total: f64 = weights.iter().sum();
    let statistic: f64 = weights
        .iter()
        .zip(counts)
        .map(|(w, count)| {
            let expected = w / total * n as f64;
            (count - expected).powi(2) / expected
        })
        .sum();
    assert!(statistic < 24.3, "{statistic} {counts:?}");
}

#[test]
fn parameters_outside_their_ranges_are_named() {
    let check = |params: SamplingParams, expected: &str| {
        let found = params.validate(320).map_or_else(|e| e.to_string(), |()| "valid".to_owned());
        assert_eq!(found, expected);
    };
    let d = SamplingParams::default;
    check(d(), "valid");
    check(SamplingParams { temperature: f32::NAN, ..d() }, "temperature: expected 0 to 100, found NaN");
    check(SamplingParams { top_p: 1.5, ..d() }, "top_p: expected 0 to 1, found 1.5");
    check(
        SamplingParams { repetition_penalty: 0.0, ..d() },
        "repetition_penalty: expected 0.01 to 100, found 0",
    );
    check(SamplingParams { logit_bias: vec![(5, f32::NEG_INFINITY)], ..d() }, "valid");
    check(
        SamplingParams { logit_bias: vec![(320, 1.0)], ..d() },
        "logit_bias: expected ids below 320, found 320",
    );
    check(
        SamplingParams { logit_bias: vec![(5, f32::INFINITY)], ..d() },
        "logit_bias: expected -100 to 100, found inf",
    );
    check(SamplingParams { n_alternatives: 21, ..d() }, "n_alternatives: expected at most 20, found 21");
}
