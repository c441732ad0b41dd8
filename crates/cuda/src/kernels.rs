//! Kernels by name, loaded when first used, and launched in a stream.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use bytemuck::Pod;

use crate::driver::{self, Device, Function, LaunchShape, Module, Stream};
use crate::error::CudaError;

/// A kernel and how it is spread over the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    /// Of the kernel.
    pub(crate) name: String,
    pub(crate) grid: [u32; 3],
    pub(crate) n_thread: u32,
    pub(crate) shared_bytes: u32,
}

/// All kernels of a device.
pub(crate) struct Kernels {
    device: Arc<Device>,
    modules: RefCell<HashMap<&'static str, Module>>,
    functions: RefCell<HashMap<String, Function>>,
    /// Whether launches only look their kernels up.
    is_dry: Cell<bool>,
    /// Whether kernels may start before the one before them ends.
    overlaps: bool,
}

/// Static shared memory ends here; more has to be allowed.
const PLAIN_SHARED_BYTES: u32 = 48 << 10;

/// The file of kernels in which a kernel is.
fn module_of(name: &str) -> Option<&'static str> {
    let file = match name {
        "norm_rows" | "norm_few" | "prompt_rope" | "route_decode" => "rows",
        "gather_prompt" => "route_prompt",
        _ if name.starts_with("embed_") => "unpack",
        _ => {
            let stem = |module: &&str| name.starts_with(*module);
            // The longest, because the name of one file may begin another's.
            crate::MODULES.iter().map(|(module, _)| *module).filter(stem).max_by_key(|module| module.len())?
        }
    };
    crate::MODULES.iter().map(|(module, _)| *module).find(|module| *module == file)
}

impl Kernels {
    pub(crate) fn new(device: &Arc<Device>) -> Kernels {
        Kernels {
            device: Arc::clone(device),
            modules: RefCell::default(),
            functions: RefCell::default(),
            is_dry: Cell::new(false),
            overlaps: device.compute_capability().0 >= 9,
        }
    }

    /// The device.
    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Runs `queue` with launches that only load their kernels: what a graph is captured of must not load anything.
    pub(crate) fn rehearse<T>(&self, queue: impl FnOnce() -> T) -> T {
        self.is_dry.set(true);
        let result = queue();
        self.is_dry.set(false);
        result
    }

    /// Whether launches only load their kernels.
    pub(crate) fn is_rehearsing(&self) -> bool {
        self.is_dry.get()
    }

    /// The kernel of this name.
    pub(crate) fn function(&self, name: &str) -> Result<Function, CudaError> {
        if let Some(function) = self.functions.borrow().get(name) {
            return Ok(function.clone());
        }
        let unknown = || CudaError::UnknownFunction { name: name.to_owned() };
        let file = module_of(name).ok_or_else(unknown)?;
        let mut modules = self.modules.borrow_mut();
        if !modules.contains_key(file) {
            modules.insert(file, Module::load(&self.device, crate::module(file)?)?);
        }
        let function = modules.get(file).ok_or_else(unknown)?.function(name)?;
        self.functions.borrow_mut().insert(name.to_owned(), function.clone());
        Ok(function)
    }

    /// Queues a kernel over a grid of blocks.
    pub(crate) fn launch<T: Pod>(
        &self,
        stream: &Stream,
        name: &str,
        [x, y]: [u32; 2],
        n_thread: u32,
        shared_bytes: u32,
        args: &T,
    ) -> Result<(), CudaError> {
        let launch = Launch { name: name.to_owned(), grid: [x, y, 1], n_thread, shared_bytes };
        self.launch_shape(stream, &launch, args)
    }

    /// Queues a kernel.
    pub(crate) fn launch_shape<T: Pod>(
        &self,
        stream: &Stream,
        launch: &Launch,
        args: &T,
    ) -> Result<(), CudaError> {
        if launch.grid.contains(&0) {
            return Ok(());
        }
        let known = self.functions.borrow().contains_key(&launch.name);
        let function = self.function(&launch.name)?;
        if !known && launch.shared_bytes > PLAIN_SHARED_BYTES {
            function.set_max_dynamic_shared(launch.shared_bytes)?;
        }
        if self.is_dry.get() {
            return Ok(());
        }
        let shape = LaunchShape {
            grid: launch.grid,
            block: [launch.n_thread, 1, 1],
            shared_bytes: launch.shared_bytes,
            pdl: self.overlaps,
        };
        driver::launch(stream, &function, shape, args)
    }
}
