//! Launches of per_layer.cu.

use bytemuck::{Pod, Zeroable};

use crate::args::assert_size;
use crate::driver::DevicePtr;
use crate::launch::file::{File, Kernel};
use crate::launch::kernels::Launch;

/// Of per_layer.cu.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct PerLayerInputsArgs {
    pub(crate) inputs: DevicePtr,
    pub(crate) model: DevicePtr,
    pub(crate) norm: DevicePtr,
    pub(crate) n_layer: i32,
    pub(crate) n: i32,
    pub(crate) scale: f32,
    pub(crate) eps: f32,
}

assert_size!(PerLayerInputsArgs, 40);

/// Of per_layer.cu.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct PerLayerGateArgs {
    pub(crate) x: DevicePtr,
    pub(crate) input: DevicePtr,
    pub(crate) n: i32,
    pub(crate) ld: i32,
    pub(crate) activation: i32,
    pub(crate) alpha: f32,
    pub(crate) limit: f32,
    pub(crate) reserved: i32,
}

assert_size!(PerLayerGateArgs, 40);

/// The inputs of all layers for `n_row` rows.
pub(crate) fn inputs(n_row: usize, n_layer: usize) -> Launch {
    let kernel = Kernel::named(File::PerLayer, "per_layer_inputs");
    Launch::new(kernel, [n_row as u32, n_layer.div_ceil(8) as u32], 256)
}

/// A layer's products of `n_row` rows, activated and times its inputs.
pub(crate) fn gate(n_row: usize) -> Launch {
    Launch::new(Kernel::named(File::PerLayer, "per_layer_gate"), [n_row as u32, 1], 256)
}
