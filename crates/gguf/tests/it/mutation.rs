//! Damaged files: no panic, no memory beyond the bound, whatever is changed.

use gguf::{Gguf, limits};

use crate::raw::{Raw, small};
use crate::walk::{open_and_walk, walk};

/// A linear congruential generator (Knuth's MMIX constants), its upper bits.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % n
    }
}

/// Numbers at which checks go wrong.
const EDGES: [u64; 16] = [
    0,
    1,
    4,
    5,
    12,
    13,
    31,
    64,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 32,
    (1 << 61) + 1,
    i64::MAX as u64,
    u64::MAX,
];

fn mutate(bytes: &mut Vec<u8>, header: usize, random: &mut Random) {
    for _ in 0..1 + random.below(2) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len().min(header));
        let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
        let width = [1, 2, 4, 8][random.below(4)].min(bytes.len() - at);
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.below(256) as u8,
            2 => bytes[at..at + width].copy_from_slice(&edge[..width]),
            3 => bytes.truncate(random.below(bytes.len())),
            4 => drop(bytes.drain(at..at + width)),
            _ => drop(bytes.splice(at..at, edge[..width].iter().copied())),
        }
    }
}

#[test]
fn mutated_files_are_read_or_refused() {
    let mut random = Random(1);
    let (mut read, mut refused) = (0, 0);
    for version in [1, 2, 3] {
        let base = small(version);
        for _ in 0..40_000 {
            let mut bytes = base.clone();
            mutate(&mut bytes, base.len(), &mut random);
            if open_and_walk(bytes).is_ok() { read += 1 } else { refused += 1 }
        }
    }
    // Both must happen often, or the mutations test nothing.
    assert!(read > 10_000 && refused > 10_000, "{read} read, {refused} refused");
}

#[test]
fn a_mutated_published_layout_is_read_or_refused() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/llama-q2_k.gguf");
    let base = std::fs::read(path).unwrap();
    let gguf = Gguf::from_bytes(base.clone()).unwrap();
    let header = gguf.tensors()[0].offset as usize;
    let mut random = Random(2);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..3_000 {
        let mut bytes = base.clone();
        mutate(&mut bytes, header, &mut random);
        match Gguf::from_bytes(bytes) {
            Ok(gguf) => {
                std::hint::black_box(walk(&gguf));
                read += 1;
            }
            Err(error) => refused += usize::from(!error.to_string().is_empty()),
        }
    }
    assert!(read > 100 && refused > 100, "{read} read, {refused} refused");
}

#[test]
fn truncated_anywhere_it_is_refused() {
    for version in [1, 2, 3] {
        let base = small(version);
        open_and_walk(base.clone()).unwrap();
        for len in 0..base.len() {
            let error = open_and_walk(base[..len].to_vec()).unwrap_err().to_string();
            assert!(
                error.starts_with(if len < 4 { "not a GGUF file" } else { "truncated file" }),
                "{len}: {error}"
            );
        }
    }
}

#[test]
fn the_densest_header_stays_within_the_stated_memory() {
    // One more than a power of two: the vector of entries has just doubled.
    let n = (1 << 15) + 1;
    let mut raw = Raw::new(1, 0, n);
    for i in 0..n {
        let key = [b'0' + (i & 63) as u8, b'0' + (i >> 6 & 63) as u8, b'0' + (i >> 12) as u8];
        raw = raw.string(&key).u32(0).bytes(&[1]);
    }
    let len = raw.bytes.len();
    let mut result = None;
    let memory = allocation_counter::measure(|| result = Some(Gguf::from_bytes(raw.bytes)));
    assert_eq!(result.unwrap().unwrap().metadata().len() as u64, n);
    let factor = memory.bytes_max as usize / len;
    assert!(factor < limits::ALLOCATION_FACTOR, "{factor} times the header");
    assert!(factor * 2 > limits::ALLOCATION_FACTOR, "only {factor} times the header: the bound is too loose");
}
