//! Which instruction set the fast kernels use: chosen once, at run time, from what the processor and the system offer.

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected;
use std::fmt;

/// An instruction set that the fast kernels are written for: of any processor, of arm64, of x86-64; each from the slowest to the fastest.
///
/// Each includes the ones of its processor before it, but for [`Isa::AvxVnni`], which processors with AVX-512 may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Portable Rust.
    Scalar,
    /// NEON: every arm64.
    Neon,
    /// Neon, and dot products of 8-bit integers, `sdot` (Cortex-A76, Neoverse N1, Apple M1).
    Dotprod,
    /// Dotprod, and products of 8-bit matrices, `smmla` (Cortex-A710, Neoverse V1, Apple M2).
    I8mm,
    /// AVX2, FMA and F16C.
    Avx2,
    /// Avx2, and 256-bit dot products of integers (Alder Lake).
    AvxVnni,
    /// Avx2, and AVX-512 F, BW, DQ and VL (Skylake with AVX-512).
    Avx512,
    /// Avx512, and dot products of integers (Cascade Lake).
    Avx512Vnni,
    /// Avx512Vnni, and permutations of bytes (Ice Lake, Zen 4).
    Avx512Vbmi,
    /// Avx512Vbmi, and the AMX tiles with bfloat16 products for many rows (Sapphire Rapids).
    Amx,
}

/// The vectors of an instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vectors {
    /// What the compiler makes of portable code.
    Portable,
    /// 128 bits of NEON, in pairs.
    Neon,
    /// 256 bits: AVX2, FMA and F16C.
    Bits256,
    /// 512 bits: AVX-512 F, BW, DQ and VL, and those of 256.
    Bits512,
}

impl Isa {
    /// All of them, in order.
    pub const ALL: [Isa; 10] = [
        Isa::Scalar,
        Isa::Neon,
        Isa::Dotprod,
        Isa::I8mm,
        Isa::Avx2,
        Isa::AvxVnni,
        Isa::Avx512,
        Isa::Avx512Vnni,
        Isa::Avx512Vbmi,
        Isa::Amx,
    ];

    /// The best set this machine runs.
    ///
    /// The first call asks the system for the AMX tiles, which threads made after it may use.
    #[must_use]
    pub fn detect() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Isa::Scalar)
    }

    /// Whether this machine runs it.
    #[must_use]
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Isa::Scalar => true,
            Isa::Neon | Isa::Dotprod | Isa::I8mm => false,
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            Isa::AvxVnni => Isa::Avx2.is_available() && is_x86_feature_detected!("avxvnni"),
            Isa::Avx512 => {
                Isa::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            Isa::Avx512Vnni => Isa::Avx512.is_available() && is_x86_feature_detected!("avx512vnni"),
            Isa::Avx512Vbmi => Isa::Avx512Vnni.is_available() && is_x86_feature_detected!("avx512vbmi"),
            Isa::Amx => Isa::Avx512Vbmi.is_available() && super::amx::available(),
        };
        #[cfg(target_arch = "aarch64")]
        return match self {
            // The compiler's own target has NEON.
            Isa::Scalar | Isa::Neon => true,
            Isa::Dotprod => is_aarch64_feature_detected!("dotprod"),
            Isa::I8mm => Isa::Dotprod.is_available() && is_aarch64_feature_detected!("i8mm"),
            _ => false,
        };
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        return self == Isa::Scalar;
    }

    /// This one, or the best that this machine runs if it lacks this one.
    #[must_use]
    pub fn or_best(self) -> Isa {
        if self.is_available() { self } else { Isa::detect() }
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Neon => "neon",
            Isa::Dotprod => "dotprod",
            Isa::I8mm => "i8mm",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avx-vnni",
            Isa::Avx512 => "avx512",
            Isa::Avx512Vnni => "avx512-vnni",
            Isa::Avx512Vbmi => "avx512-vbmi",
            Isa::Amx => "amx",
        }
    }

    /// Its vectors.
    pub(crate) fn vectors(self) -> Vectors {
        match self {
            Isa::Scalar => Vectors::Portable,
            Isa::Neon | Isa::Dotprod | Isa::I8mm => Vectors::Neon,
            Isa::Avx2 | Isa::AvxVnni => Vectors::Bits256,
            Isa::Avx512 | Isa::Avx512Vnni | Isa::Avx512Vbmi | Isa::Amx => Vectors::Bits512,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isa::Scalar => "scalar",
            Isa::Neon => "NEON",
            Isa::Dotprod => "NEON and dotprod",
            Isa::I8mm => "NEON, dotprod and i8mm",
            Isa::Avx2 => "AVX2",
            Isa::AvxVnni => "AVX2 and AVX-VNNI",
            Isa::Avx512 => "AVX-512",
            Isa::Avx512Vnni => "AVX-512 VNNI",
            Isa::Avx512Vbmi => "AVX-512 VNNI and VBMI",
            Isa::Amx => "AVX-512 VNNI and AMX bf16",
        })
    }
}
