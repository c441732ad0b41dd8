//! Arguments of choose.cuh, route_decode.cu and route_prompt.cu.

use bytemuck::{Pod, Zeroable};
use model::architecture::Gating;

use crate::args::assert_size;
use crate::driver::DevicePtr;

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
