//! What kernels are given: the argument structures of kernels, field for field.
//!
//! Sizes are asserted on both sides, and a test compares the fields. Pointers are into the device's memory; 0 is none.

#[cfg(test)]
mod mirrors;

use bytemuck::{Pod, Zeroable};

use crate::driver::DevicePtr;

/// Tokens in a page of the KV cache (`PAGE` in common.cuh).
pub(crate) const PAGE: usize = 64;

/// Fails to compile if a structure has another size than its kernel's.
macro_rules! assert_size {
    ($type:ty, $bytes:literal) => {
        const _: () = assert!(size_of::<$type>() == $bytes);
    };
}

pub(crate) use assert_size;

/// One row of a step; see common.cuh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Row {
    /// Below `n_slot`, or -1 for padding.
    pub(crate) slot: i32,
    pub(crate) position: i32,
    /// An id, or -1 for the one last sampled in the slot.
    pub(crate) token: i32,
    pub(crate) reserved: i32,
}

assert_size!(Row, 16);

impl Row {
    /// A row that computes nothing.
    pub(crate) const PADDING: Row = Row { slot: -1, position: 0, token: 0, reserved: 0 };
}

/// Where activations for the decode products go; see common.cuh.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct ActOut {
    pub(crate) q: DevicePtr,
    pub(crate) s: DevicePtr,
    pub(crate) f: DevicePtr,
    pub(crate) h: DevicePtr,
    pub(crate) n_col: i32,
    pub(crate) k_pad: i32,
}

assert_size!(ActOut, 40);

impl ActOut {
    /// Whether anything goes anywhere.
    pub(crate) fn is_wanted(&self) -> bool {
        [self.q, self.s, self.f, self.h].iter().any(|at| *at != DevicePtr(0))
    }
}

/// What a product does with its sums (`Epilogue` in product.cuh).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Epilogue {
    Store,
    Residual,
    Qkv,
    Gated,
    Plain,
    Weighted,
}

/// Of product.cuh.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct ProductArgs {
    pub(crate) w: DevicePtr,
    pub(crate) bias: DevicePtr,
    pub(crate) n_tile: i32,
    pub(crate) n_unit: i32,
    pub(crate) n_row: i32,
    pub(crate) epilogue: i32,
    pub(crate) x: ActOut,
    pub(crate) out: DevicePtr,
    pub(crate) ld_out: i32,
    pub(crate) first_row: i32,
    pub(crate) act: ActOut,
    pub(crate) activation: i32,
    pub(crate) alpha: f32,
    pub(crate) limit: f32,
    pub(crate) head_dim: i32,
    pub(crate) half_rot: i32,
    pub(crate) adjacent: i32,
    pub(crate) n_q: i32,
    pub(crate) n_k: i32,
    pub(crate) qkv_row: i32,
    pub(crate) n_kv_head: i32,
    pub(crate) max_pages: i32,
    pub(crate) n_square: i32,
    pub(crate) turns: DevicePtr,
    pub(crate) k_cache: DevicePtr,
    pub(crate) v_cache: DevicePtr,
    pub(crate) rows: DevicePtr,
    pub(crate) page_tables: DevicePtr,
    pub(crate) fresh: DevicePtr,
    pub(crate) active: DevicePtr,
    pub(crate) offsets: DevicePtr,
    pub(crate) entries: DevicePtr,
    pub(crate) weights: DevicePtr,
    pub(crate) expert_bytes: u64,
    pub(crate) column_divisor: i32,
    pub(crate) eps: f32,
    pub(crate) squares: DevicePtr,
    pub(crate) next_weight: DevicePtr,
    pub(crate) next_squares: DevicePtr,
    /// 1: experts were chosen before the kernel before this one could start; see product.cuh.
    pub(crate) is_chosen: i32,
    /// Blocks that hand each other their sums through `parts`, or 0; see product.cuh.
    pub(crate) n_part: i32,
    pub(crate) parts: DevicePtr,
    pub(crate) n_stored: DevicePtr,
}

assert_size!(ProductArgs, 320);

/// Of product_pair.cuh.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct PairArgs {
    pub(crate) first: ProductArgs,
    pub(crate) second: ProductArgs,
}

assert_size!(PairArgs, 640);

/// Of repack.cu.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct RepackArgs {
    pub(crate) src: DevicePtr,
    pub(crate) dst: DevicePtr,
    pub(crate) row_bytes: u64,
    pub(crate) n_row: i32,
    pub(crate) first_row: i32,
    pub(crate) n_in: i32,
    pub(crate) n_unit: i32,
    pub(crate) order: i32,
    pub(crate) offset: i32,
    pub(crate) head_dim: i32,
    pub(crate) half_rot: i32,
    pub(crate) points: DevicePtr,
    pub(crate) table: [i8; 16],
    pub(crate) scale: f32,
    pub(crate) reserved: [i32; 3],
}

assert_size!(RepackArgs, 96);

