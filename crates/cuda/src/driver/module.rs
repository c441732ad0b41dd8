//! Compiled kernels: loading them, and starting them.

use std::ffi::CString;
use std::sync::Arc;

use bytemuck::Pod;
use cudarc::driver::sys;
use sys::CUfunction_attribute as Attribute;

use super::{Device, Stream, call, call_quietly};
use crate::error::CudaError;

/// A fat binary on a device.
pub struct Module {
    shared: Arc<Loaded>,
}

struct Loaded {
    device: Arc<Device>,
    handle: sys::CUmodule,
}

// SAFETY: the driver's functions may be called with the same module by any thread.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}

impl Module {
    /// Loads a fat binary, a cubin, or PTX that ends with a zero byte. The bytes are copied.
    ///
    /// # Errors
    /// If it holds nothing that runs on this device.
    pub fn load(device: &Arc<Device>, image: &'static [u8]) -> Result<Module, CudaError> {
        device.bind()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the context is current. The image carries its own size (PTX: its end); it comes from this program's build.
        unsafe { call!(cuModuleLoadData(&raw mut handle, image.as_ptr().cast())) }?;
        Ok(Module { shared: Arc::new(Loaded { device: Arc::clone(device), handle }) })
    }

    /// One of its kernels, which keeps the module loaded.
    ///
    /// # Errors
    /// [`CudaError::UnknownFunction`] if it has none of this name.
    pub fn function(&self, name: &str) -> Result<Function, CudaError> {
        let unknown = || CudaError::UnknownFunction { name: name.to_owned() };
        let zero_ended = CString::new(name).map_err(|_| unknown())?;
        self.shared.device.bind()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: a live module, a text that ends with a zero, and a pointer to a live pointer.
        match unsafe { call!(cuModuleGetFunction(&raw mut handle, self.shared.handle, zero_ended.as_ptr())) }
        {
            Ok(()) => Ok(Function { module: Arc::clone(&self.shared), handle }),
            Err(CudaError::Driver { code, .. }) if code == sys::CUresult::CUDA_ERROR_NOT_FOUND as u32 => {
                Err(unknown())
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: loaded by `Module::load`; every function keeps it, so none is left.
            unsafe { call_quietly!(cuModuleUnload(self.handle)) };
        }
    }
}

/// A kernel.
#[derive(Clone)]
pub struct Function {
    module: Arc<Loaded>,
    handle: sys::CUfunction,
}

// SAFETY: the driver's functions may be called with the same function by any thread.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Function {
    /// Allows launches with up to this much dynamic shared memory a block; above 48 KiB it must be said.
    ///
    /// # Errors
    /// If the device has less.
    pub fn set_max_dynamic_shared(&self, bytes: u32) -> Result<(), CudaError> {
        self.module.device.bind()?;
        let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: a function of a live module.
        unsafe { call!(cuFuncSetAttribute(self.handle, attribute, bytes.cast_signed())) }
    }

    /// Registers a thread.
    ///
    /// # Errors
    /// If the context is lost.
    pub fn n_register(&self) -> Result<u32, CudaError> {
        self.attribute(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)
    }

    /// The virtual architecture that it was compiled for, times 10: 90 for `compute_90a`.
    ///
    /// # Errors
    /// If the context is lost.
    pub fn ptx_version(&self) -> Result<u32, CudaError> {
        self.attribute(Attribute::CU_FUNC_ATTRIBUTE_PTX_VERSION)
    }

    /// Local memory a thread, in bytes: what did not fit into registers.
    ///
    /// # Errors
    /// If the context is lost.
    pub fn local_bytes(&self) -> Result<u32, CudaError> {
        self.attribute(Attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)
    }

    /// How many blocks of this size fit on a multiprocessor at once.
    ///
    /// # Errors
    /// If the context is lost.
    pub fn blocks_per_sm(&self, n_thread: u32, shared_bytes: u32) -> Result<u32, CudaError> {
        self.module.device.bind()?;
        let mut n = 0;
        // SAFETY: a function of a live module, and a pointer to a live integer.
        unsafe {
            call!(cuOccupancyMaxActiveBlocksPerMultiprocessor(
                &raw mut n,
                self.handle,
                n_thread.cast_signed(),
                shared_bytes as usize,
            ))
        }?;
        Ok(u32::try_from(n).unwrap_or(0))
    }

    /// How many blocks form a cluster, for a kernel compiled with `__cluster_dims__`; else 0.
    ///
    /// # Errors
    /// If the context is lost.
    pub fn cluster_width(&self) -> Result<u32, CudaError> {
        self.attribute(Attribute::CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH)
    }

