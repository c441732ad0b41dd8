//! Arguments of route_prompt.cu.

use bytemuck::{Pod, Zeroable};

use crate::args::assert_size;
use crate::driver::DevicePtr;

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct RoutePromptArgs {
    pub(crate) logits: DevicePtr,
    pub(crate) weights: DevicePtr,
    pub(crate) chosen: DevicePtr,
    pub(crate) uses: DevicePtr,
    pub(crate) offsets: DevicePtr,
    pub(crate) n_row: i32,
    pub(crate) n_expert: i32,
    pub(crate) n_used: i32,
    pub(crate) reserved: i32,
}

assert_size!(RoutePromptArgs, 56);

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
