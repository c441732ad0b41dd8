//! Launches of route_decode.cu and route_prompt.cu, and what choose.cuh takes.

use bytemuck::{Pod, Zeroable};
use model::architecture::Gating;

use crate::args::assert_size;
use crate::driver::DevicePtr;
use crate::launch::file::{End, File, Kernel};
use crate::launch::kernels::Launch;

/// Up to how many experts and groups of them choose.cuh takes, and choices of a row route_decode.cu.
pub(crate) const MAX_EXPERTS: usize = 512;
pub(crate) const MAX_GROUPS: usize = 32;
pub(crate) const MAX_USED: usize = 16;

/// Of choose.cuh.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct RouterRule {
    /// `[n_expert]`, or none.
    pub(crate) bias: DevicePtr,
    /// `[n_expert]`, or none.
    pub(crate) factors: DevicePtr,
    pub(crate) n_expert: i32,
    pub(crate) n_used: i32,
    /// See [`gating`].
    pub(crate) gating: i32,
    pub(crate) is_normalised: i32,
    /// 0: none.
    pub(crate) n_group: i32,
    pub(crate) n_group_used: i32,
    pub(crate) scale: f32,
    pub(crate) reserved: i32,
}

assert_size!(RouterRule, 48);

/// As choose.cuh knows it.
pub(crate) fn gating(gating: Gating) -> i32 {
    match gating {
        Gating::Softmax => 0,
        Gating::Sigmoid => 1,
        Gating::SoftmaxOfChosen => 2,
    }
}

/// Of route_decode.cu.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct RouterArgs {
    pub(crate) x: DevicePtr,
    pub(crate) weight: DevicePtr,
    pub(crate) bias: DevicePtr,
    pub(crate) logits: DevicePtr,
    pub(crate) k_pad: i32,
    pub(crate) n_embd: i32,
    pub(crate) n_expert: i32,
    pub(crate) eps: f32,
    pub(crate) squares: DevicePtr,
    pub(crate) n_row: i32,
    pub(crate) reserved: i32,
}

assert_size!(RouterArgs, 64);

/// Of route_decode.cu: two maps of the same rows.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct RouterPairArgs {
    pub(crate) both: [RouterArgs; 2],
}

assert_size!(RouterPairArgs, 128);

/// Of route_decode.cu.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct RouteArgs {
    pub(crate) logits: DevicePtr,
    pub(crate) rows: DevicePtr,
    pub(crate) weights: DevicePtr,
    pub(crate) active: DevicePtr,
    pub(crate) offsets: DevicePtr,
    pub(crate) entries: DevicePtr,
    pub(crate) n_row: i32,
    pub(crate) reserved: i32,
    pub(crate) rule: RouterRule,
}

assert_size!(RouteArgs, 104);

/// Of route_decode.cu.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct RouteFewArgs {
    pub(crate) router: RouterArgs,
    pub(crate) route: RouteArgs,
}

assert_size!(RouteFewArgs, 168);

/// Of route_prompt.cu.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct RoutePromptArgs {
    pub(crate) logits: DevicePtr,
    pub(crate) weights: DevicePtr,
    pub(crate) chosen: DevicePtr,
    pub(crate) uses: DevicePtr,
    pub(crate) offsets: DevicePtr,
    pub(crate) n_row: i32,
    pub(crate) reserved: i32,
    pub(crate) rule: RouterRule,
}

assert_size!(RoutePromptArgs, 96);

/// Of route_prompt.cu.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct GatherPromptArgs {
    pub(crate) from: DevicePtr,
    pub(crate) uses: DevicePtr,
    pub(crate) to: DevicePtr,
    pub(crate) n_used: i32,
    pub(crate) k: i32,
}

assert_size!(GatherPromptArgs, 32);

/// Up to how many rows the kernels take that are router and choice in one (route_decode.cu), and up to how many experts, each with its threads.
const FEW_ROWS: usize = 4;
const FEW: [(usize, &str, u32); 2] = [(32, "route_few", 128), (128, "route_few_128", 512)];

/// Rows and results of a block that shares nothing with others, and how many of these are on a multiprocessor that ask for much at once.
const ALONE: [usize; 2] = [1, 8];
const AHEAD: usize = 2;

