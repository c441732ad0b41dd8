//! The CUDA driver's objects as owned values: what is made is released when it is dropped.
//!
//! One file an object: `device` (and its context), `memory` (on the device, and pinned on the host), `stream` (and events), `module` (and
//! launching its functions), `graph`, `tensor_map`, `pointer` (what the driver
//! knows of an address), `registered` (the
//! process's own memory, for copies). Every object keeps its device alive. Any thread may use any object; calls make the device's
//! context current first. Addresses of device memory are plain numbers: nothing here checks what a kernel does with them.
//!
//! Source: CUDA Driver API, version 13.0. Sizes in bytes.

mod device;
mod graph;
mod memory;
mod module;
mod pointer;
mod registered;
mod stream;
mod tensor_map;

use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

use cudarc::driver::sys;

pub use device::{Device, MemoryInfo};
pub use graph::GraphExec;
pub use memory::{DeviceMemory, DevicePtr, PinnedBuffer};
pub use module::{Function, KernelArgs, LaunchShape, Module, launch};
pub(crate) use pointer::PointerFacts;
pub(crate) use registered::RegisteredBuffer;
pub use stream::{Event, EventKind, Stream};
pub(crate) use tensor_map::{HalfMatrix, TensorMap};

use crate::error::CudaError;

/// Kernels compiled by nvcc 13.0 need a driver that knows CUDA 13.0, which also has every function used here.
const OLDEST_DRIVER: u32 = 13000;

/// The version of CUDA that the driver has, times 1000: 13000 is 13.0. Initialises the driver on the first call.
///
/// # Errors
/// [`CudaError::NoDriver`] on a machine without one, [`CudaError::OldDriver`] if it is older than the kernels,
/// [`CudaError::Driver`] if it cannot be initialised.
pub fn driver_version() -> Result<u32, CudaError> {
    static VERSION: OnceLock<Result<u32, CudaError>> = OnceLock::new();
    VERSION.get_or_init(initialise).clone()
}

fn initialise() -> Result<u32, CudaError> {
    // SAFETY: looks for a library by name; its initialisers are the driver's own.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoDriver);
    }
    let mut version = 0;
    // SAFETY: the library was found, and the pointer is to a live integer.
    check("cuDriverGetVersion", unsafe { sys::cuDriverGetVersion(&raw mut version) })?;
    let version = u32::try_from(version).unwrap_or(0);
    if version < OLDEST_DRIVER {
        return Err(CudaError::OldDriver { expected: OLDEST_DRIVER, found: version });
    }
    // SAFETY: takes no pointers.
    check("cuInit", unsafe { sys::cuInit(0) })?;
    Ok(version)
}

/// Turns a result code into an error that names the call.
fn check(call: &'static str, code: sys::CUresult) -> Result<(), CudaError> {
    if code == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let text = |get: unsafe fn(sys::CUresult, *mut *const c_char) -> sys::CUresult| {
        let mut text = std::ptr::null();
        // SAFETY: a code came from the driver, so its library is loaded; the pointer is to a live pointer.
        let found = unsafe { get(code, &raw mut text) };
        if found != sys::CUresult::CUDA_SUCCESS || text.is_null() {
            return "unknown".to_owned();
        }
        // SAFETY: the driver gives texts that end with a zero and live as long as the library.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    };
    Err(CudaError::Driver {
        call,
        code: code as u32,
        name: text(sys::cuGetErrorName),
        message: text(sys::cuGetErrorString),
    })
}

/// Calls a function of the driver by its name and checks the result.
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {
        $crate::driver::check(stringify!($function), cudarc::driver::sys::$function($($argument),*))
    };
}
use call;

/// The same where nobody can be told: in a destructor.
macro_rules! call_quietly {
    ($function:ident($($argument:expr),* $(,)?)) => {
        if let Err(error) = $crate::driver::call!($function($($argument),*)) {
            tracing::debug!(%error, "releasing an object of the CUDA driver");
        }
    };
}
use call_quietly;
