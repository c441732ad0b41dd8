//! Products of prompt rows whose weights are unpacked in registers: which they are, and their launches (prompt_packed.cuh).
//!
//! What they read lies in another order within each 16 columns, in which norms, attention, gathered rows and hidden values are stored for
//! them. The bits are those of the other way, so whichever takes less time is taken.

use super::{Prompt, Slice, n_term, offset};
use crate::driver::{DevicePtr, HalfMatrix};
use crate::error::CudaError;
use crate::launch::attend::PromptAttention;
use crate::launch::prompt_gemm::{Instruction, PromptEpilogue, PromptGemmArgs};
use crate::launch::prompt_packed::{self, PromptPackedArgs};
use crate::memory::layout::{TILE, is_float, tile_bytes};
use crate::placement::apart;
use crate::placement::place::{LayerPlace, MixerPlace, Tiles};
use crate::sizes::Unpacking;

/// What multiplies rows with a matrix.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    FeedForward,
    /// Mixers, what all rows of a mixture use beside their experts, the output: only where [`Unpacking::Registers`] asks for it, as these have not
    /// been compared on a GPU yet.
    Other,
}

impl Prompt<'_> {
    /// Whether the weights of these matrices are unpacked in registers, for so many rows; those of a feed-forward where that takes less time.
    pub(super) fn packs<'t>(
        &self,
        n_row: usize,
        reader: Reader,
        matrices: impl IntoIterator<Item = &'t Tiles>,
    ) -> bool {
        if self.instruction() != Instruction::Wgmma {
            return false;
        }
        // Of those of one width as of one matrix.
        let (mut n, mut k) = (0, 0);
        let (mut have_kernels, mut are_floats) = (true, true);
        for tiles in matrices {
            have_kernels &= prompt_packed::has(tiles.format);
            are_floats &= is_float(tiles.format);
            (n, k) = (n + tiles.n_row, k.max(tiles.n_in));
        }
        have_kernels
            && match self.network.sizes.unpacking {
                Unpacking::Fastest => {
                    let pays = || prompt_packed::pays([n_row, n, k], are_floats, self.n_sm());
                    reader == Reader::FeedForward && pays()
                }
                Unpacking::Memory => false,
                Unpacking::Registers(_) => true,
            }
    }

    /// Likewise of what a mixer reads its rows with, and of its output.
    pub(super) fn packs_mixer(&self, n: usize, layer: &LayerPlace) -> [bool; 2] {
        // What leaves rows for the output in that order: `round`, and attention on wgmma where no gate follows.
        let can_order = match &layer.mixer {
            MixerPlace::Attention(place) if !apart::attention(&self.network.arch) => {
                let (head_dim, n_term) = (self.network.heads_of(n).head_dim, n_term([&layer.attn_output]));
                let attention = PromptAttention { head_dim, n_term, instruction: self.instruction() };
                place.gate.is_none() && attention.is_on_wgmma()
            }
            _ => true,
        };
        let reads = match &layer.mixer {
            MixerPlace::Latent(_) => false,
            mixer => self.packs(self.n_row, Reader::Other, mixer.readers()),
        };
        [reads, can_order && self.packs(self.n_row, Reader::Other, [&layer.attn_output])]
    }

    /// [`Prompt::products`] with weights that are unpacked in registers: a launch for each slice, all of them beside each other.
    pub(super) fn packed_products(
        &self,
        epilogue: PromptEpilogue,
        slices: &[Slice<'_>],
        args: &PromptGemmArgs,
    ) -> Result<(), CudaError> {
        let heads = self.network.heads;
        let mut before = 0;
        for slice in slices.iter().filter(|slice| slice.n_tile > 0) {
            let Slice { tiles, first, n_tile, .. } = *slice;
            let n_row = (n_tile * TILE).min(tiles.n_row - first * TILE);
            let g = PromptGemmArgs {
                bias: offset(args.bias, 4 * before * TILE),
                n: n_row as i32,
                column: args.column + (before * TILE) as i32,
                ..*args
            };
            let at = first as u64 * tile_bytes(tiles.format, tiles.n_in) as u64;
            let packed = PromptPackedArgs {
                head_dim: if slice.heads { heads.head_dim as i32 } else { 0 },
                half_rot: heads.half_rot as i32,
                adjacent: i32::from(heads.adjacent),
                beside: i32::from(before > 0),
                n_tile: n_tile as i32,
                ..self.packed_args(tiles, &g)?
            };
            let packed = PromptPackedArgs { w: packed.w.offset(at), ..packed };
            self.launch_packed(epilogue, tiles, &packed)?;
            before += n_tile;
        }
        Ok(())
    }

    /// The arguments of a product with a matrix, or with those of experts, that unpacks weights in registers.
    fn packed_args(&self, tiles: &Tiles, g: &PromptGemmArgs) -> Result<PromptPackedArgs, CudaError> {
        let rows = HalfMatrix { address: g.a, n_row: g.m as usize, n_column: tiles.n_in };
        Ok(PromptPackedArgs {
            a_map: self.network.kernels.device().tensor_map(rows, prompt_packed::BOX)?,
            g: PromptGemmArgs { k: tiles.n_in as i32, w_k: tiles.n_in as i32, ..*g },
            w: self.network.at(tiles.at),
            stride: tiles.expert_bytes,
            n_unit: tiles.n_unit as i32,
            n_tile: tiles.n_tile as i32,
            head_dim: 0,
            half_rot: 0,
            adjacent: 0,
            beside: 0,
            reserved: [0; 5],
        })
    }

    fn launch_packed(
        &self,
        epilogue: PromptEpilogue,
        tiles: &Tiles,
        args: &PromptPackedArgs,
    ) -> Result<(), CudaError> {
        debug_assert!(args.g.low == 0, "activations of one float16 term");
        let n_column = match self.network.sizes.unpacking {
            Unpacking::Registers(n_column) => Some(n_column),
            Unpacking::Fastest | Unpacking::Memory => None,
        };
        let launch = prompt_packed::launch(epilogue, tiles.format, (&args.g, self.n_sm() as usize), n_column);
        self.network.kernels.launch(self.stream, &launch, args)
    }

    /// Whether experts' products with these matrices, and as many float16 terms of activations, unpack weights in registers, for so many rows of
    /// an expert.
    pub(super) fn packs_experts(&self, n_row: usize, matrices: [(&Tiles, usize); 2]) -> bool {
        let has_kernels =
            matrices.iter().all(|(tiles, n_term)| *n_term == 1 && prompt_packed::has(tiles.format));
        has_kernels
            && self.instruction() == Instruction::Wgmma
            && match self.network.sizes.unpacking {
                Unpacking::Fastest => n_row <= prompt_packed::MOST_OF_EXPERT,
                Unpacking::Memory => false,
                Unpacking::Registers(_) => true,
            }
    }

    /// A product with the matrices of all experts, whose rows begin at `offsets`, which unpacks weights in registers.
    pub(super) fn packed_product(
        &self,
        epilogue: PromptEpilogue,
        tiles: &Tiles,
        (offsets, n_expert): (DevicePtr, usize),
        args: &PromptGemmArgs,
    ) -> Result<(), CudaError> {
        let n = (tiles.n_tile * TILE) as i32;
        let args = PromptGemmArgs { offsets, n, n_expert: n_expert as i32, ..*args };
        self.launch_packed(epilogue, tiles, &self.packed_args(tiles, &args)?)
    }
}
