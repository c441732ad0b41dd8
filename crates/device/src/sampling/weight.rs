//! A token's probability, up to a common factor, as an integer.
//!
//! The exponential is built from f32 additions and multiplications that round to nearest, no fused multiply-add among them,
//! so that any device computes the same bits. Weights are integers below 2^41: sums over up to 2^23 tokens are exact in u64, in
//! any order, and what rounding them to 2^-40 of the largest takes from a vocabulary of 200,000 is below a ten-millionth.

/// The weight of the likeliest token.
pub const ONE: u64 = 1 << 40;

/// `ln(2)^k / k!`, k from 0: the series of 2^f. For |f| <= 1/2 the first term left out is below 6e-9.
const SERIES: [f32; 8] = [
    1.0,
    std::f32::consts::LN_2,
    0.240_226_5,
    0.055_504_11,
    0.009_618_129,
    0.001_333_355_8,
    0.000_154_035_3,
    0.000_015_252_734,
];

/// Adding 1.5 * 2^23 rounds a small f32 to an integer, ties to even, that stands in the sum's low bits.
const ROUND_F32: f32 = 12_582_912.0;

/// Adding 2^52 does so for a non-negative f64 below 2^52.
const ROUND_F64: f64 = 4_503_599_627_370_496.0;

/// `2^e` for e <= 0, relative error below 1e-6; e below −126 and NaN count as −126.
#[must_use]
#[inline(always)]
pub fn exp2(e: f32) -> f32 {
    // Not `f32::max`: a comparison that NaN fails is the same instruction everywhere.
    let e = if e > -126.0 { e } else { -126.0 };
    let rounded = e + ROUND_F32;
    let f = e - (rounded - ROUND_F32);
    let mut p = SERIES[7];
    for &c in SERIES[..7].iter().rev() {
        p = p * f + c;
    }
    // The integer part is in -126..=0, so the exponent field is in 1..=127.
    let n = rounded.to_bits().wrapping_sub(ROUND_F32.to_bits());
    f32::from_bits(n.wrapping_add(127) << 23) * p
}

/// `round(2^40 * 2^e)`, ties to even, for e <= 0: a token's weight.
#[must_use]
#[inline(always)]
pub fn weight(e: f32) -> u64 {
    let scaled = f64::from(exp2(e)) * ONE as f64;
    (scaled + ROUND_F64).to_bits() - ROUND_F64.to_bits()
}

/// The e whose [`weight`] a logit has: `(z − max) * scale`, where scale is [`scale`] of the temperature.
#[must_use]
#[inline(always)]
pub fn exponent(z: f32, max: f32, scale: f32) -> f32 {
    (z - max) * scale
}

/// `log2(e) / temperature`, at most the largest f32.
#[must_use]
pub fn scale(temperature: f32) -> f32 {
    (std::f32::consts::LOG2_E / temperature).min(f32::MAX)
}

/// `round(p * 2^32)`, for p from 0 to 1.
#[must_use]
pub fn fraction(p: f32) -> u64 {
    (f64::from(p) * 4_294_967_296.0).round() as u64
}

/// `ceil(total * p)` with p rounded to a multiple of 2^-32.
#[must_use]
pub fn share(total: u64, p: f32) -> u64 {
    ((u128::from(total) * u128::from(fraction(p))).div_ceil(1 << 32)) as u64
}

/// Natural logarithms of the softmax of a row's own logits.
#[derive(Clone, Copy, Debug)]
pub struct LogSoftmax {
    max: f32,
    log_total: f64,
}

impl LogSoftmax {
    /// From the row's largest logit and the sum of its weights at temperature 1, at least [`ONE`].
    #[must_use]
    pub fn new(max: f32, total: u64) -> LogSoftmax {
        LogSoftmax { max, log_total: (total as f64 / ONE as f64).ln() }
    }

    /// The log probability of a token with this logit, at least the smallest finite f32. A logit of −0 counts as 0.
    #[must_use]
    pub fn of(&self, logit: f32) -> f32 {
        let below_max = f64::from(logit + 0.0) - f64::from(self.max + 0.0);
        (below_max - self.log_total).max(f64::from(f32::MIN)) as f32
    }
}
