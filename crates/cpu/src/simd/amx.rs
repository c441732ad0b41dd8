//! May this process use the AMX tiles, and who holds their state? Eight tile registers of 16 rows of 64 bytes.
//!
//! Source: Intel SDM volume 1, chapter 18, and volume 2 (LDTILECFG); Linux Documentation/arch/x86/xstate.rst. The system
//! grants the tile state to a process on request; threads made later inherit the grant. The tiles are configured at a
//! kernel's entry and released at its exit, so no other code ever runs with live tile state (it would be saved and
//! restored at every context switch).

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, _xgetbv};
use std::marker::PhantomData;
use std::sync::OnceLock;

/// True when the processor has AMX with bfloat16 products, the system saves its state, and permission was granted.
///
/// The first call asks the system for the permission; call it before the threads that use the tiles are made.
pub(crate) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_instructions() && request_permission())
}

fn has_instructions() -> bool {
    if !is_x86_feature_detected!("avx512bf16") || !is_x86_feature_detected!("xsave") {
        return false;
    }
    // Leaf 7 exists on every processor with AVX-512.
    let edx = __cpuid_count(7, 0).edx;
    let amx_bf16_and_tile = edx & (1 << 22) != 0 && edx & (1 << 24) != 0;
    // SAFETY: xsave was just detected, and detection requires that the system has enabled it (OSXSAVE).
    let xcr0 = unsafe { _xgetbv(0) };
    let tile_state = 0b11 << 17;
    amx_bf16_and_tile && xcr0 & tile_state == tile_state
}

#[cfg(target_os = "linux")]
fn request_permission() -> bool {
    const SYS_ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let status: i64;
    // SAFETY: this system call takes two integers and touches no memory of ours; the kernel clobbers rcx and r11 only.
    // A system without the call answers an error code.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") SYS_ARCH_PRCTL => status,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    status == 0
}

#[cfg(not(target_os = "linux"))]
fn request_permission() -> bool {
    false
}

/// The operand of LDTILECFG, palette 1.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

/// This thread's tiles, all eight configured as 16 rows of 64 bytes; released on drop.
pub(crate) struct Tiles {
    /// The state belongs to the thread that configured it.
    not_send: PhantomData<*mut ()>,
}

impl Tiles {
    /// Configures the tiles of the calling thread.
    ///
    /// # Safety
    /// [`available`] must have returned true, and no other `Tiles` may be alive on this thread.
    pub(crate) unsafe fn configure() -> Tiles {
        let mut config =
            Config { palette: 1, start_row: 0, reserved: [0; 14], bytes_per_row: [0; 16], rows: [0; 16] };
        config.bytes_per_row[..8].fill(64);
        config.rows[..8].fill(16);
        // SAFETY: the caller vouches for AMX; `config` is a valid palette 1 configuration of 64 bytes.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly, preserves_flags));
        }
        Tiles { not_send: PhantomData }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: a `Tiles` exists only on a thread that runs AMX instructions.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}
