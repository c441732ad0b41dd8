//! Does the device choose the tokens that the reference sampler chooses, and give the same log probabilities, bit for bit?

use cuda::driver::{DeviceMemory, Stream};
use cuda::sampling::{Choice, SampleBegin, SampleBuffers, SampleKernels, SampleLimits, SampleOut, StepRows};
use device::batch::Sampled;
use device::sampling::{Row, Sampler, SamplingParams, SlotState, TokenMask};

use crate::gpu::{Gpu, gpu, read};

const N_SLOT: usize = 64;

/// A device that samples, and its buffers.
struct Fixture {
    stream: Stream,
    kernels: SampleKernels,
    buffers: SampleBuffers,
    logits: DeviceMemory,
    _memory: Vec<DeviceMemory>,
    n_vocab: usize,
}

impl Fixture {
    fn new(gpu: &Gpu, n_vocab: usize) -> Fixture {
        let limits = SampleLimits { n_slot: N_SLOT, n_vocab, n_row: N_SLOT, n_guess: 0 };
        let stream = Stream::new(gpu).unwrap();
        let bytes = limits.bytes();
        // What is read before it is written would be seen; the scratch alone starts as zeros.
        let sizes = [bytes.rows, bytes.area, bytes.last, bytes.counts, bytes.out, bytes.scratch];
        let memory = sizes.map(|bytes| DeviceMemory::new(gpu, bytes).unwrap());
        for (i, memory) in memory.iter().enumerate() {
            stream.memset_async(memory.address(), if i == 5 { 0 } else { 0xA5 }, memory.bytes()).unwrap();
        }
        let [rows, area, last, counts, out, scratch] = memory.each_ref().map(DeviceMemory::address);
        Fixture {
            stream,
            kernels: SampleKernels::new(gpu, limits).unwrap(),
            buffers: SampleBuffers { rows, area, last, counts, out, scratch },
            logits: DeviceMemory::new(gpu, 4 * (N_SLOT * n_vocab) as u64).unwrap(),
            _memory: memory.into(),
            n_vocab,
        }
    }

    /// Starts sequences; the records and ids go through the area, which a step fills anew.
    fn begin(&self, prompts: &[Vec<u32>]) {
        let mut begins = Vec::new();
        let mut first = 0;
        for (slot, prompt) in (0..).zip(prompts) {
            begins.push(SampleBegin { slot, first, n: prompt.len() as u32, reserved: 0 });
            first += prompt.len() as u32;
        }
        let ids = self.buffers.area.offset(size_of_val(begins.as_slice()) as u64);
        self.stream.write(self.buffers.area, &begins).unwrap();
        self.stream.write(ids, &prompts.concat()).unwrap();
        let begins = (self.buffers.area, begins.len() as u32);
        self.kernels.begin(&self.stream, &self.buffers, begins, ids).unwrap();
        self.stream.synchronize().unwrap();
    }

    fn upload(&self, step: &StepRows) {
        self.stream.write(self.buffers.rows, step.rows()).unwrap();
        self.stream.write(self.buffers.area, step.area()).unwrap();
    }

    fn sample(&self, step: &StepRows) -> Vec<Sampled> {
        self.upload(step);
        let n = step.rows().len();
        self.kernels.launch(&self.stream, &self.buffers, self.logits.address(), n as u32).unwrap();
        let mut out = vec![<SampleOut as bytemuck::Zeroable>::zeroed(); n];
        self.stream.read(&mut out, self.buffers.out).unwrap();
        out.iter().map(SampleOut::sampled).collect()
    }
}

