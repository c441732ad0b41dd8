//! Products of prompt rows whose weights are unpacked in registers: which they are, and their launches (prompt_packed.cuh).
//!
//! What they read lies in another order within each 16 columns, in which norms, attention, gathered rows and hidden values are stored for
//! them. The bits are those of the other way, so whichever takes less time is taken.

use super::{Prompt, Slice, n_term, offset};
use crate::driver::{DevicePtr, HalfMatrix};
use crate::error::CudaError;
use crate::launch::attend::PromptAttention;
use crate::launch::prompt_gemm::{Instruction, PromptEpilogue, PromptGemmArgs};
use crate::launch::prompt_packed::{self, Beside, Estimate, PromptPackedArgs, Reader, Tiling};
use crate::memory::layout::{TILE, is_float, tile_bytes};
use crate::placement::apart;
use crate::placement::place::{LayerPlace, MixerPlace, Tiles};
use crate::sizes::Unpacking;

impl Prompt<'_> {
    /// Whether the weights of these matrices, which read the same `n_row` rows, are unpacked in registers.
    pub(super) fn packs(&self, n_row: usize, matrices: &[&Tiles]) -> bool {
        self.is_packed(|| self.estimate(n_row, matrices), (n_row, Reader::Other))
    }

    /// Likewise of a feed-forward's two products.
    pub(super) fn packs_feed_forward(&self, input: &Tiles, down: &Tiles) -> bool {
        let of = |tiles| self.estimate(self.n_row, &[tiles]);
        self.is_packed(|| Some(of(input)?.then(of(down)?)), (self.n_row, Reader::FeedForward))
    }

    fn is_packed(
        &self,
        estimate: impl FnOnce() -> Option<Estimate>,
        (n_row, reader): (usize, Reader),
    ) -> bool {
        self.instruction() == Instruction::Wgmma
            && match self.network.sizes.unpacking {
                Unpacking::Fastest => estimate().is_some_and(|estimate| estimate.pays(n_row, reader)),
                Unpacking::Memory => false,
                Unpacking::Registers(_) => estimate().is_some(),
            }
    }

    /// What products with these matrices take, where there are kernels that unpack their weights in registers; as if all were launched beside each
    /// other, which a gate is not.
    fn estimate(&self, n_row: usize, matrices: &[&Tiles]) -> Option<Estimate> {
        if !matrices.iter().all(|tiles| prompt_packed::has(tiles.format)) {
            return None;
        }
        let n: Vec<usize> = matrices.iter().map(|tiles| tiles.n_row).collect();
        let k = matrices.iter().map(|tiles| tiles.n_in).max().unwrap_or_default();
        let are_floats = matrices.iter().all(|tiles| is_float(tiles.format));
        Some(Estimate::of(&Beside { m: n_row, n: &n, k }, are_floats, self.n_sm()))
    }

    /// Whether the matrices that read a mixer's normalised rows are unpacked in registers, and whether its output is.
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
            mixer => self.packs(self.n_row, &mixer.readers()),
        };
        [reads, can_order && self.packs(self.n_row, &[&layer.attn_output])]
    }

    /// [`Prompt::products`] with weights that are unpacked in registers: a launch for each slice, all of them beside each other.
    pub(super) fn packed_products(
        &self,
        epilogue: PromptEpilogue,
        slices: &[Slice<'_>],
        args: &PromptGemmArgs,
    ) -> Result<(), CudaError> {
        let heads = self.network.heads;
        let rows = |slice: &Slice<'_>| (slice.n_tile * TILE).min(slice.tiles.n_row - slice.first * TILE);
        let n: Vec<usize> = slices.iter().map(rows).collect();
        let [.., Slice { tiles: last, .. }] = slices else { return Ok(()) };
        let tiling = self.tiling(&Beside { m: args.m as usize, n: &n, k: last.n_in });
        let mut before = 0;
        for (slice, n_row) in slices.iter().zip(n).filter(|(slice, _)| slice.n_tile > 0) {
            let Slice { tiles, first, n_tile, .. } = *slice;
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
            self.launch_packed(epilogue, tiles, &packed, tiling)?;
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
        tiling: Tiling,
    ) -> Result<(), CudaError> {
        debug_assert!(args.g.low == 0, "activations of one float16 term");
        let launch = prompt_packed::launch(epilogue, tiles.format, (&args.g, self.n_sm() as usize), tiling);
        self.network.kernels.launch(self.stream, &launch, args)
    }

    fn tiling(&self, shape: &Beside<'_>) -> Tiling {
        let n_column = match self.network.sizes.unpacking {
            Unpacking::Registers(n_column) => Some(n_column),
            Unpacking::Fastest | Unpacking::Memory => None,
        };
        Tiling::of(shape, n_column, self.n_sm() as usize)
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
        let n = tiles.n_tile * TILE;
        let shape = Beside { m: args.m as usize, n: &[n], k: tiles.n_in };
        let tiling = Tiling::of_experts(&shape, n_expert, self.n_sm() as usize);
        let args = PromptGemmArgs { offsets, n: n as i32, n_expert: n_expert as i32, ..*args };
        self.launch_packed(epilogue, tiles, &self.packed_args(tiles, &args)?, tiling)
    }
}
