//! Small vector routines that several kernels share.

use std::arch::asm;
use std::arch::x86_64::{__m512, __m512i};

/// `low` then `high` as bfloat16, rounded to nearest even.
///
/// Written as an instruction of its own so that the functions that call it need not be compiled for AVX-512 BF16, which
/// they use only when it is there.
///
/// # Safety
/// The processor must have AVX-512 BF16.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn pack_bf16(low: __m512, high: __m512) -> __m512i {
    let packed;
    // SAFETY: the caller vouches for the instruction; it reads and writes registers only.
    unsafe {
        asm!(
            "vcvtne2ps2bf16 {packed}, {high}, {low}",
            packed = lateout(zmm_reg) packed,
            high = in(zmm_reg) high,
            low = in(zmm_reg) low,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    packed
}
