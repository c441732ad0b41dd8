//! Which device, and what is it?

use std::ffi::{CStr, c_char, c_int};
use std::fmt;
use std::sync::Arc;

use cudarc::driver::sys;
use sys::CUdevice_attribute as Attribute;

use super::{call, call_quietly, driver_version};
use crate::error::CudaError;

/// A GPU with its primary context, which is released when the last clone of the `Arc` is dropped.
pub struct Device {
    handle: sys::CUdevice,
    context: sys::CUcontext,
    ordinal: u32,
    name: String,
    pci_bus_id: String,
    compute_capability: (u32, u32),
    n_sm: u32,
    max_shared_bytes: u32,
}

// SAFETY: the driver's functions may be called with the same device and context by any thread (CUDA Driver API, "Context
// Management": a context may be current to several threads); the rest is plain data that never changes.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

/// A device's memory at one moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryInfo {
    /// Of no use to any process.
    pub free: u64,
    /// In all.
    pub total: u64,
}

impl Device {
    /// How many devices the driver has.
    ///
    /// # Errors
    /// As [`driver_version`].
    pub fn count() -> Result<u32, CudaError> {
        driver_version()?;
        let mut count = 0;
        // SAFETY: the driver is initialised and the pointer is to a live integer.
        unsafe { call!(cuDeviceGetCount(&raw mut count)) }?;
        Ok(u32::try_from(count).unwrap_or(0))
    }

    /// Opens a device: makes its primary context, which takes some hundred milliseconds the first time in a process.
    ///
    /// # Errors
    /// [`CudaError::NoDevice`] if there is none of this number, or why the driver refuses it.
    pub fn open(ordinal: u32) -> Result<Arc<Device>, CudaError> {
        let count = Device::count()?;
        if ordinal >= count {
            return Err(CudaError::NoDevice { ordinal, count });
        }
        let mut handle = 0;
        // SAFETY: the driver is initialised and the pointer is to a live integer.
        unsafe { call!(cuDeviceGet(&raw mut handle, ordinal.cast_signed())) }?;
        let mut context = std::ptr::null_mut();
        // SAFETY: a device of the driver, and a pointer to a live pointer.
        unsafe { call!(cuDevicePrimaryCtxRetain(&raw mut context, handle)) }?;
        // From here on its destructor releases the context, whatever fails.
        let mut device = Device {
            handle,
            context,
            ordinal,
            name: String::new(),
            pci_bus_id: String::new(),
            compute_capability: (0, 0),
            n_sm: 0,
            max_shared_bytes: 0,
        };
        // SAFETY: both write at most the given number of bytes, and a zero after the text.
        device.name = text(|at, len| unsafe { call!(cuDeviceGetName(at, len, handle)) })?;
        // SAFETY: as above.
        device.pci_bus_id = text(|at, len| unsafe { call!(cuDeviceGetPCIBusId(at, len, handle)) })?;
        device.compute_capability = (
            device.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            device.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        device.n_sm = device.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        device.max_shared_bytes =
            device.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        Ok(Arc::new(device))
    }

    fn attribute(&self, attribute: Attribute) -> Result<u32, CudaError> {
        let mut value = 0;
        // SAFETY: a device of the driver, and a pointer to a live integer.
        unsafe { call!(cuDeviceGetAttribute(&raw mut value, attribute, self.handle)) }?;
        Ok(u32::try_from(value).unwrap_or(0))
    }

    /// Makes the context current to this thread.
    pub(super) fn bind(&self) -> Result<(), CudaError> {
        // SAFETY: the context is retained as long as `self` lives.
        unsafe { call!(cuCtxSetCurrent(self.context)) }
    }

    /// Its number in the driver's order.
    #[must_use]
    pub fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// The product's name, such as `NVIDIA H200`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its place on the PCI bus, such as `0000:3b:00.0`.
    #[must_use]
    pub fn pci_bus_id(&self) -> &str {
        &self.pci_bus_id
    }

    /// Major and minor: 9 and 0 for `sm_90`.
    #[must_use]
    pub fn compute_capability(&self) -> (u32, u32) {
        self.compute_capability
    }

    /// How many multiprocessors it has.
    #[must_use]
    pub fn n_sm(&self) -> u32 {
        self.n_sm
    }

    /// The most shared memory that a block may ask for with [`Function::set_max_dynamic_shared`](super::Function::set_max_dynamic_shared).
    #[must_use]
    pub fn max_shared_bytes(&self) -> u32 {
        self.max_shared_bytes
    }

    /// Its memory now. Other processes may take what is free at any time.
    ///
    /// # Errors
    /// If the context is lost.
    pub fn memory(&self) -> Result<MemoryInfo, CudaError> {
        self.bind()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: the context is current, and the pointers are to live integers.
        unsafe { call!(cuMemGetInfo_v2(&raw mut free, &raw mut total)) }?;
        Ok(MemoryInfo { free: free as u64, total: total as u64 })
    }
}

fn text(get: impl FnOnce(*mut c_char, c_int) -> Result<(), CudaError>) -> Result<String, CudaError> {
    let mut bytes = [0u8; 256];
    get(bytes.as_mut_ptr().cast(), 255)?;
    Ok(CStr::from_bytes_until_nul(&bytes).unwrap_or_default().to_string_lossy().into_owned())
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: retained once in `open`. Every object of the context keeps an `Arc` of the device, so none is left.
        unsafe { call_quietly!(cuDevicePrimaryCtxRelease_v2(self.handle)) };
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({} {}, {})", self.ordinal, self.name, self.pci_bus_id)
    }
}