/// Of unpack.cu.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct UnpackArgs {
    pub(crate) w: DevicePtr,
    pub(crate) out: DevicePtr,
    pub(crate) stride: u64,
    pub(crate) first_tile: i32,
    pub(crate) n_in: i32,
    pub(crate) n_unit: i32,
    pub(crate) head_dim: i32,
    pub(crate) half_rot: i32,
    pub(crate) adjacent: i32,
    /// How often a row's values stand in its row of `out`.
    pub(crate) n_copy: i32,
    pub(crate) reserved: i32,
}

assert_size!(UnpackArgs, 56);

/// Of unpack.cu.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct EmbedArgs {
    pub(crate) w: DevicePtr,
    pub(crate) positions: DevicePtr,
    pub(crate) rows: DevicePtr,
    pub(crate) last: DevicePtr,
    pub(crate) x: DevicePtr,
    pub(crate) n_embd: i32,
    pub(crate) n_unit: i32,
    pub(crate) scale: f32,
    pub(crate) reserved: i32,
}

assert_size!(EmbedArgs, 56);

/// Of norm.cuh.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct NormArgs {
    pub(crate) x: DevicePtr,
    pub(crate) weight: DevicePtr,
    pub(crate) bias: DevicePtr,
    pub(crate) parts: DevicePtr,
    pub(crate) shared: DevicePtr,
    pub(crate) gate: DevicePtr,
    pub(crate) source: DevicePtr,
    pub(crate) out: DevicePtr,
    pub(crate) squares: DevicePtr,
    pub(crate) act: ActOut,
    pub(crate) n_embd: i32,
    pub(crate) n_part: i32,
    pub(crate) is_layer_norm: i32,
    pub(crate) eps: f32,
    /// Float16 terms of `out`, 1 or 2.
    pub(crate) out_terms: i32,
    pub(crate) residual: f32,
    /// 1: `out`, of one term, is in the order of prompt_packed.cuh.
    pub(crate) even_then_odd: i32,
    pub(crate) reserved: i32,
}

assert_size!(NormArgs, 144);

/// Of place.cuh.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct PlaceArgs {
    pub(crate) qkv: DevicePtr,
    pub(crate) q: DevicePtr,
    pub(crate) q_floats: DevicePtr,
    pub(crate) fresh: DevicePtr,
    pub(crate) k_cache: DevicePtr,
    pub(crate) v_cache: DevicePtr,
    pub(crate) rows: DevicePtr,
    pub(crate) page_tables: DevicePtr,
    pub(crate) turns: DevicePtr,
    pub(crate) q_weight: DevicePtr,
    pub(crate) k_weight: DevicePtr,
    pub(crate) n_q: i32,
    pub(crate) n_kv: i32,
    pub(crate) head_dim: i32,
    pub(crate) half_rot: i32,
    pub(crate) adjacent: i32,
    pub(crate) max_pages: i32,
    pub(crate) n_kv_head: i32,
    /// Float16 terms of `q`, 1 or 2.
    pub(crate) q_terms: i32,
    pub(crate) heat: f32,
    /// 0 where queries have no temperature.
    pub(crate) heat_context: i32,
    /// 0 where heads are taken as they are.
    pub(crate) is_normed: i32,
    /// Of [`Values`].
    pub(crate) values: i32,
    pub(crate) eps: f32,
    /// Read by the kernel of rows_prompt.cu alone.
    pub(crate) n_row: i32,
}

assert_size!(PlaceArgs, 144);

/// Of rows.cu.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct QkNormArgs {
    pub(crate) qkv: DevicePtr,
    pub(crate) q_weight: DevicePtr,
    pub(crate) k_weight: DevicePtr,
    pub(crate) n_q: i32,
    pub(crate) n_kv: i32,
    pub(crate) eps: f32,
    pub(crate) reserved: i32,
}

assert_size!(QkNormArgs, 40);

/// What becomes of the values where queries and keys are normalised by head.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub(crate) enum Values {
    /// They stay as they are.
    Left,
    /// They are normalised too, without a weight.
    Normed,
    /// They are the keys before their norm, normalised without a weight.
    OfKeys,
}

/// Of rows.cu.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct AddArgs {
    pub(crate) x: DevicePtr,
    pub(crate) y: DevicePtr,
    pub(crate) weight: DevicePtr,
    pub(crate) n: i32,
    pub(crate) residual: f32,
    pub(crate) eps: f32,
    pub(crate) reserved: i32,
}

assert_size!(AddArgs, 40);

/// Of rows.cu.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct ScaleArgs {
    pub(crate) x: DevicePtr,
    pub(crate) n: u64,
    pub(crate) factor: f32,
    /// 0 where there is none.
    pub(crate) cap: f32,
}

assert_size!(ScaleArgs, 24);

/// Of rows.cu.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct SumArgs {
    pub(crate) parts: DevicePtr,
    pub(crate) shared: DevicePtr,
    pub(crate) gate: DevicePtr,
    pub(crate) parts_norm: DevicePtr,
    pub(crate) shared_norm: DevicePtr,
    pub(crate) out: DevicePtr,
    pub(crate) n_part: i32,
    pub(crate) n: i32,
    pub(crate) eps: f32,
    pub(crate) reserved: i32,
}

assert_size!(SumArgs, 64);
