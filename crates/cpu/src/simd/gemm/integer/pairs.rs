//! Vectors of pairs of 16-bit integers, of either width, and how their products are added up: with one instruction where there is VNNI.
//!
//! The sums are exact, so every set gives the same bits.

use crate::simd::lanes::{Avx2, Avx512, Lanes};
use std::arch::asm;
use std::arch::x86_64::*;

/// A vector of `Floats::LEN` lanes of 32 bits: a pair of 16-bit integers, or a sum of products of pairs.
pub(super) trait Pairs: Copy {
    /// As many float32.
    type Floats: Lanes;

    /// Zeros.
    ///
    /// # Safety
    /// Here and below: the machine has the instruction set, and pointers reach a vector.
    unsafe fn zero() -> Self;
    /// Reads pairs.
    unsafe fn load(from: *const u32) -> Self;
    /// The same pair in every lane.
    unsafe fn splat(pair: i32) -> Self;
    /// `self + a.0 * b.0 + a.1 * b.1` in every lane.
    unsafe fn add_products(self, a: Self, b: Self) -> Self;
    /// Sums as float32.
    unsafe fn floats(self) -> Self::Floats;
}

/// Implements [`Pairs`] for vectors of one width; `$dot` is `add_products`.
macro_rules! pairs {
    ($(#[$doc:meta])* $name:ident, $vector:ident, $floats:ident, $dot:ident, $zero:ident $loadu:ident $set1:ident $convert:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(super) struct $name($vector);

        // SAFETY of every block: the caller has the instruction set and pointers that reach a vector.
        impl Pairs for $name {
            type Floats = $floats;

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: as said above.
                unsafe { $name($zero()) }
            }
            #[inline(always)]
            unsafe fn load(from: *const u32) -> Self {
                // SAFETY: as said above.
                unsafe { $name($loadu(from.cast())) }
            }
            #[inline(always)]
            unsafe fn splat(pair: i32) -> Self {
                // SAFETY: as said above.
                unsafe { $name($set1(pair)) }
            }
            #[inline(always)]
            unsafe fn add_products(self, a: Self, b: Self) -> Self {
                // SAFETY: as said above.
                unsafe { $name($dot(self.0, a.0, b.0)) }
            }
            #[inline(always)]
            unsafe fn floats(self) -> Self::Floats {
                // SAFETY: as said above.
                unsafe { $floats($convert(self.0)) }
            }
        }
    };
}

pairs!(
    /// AVX2.
    Madd256, __m256i, Avx2, madd256, _mm256_setzero_si256 _mm256_loadu_si256 _mm256_set1_epi32 _mm256_cvtepi32_ps
);
pairs!(
    /// AVX2 and AVX-VNNI.
    Vnni256, __m256i, Avx2, vnni256, _mm256_setzero_si256 _mm256_loadu_si256 _mm256_set1_epi32 _mm256_cvtepi32_ps
);
pairs!(
    /// AVX-512 F and BW.
    Madd512, __m512i, Avx512, madd512, _mm512_setzero_si512 _mm512_loadu_si512 _mm512_set1_epi32 _mm512_cvtepi32_ps
);
pairs!(
    /// AVX-512 F and VNNI.
    Vnni512, __m512i, Avx512, vnni512, _mm512_setzero_si512 _mm512_loadu_si512 _mm512_set1_epi32 _mm512_cvtepi32_ps
);

/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn madd256(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)) }
}

/// # Safety
/// The machine has AVX-512 F and BW.
#[inline(always)]
unsafe fn madd512(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: the caller's.
    unsafe { _mm512_add_epi32(sum, _mm512_madd_epi16(a, b)) }
}

/// Defines `add_products` as an instruction of its own, since the compiler would make the intrinsic the two instructions of `madd256` and
/// `madd512`, whose sums wait less for each other; but here there are sums enough.
macro_rules! vnni {
    ($name:ident, $vector:ident, $features:literal, $register:ident, $prefix:literal) => {
        /// # Safety
        /// The machine has VNNI for vectors of this width.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn $name(mut sum: $vector, a: $vector, b: $vector) -> $vector {
            // SAFETY: the caller vouches for the instruction; it reads and writes registers only.
            unsafe {
                asm!(
                    concat!($prefix, "vpdpwssd {sum}, {a}, {b}"),
                    sum = inout($register) sum,
                    a = in($register) a,
                    b = in($register) b,
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
            sum
        }
    };
}

// The encoding of AVX-VNNI: processors that have it may lack the one of AVX-512.
vnni!(vnni256, __m256i, "avx2", ymm_reg, "{{vex}} ");
vnni!(vnni512, __m512i, "avx512f", zmm_reg, "");
