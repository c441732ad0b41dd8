//! What does the driver know about an address?

use std::ffi::c_void;

use cudarc::driver::sys;
use sys::CUpointer_attribute as Attribute;

use super::{Device, DevicePtr, call};
use crate::error::CudaError;

/// The driver's answers about one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PointerFacts {
    /// Whether it is in a device's memory.
    pub(crate) is_device_memory: bool,
    /// `CUmemorytype`: 1 host, 2 device, 4 both.
    pub(crate) memory_type: u32,
    /// Whether the driver may move it to the host.
    pub(crate) is_managed: bool,
    /// Where the host reaches the same memory.
    pub(crate) host_address: Option<u64>,
    /// Whose memory it is.
    pub(crate) ordinal: u32,
    /// First address and size of the allocation that it is in.
    pub(crate) range: (u64, u64),
}

impl Device {
    /// Asks about an address.
    pub(crate) fn pointer_facts(&self, address: DevicePtr) -> Result<PointerFacts, CudaError> {
        self.bind()?;
        let memory_type = ask(Attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address)? as u32;
        let host_address = match ask(Attribute::CU_POINTER_ATTRIBUTE_HOST_POINTER, address) {
            Ok(0) => None,
            Ok(host_address) => Some(host_address),
            // How the driver says that there is none.
            Err(CudaError::Driver { code, .. }) if code == sys::CUresult::CUDA_ERROR_INVALID_VALUE as u32 => {
                None
            }
            Err(error) => return Err(error),
        };
        Ok(PointerFacts {
            is_device_memory: memory_type == sys::CUmemorytype::CU_MEMORYTYPE_DEVICE as u32,
            memory_type,
            is_managed: ask(Attribute::CU_POINTER_ATTRIBUTE_IS_MANAGED, address)? & 0xFF != 0,
            host_address,
            ordinal: ask(Attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address)? as u32,
            range: (
                ask(Attribute::CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, address)?,
                ask(Attribute::CU_POINTER_ATTRIBUTE_RANGE_SIZE, address)?,
            ),
        })
    }
}

/// One attribute: a number of up to eight bytes, of which the driver writes as many as the attribute has.
fn ask(attribute: Attribute, address: DevicePtr) -> Result<u64, CudaError> {
    let mut value = 0u64;
    let target: *mut c_void = (&raw mut value).cast();
    // SAFETY: the attributes asked for have eight bytes at most, in the host's order, the lowest first; an address that is none of
    // the driver's is an error.
    unsafe { call!(cuPointerGetAttribute(target, attribute, address.0)) }?;
    Ok(u64::from_le(value))
}
