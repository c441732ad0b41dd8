//! The feed-forward's nonlinearity, vectorised: the formulas of [`model::architecture::Activation`] with [`super::math::exp`].

use model::architecture::Activation;

use super::isa::{Isa, Vectors};
use super::math::exp;
use super::pool::Pool;

/// Values in a parallel piece.
const PIECE: usize = 8192;

/// `gate = act(gate, up)` value by value.
pub(crate) fn activate(
    isa: Isa,
    pool: &Pool,
    activation: Activation,
    (gate, up): (&mut [f32], Option<&[f32]>),
) {
    pool.chunks(gate, PIECE, &|index, gate| {
        let start = index * PIECE;
        let up = up.map(|up| &up[start..start + gate.len()]);
        match isa.vectors() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the instruction set was found on this machine.
            Vectors::Bits512 => unsafe { piece_avx512(activation, gate, up) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Vectors::Bits256 => unsafe { piece_avx2(activation, gate, up) },
            #[cfg(target_arch = "aarch64")]
            Vectors::Neon => piece::<true>(activation, gate, up),
            _ => piece::<false>(activation, gate, up),
        }
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn piece_avx512(activation: Activation, gate: &mut [f32], up: Option<&[f32]>) {
    piece::<true>(activation, gate, up);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn piece_avx2(activation: Activation, gate: &mut [f32], up: Option<&[f32]>) {
    piece::<true>(activation, gate, up);
}

#[inline(always)]
fn piece<const FMA: bool>(activation: Activation, gate: &mut [f32], up: Option<&[f32]>) {
    match activation {
        Activation::Silu => apply(gate, up, |x| x / (1.0 + exp::<FMA>(-x)), |u| u),
        Activation::GeluTanh => {
            // x * (1 + tanh(y)) / 2 = x / (1 + exp(-2y)).
            let scale = 2.0 * (2.0 / std::f32::consts::PI).sqrt();
            apply(gate, up, |x| x / (1.0 + exp::<FMA>(-scale * (x + 0.044_715 * x * x * x))), |u| u);
        }
        Activation::ClampedSwiglu { alpha, limit } => apply(
            gate,
            up,
            |x| {
                let x = if x > limit { limit } else { x };
                x / (1.0 + exp::<FMA>(-alpha * x))
            },
            |u| {
                let u = if u > limit { limit } else { u };
                (if u < -limit { -limit } else { u }) + 1.0
            },
        ),
    }
}

#[inline(always)]
fn apply(gate: &mut [f32], up: Option<&[f32]>, act: impl Fn(f32) -> f32, lift: impl Fn(f32) -> f32) {
    match up {
        Some(up) => gate.iter_mut().zip(up).for_each(|(g, &u)| *g = act(*g) * lift(u)),
        None => gate.iter_mut().for_each(|g| *g = act(*g)),
    }
}
