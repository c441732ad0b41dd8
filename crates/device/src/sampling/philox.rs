//! The random number of a token, from its seed and position alone.
//!
//! Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC'11). The key is the seed, the
//! counter the token's position, so a token's number needs no state and does not depend on what else is computed.

/// Multipliers and key increments of the paper's table 2 and section 3.3.
const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEP: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Ten rounds over a counter.
#[must_use]
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * u64::from(MULTIPLIER[0]);
        let b = u64::from(counter[2]) * u64::from(MULTIPLIER[1]);
        counter = [high(b) ^ counter[1] ^ key[0], b as u32, high(a) ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(KEY_STEP[0]), key[1].wrapping_add(KEY_STEP[1])];
    }
    counter
}

/// The 64 bits that decide the token at `position` (0 is the sequence's first token): words 0 (low) and 1 (high) of the block whose
/// counter is `[position low, position high, 0, 0]` and whose key is `[seed low, seed high]`.
#[must_use]
pub fn token_bits(seed: u64, position: u64) -> u64 {
    let block = philox4x32_10([position as u32, high(position), 0, 0], [seed as u32, high(seed)]);
    u64::from(block[1]) << 32 | u64::from(block[0])
}

fn high(x: u64) -> u32 {
    (x >> 32) as u32
}
