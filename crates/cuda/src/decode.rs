//! Generated rows: one row a sequence through all layers, up to the logits.
//!
//! Every launch here is captured in a graph: what changes from step to step is read from device memory.

use model::stage::Stage;

use crate::args::{Epilogue, ProductArgs, RouteArgs};
use crate::buffers::{Act, Forms};
use crate::driver::{DevicePtr, Stream};
use crate::error::CudaError;
use crate::kernels::Launch;
use crate::launch::attend;
use crate::network::{Network, forms};
use crate::observe::{Observer, Rows};
use crate::place::{FfnPlace, LayerPlace, RouterPlace, Tiles};

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
    pub(crate) network: &'a Network,
    pub(crate) stream: &'a Stream,
    pub(crate) shape: Shape,
    /// `[n_slot]`: the token last sampled in each slot.
    pub(crate) last: DevicePtr,
}

impl Decode<'_> {
    /// All layers.
    pub(crate) fn layers(&self, observer: &mut Observer<'_>) -> Result<(), CudaError> {
        let network = self.network;
        let buffers = &network.buffers.decode;
        let blocks = (network.arch.n_embd / 4).div_ceil(256);
        network.embed(self.stream, (buffers.rows, self.last, buffers.x), [self.shape.n_row, blocks])?;
        let x = Rows::float(network.buffers.decode.x, self.shape.n_row, network.arch.n_embd);
        observer.see(Stage::Embed, 0, x)?;
        // Parts of the experts that the next norm adds to x.
        let mut parts = DevicePtr(0);
        for (n, layer) in network.layers.iter().enumerate() {
            self.layer(n, layer, parts, observer)?;
            parts = match network.buffers.decode.routing {
                Some(routing) if !observer.is_watching() => routing.parts,
                _ => DevicePtr(0),
            };
        }
        // The head's norm may take its rows in another order, so what is left is added here.
        if parts != DevicePtr(0) {
            self.add_parts()?;
        }
        Ok(())
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
    ) -> crate::args::ActOut {
        let read = forms(readers);
        act.of(self.shape.n_row, Forms { floats: read.floats || observer.is_watching(), ..read })
    }

    fn layer(
        &self,
        n: usize,
        layer: &LayerPlace,
        parts: DevicePtr,
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        let network = self.network;
        let (arch, buffers) = (&network.arch, &network.buffers.decode);
        let n_row = self.shape.n_row;
        let (k_cache, v_cache) = network.kv(n);

        let normed = self.act(&buffers.normed, layer.qkv.runs.iter().map(|(_, tiles)| tiles), observer);
        let mut norm = network.norm(layer.attn_norm, buffers.x);
        (norm.act, norm.parts, norm.n_part) = (normed, parts, network.n_used() as i32);
        network.launch_norm_few(self.stream, n_row, &norm)?;
        for (first_row, tiles) in &layer.qkv.runs {
            let args = ProductArgs {
                out: buffers.q,
                ld_out: arch.attention.n_q() as i32,
                head_dim: arch.attention.head_dim as i32,
                half_rot: network.heads.half_rot as i32,
                adjacent: i32::from(network.heads.adjacent),
                n_q: arch.attention.n_q() as i32,
                n_k: arch.attention.n_kv() as i32,
                qkv_row: *first_row as i32,
                n_kv_head: arch.attention.n_kv_head as i32,
                max_pages: network.max_pages() as i32,
                turns: network.buffers.shared.turns,
                k_cache,
                v_cache,
                rows: buffers.rows,
                page_tables: network.buffers.shared.page_tables,
                fresh: network.fresh(),
                ..network.product(tiles, normed, Epilogue::Qkv)
            };
            network.launch_product(self.stream, tiles, &args)?;
        }
        observer.see(Stage::Qkv, n, Rows::float(buffers.q, n_row, arch.attention.n_q()))?;

        let attended = self.act(&buffers.attended, [&layer.attn_output], observer);
        self.attend(n, layer, attended)?;
        observer.see(Stage::Attend, n, Rows::act(&buffers.attended, n_row))?;

        let args = ProductArgs {
            out: buffers.x,
            ld_out: arch.n_embd as i32,
            ..network.product(&layer.attn_output, attended, Epilogue::Residual)
        };
        network.launch_product(self.stream, &layer.attn_output, &args)?;
        let x = Rows::float(buffers.x, n_row, arch.n_embd);
        observer.see(Stage::AttnOut, n, x)?;

        match &layer.ffn {
            FfnPlace::Dense { input, down } => self.dense(n, layer, (input, down), observer)?,
            FfnPlace::Experts { router, input, down } => {
                self.experts(n, layer, (router, input, down), observer)?;
                if observer.is_watching() {
                    self.add_parts()?;
                }
            }
        }
        observer.see(Stage::FfnOut, n, x)
    }

    fn attend(&self, n: usize, layer: &LayerPlace, out: crate::args::ActOut) -> Result<(), CudaError> {
        let network = self.network;
        let (attention, buffers) = (&network.arch.attention, &network.buffers.decode);
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
            n_head: attention.n_head as i32,
            n_kv_head: attention.n_kv_head as i32,
            max_pages: network.max_pages() as i32,
            window: network.window(n),
            group: (attention.n_head / attention.n_kv_head) as i32,
            split_shift: attend::split_shift(attention.n_head, attention.n_kv_head),
            // Rows and page tables were copied before the graph started.
            early: 1,
            scale: attention.scale,
            fresh: network.fresh(),
        };
        let launch =
            attend::decode_launch(attention.head_dim, self.shape.n_row, self.shape.n_position, &args);
        network.kernels.launch(self.stream, &launch, &args)
    }

    fn dense(
        &self,
        n: usize,
        layer: &LayerPlace,
        (input, down): (&Tiles, &Tiles),
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        let network = self.network;
        let buffers = &network.buffers.decode;
        let normed = self.act(&buffers.normed, [input], observer);
        let mut norm = network.norm(layer.ffn_norm, buffers.x);
        norm.act = normed;
        network.launch_norm_few(self.stream, self.shape.n_row, &norm)?;
        let hidden = self.act(&buffers.hidden, [down], observer);
        let args = ProductArgs { act: hidden, ..self.hidden_product(input, normed) };
        network.launch_product(self.stream, input, &args)?;
        observer.see(Stage::FfnIn, n, Rows::act(&buffers.hidden, self.shape.n_row))?;
        let args = ProductArgs {
            out: buffers.x,
            ld_out: network.arch.n_embd as i32,
            ..network.product(down, hidden, Epilogue::Residual)
        };
        network.launch_product(self.stream, down, &args)
    }

    fn hidden_product(&self, input: &Tiles, x: crate::args::ActOut) -> ProductArgs {
        let (activation, alpha, limit) = self.network.activation();
        let is_plain = self.network.arch.feed_forward.kind == model::architecture::FeedForwardKind::Plain;
        let epilogue = if is_plain { Epilogue::Plain } else { Epilogue::Gated };
        ProductArgs { activation, alpha, limit, ..self.network.product(input, x, epilogue) }
    }

    fn experts(
        &self,
        n: usize,
        layer: &LayerPlace,
        (router, input, down): (&RouterPlace, &Tiles, &Tiles),
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        let network = self.network;
        let buffers = &network.buffers.decode;
        let Some(routing) = buffers.routing else { return Ok(()) };
        let (n_row, n_used) = (self.shape.n_row, network.n_used());
        let n_expert = router.n_expert;
        let read = Forms { floats: true, ..forms([input]) };
        let normed = buffers.normed.of(self.shape.n_row, read);
        let mut norm = network.norm(layer.ffn_norm, buffers.x);
        norm.act = normed;
        network.launch_norm_few(self.stream, n_row, &norm)?;
        network.launch_router(self.stream, router, (normed, routing.logits, n_row))?;
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
        network.kernels.launch(self.stream, &Launch::new("route_decode", [1, 1], 256), &route)?;

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
        let args = ProductArgs { act: hidden, ..self.hidden_product(input, normed) };
        network.launch_experts(self.stream, input, (&chosen(args, input, n_used), n_entry, n_expert))?;
        observer.see(Stage::FfnIn, n, Rows::act(&buffers.hidden, n_entry))?;
        let args = ProductArgs {
            out: routing.parts,
            ld_out: network.arch.n_embd as i32,
            ..network.product(down, hidden, Epilogue::Weighted)
        };
        network.launch_experts(self.stream, down, (&chosen(args, down, 1), n_entry, n_expert))
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
        let args = ProductArgs {
            out: shared.logits,
            ld_out: self.arch.n_vocab as i32,
            ..self.product(&self.output, input, Epilogue::Store)
        };
        self.launch_product(stream, &self.output, &args)
    }
}