/// The kernel of a small map, and the rows and results of a block: those that share what they read, where enough blocks are left; and else those
/// that ask for much at once, where all of them have room on so many multiprocessors.
fn kernel_of_map(n_row: usize, n_result: usize, n_sm: usize) -> (&'static str, [usize; 2]) {
    let shared = [("router_many_rows", [4, 32]), ("router_few_rows", [4, 16])];
    let n_block = |[rows, results]: [usize; 2]| n_row.div_ceil(rows) * n_result.div_ceil(results);
    let alone = if n_block(ALONE) <= AHEAD * n_sm { "router_ahead" } else { "router" };
    shared
        .into_iter()
        .find(|(_, each)| n_result >= each[1] && n_block(*each) >= 120)
        .unwrap_or((alone, ALONE))
}

/// A small map of `n_row` rows, of `n_result` results each.
pub(crate) fn map(n_row: usize, n_result: usize, n_sm: usize) -> Launch {
    let (name, [rows_each, results_each]) = kernel_of_map(n_row, n_result, n_sm);
    let grid = [n_row.div_ceil(rows_each) as u32, n_result.div_ceil(results_each) as u32];
    Launch::new(Kernel::named(File::RouteDecode, name), grid, 256)
}

/// Two small maps of the same rows, of up to `n_result` results; none where rows are so many that each map has a launch of its own.
pub(crate) fn map_pair(n_row: usize, n_result: usize, n_sm: usize) -> Option<Launch> {
    let n_block = n_result.div_ceil(ALONE[1]);
    let name = if 2 * n_row * n_block <= AHEAD * n_sm { "router_pair_ahead" } else { "router_pair" };
    let grid = [n_row as u32, n_block as u32, 2];
    let launch = Launch { grid, ..Launch::new(Kernel::named(File::RouteDecode, name), [1, 1], 256) };
    (kernel_of_map(n_row, n_result, n_sm).1 == ALONE).then_some(launch)
}

/// Router and choice in one, on Hopper and later; none for more rows or experts than that takes.
pub(crate) fn few(n_row: usize, n_expert: usize) -> Option<Launch> {
    let (_, name, n_thread) = FEW.into_iter().find(|(most, ..)| n_expert <= *most)?;
    let launch =
        Launch { cluster: 8, ..Launch::new(Kernel::named(File::RouteDecode, name), [8, 1], n_thread) };
    (n_row <= FEW_ROWS).then_some(launch)
}

/// The choice of generated rows' experts.
pub(crate) fn decode() -> Launch {
    Launch::new(Kernel::of(File::RouteDecode), [1, 1], 1024)
}

/// The choice of a prompt's `n_row` rows, and then the order of rows by expert.
pub(crate) fn prompt(n_row: usize, n_expert: usize) -> [Launch; 2] {
    let kernel = Kernel::of(File::RoutePrompt);
    [
        Launch::new(kernel, [n_row.div_ceil(8) as u32, 1], 256),
        Launch::new(kernel.with(End::Word("_sort")), [n_expert as u32, 1], 1024),
    ]
}

/// Rows by expert, `n_use` of them; in the order of columns that [`prompt_packed`](super::prompt_packed) takes, or as they are.
pub(crate) fn gather(n_use: usize, even_then_odd: bool) -> Launch {
    let name = if even_then_odd { "gather_prompt_even_odd" } else { "gather_prompt" };
    Launch::new(Kernel::named(File::RoutePrompt, name), [n_use as u32, 1], 128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_small_map_share_where_blocks_are_enough() {
        let name = |n_row, n_result| kernel_of_map(n_row, n_result, 132).0;
        assert_eq!([1, 16, 56].map(|n_row| name(n_row, 128)), ["router_ahead", "router_ahead", "router"]);
        assert_eq!(
            [64, 128, 512].map(|n_row| name(n_row, 32)),
            ["router_ahead", "router", "router_many_rows"]
        );
        assert_eq!(
            [64, 100, 4096].map(|n_row| name(n_row, 128)),
            ["router_few_rows", "router_few_rows", "router_many_rows"]
        );
        // A shared expert's gate has one result.
        assert_eq!(name(4096, 1), "router");
        let pair = |n_row, n_result| map_pair(n_row, n_result, 132).map(|launch| launch.kernel.to_string());
        let names = [(8, 32), (64, 32), (4096, 32)].map(|(n_row, n_result)| pair(n_row, n_result));
        assert_eq!(
            names.each_ref().map(Option::as_deref),
            [Some("router_pair_ahead"), Some("router_pair"), None]
        );
    }
}
