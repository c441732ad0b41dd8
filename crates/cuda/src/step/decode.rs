//! Generated rows: one row a sequence through all layers, up to the logits.
//!
//! Every launch here is captured in a graph: what changes from step to step is read from device memory.

use model::architecture::FeedForwardKind;
use model::stage::Stage;

use crate::args::{ActOut, Epilogue, NormArgs, PairArgs, PlaceArgs, ProductArgs};
use crate::driver::{DevicePtr, Stream};
use crate::error::CudaError;
use crate::launch::attend;
use crate::placement::apart;
use crate::placement::heads;
use crate::placement::place::{
    AttentionPlace, ExpertsPlace, FfnPlace, LayerPlace, MixerPlace, NormPlace, Tiles,
};
use crate::step::buffers::{Act, Forms, Input};
use crate::step::network::Network;
use crate::step::observe::{Observer, Rows};

mod experts;
mod latent;
mod recurrent;

/// The shape of a step's generated rows: everything a captured graph depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Rows, padding included: the columns of the products.
    pub(crate) n_row: usize,
    /// A bound on the positions of all rows.
    pub(crate) n_position: usize,
    /// Whether attention may place heads: no two rows are of one sequence, so that none reads another's keys and values. Always false where no layer
    /// can, so that one graph does for both.
    pub(crate) may_place: bool,
}

impl Shape {
    /// The bucket for this many rows of sequences up to this long. A product takes 8 columns as one, and below that 4, 2 and 1 are cheaper.
    pub(crate) fn bucket(n_row: usize, n_position: usize, n_ctx: usize, may_place: bool) -> Shape {
        Shape {
            may_place,
            n_row: if n_row > 8 { n_row.next_multiple_of(8) } else { n_row.next_power_of_two() },
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
        self.per_layer_inputs(observer)?;
        self.head_tables()?;
        observer.see(Stage::Embed, 0, x)?;
        let mut left = None;
        for n in 0..network.layers.len() {
            left = self.layer(n, left, observer)?;
        }
        let act = self.act(&buffers.normed, [&network.output], observer);
        let input = self.normed(Some(network.output_norm), act, left)?;
        network.launch_product(self.stream, &network.output, &network.logits(input))?;
        network.finish_logits(self.stream, network.buffers.shared.logits, self.shape.n_row)
    }

    /// Which forms an activation is written in; float32 as well where a stage is observed.
    fn act<'t>(
        &self,
        act: &Act,
        readers: impl IntoIterator<Item = &'t Tiles>,
        observer: &Observer<'_>,
    ) -> ActOut {
        let read = self.network.forms(readers);
        act.of(self.shape.n_row, Forms { floats: read.floats || observer.is_watching(), ..read })
    }

