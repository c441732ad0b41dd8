//! A mixture of experts for generated rows.

use super::Decode;
use crate::args::{ActOut, Epilogue, NormArgs, ProductArgs};
use crate::error::CudaError;
use crate::launch::route::RouteArgs;
use crate::launch::rows;
use crate::launch::variant::Arithmetic;
use crate::placement::place::{ExpertsPlace, NormPlace, SharedPlace, Tiles};
use crate::step::buffers::{Forms, Input, Routing};
use crate::step::observe::{Observer, Rows};

impl Decode<'_> {
    /// Adds to x what experts find, and gives what is left for the norm that follows, which is `after` with the place of its result.
    pub(super) fn experts(
        &self,
        n: usize,
        (normed, after): (Input, (Option<NormPlace>, ActOut)),
        place: &ExpertsPlace,
        observer: &mut Observer<'_>,
    ) -> Result<Option<Input>, CudaError> {
        let network = self.network;
        let buffers = &network.buffers.decode;
        let Some(routing) = buffers.routing else { return Ok(None) };
        let n_row = self.shape.n_row;
        let rule = network.rule(n, &place.router);
        let (n_expert, n_used) = (rule.n_expert as usize, rule.n_used as usize);
        let route = RouteArgs {
            logits: routing.logits,
            rows: buffers.rows,
            weights: routing.weights,
            active: routing.active,
            offsets: routing.offsets,
            entries: routing.entries,
            n_row: n_row as i32,
            reserved: 0,
            rule,
        };
        let [to_router, to_experts] = self.branches(normed, place)?;
        network.launch_route(self.stream, &place.router.map, (to_router, route))?;

        let n_entry = n_row * n_used;
        let hidden_rows = buffers.hidden.narrow(place.down.n_in);
        let hidden = hidden_rows.of(n_entry, self.hidden_forms(&place.down, observer));
        let args = ProductArgs { act: hidden, ..self.hidden_product(n, &place.input, to_experts) };
        let args = chosen(&routing, args, (&place.input, n_used));
        network.launch_experts(self.stream, &place.input, (&args, n_row, [n_used, n_expert]))?;
        let shared = match &place.shared {
            Some(shared) => self.shared_hidden(n, normed, (shared, &routing), observer)?,
            None => None,
        };
        let seen = shared.map(|(rows, _)| rows);
        observer.see_experts(n, (Rows::act(&hidden_rows, n_entry), None), seen)?;

        let n_embd = network.arch.n_embd as i32;
        // The kernel before is the experts' first product, which lets the next one start when what chose the experts is over.
        let is_chosen = place.shared.is_none() && network.arithmetic(&place.input) == Arithmetic::Halves;
        let args = ProductArgs {
            out: routing.parts,
            ld_out: n_embd,
            is_chosen: i32::from(is_chosen && n_row == 1),
            ..network.product(&place.down, hidden, Epilogue::Weighted)
        };
        let args = chosen(&routing, args, (&place.down, 1));
        network.launch_experts(self.stream, &place.down, (&args, n_row, [n_used, n_expert]))?;
        if let (Some(shared), Some((_, hidden)), Some(buffers)) = (&place.shared, shared, routing.shared) {
            let args = ProductArgs {
                out: buffers.term,
                ld_out: n_embd,
                ..network.product(&shared.down, hidden, Epilogue::Store)
            };
            network.launch_product(self.stream, &shared.down, &args)?;
        }
        if let Some(term) = buffers.term.filter(|_| network.arch.has_post_norms) {
            network.add_experts(self.stream, (n, &routing), (buffers.x, term, n_row))?;
            return Ok(None);
        }
        self.add_experts(n, &routing, after).map(Some)
    }

    /// Adds to x what a layer's experts left, and does the norm after it, or leaves it to the products that read the rows.
    fn add_experts(
        &self,
        n: usize,
        routing: &Routing,
        (norm, act): (Option<NormPlace>, ActOut),
    ) -> Result<Input, CudaError> {
        let (network, n_row) = (self.network, self.shape.n_row);
        let buffers = &network.buffers.decode;
        let args = NormArgs { act, ..network.norm(norm, buffers.x) };
        let args = network.adding(n, routing, args);
        match norm {
            Some(norm) if network.can_leave(norm)? => {
                let args = NormArgs { squares: buffers.squares, ..args };
                network.kernels.launch(self.stream, &rows::add_parts(n_row, &args), &args)?;
                Ok(Input { act, squares: buffers.squares })
            }
            _ => {
                network.launch_norm_few(self.stream, n_row, &args)?;
                Ok(act.into())
            }
        }
    }

    /// What the router and the experts read.
    fn branches(&self, normed: Input, place: &ExpertsPlace) -> Result<[Input; 2], CudaError> {
        let (network, n_row) = (self.network, self.shape.n_row);
        let buffers = &network.buffers.decode;
        let (Some(norms), Some([to_router, to_experts])) = (&place.norms, buffers.branches) else {
            return Ok([normed; 2]);
        };
        let to_router = to_router.of(n_row, Forms::FLOATS);
        let to_experts = to_experts.of(n_row, network.forms([&place.input]));
        for (norm, act) in [(norms.router, to_router), (norms.experts, to_experts)] {
            let args = NormArgs { act, ..network.norm(norm, buffers.x) };
            network.launch_norm_few(self.stream, n_row, &args)?;
        }
        Ok([to_router.into(), to_experts.into()])
    }

    /// The hidden rows of what all rows use, and the logit of its factor.
    fn shared_hidden(
        &self,
        n: usize,
        normed: Input,
        (place, routing): (&SharedPlace, &Routing),
        observer: &Observer<'_>,
    ) -> Result<Option<(Rows, ActOut)>, CudaError> {
        let network = self.network;
        let (Some(rows), Some(buffers)) = (network.buffers.decode.shared_hidden, routing.shared) else {
            return Ok(None);
        };
        let (n_row, rows) = (self.shape.n_row, rows.narrow(place.down.n_in));
        if let Some(gate) = &place.gate {
            network.launch_map(self.stream, gate, (normed, buffers.gate, n_row))?;
        }
        let hidden = rows.of(n_row, self.hidden_forms(&place.down, observer));
        let args = ProductArgs { act: hidden, ..self.hidden_product(n, &place.input, normed) };
        network.launch_product(self.stream, &place.input, &args)?;
        Ok(Some((Rows::act(&rows, n_row), hidden)))
    }

    /// Which forms hidden rows are written in.
    fn hidden_forms(&self, down: &Tiles, observer: &Observer<'_>) -> Forms {
        let forms = self.network.forms([down]);
        Forms { floats: forms.floats || observer.is_watching(), ..forms }
    }
}

/// A product with the chosen experts' matrices: of every `divisor` entries one column.
fn chosen(routing: &Routing, args: ProductArgs, (tiles, divisor): (&Tiles, usize)) -> ProductArgs {
    ProductArgs {
        active: routing.active,
        offsets: routing.offsets,
        entries: routing.entries,
        weights: routing.weights,
        expert_bytes: tiles.expert_bytes,
        column_divisor: divisor as i32,
        ..args
    }
}
