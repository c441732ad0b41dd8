//! A layer's feed-forward for prompt rows: dense, or a mixture of experts.

use model::architecture::{FeedForward, FeedForwardKind};
use model::stage::Stage;

use super::{Prompt, Slice, n_term, offset, whole};
use crate::args::{ActOut, NormArgs};
use crate::driver::DevicePtr;
use crate::error::CudaError;
use crate::launch::prompt_gemm::{PromptEpilogue, PromptGemmArgs};
use crate::launch::route::{self, GatherPromptArgs, RoutePromptArgs, RouterRule};
use crate::memory::layout::TILE;
use crate::placement::place::{ExpertsPlace, FfnPlace, LayerPlace, NormPlace, SharedPlace, Tiles};
use crate::step::buffers::{Forms, Routing};
use crate::step::observe::{Observer, Rows};

/// Hidden rows are stored divided by this: float16 ends at 65,504.
const HIDDEN_SCALE: f32 = 8.0;

/// Rows of float16 with so many terms.
#[derive(Clone, Copy)]
struct Half {
    at: DevicePtr,
    n_term: usize,
}

impl Prompt<'_> {
    pub(super) fn feed_forward(
        &self,
        n: usize,
        layer: &LayerPlace,
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        match &layer.ffn {
            FfnPlace::Dense { input, down } => self.dense(n, layer, (input, down), observer),
            FfnPlace::Experts(place) => self.experts(n, layer, place, observer),
        }
    }

    fn dense(
        &self,
        n: usize,
        layer: &LayerPlace,
        (input, down): (&Tiles, &Tiles),
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        let (network, buffers) = (self.network, &self.network.buffers.prompt);
        let normed = Half { at: buffers.normed, n_term: n_term([input]) };
        let hidden = Half { at: buffers.hidden, n_term: n_term([down]) };
        let is_gated = network.arch.feed_forward[n].kind != FeedForwardKind::Plain;
        // Hidden rows are stored in the order that `down` then reads.
        let of_one_term = is_gated && hidden.n_term == 1;
        let is_packed = of_one_term && self.packs_feed_forward(input, down);
        let mut norm = network.norm(layer.ffn_norm, buffers.x);
        (norm.out, norm.out_terms) = (normed.at, normed.n_term as i32);
        norm.even_then_odd = i32::from(is_packed);
        network.launch_norm(self.stream, self.n_row, &norm)?;
        self.hidden(n, (input, normed), (down, hidden), is_packed)?;
        observer.see(Stage::FfnIn, n, self.hidden_rows(down, hidden).even_then_odd(is_packed))?;
        let args = self.down_args(down, hidden, buffers.x);
        self.add(whole(down, hidden.n_term).packed(is_packed), &args, layer.ffn_post_norm)
    }

    /// The hidden rows of a dense feed-forward, as `down` reads them.
    fn hidden(
        &self,
        n: usize,
        (input, normed): (&Tiles, Half),
        (down, hidden): (&Tiles, Half),
        is_packed: bool,
    ) -> Result<(), CudaError> {
        let kind = self.network.arch.feed_forward[n].kind;
        let args = self.hidden_args(n, (input, normed.at, self.n_row), (down, hidden));
        let epilogue =
            if kind == FeedForwardKind::Plain { PromptEpilogue::Plain } else { PromptEpilogue::Gated };
        let slice = whole(input, normed.n_term).packed(is_packed);
        self.product(epilogue, slice, &args)
    }

    fn hidden_args(
        &self,
        n: usize,
        (input, a, m): (&Tiles, DevicePtr, usize),
        (down, hidden): (&Tiles, Half),
    ) -> PromptGemmArgs {
        PromptGemmArgs {
            a,
            bias: self.network.at_maybe(input.bias),
            out: hidden.at,
            m: m as i32,
            ld: (hidden.n_term * down.n_in) as i32,
            low: ((hidden.n_term - 1) * down.n_in) as i32,
            act: self.network.arch.feed_forward[n].activation.into(),
            scale: 1.0,
            ..PromptGemmArgs::default()
        }
    }

    fn hidden_rows(&self, down: &Tiles, hidden: Half) -> Rows {
        Rows::half(hidden.at, [self.n_row, hidden.n_term, down.n_in], HIDDEN_SCALE)
    }

    fn down_args(&self, down: &Tiles, hidden: Half, out: DevicePtr) -> PromptGemmArgs {
        PromptGemmArgs {
            a: hidden.at,
            bias: self.network.at_maybe(down.bias),
            out,
            m: self.n_row as i32,
            ld: self.network.arch.n_embd as i32,
            scale: HIDDEN_SCALE,
            ..PromptGemmArgs::default()
        }
    }

    fn experts(
        &self,
        n: usize,
        layer: &LayerPlace,
        place: &ExpertsPlace,
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        let network = self.network;
        let buffers = &network.buffers.prompt;
        let (Some(routing), Some(floats)) = (buffers.routing, buffers.floats) else {
            return Ok(());
        };
        let ExpertsPlace { router, input, down, shared, .. } = place;
        let rule = network.rule(n, router);
        let FeedForward { n_ff, .. } = network.arch.feed_forward[n];
        let n_use = self.n_row * rule.n_used as usize;

        let hidden = Half { at: buffers.hidden, n_term: n_term([down]) };
        // The router decides, so it reads float32 as it does for generated rows: near ties should fall the same way.
        let act = floats.of(self.n_row, Forms::FLOATS);
        let of_input = n_term(shared.iter().map(|shared| &shared.input).chain([input]));
        let matrices = [(input, of_input), (down, hidden.n_term)];
        let is_packed = self.packs_experts(n_use.div_ceil(rule.n_expert as usize), matrices);
        let packs_shared =
            |SharedPlace { input, down, .. }: &SharedPlace| self.packs_feed_forward(input, down);
        let is_shared_packed = is_packed && shared.as_ref().is_some_and(packs_shared);
        let [normed, to_experts] = self.expert_inputs(layer, place, (act, is_shared_packed))?;
        network.launch_map(self.stream, &router.map, (act.into(), routing.logits, self.n_row))?;
        // One norm's rows are in the order of columns for that already.
        let is_ordered = is_shared_packed && to_experts.at == normed.at;
        self.route(&routing, rule, (to_experts, is_packed && !is_ordered))?;

        let of_experts = (routing.offsets, rule.n_expert as usize);
        let product = |epilogue, all: Slice<'_>, args: &PromptGemmArgs| match is_packed {
            true => self.packed_product(epilogue, all.tiles, of_experts, args),
            false => self.expert_product(epilogue, all, of_experts, args),
        };
        let args = self.hidden_args(n, (input, routing.gathered, n_use), (down, hidden));
        product(PromptEpilogue::Gated, whole(input, normed.n_term), &args)?;
        let mut of_shared = None;
        if let (Some(place), Some(at), Some(of)) = (shared, buffers.shared_hidden, routing.shared) {
            if let Some(gate) = &place.gate {
                network.launch_map(self.stream, gate, (act.into(), of.gate, self.n_row))?;
            }
            let hidden = Half { at, n_term: n_term([&place.down]) };
            self.hidden(n, (&place.input, normed), (&place.down, hidden), is_shared_packed)?;
            of_shared = Some((place, hidden, of.term));
        }
        let rows = Rows::half(hidden.at, [n_use, hidden.n_term, n_ff], HIDDEN_SCALE).even_then_odd(is_packed);
        let seen = of_shared
            .map(|(place, hidden, _)| self.hidden_rows(&place.down, hidden).even_then_odd(is_shared_packed));
        observer.see_experts(n, (rows, Some(routing.entries)), seen)?;

        let args = PromptGemmArgs {
            uses: routing.entries,
            weights: routing.weights,
            m: n_use as i32,
            ..self.down_args(down, hidden, routing.parts)
        };
        product(PromptEpilogue::Weighted, whole(down, hidden.n_term), &args)?;
        if let Some((SharedPlace { down, .. }, hidden, term)) = of_shared {
            let args = self.down_args(down, hidden, term);
            let slice = whole(down, hidden.n_term).packed(is_shared_packed);
            self.product(PromptEpilogue::Store, slice, &args)?;
        }
        if let Some(term) = buffers.term.filter(|_| network.arch.has_post_norms) {
            return network.add_experts(self.stream, (n, &routing), (buffers.x, term, self.n_row));
        }
        let adding = network.adding(n, &routing, network.norm(None, buffers.x));
        network.launch_norm(self.stream, self.n_row, &adding)
    }

    /// The rows that shared experts read, in the order for weights unpacked in registers if `even_then_odd`, and those that the chosen ones read,
    /// the same or as they are; the router's go to `act`.
    fn expert_inputs(
        &self,
        layer: &LayerPlace,
        place: &ExpertsPlace,
        (act, even_then_odd): (ActOut, bool),
    ) -> Result<[Half; 2], CudaError> {
        let (network, buffers) = (self.network, &self.network.buffers.prompt);
        let readers = place.shared.iter().map(|shared| &shared.input).chain([&place.input]);
        let normed = Half { at: buffers.normed, n_term: n_term(readers) };
        let norm = |norm: Option<NormPlace>, to: Half, act: ActOut| {
            let norm = network.norm(norm, buffers.x);
            let even_then_odd = i32::from(even_then_odd && to.at == buffers.normed);
            let args = NormArgs { out: to.at, out_terms: to.n_term as i32, act, even_then_odd, ..norm };
            network.launch_norm(self.stream, self.n_row, &args)
        };
        let (Some(norms), Some(at)) = (&place.norms, buffers.branch) else {
            norm(layer.ffn_norm, normed, act)?;
            return Ok([normed; 2]);
        };
        let to_experts = Half { at, ..normed };
        norm(Some(norms.router), Half { at: DevicePtr(0), n_term: 1 }, act)?;
        norm(Some(norms.experts), to_experts, ActOut::default())?;
        norm(layer.ffn_norm, normed, ActOut::default())?;
        Ok([normed, to_experts])
    }

    /// Chooses each row's experts and gathers rows by expert: for weights that are unpacked in registers, in the order of columns for that.
    fn route(
        &self,
        routing: &Routing,
        rule: RouterRule,
        (normed, is_packed): (Half, bool),
    ) -> Result<(), CudaError> {
        let network = self.network;
        let args = RoutePromptArgs {
            logits: routing.logits,
            weights: routing.weights,
            chosen: routing.chosen,
            uses: routing.entries,
            offsets: routing.offsets,
            n_row: self.n_row as i32,
            reserved: 0,
            rule,
        };
        let kernels = &network.kernels;
        for launch in route::prompt(self.n_row, rule.n_expert as usize) {
            kernels.launch(self.stream, &launch, &args)?;
        }
        let args = GatherPromptArgs {
            from: normed.at,
            uses: routing.entries,
            to: routing.gathered,
            n_used: rule.n_used,
            k: (normed.n_term * network.arch.n_embd) as i32,
        };
        let n_use = self.n_row * rule.n_used as usize;
        kernels.launch(self.stream, &route::gather(n_use, is_packed), &args)
    }

    /// A product with the matrices of all experts, whose rows begin at `offsets`; see [`Prompt::product`].
    pub(super) fn expert_product(
        &self,
        epilogue: PromptEpilogue,
        all: Slice<'_>,
        (offsets, n_expert): (DevicePtr, usize),
        args: &PromptGemmArgs,
    ) -> Result<(), CudaError> {
        let tiles = all.tiles;
        let (n, k, w_k) = (tiles.n_tile * TILE, all.n_term * tiles.n_in, all.w_k());
        let most = self.network.buffers.prompt.slab_bytes / (2 * w_k);
        if n > most {
            return self.large_expert_product(epilogue, all, (offsets, n_expert), args);
        }
        let per_slab = most / n;
        for first in (0..n_expert).step_by(per_slab) {
            let n_here = per_slab.min(n_expert - first);
            let here = Tiles { at: tiles.at + first as u64 * tiles.expert_bytes, ..*tiles };
            let slab = self.network.next_slab();
            self.unpack_all(whole(&here, all.n_term), [0, tiles.n_tile], (n_here, slab))?;
            let args = PromptGemmArgs {
                w: slab,
                bias: offset(args.bias, 4 * first * n),
                offsets: offsets.offset(4 * first as u64),
                n: n as i32,
                k: k as i32,
                w_k: w_k as i32,
                n_expert: n_here as i32,
                ..*args
            };
            self.gemm(epilogue, (args.m as usize).div_ceil(n_expert), &args)?;
        }
        Ok(())
    }

    /// Likewise where the matrix of one expert fills more than a slab.
    fn large_expert_product(
        &self,
        epilogue: PromptEpilogue,
        all: Slice<'_>,
        (offsets, n_expert): (DevicePtr, usize),
        args: &PromptGemmArgs,
    ) -> Result<(), CudaError> {
        let tiles = all.tiles;
        let (k, w_k) = (all.n_term * tiles.n_in, all.w_k());
        // Whole groups of 64 rows of gate and up.
        let per_slab = (self.network.buffers.prompt.slab_bytes / (2 * w_k) / 64).max(1) * 64 / TILE;
        for e in 0..n_expert {
            let expert = Tiles { at: tiles.at + e as u64 * tiles.expert_bytes, ..*tiles };
            for first in (0..tiles.n_tile).step_by(per_slab) {
                let n_tile = per_slab.min(tiles.n_tile - first);
                let slab = self.network.next_slab();
                self.unpack(whole(&expert, all.n_term), [first, n_tile], slab)?;
                let column = first * TILE / if epilogue == PromptEpilogue::Gated { 2 } else { 1 };
                let args = PromptGemmArgs {
                    w: slab,
                    bias: offset(args.bias, 4 * (e * tiles.n_tile + first) * TILE),
                    offsets: offsets.offset(4 * e as u64),
                    n: (n_tile * TILE) as i32,
                    k: k as i32,
                    w_k: w_k as i32,
                    column: args.column + column as i32,
                    n_expert: 1,
                    ..*args
                };
                self.gemm(epilogue, (args.m as usize).div_ceil(n_expert), &args)?;
            }
        }
        Ok(())
    }
}