    /// A norm's result: what was left for it, or a kernel's.
    fn normed(&self, norm: Option<NormPlace>, act: ActOut, left: Option<Input>) -> Result<Input, CudaError> {
        if let Some(normed) = left {
            return Ok(normed);
        }
        let network = self.network;
        let norm = NormArgs { act, ..network.norm(norm, network.buffers.decode.x) };
        network.launch_norm_few(self.stream, self.shape.n_row, &norm)?;
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

    /// The layers' inputs of the token itself, where they have any.
    fn per_layer_inputs(&self, observer: &Observer<'_>) -> Result<(), CudaError> {
        let (network, n_row) = (self.network, self.shape.n_row);
        let buffers = &network.buffers.decode;
        let (Some(place), Some(rows)) = (&network.per_layer, buffers.per_layer) else { return Ok(()) };
        network.embed_per_layer(self.stream, (place, rows), (buffers.rows, self.last), n_row)?;
        let act = self.act(&buffers.normed, [&place.model], observer);
        self.round((buffers.x, network.arch.n_embd), act)?;
        self.store(&place.model, act.into(), (rows.product, place.model.n_row))?;
        network.per_layer_inputs(self.stream, (place, rows), n_row)
    }

    /// What a layer adds of its input.
    fn per_layer(&self, n: usize, layer: &LayerPlace, observer: &Observer<'_>) -> Result<(), CudaError> {
        let (network, buffers) = (self.network, &self.network.buffers.decode);
        let (Some(place), Some(rows)) = (&layer.per_layer, buffers.per_layer) else { return Ok(()) };
        let width = place.gate.n_row;
        let act = self.act(&buffers.normed, [&place.gate], observer);
        self.round((buffers.x, network.arch.n_embd), act)?;
        self.store(&place.gate, act.into(), (rows.product, width))?;
        network.per_layer_gate(self.stream, (n, rows), [self.shape.n_row, width])?;
        let act = self.act(&buffers.normed.narrow(width), [&place.output], observer);
        self.round((rows.product, width), act)?;
        self.add(&place.output, act, (Some(place.norm), None)).map(|_| ())
    }

    fn mixer_act(&self, layer: &LayerPlace, observer: &Observer<'_>) -> ActOut {
        let normed = &self.network.buffers.decode.normed;
        let read = self.network.forms(layer.mixer.readers());
        let floats = read.floats || layer.mixer.reads_floats() || observer.is_watching();
        normed.of(self.shape.n_row, Forms { floats, ..read })
    }

    /// The norm after a layer, of the next one or the head, and where its result goes.
    fn after(&self, n: usize, observer: &Observer<'_>) -> (Option<NormPlace>, ActOut) {
        let network = self.network;
        match network.layers.get(n + 1) {
            Some(next) => (next.attn_norm, self.mixer_act(next, observer)),
            None => {
                let act = self.act(&network.buffers.decode.normed, [&network.output], observer);
                (Some(network.output_norm), act)
            }
        }
    }

    /// One layer, from what was left for its first norm to what it leaves for the next layer's, or the head's.
    fn layer(
        &self,
        n: usize,
        before: Option<Input>,
        observer: &mut Observer<'_>,
    ) -> Result<Option<Input>, CudaError> {
        let network = self.network;
        let layer = &network.layers[n];
        let (arch, buffers) = (&network.arch, &network.buffers.decode);
        let n_row = self.shape.n_row;

        let normed = self.normed(layer.attn_norm, self.mixer_act(layer, observer), before)?;
        let mixed_rows = buffers.attended.narrow(layer.attn_output.n_in);
        let mixed = self.act(&mixed_rows, [&layer.attn_output], observer);
        match &layer.mixer {
            MixerPlace::Attention(place) => self.attention((n, place), (normed, mixed), observer)?,
            MixerPlace::Latent(place) => self.latent((n, place), (normed, mixed), observer)?,
            MixerPlace::ShortConv(place) => self.short_conv((n, place), (normed, mixed), observer)?,
            MixerPlace::DeltaRule(place) => self.delta_rule((n, place), (normed, mixed), observer)?,
        }
        observer.see(Stage::Attend, n, Rows::act(&mixed_rows, n_row))?;

        let normed = self.ffn_act(layer, observer);
        let next = layer.ffn_norm.map(|norm| (norm, normed));
        let left = self.add(&layer.attn_output, mixed, (layer.attn_post_norm, next))?;
        let x = Rows::float(buffers.x, n_row, arch.n_embd);
        observer.see(Stage::AttnOut, n, x)?;

        let normed = self.normed(layer.ffn_norm, normed, left)?;
        let next = self.after(n, observer);
        let left = match &layer.ffn {
            FfnPlace::Dense { input, down } => {
                let next = next.0.map(|norm| (norm, next.1));
                self.dense(n, (normed, (layer.ffn_post_norm, next)), (input, down), observer)?
            }
            FfnPlace::Experts(place) => self.experts(n, (normed, next), place, observer)?,
        };
        self.per_layer(n, layer, observer)?;
        network.scale_layer(self.stream, n, (buffers.x, n_row))?;
        observer.see(Stage::FfnOut, n, x)?;
        Ok(left)
    }

    fn attention(
        &self,
        (n, place): (usize, &AttentionPlace),
        (normed, out): (Input, ActOut),
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        let (network, buffers) = (self.network, &self.network.buffers.decode);
        let placing = match buffers.qkv {
            Some(qkv) => {
                let is_better = self.attention_places(n, place) && !observer.is_watching();
                self.heads_apart((n, place), (normed, qkv), is_better)?
            }
            None => self.heads((n, place), normed).map(|()| None)?,
        };
        let n_q = network.heads_of(n).n_q();
        observer.see(Stage::Qkv, n, Rows::float(buffers.q, self.shape.n_row, n_q))?;
        self.attend((n, place), (out, placing))
    }

    /// A product's results as they are, `ld` values a row.
    fn store(&self, tiles: &Tiles, normed: Input, (out, ld): (DevicePtr, usize)) -> Result<(), CudaError> {
        let args =
            ProductArgs { out, ld_out: ld as i32, ..self.network.product(tiles, normed, Epilogue::Store) };
        self.network.launch_product(self.stream, tiles, &args)
    }

    /// Queries, keys and values, turned and put where they belong by the products themselves.
    fn heads(&self, (n, place): (usize, &AttentionPlace), normed: Input) -> Result<(), CudaError> {
        let network = self.network;
        let heads = network.heads_of(n);
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
            page_tables: network.page_tables_of(n),
            fresh: network.fresh(),
            ..network.product(tiles, normed, Epilogue::Qkv)
        };
        self.products(place, product)
    }

