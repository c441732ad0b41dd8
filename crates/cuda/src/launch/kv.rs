//! Launches of kv_q8.cu: a prompt's rows into a cache of Q8_0, and its pages out of it.

use bytemuck::{Pod, Zeroable};

use super::attend::PromptSpan;
use crate::args::{PAGE, assert_size};
use crate::driver::DevicePtr;
use crate::launch::file::{File, Kernel};
use crate::launch::kernels::Launch;

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct KvStoreArgs {
    /// `[n_row, n_q + 2 n_kv]`, keys after RoPE.
    pub(crate) qkv: DevicePtr,
    pub(crate) k_cache: DevicePtr,
    pub(crate) v_cache: DevicePtr,
    pub(crate) rows: DevicePtr,
    pub(crate) page_tables: DevicePtr,
    pub(crate) n_q: i32,
    pub(crate) n_kv_head: i32,
    pub(crate) head_dim: i32,
    pub(crate) max_pages: i32,
}

assert_size!(KvStoreArgs, 56);

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct KvUnpackArgs {
    pub(crate) k_cache: DevicePtr,
    pub(crate) v_cache: DevicePtr,
    /// As a cache of float16.
    pub(crate) k: DevicePtr,
    pub(crate) v: DevicePtr,
    /// `[n_span]` of [`PromptSpan`].
    pub(crate) spans: DevicePtr,
    pub(crate) page_tables: DevicePtr,
    pub(crate) n_kv_head: i32,
    pub(crate) head_dim: i32,
    pub(crate) max_pages: i32,
    /// 0: none.
    pub(crate) window: i32,
}

assert_size!(KvUnpackArgs, 64);

/// Quantises `n_row` rows.
pub(crate) fn store_launch(n_row: usize) -> Launch {
    Launch::new(Kernel::named(File::KvQ8, "kv_q8_store"), [n_row as u32, 1], 256)
}

/// Decodes the pages that any row of the spans sees.
pub(crate) fn unpack_launch(spans: &[PromptSpan], args: &KvUnpackArgs) -> Launch {
    let pages = |span: &PromptSpan| {
        let end = (span.start + span.n_row) as usize;
        let first = if args.window > 0 { (span.start + 1 - args.window).max(0) as usize } else { 0 };
        end.div_ceil(PAGE) - first / PAGE
    };
    let n_page = spans.iter().map(pages).max().unwrap_or(0);
    let grid = [n_page as u32, args.n_kv_head as u32, spans.len() as u32];
    Launch { grid, ..Launch::new(Kernel::named(File::KvQ8, "kv_q8_unpack"), [1, 1], 256) }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    #[test]
    fn pages_are_those_that_rows_see() {
        let span = |start, n_row| PromptSpan { row0: 0, n_row, slot: 0, start };
        let grid = |window, spans: &[PromptSpan]| {
            let args = KvUnpackArgs { n_kv_head: 2, window, ..KvUnpackArgs::zeroed() };
            unpack_launch(spans, &args).grid
        };
        assert_eq!(grid(0, &[span(0, 1), span(64, 64)]), [2, 2, 2]);
        assert_eq!(grid(0, &[span(63, 2)]), [2, 2, 1]);
        assert_eq!(grid(128, &[span(1000, 1)]), [3, 2, 1]);
        assert_eq!(grid(i32::MAX, &[span(1000, 1)]), [16, 2, 1]);
    }
}