    /// Allows clusters of more than 8 blocks, which not every device has room for.
    ///
    /// # Errors
    /// If the device has no clusters.
    pub fn allow_large_clusters(&self) -> Result<(), CudaError> {
        self.module.device.bind()?;
        let attribute = Attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED;
        // SAFETY: a function of a live module.
        unsafe { call!(cuFuncSetAttribute(self.handle, attribute, 1)) }
    }

    /// How many clusters of a kernel that was compiled with `__cluster_dims__` fit on the device at once.
    ///
    /// # Errors
    /// If the driver refuses the shape.
    pub fn clusters_at_once(&self, shape: LaunchShape) -> Result<u32, CudaError> {
        self.module.device.bind()?;
        let config = shape.config(std::ptr::null_mut());
        let mut n = 0;
        // SAFETY: a function of a live module, a live configuration without attributes, and a pointer to a live integer.
        unsafe { call!(cuOccupancyMaxActiveClusters(&raw mut n, self.handle, &raw const config)) }?;
        Ok(u32::try_from(n).unwrap_or(0))
    }

    fn attribute(&self, attribute: Attribute) -> Result<u32, CudaError> {
        self.module.device.bind()?;
        let mut value = 0;
        // SAFETY: a function of a live module, and a pointer to a live integer.
        unsafe { call!(cuFuncGetAttribute(&raw mut value, attribute, self.handle)) }?;
        Ok(u32::try_from(value).unwrap_or(0))
    }
}

/// The one argument of a kernel: a structure without padding that the kernel declares with the same fields in the same order.
///
/// The device addresses in it are the kernel's to use as it likes, so whoever fills it answers for them.
pub trait KernelArgs: Pod {}

impl<T: Pod> KernelArgs for T {}

/// How a kernel is spread over the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchShape {
    /// Blocks: x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block: x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
    /// Programmatic dependent launch: the kernel may start before the one queued before it ends, and waits for it itself
    /// (`griddepcontrol.wait`). Only devices from compute capability 9.0 on have it; others must not be asked.
    pub pdl: bool,
    /// Blocks of a cluster, along x; 1 for none, and for kernels that were compiled with a cluster's size. For devices as above.
    pub cluster: u32,
}

impl LaunchShape {
    /// As the driver takes it, without attributes.
    fn config(self, stream: sys::CUstream) -> sys::CUlaunchConfig {
        sys::CUlaunchConfig {
            gridDimX: self.grid[0],
            gridDimY: self.grid[1],
            gridDimZ: self.grid[2],
            blockDimX: self.block[0],
            blockDimY: self.block[1],
            blockDimZ: self.block[2],
            sharedMemBytes: self.shared_bytes,
            hStream: stream,
            attrs: std::ptr::null_mut(),
            numAttrs: 0,
        }
    }
}

/// Queues a kernel.
///
/// # Errors
/// If the driver refuses the shape. What goes wrong in the kernel is seen when the stream is waited for.
pub fn launch<T: KernelArgs>(
    stream: &Stream,
    function: &Function,
    shape: LaunchShape,
    args: &T,
) -> Result<(), CudaError> {
    // The most that a kernel takes on every architecture.
    const { assert!(size_of::<T>() > 0 && size_of::<T>() <= 4096) };
    let handle = stream.bound()?;
    let overlap = sys::CUlaunchAttribute {
        id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
        pad: [0; 4],
        value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
    };
    let cluster = sys::CUlaunchAttribute {
        id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
        pad: [0; 4],
        value: sys::CUlaunchAttributeValue {
            clusterDim: sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: shape.cluster, y: 1, z: 1 },
        },
    };
    let mut attributes: Vec<_> = [(shape.pdl, overlap), (shape.cluster > 1, cluster)]
        .into_iter()
        .filter(|a| a.0)
        .map(|a| a.1)
        .collect();
    let config = sys::CUlaunchConfig {
        attrs: attributes.as_mut_ptr(),
        numAttrs: attributes.len() as u32,
        ..shape.config(handle)
    };
    let mut arguments = [std::ptr::from_ref(args).cast_mut().cast()];
    // SAFETY: the driver reads the configuration, and one argument of the size that the kernel declares, before it returns; every
    // kernel takes exactly one structure, whose size both sides assert. The function's module and the stream are live.
    unsafe {
        call!(cuLaunchKernelEx(
            &raw const config,
            function.handle,
            arguments.as_mut_ptr(),
            std::ptr::null_mut()
        ))
    }
}