    /// Queries, keys and values by products from `args(first row, matrix)`: as one launch, where there are two and there is a kernel for
    /// both.
    fn products(
        &self,
        place: &AttentionPlace,
        args: impl Fn(usize, &Tiles) -> ProductArgs,
    ) -> Result<(), CudaError> {
        let network = self.network;
        let products: Vec<_> = place.qkv.runs.iter().map(|(row, tiles)| (tiles, args(*row, tiles))).collect();
        if let [(a, first), (b, second)] = products[..]
            && network.launch_pair(self.stream, [a, b], &PairArgs { first, second })?
        {
            return Ok(());
        }
        products.iter().try_for_each(|(tiles, args)| network.launch_product(self.stream, tiles, args))
    }

    /// Likewise where kernels of their own normalise, turn and place them. If `attention_places`, launches no such kernel and returns the
    /// arguments that attention needs.
    fn heads_apart(
        &self,
        (n, place): (usize, &AttentionPlace),
        (normed, qkv): (Input, DevicePtr),
        attention_places: bool,
    ) -> Result<Option<PlaceArgs>, CudaError> {
        let network = self.network;
        let buffers = &network.buffers.decode;
        if let (Some(gate), Some(rows)) = (&place.gate, buffers.mixer) {
            self.store(gate, normed, (rows.gate, gate.n_row))?;
        }
        self.products(place, |first_row, tiles| ProductArgs {
            out: qkv,
            ld_out: heads::n_qkv(network.heads_of(n)) as i32,
            first_row: first_row as i32,
            ..network.product(tiles, normed, Epilogue::Store)
        })?;
        let n_row = self.shape.n_row;
        network.normalise_rows(self.stream, n, (qkv, n_row))?;
        let args = PlaceArgs {
            q_floats: buffers.q,
            fresh: network.fresh(),
            ..network.placing(n, qkv, buffers.rows)
        };
        if attention_places {
            return Ok(Some(network.normalising(n, &args)));
        }
        network.place_heads(self.stream, n, (&args, n_row)).map(|()| None)
    }

    fn ffn_act(&self, layer: &LayerPlace, observer: &Observer<'_>) -> ActOut {
        let normed = &self.network.buffers.decode.normed;
        match &layer.ffn {
            FfnPlace::Dense { input, .. } => self.act(normed, [input], observer),
            // The router reads floats.
            FfnPlace::Experts(place) => {
                let ExpertsPlace { input, shared, .. } = &**place;
                let readers = shared.iter().map(|shared| &shared.input).chain([input]);
                normed.of(self.shape.n_row, Forms { floats: true, ..self.network.forms(readers) })
            }
        }
    }

    /// Whether attention places a layer's heads itself. Where multiprocessors have several blocks, each of which places its queries anew, that
    /// takes no less time than a kernel of its own.
    fn attention_places(&self, n: usize, place: &AttentionPlace) -> bool {
        let n_sm = self.network.kernels.device().n_sm() as usize;
        let bounds = [self.shape.n_row, self.shape.n_position];
        self.shape.may_place
            && self.network.attention_can_place(n)
            && attend::has_few_blocks(bounds, n_sm, &self.attend_args((n, place)))
    }

    /// What attention of a layer reads; where it writes is for the caller to say.
    fn attend_args(&self, (n, place): (usize, &AttentionPlace)) -> attend::AttendDecodeArgs {
        let network = self.network;
        let (heads, buffers) = (network.heads_of(n), &network.buffers.decode);
        let (k_cache, v_cache) = network.kv(n);
        attend::AttendDecodeArgs {
            q: buffers.q,
            k_cache,
            v_cache,
            rows: buffers.rows,
            page_tables: network.page_tables_of(n),
            part: buffers.attend_parts,
            counters: buffers.attend_counters,
            sinks: network.at_maybe(place.sinks),
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
            ..attend::AttendDecodeArgs::default()
        }
    }

