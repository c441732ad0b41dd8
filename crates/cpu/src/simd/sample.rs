//! The sampler's passes over a row of logits, compiled for the vectors that the processor has: the same code, and so the same tokens.

use device::sampling::passes::{self, Passes};

use super::isa::Isa;
#[cfg(target_arch = "x86_64")]
use super::isa::Vectors;

/// The passes for an instruction set of this machine.
///
/// # Panics
/// If this machine has no `isa`.
#[must_use]
pub fn passes(isa: Isa) -> Passes {
    super::quantize::assert_available(isa);
    match isa.vectors() {
        #[cfg(target_arch = "x86_64")]
        Vectors::Bits512 => Passes { largest: avx512::largest, sums: avx512::sums },
        #[cfg(target_arch = "x86_64")]
        Vectors::Bits256 => Passes { largest: avx2::largest, sums: avx2::sums },
        _ => Passes::default(),
    }
}

/// Both passes with a set of features, of which [`passes`] has made sure wherever it hands them out.
#[cfg(target_arch = "x86_64")]
macro_rules! compiled_for {
    ($name:ident, $features:literal) => {
        mod $name {
            use super::passes;

            pub(super) fn largest(z: &[f32], out: &mut Vec<f32>) {
                #[target_feature(enable = $features)]
                fn compiled(z: &[f32], out: &mut Vec<f32>) {
                    passes::largest(z, out);
                }
                // SAFETY: the processor has the features: `passes` gives this function only where it has.
                unsafe { compiled(z, out) }
            }

            pub(super) fn sums(z: &[f32], by: (f32, f32), out: &mut Vec<u64>) {
                #[target_feature(enable = $features)]
                fn compiled(z: &[f32], by: (f32, f32), out: &mut Vec<u64>) {
                    passes::sums(z, by, out);
                }
                // SAFETY: as above.
                unsafe { compiled(z, by, out) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled_for!(avx512, "avx512f,avx512bw,avx512dq,avx512vl");
#[cfg(target_arch = "x86_64")]
compiled_for!(avx2, "avx2");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::gemv::tests::{available, values};

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let mut z = values(3, 49_153);
        z.iter_mut().for_each(|z| *z *= 12.0);
        (z[7], z[300], z[301], z[49_152]) = (f32::NAN, f32::NEG_INFINITY, f32::NAN, f32::NEG_INFINITY);
        z[1280..1408].fill(f32::NAN);
        let run = |passes: Passes| {
            let (mut largest, mut sums) = (vec![0.0; 9], vec![1; 5]);
            (passes.largest)(&z, &mut largest);
            let max = largest.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            (passes.sums)(&z, (max, 1.3), &mut sums);
            (largest.into_iter().map(f32::to_bits).collect::<Vec<_>>(), sums)
        };
        let want = run(Passes::default());
        assert_eq!((want.0.len(), want.1.len()), (385, 385));
        assert!(want.1.iter().filter(|sum| **sum > 0).count() > 9);
        for isa in available() {
            assert!(run(passes(isa)) == want, "{isa}");
        }
    }
}
