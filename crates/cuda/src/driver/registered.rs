//! The process's own memory, made known to the driver after it was filled.
//!
//! Measured on a PCIe 5 machine: 96 MB of pinned memory cost 24 to 39 ms to allocate, and 3 ms to register when they lie in pages of 2 MB.
//! So the loader's buffers are registered memory, and the first pieces are copied into them before the driver has seen them.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use super::{Device, call, call_quietly};
use crate::error::CudaError;

/// Large pages of x86 and of ARM with small pages of 4 KB.
const LARGE_PAGE: usize = 2 << 20;

/// Memory of the host, in large pages where the system gives them, that can be registered for copies once.
pub(crate) struct RegisteredBuffer {
    address: NonNull<u8>,
    layout: Layout,
    /// By whom it is registered.
    device: OnceLock<Arc<Device>>,
}

// SAFETY: plain memory that this owns; the driver's calls on it may come from any thread.
unsafe impl Send for RegisteredBuffer {}
// SAFETY: as above, and shared references reach the memory through `as_ptr` alone.
unsafe impl Sync for RegisteredBuffer {}

impl RegisteredBuffer {
    /// Memory of unknown content, not yet registered. At least one byte.
    pub(crate) fn new(bytes: usize) -> RegisteredBuffer {
        let size = bytes.max(1).next_multiple_of(LARGE_PAGE);
        let layout = Layout::from_size_align(size, LARGE_PAGE).expect("a size below half the address space");
        // SAFETY: the layout is not empty.
        let address = NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
        #[cfg(target_os = "linux")]
        // SAFETY: whole pages that this owns; the advice changes no content, and a refusal nothing but speed.
        unsafe {
            libc::madvise(address.as_ptr().cast(), size, libc::MADV_HUGEPAGE);
        }
        RegisteredBuffer { address, layout, device: OnceLock::new() }
    }

    /// Its first byte; a multiple of 2 MiB.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    /// Makes it known to the driver. To be called once.
    pub(crate) fn register(&self, device: &Arc<Device>) -> Result<(), CudaError> {
        device.bind()?;
        // SAFETY: memory that this owns and unregisters before it frees it. No flags: neither mapped nor shared among contexts.
        unsafe { call!(cuMemHostRegister_v2(self.address.as_ptr().cast(), self.layout.size(), 0)) }?;
        let _ = self.device.set(Arc::clone(device));
        Ok(())
    }
}

impl Drop for RegisteredBuffer {
    fn drop(&mut self) {
        if let Some(device) = self.device.get()
            && device.bind().is_ok()
        {
            // SAFETY: registered by `register`; its owner has waited for the copies.
            unsafe { call_quietly!(cuMemHostUnregister(self.address.as_ptr().cast())) };
        }
        // SAFETY: allocated by `new` with this layout.
        unsafe { dealloc(self.address.as_ptr(), self.layout) };
    }
}
