//! Memory: on the device, and pinned on the host, where the device's copy engines reach it.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use cudarc::driver::sys;

use super::{Device, call, call_quietly};
use crate::error::CudaError;

/// An address in a device's memory.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct DevicePtr(pub u64);

impl DevicePtr {
    /// The address of nothing.
    pub const NULL: DevicePtr = DevicePtr(0);

    /// The address some bytes further.
    #[must_use]
    pub fn offset(self, bytes: u64) -> DevicePtr {
        DevicePtr(self.0 + bytes)
    }
}

impl fmt::Debug for DevicePtr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// One allocation in the device's own memory.
pub struct DeviceMemory {
    device: Arc<Device>,
    address: DevicePtr,
    bytes: u64,
}

impl DeviceMemory {
    /// Allocates; the address is a multiple of 256. No bytes are no allocation, at address 0.
    ///
    /// # Errors
    /// [`CudaError::InsufficientMemory`] if it does not fit.
    pub fn new(device: &Arc<Device>, bytes: u64) -> Result<DeviceMemory, CudaError> {
        let device = Arc::clone(device);
        if bytes == 0 {
            return Ok(DeviceMemory { device, address: DevicePtr::NULL, bytes });
        }
        let size = usize::try_from(bytes).unwrap_or(usize::MAX);
        device.bind()?;
        let mut address = 0;
        // SAFETY: the context is current, and the pointer is to a live integer.
        match unsafe { call!(cuMemAlloc_v2(&raw mut address, size)) } {
            Ok(()) => Ok(DeviceMemory { device, address: DevicePtr(address), bytes }),
            Err(CudaError::Driver { code, .. }) if code == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY as u32 => {
                Err(CudaError::InsufficientMemory { needed: bytes, free: device.memory()?.free })
            }
            Err(error) => Err(error),
        }
    }

    /// Where it starts.
    #[must_use]
    pub fn address(&self) -> DevicePtr {
        self.address
    }

    /// How much it is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        if self.bytes > 0 && self.device.bind().is_ok() {
            // SAFETY: allocated in this context by `new` and freed nowhere else. Freeing waits for work that uses it.
            unsafe { call_quietly!(cuMemFree_v2(self.address.0)) };
        }
    }
}

/// Page-locked memory of the host: copies to and from it run on their own.
///
/// The device may write to it while a copy or a kernel that was given its address is under way; whoever reads must have waited for
/// that, or read single words with [`PinnedBuffer::read_volatile`].
pub struct PinnedBuffer {
    device: Arc<Device>,
    address: NonNull<u8>,
    bytes: usize,
}

// SAFETY: plain memory that this owns; the driver's calls on it may come from any thread.
unsafe impl Send for PinnedBuffer {}
// SAFETY: through a shared reference it is only read.
unsafe impl Sync for PinnedBuffer {}

impl PinnedBuffer {
    /// Allocates zeroed memory.
    ///
    /// # Errors
    /// If the host has not enough, or may not lock so much.
    pub fn new(device: &Arc<Device>, bytes: usize) -> Result<PinnedBuffer, CudaError> {
        let buffer = PinnedBuffer::new_unfilled(device, bytes)?;
        // SAFETY: as many bytes as were allocated, which nobody else knows of yet.
        unsafe { buffer.address.write_bytes(0, bytes) };
        Ok(buffer)
    }

    /// The same where every byte is written before any is read: the driver's pages are zero or were this process's own.
    pub(crate) fn new_unfilled(device: &Arc<Device>, bytes: usize) -> Result<PinnedBuffer, CudaError> {
        device.bind()?;
        let mut address = std::ptr::null_mut();
        // SAFETY: the context is current, and the pointer is to a live pointer.
        unsafe { call!(cuMemHostAlloc(&raw mut address, bytes.max(1), sys::CU_MEMHOSTALLOC_PORTABLE)) }?;
        let address = NonNull::new(address.cast()).ok_or(CudaError::NoDriver)?;
        Ok(PinnedBuffer { device: Arc::clone(device), address, bytes })
    }

    /// How much it is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its first byte. At least 256-byte aligned.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    /// The address under which the device's kernels reach it, over the bus. For a few words such as sampled ids; weights, the KV cache and
    /// activations never lie here.
    ///
    /// # Errors
    /// If the context is lost.
    pub fn device_ptr(&self) -> Result<DevicePtr, CudaError> {
        self.device.bind()?;
        let mut address = 0;
        // SAFETY: the context is current, the memory was allocated by `cuMemHostAlloc`, and the pointer is to a live integer.
        unsafe { call!(cuMemHostGetDevicePointer_v2(&raw mut address, self.address.as_ptr().cast(), 0)) }?;
        Ok(DevicePtr(address))
    }

    /// All of it as values; what is left over at the end is not shown.
    #[must_use]
    pub fn as_slice<T: Pod>(&self) -> &[T] {
        const { assert!(align_of::<T>() <= 256) };
        // SAFETY: allocated by the driver in whole pages, so aligned; any bytes are a value of a `Pod`; lives as long as `self`.
        unsafe {
            std::slice::from_raw_parts(self.address.as_ptr().cast(), self.bytes / size_of::<T>().max(1))
        }
    }

    /// The same to write to.
    #[must_use]
    pub fn as_mut_slice<T: Pod>(&mut self) -> &mut [T] {
        const { assert!(align_of::<T>() <= 256) };
        // SAFETY: as for `as_slice`, and `self` is borrowed alone.
        unsafe {
            std::slice::from_raw_parts_mut(self.address.as_ptr().cast(), self.bytes / size_of::<T>().max(1))
        }
    }

    /// Value `index` as it is in memory now, whatever the device is writing.
    ///
    /// # Panics
    /// If it lies past the end.
    #[must_use]
    pub fn read_volatile<T: Pod>(&self, index: usize) -> T {
        let n = self.bytes / size_of::<T>().max(1);
        assert!(index < n, "value {index} of {n}");
        // SAFETY: within the allocation, and aligned since that is.
        unsafe { self.address.as_ptr().cast::<T>().add(index).read_volatile() }
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: allocated by `cuMemHostAlloc` and freed nowhere else. Freeing waits for copies that use it.
            unsafe { call_quietly!(cuMemFreeHost(self.address.as_ptr().cast())) };
        }
    }
}