    fn attend(
        &self,
        (n, place): (usize, &AttentionPlace),
        (out, placing): (ActOut, Option<PlaceArgs>),
    ) -> Result<(), CudaError> {
        let network = self.network;
        let (heads, buffers) = (network.heads_of(n), &network.buffers.decode);
        if let Some(qkv) = buffers.qkv.filter(|_| apart::attention(&network.arch)) {
            let n_row = self.shape.n_row;
            let rows = (qkv, buffers.q, buffers.rows);
            network.attend_rows(self.stream, n, rows, (n_row, Some(self.shape.n_position)))?;
            return self.open((buffers.q, heads.n_q()), place, out);
        }
        // A gate multiplies floats, which are rounded then.
        let floats = buffers.mixer.filter(|_| place.gate.is_some()).map(|rows| rows.mixed);
        let attended = floats.map_or(out, |f| ActOut {
            f,
            n_col: self.shape.n_row as i32,
            k_pad: heads.n_q() as i32,
            ..ActOut::default()
        });
        let args = attend::AttendDecodeArgs { out: attended, ..self.attend_args((n, place)) };
        let n_sm = network.kernels.device().n_sm() as usize;
        let bounds = [self.shape.n_row, self.shape.n_position];
        if let Some(place) = placing {
            let launch = attend::placed_launch(heads.head_dim, bounds, n_sm, &args);
            network.kernels.launch(
                self.stream,
                &launch,
                &attend::AttendPlacedArgs { attend: args, place },
            )?;
        } else {
            let launch = attend::decode_launch(heads.head_dim, bounds, n_sm, &args);
            network.kernels.launch(self.stream, &launch, &args)?;
        }
        floats.map_or(Ok(()), |rows| self.open((rows, heads.n_q()), place, out))
    }

    /// Rows of what attention found, times the gate where there is one, as the next product reads them.
    fn open(
        &self,
        (rows, n_q): (DevicePtr, usize),
        place: &AttentionPlace,
        out: ActOut,
    ) -> Result<(), CudaError> {
        let buffers = &self.network.buffers.decode;
        if let Some(mixer) = buffers.mixer.filter(|_| place.gate.is_some()) {
            self.network.open_gates(self.stream, [rows, mixer.gate], [self.shape.n_row, n_q])?;
        }
        self.round((rows, n_q), out)
    }

    /// Rows of `n` values as the next product reads them.
    fn round(&self, (rows, n): (DevicePtr, usize), out: ActOut) -> Result<(), CudaError> {
        let args = NormArgs { act: out, ..Network::plain_rows(rows, n) };
        self.network.launch_norm_few(self.stream, self.shape.n_row, &args)
    }

    fn dense(
        &self,
        n: usize,
        (normed, next): (Input, (Option<NormPlace>, Next)),
        (input, down): (&Tiles, &Tiles),
        observer: &mut Observer<'_>,
    ) -> Result<Option<Input>, CudaError> {
        let buffers = &self.network.buffers.decode;
        let rows = buffers.hidden.narrow(down.n_in);
        let hidden = self.act(&rows, [down], observer);
        let args = ProductArgs { act: hidden, ..self.hidden_product(n, input, normed) };
        self.network.launch_product(self.stream, input, &args)?;
        observer.see(Stage::FfnIn, n, Rows::act(&rows, self.shape.n_row))?;
        self.add(down, hidden, next)
    }

    fn hidden_product(&self, n: usize, input: &Tiles, x: Input) -> ProductArgs {
        let (activation, alpha, limit) = self.network.activation(n);
        let is_plain = self.network.arch.feed_forward[n].kind == FeedForwardKind::Plain;
        let epilogue = if is_plain { Epilogue::Plain } else { Epilogue::Gated };
        ProductArgs { activation, alpha, limit, ..self.network.product(input, x, epilogue) }
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
        let input = shared.head_input.of(n_row, self.forms([&self.output]));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_pays_for_few_rows_that_it_has_not() {
        let rows = |n_row| Shape::bucket(n_row, 1, 4096, true).n_row;
        let counts = [1, 2, 3, 5, 8, 9, 17, 33, 64, 65, 128];
        assert_eq!(counts.map(rows), [1, 2, 4, 8, 8, 16, 24, 40, 64, 72, 128]);
    }
}
