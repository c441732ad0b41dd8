//! Launches of recurrence.cu.

use bytemuck::{Pod, Zeroable};

use crate::args::{ActOut, assert_size};
use crate::driver::DevicePtr;
use crate::launch::file::{End, File, Kernel};
use crate::launch::kernels::Launch;

/// Sizes of a delta rule's heads that there are kernels for.
pub(crate) const HEAD_DIMS: [usize; 3] = [32, 64, 128];

const THREADS: usize = 256;

/// As in recurrence.cu: columns of a head's matrix in a block, and its warps.
const DELTA_COLUMNS: usize = 32;
const DELTA_WARPS: u32 = 4;

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct ConvArgs {
    pub(crate) x: DevicePtr,
    pub(crate) out: DevicePtr,
    pub(crate) taps: DevicePtr,
    pub(crate) state: DevicePtr,
    pub(crate) rows: DevicePtr,
    /// Or none: the activation is SiLU.
    pub(crate) factor: DevicePtr,
    pub(crate) stride: u64,
    pub(crate) ld: i32,
    pub(crate) n_row: i32,
    pub(crate) n_channel: i32,
    pub(crate) n_tap: i32,
}

assert_size!(ConvArgs, 72);

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct DeltaArgs {
    pub(crate) qkv: DevicePtr,
    pub(crate) gate: DevicePtr,
    pub(crate) alpha: DevicePtr,
    pub(crate) beta: DevicePtr,
    pub(crate) a: DevicePtr,
    pub(crate) dt: DevicePtr,
    pub(crate) norm: DevicePtr,
    pub(crate) out: DevicePtr,
    pub(crate) state: DevicePtr,
    pub(crate) rows: DevicePtr,
    pub(crate) stride: u64,
    pub(crate) n_row: i32,
    pub(crate) n_k_head: i32,
    pub(crate) n_v_head: i32,
    pub(crate) eps: f32,
}

assert_size!(DeltaArgs, 104);

/// Of few rows a sequence: the results are activations.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct DeltaFewArgs {
    /// Without `out`.
    pub(crate) delta: DeltaArgs,
    pub(crate) act: ActOut,
}

assert_size!(DeltaFewArgs, 144);

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct GateArgs {
    pub(crate) x: DevicePtr,
    pub(crate) gate: DevicePtr,
    pub(crate) out: DevicePtr,
    pub(crate) n: i32,
    pub(crate) ld: i32,
    /// Not 0: the factor is the gate's sigmoid.
    pub(crate) is_sigmoid: i32,
    pub(crate) reserved: i32,
}

assert_size!(GateArgs, 40);

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct GateHalvesArgs {
    pub(crate) x: DevicePtr,
    pub(crate) gate: DevicePtr,
    pub(crate) n: i32,
    pub(crate) n_term: i32,
}

assert_size!(GateHalvesArgs, 24);

fn kernel(name: &'static str) -> Kernel {
    Kernel::named(File::Recurrence, name)
}

/// The convolution, and then what keeps its last inputs.
pub(crate) fn convolve(args: &ConvArgs, has_few_rows: bool) -> Vec<Launch> {
    let grid = [args.n_row as u32, (args.n_channel as usize).div_ceil(THREADS) as u32];
    let names: &[&'static str] = if has_few_rows { &["conv_steps"] } else { &["conv_rows", "conv_keep"] };
    names.iter().map(|name| Launch::new(kernel(name), grid, THREADS as u32)).collect()
}

/// The delta rule with heads of one of [`HEAD_DIMS`], and then the norm and the gate of what it gives.
pub(crate) fn delta_rule(head_dim: usize, args: &DeltaArgs) -> [Launch; 2] {
    let (n_row, n_head) = (args.n_row as u32, args.n_v_head as u32);
    let n_thread = 32 * DELTA_WARPS;
    // The blocks of a sequence's first row do all of its work: they come first.
    let columns = [n_head * (head_dim / DELTA_COLUMNS) as u32, n_row];
    let of_size = |name| kernel(name).with(End::Size("_", head_dim));
    [
        Launch::new(of_size("delta_rule"), columns, n_thread),
        Launch::new(of_size("delta_gate"), [n_row, n_head.div_ceil(DELTA_WARPS)], n_thread),
    ]
}

/// All of it for few rows a sequence: a block a head.
pub(crate) fn delta_few(head_dim: usize, args: &DeltaFewArgs) -> Launch {
    let grid = [args.delta.n_v_head as u32, args.delta.n_row as u32];
    Launch::new(kernel("delta_few").with(End::Size("_", head_dim)), grid, 4 * head_dim as u32)
}

/// Rows times gates.
pub(crate) fn gate(n_row: usize) -> Launch {
    Launch::new(kernel("gate_rows"), [n_row as u32, 1], THREADS as u32)
}

/// Rows of float16 times gates.
pub(crate) fn gate_halves(n_row: usize) -> Launch {
    Launch::new(kernel("gate_halves"), [n_row as u32, 1], THREADS as u32)
}
