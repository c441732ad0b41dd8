//! Generated rows: one row a sequence through all layers, up to the logits.
//!
//! Every launch here is captured in a graph: what changes from step to step is read from device memory.

use model::architecture::FeedForwardKind;
use model::stage::Stage;

use crate::apart;
use crate::args::{ActOut, Epilogue, NormArgs, PairArgs, PlaceArgs, ProductArgs, RouteArgs};
use crate::buffers::{Act, Forms, Input};
use crate::driver::{DevicePtr, Stream};
use crate::error::CudaError;
use crate::heads;
use crate::kernels::Launch;
use crate::launch::attend;
use crate::network::{Network, forms};
use crate::observe::{Observer, Rows};
use crate::place::{FfnPlace, LayerPlace, NormPlace, RouterPlace, Tiles};

/// The shape of a step's generated rows: everything a captured graph depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Rows, padding included: the columns of the products.
    pub(crate) n_row: usize,
    /// A bound on the positions of all rows.
    pub(crate) n_position: usize,
}

impl Shape {
    /// The bucket for this many rows of sequences up to this long.
    pub(crate) fn bucket(n_row: usize, n_position: usize, n_ctx: usize) -> Shape {
        Shape {
            n_row: n_row.next_power_of_two(),
            n_position: n_position.next_power_of_two().max(256).min(n_ctx),
        }
    }
}

/// What generated rows run on.
pub(crate) struct Decode<'a> {
    network: &'a Network,
    stream: &'a Stream,
    shape: Shape,
    /// `[n_slot]`: the token last sampled in each slot.
    last: DevicePtr,
}

/// What a product does for the norm that follows it: which norm, and where the activations go.
type Next = Option<(NormPlace, ActOut)>;

