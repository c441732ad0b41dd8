//! How does one input become another? Bits, bytes, pieces of other inputs and words of the target's language, by a seeded generator.

/// A generator of the splitmix family: the same seed gives the same inputs.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// One that starts here.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 where `n` is.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % (n.max(1) as u64)).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// A changed copy of a seed, of at most `max_len` bytes.
#[must_use]
pub fn mutate(seeds: &[Vec<u8>], words: &[&str], max_len: usize, random: &mut Random) -> Vec<u8> {
    let empty = Vec::new();
    let mut input = seeds.get(random.below(seeds.len())).unwrap_or(&empty).clone();
    let other = seeds.get(random.below(seeds.len())).unwrap_or(&empty);
    for _ in 0..1 + random.below(6) {
        step(&mut input, other, words, random);
    }
    input.truncate(max_len);
    input
}

fn step(input: &mut Vec<u8>, other: &[u8], words: &[&str], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = at + random.below(input.len() - at + 1).min(1 + random.below(64));
    match random.below(8) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.byte();
            }
        }
        2 => input.insert(at, random.byte()),
        3 => drop(input.drain(at..end)),
        4 => {
            let piece = input[at..end].to_vec();
            let n = 1 + random.below(16);
            input.splice(at..at, piece.repeat(n));
        }
        5 => {
            let from = random.below(other.len() + 1);
            let to = from + random.below(other.len() - from + 1).min(256);
            input.splice(at..end, other[from..to].iter().copied());
        }
        6 => {
            const EDGES: [u64; 6] = [0, 1, 0x7f, 0xffff, 0x7fff_ffff, u64::MAX];
            let bytes = EDGES[random.below(EDGES.len())].to_le_bytes();
            let n = [1, 2, 4, 8][random.below(4)];
            for (byte, new) in input[at..].iter_mut().zip(&bytes[..n]) {
                *byte = *new;
            }
        }
        _ => {
            let word = words.get(random.below(words.len())).copied().unwrap_or_default();
            input.splice(at..end, word.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs_and_another_seed_others() {
        let seeds = [b"{\"type\":\"object\"}".to_vec(), b"abc".to_vec(), Vec::new()];
        let inputs = |seed| {
            let mut random = Random::new(seed);
            (0..1000).map(|_| mutate(&seeds, &["anyOf"], 200, &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(1).iter().all(|input| input.len() <= 200));
        assert!(inputs(1).iter().any(|input| input.windows(5).any(|piece| piece == b"anyOf")));
    }
}
