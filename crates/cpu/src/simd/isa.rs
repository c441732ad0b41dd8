//! Which instruction set the fast kernels use: chosen once, at run time, from what the processor and the system offer.

use std::fmt;

/// An instruction set that the fast kernels are written for. Later ones include earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Portable Rust.
    Scalar,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ, VL, VNNI and VBMI.
    Avx512,
    /// Avx512, and the AMX tiles with bfloat16 products for many rows.
    Amx,
}

impl Isa {
    /// The best set this machine runs.
    ///
    /// The first call asks the system for the AMX tiles, which threads made after it may use.
    #[must_use]
    pub fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
                && is_x86_feature_detected!("avx512vbmi");
            if avx512 && super::amx::available() {
                return Isa::Amx;
            }
            if avx512 {
                return Isa::Avx512;
            }
            if avx2 {
                return Isa::Avx2;
            }
        }
        Isa::Scalar
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "AVX2",
            Isa::Avx512 => "AVX-512 VNNI",
            Isa::Amx => "AVX-512 VNNI and AMX bf16",
        })
    }
}