impl<'a> Decode<'a> {
    pub(crate) fn new(network: &'a Network, stream: &'a Stream, shape: Shape, last: DevicePtr) -> Decode<'a> {
        Decode { network, stream, shape, last }
    }

    /// All layers, and the logits into the shared buffer.
    pub(crate) fn run(&self, observer: &mut Observer<'_>) -> Result<(), CudaError> {
        let network = self.network;
        let buffers = &network.buffers.decode;
        let blocks = (network.arch.n_embd / 4).div_ceil(256);
        network.embed(self.stream, (buffers.rows, self.last, buffers.x), [self.shape.n_row, blocks])?;
        let x = Rows::float(network.buffers.decode.x, self.shape.n_row, network.arch.n_embd);
        observer.see(Stage::Embed, 0, x)?;
        // Parts of the experts that the next norm adds to x.
        let mut parts = DevicePtr(0);
        // The next norm's result, where the product before it has left one.
        let mut left = None;
        for n in 0..network.layers.len() {
            left = self.layer(n, (left, parts), observer)?;
            parts = match network.buffers.decode.routing {
                Some(routing) if !observer.is_watching() => routing.parts,
                _ => DevicePtr(0),
            };
        }
        let act = self.act(&buffers.normed, [&network.output], observer);
        let input = self.normed(Some(network.output_norm), act, (left, parts))?;
        network.launch_product(self.stream, &network.output, &network.logits(input))?;
        network.finish_logits(self.stream, network.buffers.shared.logits, self.shape.n_row)
    }

    fn add_parts(&self) -> Result<(), CudaError> {
        let network = self.network;
        let Some(routing) = network.buffers.decode.routing else { return Ok(()) };
        let mut args = network.norm(network.output_norm, network.buffers.decode.x);
        args.parts = routing.parts;
        args.n_part = network.n_used() as i32;
        network.launch_norm_few(self.stream, self.shape.n_row, &args)
    }

    /// Which forms an activation is written in; both where a stage is observed.
    fn act<'t>(
        &self,
        act: &Act,
        readers: impl IntoIterator<Item = &'t Tiles>,
        observer: &Observer<'_>,
    ) -> ActOut {
        let read = forms(readers);
        act.of(self.shape.n_row, Forms { floats: read.floats || observer.is_watching(), ..read })
    }

    /// A norm's result: what was left for it, or a kernel's, which adds `parts` to x.
    fn normed(
        &self,
        norm: Option<NormPlace>,
        act: ActOut,
        (left, parts): (Option<Input>, DevicePtr),
    ) -> Result<Input, CudaError> {
        if let Some(left) = left {
            return Ok(left);
        }
        let network = self.network;
        let mut args = network.norm(norm, network.buffers.decode.x);
        (args.act, args.parts, args.n_part) = (act, parts, network.n_used() as i32);
        network.launch_norm_few(self.stream, self.shape.n_row, &args)?;
        Ok(act.into())
    }

    /// Launches a product that is added to the residual, after a norm of its own where there is one, and gives what it left for the norm
    /// that follows.
    fn add(
        &self,
        tiles: &Tiles,
        input: ActOut,
        (post, next): (Option<NormPlace>, Next),
    ) -> Result<Option<Input>, CudaError> {
        let network = self.network;
        let buffers = &network.buffers.decode;
        if let Some(term) = buffers.term {
            let args = ProductArgs {
                out: term,
                ld_out: network.arch.n_embd as i32,
                ..network.product(tiles, input, Epilogue::Store)
            };
            network.launch_product(self.stream, tiles, &args)?;
            network.add_term(self.stream, (buffers.x, term, self.shape.n_row), post)?;
            return Ok(None);
        }
        let mut args = ProductArgs {
            out: buffers.x,
            ld_out: network.arch.n_embd as i32,
            ..network.product(tiles, input, Epilogue::Residual)
        };
        let mut left = None;
        if let Some((norm, act)) = next
            && network.can_leave(norm)?
        {
            (args.act, args.next_weight, args.next_squares) = (act, network.at(norm.weight), buffers.squares);
            left = Some(Input { act, squares: buffers.squares });
        }
        network.launch_product(self.stream, tiles, &args)?;
        Ok(left)
    }

    fn qkv_act(&self, layer: &LayerPlace, observer: &Observer<'_>) -> ActOut {
        let tiles = layer.qkv.runs.iter().map(|(_, tiles)| tiles);
        self.act(&self.network.buffers.decode.normed, tiles, observer)
    }

    /// One layer, from what was left for its first norm to what it leaves for the next layer's, or the head's.
    fn layer(
        &self,
        n: usize,
        before: (Option<Input>, DevicePtr),
        observer: &mut Observer<'_>,
    ) -> Result<Option<Input>, CudaError> {
        let network = self.network;
        let (layer, heads) = (&network.layers[n], network.heads_of(n));
        let (arch, buffers) = (&network.arch, &network.buffers.decode);
        let n_row = self.shape.n_row;

        let normed = self.normed(layer.attn_norm, self.qkv_act(layer, observer), before)?;
        match buffers.qkv {
            Some(qkv) => self.heads_apart(n, normed, qkv)?,
            None => self.heads(n, normed)?,
        }
        observer.see(Stage::Qkv, n, Rows::float(buffers.q, n_row, heads.n_q()))?;

        let attended_rows = buffers.attended.narrow(heads.n_q());
        let attended = self.act(&attended_rows, [&layer.attn_output], observer);
        self.attend(n, layer, attended)?;
        observer.see(Stage::Attend, n, Rows::act(&attended_rows, n_row))?;

        let normed = self.ffn_act(layer, observer);
        let next = layer.ffn_norm.map(|norm| (norm, normed));
        let left = self.add(&layer.attn_output, attended, (layer.attn_post_norm, next))?;
        let x = Rows::float(buffers.x, n_row, arch.n_embd);
        observer.see(Stage::AttnOut, n, x)?;

        let normed = self.normed(layer.ffn_norm, normed, (left, DevicePtr(0)))?;
        let left = match &layer.ffn {
            FfnPlace::Dense { input, down } => {
                let (norm, act) = match network.layers.get(n + 1) {
                    Some(next) => (next.attn_norm, self.qkv_act(next, observer)),
                    None => {
                        let act = self.act(&buffers.normed, [&network.output], observer);
                        (Some(network.output_norm), act)
                    }
                };
                let next = norm.map(|norm| (norm, act));
                self.dense(n, (normed, (layer.ffn_post_norm, next)), (input, down), observer)?
            }
            FfnPlace::Experts { router, input, down } => {
                self.experts(n, normed, (router, input, down), observer)?;
                if observer.is_watching() {
                    self.add_parts()?;
                }
                None
            }
        };
        network.scale_layer(self.stream, n, (buffers.x, n_row))?;
        observer.see(Stage::FfnOut, n, x)?;
        Ok(left)
    }

    /// Queries, keys and values, turned and put where they belong by the products themselves.
    fn heads(&self, n: usize, normed: Input) -> Result<(), CudaError> {
        let network = self.network;
        let (layer, heads) = (&network.layers[n], network.heads_of(n));
        let buffers = &network.buffers.decode;
        let (k_cache, v_cache) = network.kv(n);
        let product = |first_row: usize, tiles: &Tiles| ProductArgs {
            out: buffers.q,
            ld_out: heads.n_q() as i32,
            head_dim: heads.head_dim as i32,
            half_rot: network.heads.half_rot as i32,
            adjacent: i32::from(network.heads.adjacent),
            n_q: heads.n_q() as i32,
            n_k: heads.n_kv() as i32,
            qkv_row: first_row as i32,
            n_kv_head: heads.n_kv_head as i32,
            max_pages: network.max_pages() as i32,
            turns: network.buffers.shared.turns,
            k_cache,
            v_cache,
            rows: buffers.rows,
            page_tables: network.buffers.shared.page_tables,
            fresh: network.fresh(),
            ..network.product(tiles, normed, Epilogue::Qkv)
        };
        let products: Vec<_> =
            layer.qkv.runs.iter().map(|(row, tiles)| (tiles, product(*row, tiles))).collect();
        let are_paired = match products[..] {
            [(a, first), (b, second)] => {
                network.launch_pair(self.stream, [a, b], &PairArgs { first, second })?
            }
            _ => false,
        };
        if !are_paired {
            for (tiles, args) in &products {
                network.launch_product(self.stream, tiles, args)?;
            }
        }
        Ok(())
    }

    /// Likewise where kernels of their own normalise, turn and place them.
    fn heads_apart(&self, n: usize, normed: Input, qkv: DevicePtr) -> Result<(), CudaError> {
        let network = self.network;
        let layer = &network.layers[n];
        let buffers = &network.buffers.decode;
        for (row, tiles) in &layer.qkv.runs {
            let args = ProductArgs {
                out: qkv,
                ld_out: heads::n_qkv(network.heads_of(n)) as i32,
                first_row: *row as i32,
                ..network.product(tiles, normed, Epilogue::Store)
            };
            network.launch_product(self.stream, tiles, &args)?;
        }
        let n_row = self.shape.n_row;
        network.normalise_heads(self.stream, n, (qkv, n_row))?;
        let args = PlaceArgs {
            q_floats: buffers.q,
            fresh: network.fresh(),
            ..network.placing(n, qkv, buffers.rows)
        };
        network.kernels.launch(self.stream, &Launch::new("place_rows", [n_row as u32, 1], 256), &args)
    }

    fn ffn_act(&self, layer: &LayerPlace, observer: &Observer<'_>) -> ActOut {
        let normed = &self.network.buffers.decode.normed;
        match &layer.ffn {
            FfnPlace::Dense { input, .. } => self.act(normed, [input], observer),
            // The router reads floats.
            FfnPlace::Experts { input, .. } => {
                normed.of(self.shape.n_row, Forms { floats: true, ..forms([input]) })
            }
        }
    }

    fn attend(&self, n: usize, layer: &LayerPlace, out: ActOut) -> Result<(), CudaError> {
        let network = self.network;
        let (heads, buffers) = (network.heads_of(n), &network.buffers.decode);
        if let Some(qkv) = buffers.qkv.filter(|_| apart::attention(&network.arch)) {
            let n_row = self.shape.n_row;
            let rows = (qkv, buffers.q, buffers.rows);
            network.attend_rows(self.stream, n, rows, (n_row, Some(self.shape.n_position)))?;
            let args = NormArgs { act: out, ..Network::plain_rows(buffers.q, heads.n_q()) };
            return network.launch_norm_few(self.stream, n_row, &args);
        }
        let (k_cache, v_cache) = network.kv(n);
        let args = attend::AttendDecodeArgs {
            q: buffers.q,
            k_cache,
            v_cache,
            rows: buffers.rows,
            page_tables: network.buffers.shared.page_tables,
            out,
            part: buffers.attend_parts,
            counters: buffers.attend_counters,
            sinks: network.at_maybe(layer.sinks),
            n_head: heads.n_head as i32,
            n_kv_head: heads.n_kv_head as i32,
            max_pages: network.max_pages() as i32,
            window: network.window(n),
            group: (heads.n_head / heads.n_kv_head) as i32,
            split_shift: attend::split_shift(heads.n_head, heads.n_kv_head),
            // Rows and page tables were copied before the graph started.
            early: 1,
            scale: network.arch.attention.scale,
            fresh: network.fresh(),
        };
        let launch = attend::decode_launch(heads.head_dim, self.shape.n_row, self.shape.n_position, &args);
        network.kernels.launch(self.stream, &launch, &args)
    }

    fn dense(
        &self,
        n: usize,
        (normed, next): (Input, (Option<NormPlace>, Next)),
        (input, down): (&Tiles, &Tiles),
        observer: &mut Observer<'_>,
    ) -> Result<Option<Input>, CudaError> {
        let buffers = &self.network.buffers.decode;
        let hidden = self.act(&buffers.hidden, [down], observer);
        let args = ProductArgs { act: hidden, ..self.hidden_product(n, input, normed) };
        self.network.launch_product(self.stream, input, &args)?;
        observer.see(Stage::FfnIn, n, Rows::act(&buffers.hidden, self.shape.n_row))?;
        self.add(down, hidden, next)
    }

    fn hidden_product(&self, n: usize, input: &Tiles, x: Input) -> ProductArgs {
        let (activation, alpha, limit) = self.network.activation(n);
        let is_plain = self.network.arch.feed_forward[n].kind == FeedForwardKind::Plain;
        let epilogue = if is_plain { Epilogue::Plain } else { Epilogue::Gated };
        ProductArgs { activation, alpha, limit, ..self.network.product(input, x, epilogue) }
    }

    fn experts(
        &self,
        n: usize,
        normed: Input,
        (router, input, down): (&RouterPlace, &Tiles, &Tiles),
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        let network = self.network;
        let buffers = &network.buffers.decode;
        let Some(routing) = buffers.routing else { return Ok(()) };
        let (n_row, n_used) = (self.shape.n_row, network.n_used());
        let n_expert = router.n_expert;
        let route = RouteArgs {
            logits: routing.logits,
            rows: buffers.rows,
            weights: routing.weights,
            active: routing.active,
            offsets: routing.offsets,
            entries: routing.entries,
            n_row: n_row as i32,
            n_expert: n_expert as i32,
            n_used: n_used as i32,
            reserved: 0,
        };
        network.launch_route(self.stream, router, (normed, route))?;

        let n_entry = n_row * n_used;
        let forms = forms([down]);
        let forms = Forms { floats: forms.floats || observer.is_watching(), ..forms };
        let hidden = buffers.hidden.of(n_entry, forms);
        let chosen = |args: ProductArgs, tiles: &Tiles, divisor: usize| ProductArgs {
            active: routing.active,
            offsets: routing.offsets,
            entries: routing.entries,
            weights: routing.weights,
            expert_bytes: tiles.expert_bytes,
            column_divisor: divisor as i32,
            ..args
        };
        let args = ProductArgs { act: hidden, ..self.hidden_product(n, input, normed) };
        let args = chosen(args, input, n_used);
        network.launch_experts(self.stream, input, (&args, n_entry, n_expert))?;
        observer.see(Stage::FfnIn, n, Rows::act(&buffers.hidden, n_entry))?;
        let args = ProductArgs {
            out: routing.parts,
            ld_out: network.arch.n_embd as i32,
            ..network.product(down, hidden, Epilogue::Weighted)
        };
        let args = chosen(args, down, 1);
        network.launch_experts(self.stream, down, (&args, n_entry, n_expert))
    }
}

impl Network {
    /// Logits of `n_row` rows of `x`, those that `heads` lists or all, into the shared buffer.
    pub(crate) fn head(
        &self,
        stream: &Stream,
        (x, heads): (DevicePtr, DevicePtr),
        n_row: usize,
    ) -> Result<(), CudaError> {
        let shared = &self.buffers.shared;
        let input = shared.head_input.of(n_row, forms([&self.output]));
        let mut norm = self.norm(self.output_norm, x);
        (norm.source, norm.act) = (heads, input);
        self.launch_norm_few(stream, n_row, &norm)?;
        self.launch_product(stream, &self.output, &self.logits(input))?;
        self.finish_logits(stream, shared.logits, n_row)
    }

    /// The product that gives logits, into the shared buffer.
    fn logits(&self, input: impl Into<Input>) -> ProductArgs {
        ProductArgs {
            out: self.buffers.shared.logits,
            ld_out: self.arch.n_vocab as i32,
            ..self.product(&self.output, input, Epilogue::Store)
        }
    }
}
