//! Kernels by name, loaded when first used, and launched in a stream.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
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
    /// Blocks of a cluster; 1 for none.
    pub(crate) cluster: u32,
}

impl Launch {
    /// Over a flat grid, without dynamic shared memory.
    pub(crate) fn new(name: impl Into<String>, [x, y]: [u32; 2], n_thread: u32) -> Launch {
        Launch { name: name.into(), grid: [x, y, 1], n_thread, shared_bytes: 0, cluster: 1 }
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
    modules: RefCell<HashMap<&'static str, Module>>,
    loaded: RefCell<HashMap<String, Loaded>>,
    /// Whether launches only look their kernels up.
    is_dry: Cell<bool>,
}

/// Shared memory up to here need not be allowed.
const PLAIN_SHARED_BYTES: u32 = 48 << 10;

/// The virtual architecture from which on kernels wait for the one before them (`wait_for_previous` in common.cuh).
const WAITS_FROM: u32 = 90;

/// The file of kernels in which a kernel is.
fn module_of(name: &str) -> Option<&'static str> {
    let file = match name {
        "norm_rows" | "norm_few" | "place_heads" | "qk_norm_rows" | "add_rows" | "sum_parts"
        | "scale_all" => "rows",
        "router" | "router_pair" | "router_few_rows" | "router_many_rows" | "route_few" | "route_few_128" => {
            "route_decode"
        }
        "gather_prompt" => "route_prompt",
        "conv_rows" | "conv_keep" | "conv_steps" | "gate_rows" | "gate_halves" => "recurrence",
        "per_layer_inputs" | "per_layer_gate" => "per_layer",
        _ if name.starts_with("delta_") => "recurrence",
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
        Ok(self.load("norm_few", 0)?.overlaps)
    }

    /// The kernel of this name, allowed to ask for this much shared memory.
    fn load(&self, name: &str, shared_bytes: u32) -> Result<Loaded, CudaError> {
        let known = self.loaded.borrow().get(name).cloned();
        let mut loaded = match known {
            Some(loaded) if loaded.shared_bytes >= shared_bytes => return Ok(loaded),
            Some(loaded) => loaded,
            None => {
                let function = self.find(name)?;
                let overlaps = function.ptx_version()? >= WAITS_FROM;
                Loaded { function, shared_bytes: PLAIN_SHARED_BYTES, overlaps }
            }
        };
        if shared_bytes > loaded.shared_bytes {
            loaded.function.set_max_dynamic_shared(shared_bytes)?;
            loaded.shared_bytes = shared_bytes;
        }
        self.loaded.borrow_mut().insert(name.to_owned(), loaded.clone());
        Ok(loaded)
    }

    fn find(&self, name: &str) -> Result<Function, CudaError> {
        let unknown = || CudaError::UnknownFunction { name: name.to_owned() };
        let file = module_of(name).ok_or_else(unknown)?;
        let mut modules = self.modules.borrow_mut();
        let module = match modules.entry(file) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Module::load(&self.device, crate::module(file)?)?),
        };
        module.function(name)
    }

    /// Queues a kernel.
    pub(crate) fn launch<T: Pod>(&self, stream: &Stream, launch: &Launch, args: &T) -> Result<(), CudaError> {
        if launch.grid.contains(&0) {
            return Ok(());
        }
        let loaded = self.load(&launch.name, launch.shared_bytes)?;
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
