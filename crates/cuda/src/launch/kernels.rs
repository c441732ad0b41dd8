//! Where is a kernel? Loaded when first used, and launched in a stream.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use bytemuck::Pod;

use crate::driver::{self, Device, Function, LaunchShape, Module, Stream};
use crate::error::CudaError;
use crate::launch::file::{File, Kernel};

/// A kernel and how it is spread over the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) kernel: Kernel,
    pub(crate) grid: [u32; 3],
    pub(crate) n_thread: u32,
    pub(crate) shared_bytes: u32,
    /// Blocks of a cluster; 1 for none.
    pub(crate) cluster: u32,
}

impl Launch {
    /// Over a flat grid, without dynamic shared memory.
    pub(crate) fn new(kernel: Kernel, [x, y]: [u32; 2], n_thread: u32) -> Launch {
        Launch { kernel, grid: [x, y, 1], n_thread, shared_bytes: 0, cluster: 1 }
    }
}

/// A kernel that was loaded.
#[derive(Clone)]
struct Loaded {
    function: Function,
    /// Dynamic shared memory that it may ask for.
    shared_bytes: u32,
    /// Whether it may start before the one before it ends: whether the code that was loaded waits for it.
    overlaps: bool,
}

/// All kernels of a device.
pub(crate) struct Kernels {
    device: Arc<Device>,
    modules: RefCell<HashMap<File, Module>>,
    loaded: RefCell<HashMap<Kernel, Loaded>>,
    /// Whether launches only look their kernels up.
    is_dry: Cell<bool>,
}

/// Shared memory up to here need not be allowed.
const PLAIN_SHARED_BYTES: u32 = 48 << 10;

/// The kernel that is asked which code was loaded: all are compiled for the same architectures.
const ANY: Kernel = Kernel::named(File::Rows, "norm_few");

/// The virtual architecture from which on kernels wait for the one before them (`wait_for_previous` in common.cuh).
const WAITS_FROM: u32 = 90;

impl Kernels {
    pub(crate) fn new(device: &Arc<Device>) -> Kernels {
        Kernels {
            device: Arc::clone(device),
            modules: RefCell::default(),
            loaded: RefCell::default(),
            is_dry: Cell::new(false),
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

    /// Whether kernels' code is of Hopper or later: they wait for the one before them, and may form clusters.
    pub(crate) fn is_hopper(&self) -> Result<bool, CudaError> {
        Ok(self.load(ANY, 0)?.overlaps)
    }

    /// A kernel, allowed to ask for this much shared memory.
    fn load(&self, kernel: Kernel, shared_bytes: u32) -> Result<Loaded, CudaError> {
        let known = self.loaded.borrow().get(&kernel).cloned();
        let mut loaded = match known {
            Some(loaded) if loaded.shared_bytes >= shared_bytes => return Ok(loaded),
            Some(loaded) => loaded,
            None => {
                let function = self.find(kernel)?;
                let overlaps = function.ptx_version()? >= WAITS_FROM;
                Loaded { function, shared_bytes: PLAIN_SHARED_BYTES, overlaps }
            }
        };
        if shared_bytes > loaded.shared_bytes {
            loaded.function.set_max_dynamic_shared(shared_bytes)?;
            loaded.shared_bytes = shared_bytes;
        }
        self.loaded.borrow_mut().insert(kernel, loaded.clone());
        Ok(loaded)
    }

    /// The names of all that are loaded.
    pub(crate) fn loaded(&self) -> Vec<String> {
        self.loaded.borrow().keys().map(Kernel::to_string).collect()
    }

    fn find(&self, kernel: Kernel) -> Result<Function, CudaError> {
        let mut modules = self.modules.borrow_mut();
        let module = match modules.entry(kernel.file) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Module::load(&self.device, kernel.file.fatbin()?)?),
        };
        module.function(&kernel.to_string())
    }

    /// Queues a kernel.
    pub(crate) fn launch<T: Pod>(&self, stream: &Stream, launch: &Launch, args: &T) -> Result<(), CudaError> {
        if launch.grid.contains(&0) {
            return Ok(());
        }
        let loaded = self.load(launch.kernel, launch.shared_bytes)?;
        if self.is_dry.get() {
            return Ok(());
        }
        let shape = LaunchShape {
            grid: launch.grid,
            block: [launch.n_thread, 1, 1],
            shared_bytes: launch.shared_bytes,
            pdl: loaded.overlaps,
            cluster: launch.cluster,
        };
        driver::launch(stream, &loaded.function, shape, args)
    }
}
