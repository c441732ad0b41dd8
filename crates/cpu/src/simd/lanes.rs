//! A vector of float32 of whatever width the instruction set has, so that one loop serves all of them.
//!
//! Every method is one or two instructions and is inlined into a function that enables the instruction set; calling one on a machine
//! without it is undefined, which is why the trait's methods are unsafe. Sums over lanes run in a fixed order.

/// A vector of `LEN` float32 values.
pub(crate) trait Lanes: Copy {
    /// Values in a vector.
    const LEN: usize;
    /// Pairs of vectors whose running sums attention holds at once.
    const PAIRS: usize = 8;

    /// Every lane the same.
    ///
    /// # Safety
    /// Here and below: the machine has the instruction set, and pointers reach `LEN` values.
    unsafe fn splat(x: f32) -> Self;
    /// Reads float32 values.
    unsafe fn load(from: *const f32) -> Self;
    /// Reads half-precision values.
    unsafe fn load_half(from: *const u16) -> Self;
    /// Reads bfloat16 values.
    unsafe fn load_bfloat(from: *const u16) -> Self;
    /// Writes float32 values.
    unsafe fn store(self, to: *mut f32);
    /// `self * b + c`.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// `self + b`.
    unsafe fn add(self, b: Self) -> Self;
    /// `self - b`.
    unsafe fn sub(self, b: Self) -> Self;
    /// `self * b`.
    unsafe fn mul(self, b: Self) -> Self;
    /// The larger of each lane, `b`'s where `self` is a NaN.
    unsafe fn max(self, b: Self) -> Self;
    /// `self * 2^n` for whole `n` from -126 to 127.
    unsafe fn scale(self, n: Self) -> Self;
    /// `self` where `x > limit`, else 0.
    unsafe fn where_above(self, x: Self, limit: f32) -> Self;
    /// The sum of the lanes: of those half a vector apart, then a quarter, and so on.
    unsafe fn total(self) -> f32;
}

/// `exp(x)` for `x` up to 88: relative error below 3e-7, 0 at -87 and below. The method of [`super::math::exp`].
///
/// # Safety
/// As the methods of [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn exp<L: Lanes>(x: L) -> L {
    /// Adding and subtracting it rounds to an integer, for magnitudes below 2^22.
    const ROUND: f32 = 12_582_912.0;
    const LOWEST: f32 = -87.0;
    // SAFETY: the caller's.
    unsafe {
        let clamped = x.max(L::splat(LOWEST));
        let round = L::splat(ROUND);
        let n = clamped.mul_add(L::splat(std::f32::consts::LOG2_E), round).sub(round);
        let r = n.mul_add(L::splat(-1.428_606_8e-6), n.mul_add(L::splat(-0.693_145_75), clamped));
        let mut p = L::splat(1.0 / 5040.0);
        p = p.mul_add(r, L::splat(1.0 / 720.0));
        p = p.mul_add(r, L::splat(1.0 / 120.0));
        p = p.mul_add(r, L::splat(1.0 / 24.0));
        p = p.mul_add(r, L::splat(1.0 / 6.0));
        p = p.mul_add(r, L::splat(0.5));
        p = p.mul_add(r, L::splat(1.0));
        p = p.mul_add(r, L::splat(1.0));
        p.scale(n).where_above(x, LOWEST)
    }
}

/// Asks for memory that is read soon. Any address is allowed.
#[inline(always)]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has this instruction, which no address makes fail.
    unsafe {
        x86::_mm_prefetch::<{ x86::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above, of arm64.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, readonly, preserves_flags));
    }
}

/// Eight values in portable code.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Portable(std::array::from_fn(|i| f(self.0[i], b.0[i])))
    }
}

