//! Launches of latent.cu.

use bytemuck::{Pod, Zeroable};

use crate::args::assert_size;
use crate::driver::DevicePtr;
use crate::launch::file::{File, Kernel};
use crate::launch::kernels::Launch;

const THREADS: usize = 256;

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct HeadTablesArgs {
    pub(crate) active: DevicePtr,
    pub(crate) offsets: DevicePtr,
    pub(crate) entries: DevicePtr,
    pub(crate) ones: DevicePtr,
    pub(crate) n_row: i32,
    pub(crate) n_head: i32,
}

assert_size!(HeadTablesArgs, 40);

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct LatentPlaceArgs {
    pub(crate) rotated: DevicePtr,
    pub(crate) kept: DevicePtr,
    pub(crate) norm: DevicePtr,
    pub(crate) q: DevicePtr,
    /// Or none: rows go to the cache.
    pub(crate) own: DevicePtr,
    /// Of float16, or none.
    pub(crate) cache: DevicePtr,
    pub(crate) rows: DevicePtr,
    pub(crate) page_tables: DevicePtr,
    pub(crate) turns: DevicePtr,
    pub(crate) n_head: i32,
    pub(crate) n_rot: i32,
    pub(crate) n_rank: i32,
    pub(crate) max_pages: i32,
    /// 0 where nothing turns.
    pub(crate) turning: i32,
    pub(crate) adjacent: i32,
    pub(crate) eps: f32,
    pub(crate) reserved: i32,
}

assert_size!(LatentPlaceArgs, 104);

/// The tables of products by head.
pub(crate) fn tables(args: &HeadTablesArgs) -> Launch {
    let n = (args.n_row as usize * args.n_head as usize).max(args.n_head as usize + 1);
    Launch::new(Kernel::named(File::Latent, "latent_tables"), [n.div_ceil(THREADS) as u32, 1], THREADS as u32)
}

/// Turned parts and kept rows of `n_row` rows.
pub(crate) fn place(n_row: usize) -> Launch {
    Launch::new(Kernel::named(File::Latent, "latent_place"), [n_row as u32, 1], THREADS as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_a_thread_for_each_entry_and_each_head() {
        let blocks =
            |n_row, n_head| tables(&HeadTablesArgs { n_row, n_head, ..HeadTablesArgs::default() }).grid[0];
        assert_eq!([blocks(1, 16), blocks(1, 256), blocks(64, 16), blocks(512, 128)], [1, 2, 4, 256]);
    }
}
