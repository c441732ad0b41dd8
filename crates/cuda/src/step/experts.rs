//! Mixtures of experts, for generated rows and for prompts: routers, the products of the chosen, and what all rows use besides.

use model::architecture::Mixture;

use crate::args::{NormArgs, ProductArgs, SumArgs};
use crate::driver::{DevicePtr, Stream};
use crate::error::CudaError;
use crate::launch::product::variant;
use crate::launch::route::{self, RouteArgs, RouteFewArgs, RouterArgs, RouterPairArgs, RouterRule, gating};
use crate::launch::rows;
use crate::launch::variant::Wanted;
use crate::placement::place::{FfnPlace, FloatMap, NormPlace, RouterPlace, Tiles};
use crate::step::buffers::{Input, Routing};
use crate::step::network::Network;

impl Network {
    /// A layer's mixture; it has one, as its weights do.
    pub(crate) fn mixture(&self, layer: usize) -> Mixture {
        let mixture = self.arch.feed_forward[layer].mixture();
        *mixture.unwrap_or_else(|| unreachable!("layer {layer} has a mixture of experts"))
    }

    /// How a layer's router chooses and weighs.
    pub(crate) fn rule(&self, layer: usize, router: &RouterPlace) -> RouterRule {
        let Mixture { n_expert, n_used, router: rule, .. } = self.mixture(layer);
        RouterRule {
            bias: self.at_maybe(router.choice_bias),
            factors: self.at_maybe(router.factors),
            n_expert: n_expert as i32,
            n_used: n_used as i32,
            gating: gating(rule.gating),
            is_normalised: i32::from(rule.is_normalised),
            n_group: rule.groups.map_or(0, |groups| groups.n_group as i32),
            n_group_used: rule.groups.map_or(0, |groups| groups.n_used as i32),
            scale: rule.scale,
            reserved: 0,
        }
    }

    /// Launches a small map over `n_row` rows of float activations, into `out`, `[n_row, map.n_row]`.
    pub(crate) fn launch_map(
        &self,
        stream: &Stream,
        map: &FloatMap,
        (x, out, n_row): (Input, DevicePtr, usize),
    ) -> Result<(), CudaError> {
        let n_sm = self.kernels.device().n_sm() as usize;
        self.kernels.launch(stream, &route::map(n_row, map.n_row, n_sm), &self.map(map, (x, n_row), out))
    }

    /// Launches two small maps of the same rows: as one, where these are few.
    pub(crate) fn launch_maps(
        &self,
        stream: &Stream,
        maps: [(&FloatMap, DevicePtr); 2],
        (x, n_row): (Input, usize),
    ) -> Result<(), CudaError> {
        let most = maps.map(|(map, _)| map.n_row).into_iter().max().unwrap_or(0);
        let n_sm = self.kernels.device().n_sm() as usize;
        let Some(launch) = route::map_pair(n_row, most, n_sm) else {
            return maps.iter().try_for_each(|(map, out)| self.launch_map(stream, map, (x, *out, n_row)));
        };
        let args = RouterPairArgs { both: maps.map(|(map, out)| self.map(map, (x, n_row), out)) };
        self.kernels.launch(stream, &launch, &args)
    }

    fn map(&self, map: &FloatMap, (x, n_row): (Input, usize), out: DevicePtr) -> RouterArgs {
        RouterArgs {
            n_row: n_row as i32,
            reserved: 0,
            x: x.act.f,
            weight: self.at(map.weight),
            bias: self.at_maybe(map.bias),
            logits: out,
            k_pad: x.act.k_pad,
            n_embd: self.arch.n_embd as i32,
            n_expert: map.n_row as i32,
            eps: self.arch.norm.eps,
            squares: x.squares,
        }
    }

    /// Launches what chooses the experts of generated rows.
    pub(crate) fn launch_route(
        &self,
        stream: &Stream,
        router: &FloatMap,
        (x, route): (Input, RouteArgs),
    ) -> Result<(), CudaError> {
        let n_row = route.n_row as usize;
        if let Some(launch) = route::few(n_row, router.n_row)
            && self.kernels.is_hopper()?
        {
            let args = RouteFewArgs { router: self.map(router, (x, n_row), route.logits), route };
            return self.kernels.launch(stream, &launch, &args);
        }
        self.launch_map(stream, router, (x, route.logits, n_row))?;
        self.kernels.launch(stream, &route::decode(), &route)
    }

    /// Launches a product of each chosen expert with its own columns; a row has chosen `n_used`.
    pub(crate) fn launch_experts(
        &self,
        stream: &Stream,
        tiles: &Tiles,
        (args, n_row, [n_used, n_expert]): (&ProductArgs, usize, [usize; 2]),
    ) -> Result<(), CudaError> {
        // Columns spread over the experts: about twice the mean fits one pass.
        let n_entry = n_row * n_used;
        let expected = (2 * n_entry / n_expert).clamp(1, n_entry);
        self.launch_matrices(stream, tiles, (args, [expected, n_row], n_entry.min(n_expert)))
    }

    /// Launches a product of each of `n_matrix` matrices with its own columns, about `expected` of them and at most `most`.
    pub(crate) fn launch_matrices(
        &self,
        stream: &Stream,
        tiles: &Tiles,
        (args, [expected, most], n_matrix): (&ProductArgs, [usize; 2], usize),
    ) -> Result<(), CudaError> {
        let wanted = Wanted { n_expected: expected, ..self.wanted(tiles, (most, n_matrix), args) };
        let variant = variant(tiles.format, wanted);
        let n_block = tiles.n_tile.div_ceil(variant.n_tile);
        self.kernels.launch(stream, &variant.launch([n_block, n_matrix]), args)
    }

    /// Adds to `x` what a layer's experts left, where that is normalised first: `term` is `[n_row, n_embd]`.
    pub(crate) fn add_experts(
        &self,
        stream: &Stream,
        (layer, routing): (usize, &Routing),
        (x, term, n_row): (DevicePtr, DevicePtr, usize),
    ) -> Result<(), CudaError> {
        let place = &self.layers[layer];
        let norms = match &place.ffn {
            FfnPlace::Experts(experts) => experts.norms,
            FfnPlace::Dense { .. } => None,
        };
        let weight = |norm: Option<NormPlace>| self.at_maybe(norm.map(|norm| norm.weight));
        let NormArgs { parts, n_part, shared, gate, n_embd, eps, .. } =
            self.adding(layer, routing, self.norm(None, x));
        let args = SumArgs {
            parts,
            shared,
            gate,
            parts_norm: weight(norms.map(|norms| norms.experts_post)),
            shared_norm: weight(norms.map(|norms| norms.shared_post)),
            out: term,
            n_part,
            n: n_embd,
            eps,
            reserved: 0,
        };
        self.kernels.launch(stream, &rows::sum_parts(n_row), &args)?;
        self.add_term(stream, (x, term, n_row), place.ffn_post_norm)
    }

    /// A norm that first adds to x what a layer's experts left.
    pub(crate) fn adding(&self, layer: usize, routing: &Routing, norm: NormArgs) -> NormArgs {
        let shared = self.mixture(layer).shared;
        let none = DevicePtr(0);
        NormArgs {
            parts: routing.parts,
            n_part: self.mixture(layer).n_used as i32,
            shared: shared.and(routing.shared).map_or(none, |buffers| buffers.term),
            gate: match shared.filter(|shared| shared.has_gate).and(routing.shared) {
                Some(buffers) => buffers.gate,
                None => none,
            },
            ..norm
        }
    }
}