/// A generator for the tests (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// In [0, 1).
    fn next(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// About normal: the sum of four 16-bit numbers.
    fn normal(&mut self) -> f32 {
        let b = self.bits();
        let sum = (b & 0xFFFF) + (b >> 16 & 0xFFFF) + (b >> 32 & 0xFFFF) + (b >> 48);
        (sum as f32 / 65_536.0 - 2.0) * 1.732
    }

    fn below(&mut self, n: usize) -> usize {
        (((self.bits() >> 32) * n as u64) >> 32) as usize
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// Logits of many kinds: peaked, flat, tied, sorted, huge, with infinities and without numbers.
    fn logits(&mut self, n_vocab: usize) -> Vec<f32> {
        let spread = self.one_of(&[0.0, 0.01, 1.0, 2.5, 2.5, 8.0, 40.0, 1e38]);
        let kind = self.below(10);
        let grid = self.one_of(&[1.0, 0.5, 0.0625]);
        let mut logits: Vec<f32> = (0..n_vocab)
            .map(|id| match kind {
                0 => (self.normal() * spread / grid).round() * grid,
                1 => id as f32 / n_vocab as f32 * spread,
                2 => -(id as f32) / n_vocab as f32 * spread,
                _ => self.normal() * spread,
            })
            .collect();
        if kind == 3 {
            // A few that stand out.
            for _ in 0..self.one_of(&[1, 5, 60, 400]) {
                logits[self.below(n_vocab)] = spread * 3.0 + self.next() * 8.0;
            }
        }
        for _ in 0..self.one_of(&[0, 0, 0, 3, n_vocab, 4 * n_vocab]) {
            let odd = [f32::NAN, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY, -0.0, 0.0];
            logits[self.below(n_vocab)] = self.one_of(&odd);
        }
        if self.below(20) == 0 {
            logits[self.below(n_vocab)] = f32::INFINITY;
        }
        if self.below(50) == 0 {
            let nothing = self.one_of(&[f32::NAN, f32::NEG_INFINITY, f32::INFINITY]);
            logits.fill(nothing);
        }
        logits
    }

    fn params(&mut self, n_vocab: usize) -> SamplingParams {
        let filters = self.below(3) > 0;
        let edits = self.below(3) == 0;
        let n_bias = if edits { self.one_of(&[0, 0, 1, 5, 300, 1024]) } else { 0 };
        let pick = |numbers: &mut Numbers, on: bool, off: f32, values: &[f32]| {
            if on && numbers.below(2) == 0 { numbers.one_of(values) } else { off }
        };
        SamplingParams {
            temperature: self.one_of(&[0.0, 0.3, 0.8, 1.0, 1.0, 1.0, 1.7, 100.0, 1e-38]),
            top_k: if filters {
                self.one_of(&[0, 0, 0, 1, 3, 40, 40, 200, 256, 257, 5000, 1 << 30])
            } else {
                0
            },
            top_p: pick(self, filters, 1.0, &[0.95, 0.95, 0.5, 0.999, 0.0, 0.1]),
            min_p: pick(self, filters, 0.0, &[0.05, 0.05, 0.5, 1.0, 1e-4, 1e-9]),
            typical_p: pick(self, filters && self.0 & 1 == 0, 1.0, &[0.95, 0.2, 0.99, 0.0]),
            repetition_penalty: pick(self, edits, 1.0, &[1.1, 1.3, 0.01, 100.0]),
            presence_penalty: pick(self, edits, 0.0, &[0.4, -3.0, 100.0]),
            frequency_penalty: pick(self, edits, 0.0, &[0.7, -1.5]),
            logit_bias: (0..n_bias)
                .map(|_| {
                    (self.below(n_vocab.min(2000)) as u32, self.one_of(&[-2.0, 3.5, 0.3, f32::NEG_INFINITY]))
                })
                .collect(),
            seed: self.bits(),
            n_alternatives: self.one_of(&[0, 0, 0, 1, 5, 20]),
        }
    }

    fn mask(&mut self, n_vocab: usize) -> Option<TokenMask> {
        let allowed = self.one_of(&[None, None, None, None, Some(0.0), Some(0.001), Some(0.3), Some(1.0)])?;
        let mut mask = TokenMask::none(n_vocab);
        (0..n_vocab as u32).filter(|_| self.next() < allowed).for_each(|id| mask.allow(id));
        Some(mask)
    }
}

/// Equal to the bit: −0 is not 0.
fn bits(sampled: &Sampled) -> (u32, u32, Vec<(u32, u32)>) {
    let alternatives = sampled.alternatives.iter().map(|&(id, p)| (id, p.to_bits())).collect();
    (sampled.token, sampled.logprob.to_bits(), alternatives)
}

/// Sequences of three steps, some of whose rows are padding, against the reference. Gives the number of tokens compared.
fn compare(fixture: &Fixture, numbers: &mut Numbers, n_row: usize, case: usize) -> usize {
    let n_vocab = fixture.n_vocab;
    let prompts: Vec<Vec<u32>> = (0..n_row)
        .map(|_| (0..numbers.below(40)).map(|_| numbers.below(n_vocab + 1) as u32).collect())
        .collect();
    fixture.begin(&prompts);
    let mut slots: Vec<SlotState> = vec![SlotState::default(); n_row];
    for (slot, prompt) in slots.iter_mut().zip(&prompts) {
        slot.begin(prompt.clone().into());
    }
    let params: Vec<SamplingParams> = prompts.iter().map(|_| numbers.params(n_vocab)).collect();
    let mut sampler = Sampler::default();
    let mut compared = 0;
    let mut logits: Vec<Vec<f32>> = Vec::new();
    for step in 0..3 {
        // Often the same logits again: penalties then move the choice.
        if logits.is_empty() || numbers.below(2) == 0 {
            logits = (0..n_row).map(|_| numbers.logits(n_vocab)).collect();
            fixture.stream.write(fixture.logits.address(), &logits.concat()).unwrap();
        }
        let masks: Vec<Option<TokenMask>> = (0..n_row).map(|_| numbers.mask(n_vocab)).collect();
        let is_padding: Vec<bool> = (0..n_row).map(|_| numbers.below(8) == 0).collect();
        let mut rows = StepRows::default();
        for slot in 0..n_row {
            if is_padding[slot] {
                rows.pad_to(slot + 1);
                continue;
            }
            let (params, mask) = (&params[slot], masks[slot].as_ref());
            let position = prompts[slot].len() + step;
            rows.push(Choice { slot: slot as u32, params, mask, position, guesses: None });
        }
        let found = fixture.sample(&rows);
        let last = read(&fixture.stream, fixture.buffers.last, n_row);
        for slot in (0..n_row).filter(|&slot| !is_padding[slot]) {
            let row = Row {
                logits: &logits[slot],
                params: &params[slot],
                mask: masks[slot].as_ref(),
                position: prompts[slot].len() + step,
            };
            let expected = sampler.sample(row, &mut slots[slot]);
            assert_eq!(
                bits(&found[slot]),
                bits(&expected),
                "case {case}, vocabulary {n_vocab}, step {step}, row {slot} of {n_row}, mask {:?}, {:?}",
                row.mask,
                SamplingParams { logit_bias: Vec::new(), ..row.params.clone() },
            );
            assert_eq!(last[slot], expected.token);
            compared += 1;
        }
    }
    compared
}

fn compare_many(n_vocab: usize, cases: &[(usize, usize)]) {
    let Some(gpu) = gpu() else { return };
    let fixture = Fixture::new(&gpu, n_vocab);
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15 ^ n_vocab as u64);
    let mut compared = 0;
    for &(n_case, n_row) in cases {
        for case in 0..n_case {
            compared += compare(&fixture, &mut numbers, n_row, case);
        }
    }
    println!("vocabulary {n_vocab}: {compared} tokens equal");
}

#[test]
fn small_vocabularies_are_sampled_as_by_the_reference() {
    for n_vocab in [1, 31, 320, 513] {
        compare_many(n_vocab, &[(60, 1), (20, 7), (30, 64)]);
    }
}

#[test]
fn a_vocabulary_of_4097_is_sampled_as_by_the_reference() {
    compare_many(4097, &[(60, 1), (20, 8), (20, 64)]);
}

#[test]
fn a_vocabulary_of_49152_is_sampled_as_by_the_reference() {
    compare_many(49_152, &[(30, 1), (10, 9), (6, 64)]);
}

#[test]
fn a_vocabulary_of_152064_is_sampled_as_by_the_reference() {
    compare_many(152_064, &[(30, 1), (10, 8), (3, 64)]);
}

#[test]
fn a_vocabulary_of_201088_is_sampled_as_by_the_reference() {
    compare_many(201_088, &[(20, 1), (6, 8), (2, 64)]);
}
