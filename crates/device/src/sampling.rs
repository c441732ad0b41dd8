//! How is the next token chosen from the logits?
//!
//! [`Sampler`] is the specification: a device's own sampler must give the same ids, bit for bit. So that it can, nothing here
//! depends on the order of a sum or on a library's `exp`. A token's weight is an integer ([`weight`]), hence sums are exact
//! in any order; every set is defined by a total order, hence it does not matter how it is found.
//!
//! The steps, always in this order, for the logits `l[0..n_vocab]` (f32) of one row:
//!
//! 1. Mask. `z[i] = l[i]`, or −∞ where the mask does not allow i. A logit that is NaN or +∞ counts as −∞ throughout.
//! 2. Bias. `z[i] += b` for each pair (i, b) of `logit_bias`, in the list's order.
//! 3. Repetition. For each id in prompt or answer: `z / r` if z > 0, else `z * r`.
//! 4. Presence and frequency. For each id that stands c > 0 times in the answer: `z = (z − c * frequency) − presence`.
//! 5. Greedy. With `temperature` 0 the id of the largest z, the lowest among equals, is chosen and the rest is skipped.
//! 6. Temperature. `e[i] = (z[i] − max z) * (log2(e) / temperature)`, in f32 in just this order; a token's weight is
//!    `w[i] = round(2^40 * 2^e[i])`, see [`weight::weight`]. Tokens of weight 0 (less likely than the likeliest by 2^-41) are out.
//! 7. Top-k. The first k by rank. Rank is by z, largest first, then by id, lowest first.
//! 8. Typical. With `E = floor(sum(w * E[i]) / sum(w))` over what is left and `E[i] = trunc(e[i] * 2^20)`, tokens are ordered
//!    by `|E − E[i]|`, then rank, and the shortest start whose weights reach `ceil(p * sum(w))` is kept. (`|E − E[i]|` is, up to the
//!    common factor, the paper's distance between a token's information and the entropy: the normaliser cancels.)
//! 9. Top-p. In rank order, the shortest start whose weights reach `ceil(p * sum(w))`.
//! 10. Min-p. What weighs at least `ceil(p * w)` of the first by rank.
//! 11. Draw. With the 64-bit number u that [`philox`] gives for seed and position and `r = floor(u * sum(w) / 2^64)`: in the order
//!     of ids, the first token at which the running sum of weights exceeds r.
//!
//! The fractions p of steps 8 to 10 are `round(p * 2^32) / 2^32`; at least one token is always kept. Log probabilities come from `l`
//! itself, before step 1.

pub mod philox;
pub mod weight;

mod candidates;
mod mask;
mod params;
pub mod passes;
mod sampler;
mod slot;
#[cfg(test)]
mod tests;

pub use mask::TokenMask;
pub use params::{MAX_ALTERNATIVES, MAX_LOGIT_BIAS, ParamError, SamplingParams};
pub use sampler::{Row, Sampler};
pub use slot::SlotState;