impl Lanes for Portable {
    const LEN: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Portable([x; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's pointer reaches 8 values.
        Portable(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        // SAFETY: the caller's pointer reaches 8 values.
        let halves = unsafe { from.cast::<[u16; 8]>().read_unaligned() };
        Portable(halves.map(|h| half::f16::from_bits(h).to_f32()))
    }
    #[inline(always)]
    unsafe fn load_bfloat(from: *const u16) -> Self {
        // SAFETY: the caller's pointer reaches 8 values.
        let bits = unsafe { from.cast::<[u16; 8]>().read_unaligned() };
        Portable(bits.map(|b| f32::from_bits(u32::from(b) << 16)))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's pointer reaches 8 values.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        self.zip(b, |a, b| a * b).zip(c, |ab, c| ab + c)
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        self.zip(b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn scale(self, n: Self) -> Self {
        self.zip(n, |a, n| a * f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn where_above(self, x: Self, limit: f32) -> Self {
        self.zip(x, |a, x| if x > limit { a } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn total(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}

/// Implements [`Lanes`] by one intrinsic a method.
#[cfg(target_arch = "x86_64")]
macro_rules! lanes {
    ($name:ident, $vector:ident, $len:literal, $half:ty, $load_half:expr, $load_bfloat:expr, $scale:expr, $above:expr, $total:expr,
     $set1:ident $loadu:ident $storeu:ident $fmadd:ident $add:ident $sub:ident $mul:ident $max:ident) => {
        /// One register.
        #[derive(Clone, Copy)]
        pub(crate) struct $name(pub(crate) x86::$vector);

        // SAFETY of every block: the caller has the instruction set and pointers that reach `LEN` values.
        impl Lanes for $name {
            const LEN: usize = $len;

            #[inline(always)]
            unsafe fn splat(x: f32) -> Self {
                // SAFETY: as said above.
                unsafe { $name(x86::$set1(x)) }
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                // SAFETY: as said above.
                unsafe { $name(x86::$loadu(from)) }
            }
            #[inline(always)]
            unsafe fn load_half(from: *const u16) -> Self {
                // SAFETY: as said above.
                unsafe { $name($load_half(from.cast::<$half>())) }
            }
            #[inline(always)]
            unsafe fn load_bfloat(from: *const u16) -> Self {
                // SAFETY: as said above.
                unsafe { $name($load_bfloat(from.cast::<$half>())) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                // SAFETY: as said above.
                unsafe { x86::$storeu(to, self.0) }
            }
            #[inline(always)]
            unsafe fn mul_add(self, b: Self, c: Self) -> Self {
                // SAFETY: as said above.
                unsafe { $name(x86::$fmadd(self.0, b.0, c.0)) }
            }
            #[inline(always)]
            unsafe fn add(self, b: Self) -> Self {
                // SAFETY: as said above.
                unsafe { $name(x86::$add(self.0, b.0)) }
            }
            #[inline(always)]
            unsafe fn sub(self, b: Self) -> Self {
                // SAFETY: as said above.
                unsafe { $name(x86::$sub(self.0, b.0)) }
            }
            #[inline(always)]
            unsafe fn mul(self, b: Self) -> Self {
                // SAFETY: as said above.
                unsafe { $name(x86::$mul(self.0, b.0)) }
            }
            #[inline(always)]
            unsafe fn max(self, b: Self) -> Self {
                // SAFETY: as said above.
                unsafe { $name(x86::$max(self.0, b.0)) }
            }
            #[inline(always)]
            unsafe fn scale(self, n: Self) -> Self {
                // SAFETY: as said above.
                unsafe { $name($scale(self.0, n.0)) }
            }
            #[inline(always)]
            unsafe fn where_above(self, x: Self, limit: f32) -> Self {
                // SAFETY: as said above.
                unsafe { $name($above(self.0, x.0, x86::$set1(limit))) }
            }
            #[inline(always)]
            unsafe fn total(self) -> f32 {
                // SAFETY: as said above.
                unsafe { $total(self.0) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64 as x86;

#[cfg(target_arch = "x86_64")]
lanes!(
    Avx512, __m512, 16, x86::__m256i,
    |p| x86::_mm512_cvtph_ps(x86::_mm256_loadu_si256(p)),
    |p| x86::_mm512_castsi512_ps(x86::_mm512_slli_epi32::<16>(x86::_mm512_cvtepu16_epi32(x86::_mm256_loadu_si256(p)))),
    |a, n| x86::_mm512_scalef_ps(a, n),
    |a, x, limit| x86::_mm512_maskz_mov_ps(x86::_mm512_cmp_ps_mask::<{ x86::_CMP_GT_OQ }>(x, limit), a),
    |a| Avx2(x86::_mm256_add_ps(x86::_mm512_castps512_ps256(a), x86::_mm512_extractf32x8_ps::<1>(a))).total(),
    _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_fmadd_ps
    _mm512_add_ps _mm512_sub_ps _mm512_mul_ps _mm512_max_ps
);

#[cfg(target_arch = "x86_64")]
lanes!(
    Avx2, __m256, 8, x86::__m128i,
    |p| x86::_mm256_cvtph_ps(x86::_mm_loadu_si128(p)),
    |p| x86::_mm256_castsi256_ps(x86::_mm256_slli_epi32::<16>(x86::_mm256_cvtepu16_epi32(x86::_mm_loadu_si128(p)))),
    |a, n| {
        let exponent = x86::_mm256_add_epi32(x86::_mm256_cvtps_epi32(n), x86::_mm256_set1_epi32(127));
        x86::_mm256_mul_ps(a, x86::_mm256_castsi256_ps(x86::_mm256_slli_epi32::<23>(exponent)))
    },
    |a, x, limit| x86::_mm256_and_ps(x86::_mm256_cmp_ps::<{ x86::_CMP_GT_OQ }>(x, limit), a),
    |a| {
        let quarter = x86::_mm_add_ps(x86::_mm256_castps256_ps128(a), x86::_mm256_extractf128_ps::<1>(a));
        let pair = x86::_mm_add_ps(quarter, x86::_mm_movehl_ps(quarter, quarter));
        x86::_mm_cvtss_f32(x86::_mm_add_ss(pair, x86::_mm_movehdup_ps(pair)))
    },
    _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_fmadd_ps
    _mm256_add_ps _mm256_sub_ps _mm256_mul_ps _mm256_max_ps
);

#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;

#[cfg(target_arch = "aarch64")]
mod neon;
