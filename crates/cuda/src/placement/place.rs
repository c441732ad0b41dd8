//! Where does each tensor go in the region of weights, and what is copied there?
//!
//! Placing reads no weight: it gives the region's size, so that a model which does not fit is refused before anything is allocated, and
//! the list of [`Part`]s that the loader copies and repacks. Offsets are bytes into the region.

use model::Model;
use model::architecture::Heads;
use model::weights::{Layer, PerLayer};
use quant::Format;

use crate::memory::layout::tile_bytes;
use crate::placement::apart;

mod check;
mod ffn;
mod latent;
mod mixer;
mod placer;
#[cfg(test)]
mod tests;
mod unsupported;

pub(crate) use ffn::{ExpertsPlace, FfnPlace, RouterPlace, SharedPlace};
pub(crate) use latent::{LatentPlace, QueryRowPlace};
pub(crate) use mixer::{AttentionPlace, DeltaRulePlace, MixerPlace, ShortConvPlace};
use placer::{ALIGN, Placer};
pub(crate) use placer::{FloatMap, HeadShape, NormPlace, Order, Part, Tiles};
pub use unsupported::Unsupported;

/// One layer.
#[derive(Clone, Debug)]
pub(crate) struct LayerPlace {
    /// None where attention reads the residual stream itself.
    pub(crate) attn_norm: Option<NormPlace>,
    pub(crate) mixer: MixerPlace,
    /// Of the mixer.
    pub(crate) attn_output: Tiles,
    pub(crate) attn_post_norm: Option<NormPlace>,
    /// None where the feed-forward reads the residual stream itself.
    pub(crate) ffn_norm: Option<NormPlace>,
    pub(crate) ffn: FfnPlace,
    pub(crate) ffn_post_norm: Option<NormPlace>,
    /// What the layer adds of the token itself.
    pub(crate) per_layer: Option<PerLayerPlace>,
    /// What the residual stream is multiplied by after the layer.
    pub(crate) scale: Option<f32>,
}

/// What a layer makes of its input of the token itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PerLayerPlace {
    pub(crate) gate: Tiles,
    pub(crate) output: Tiles,
    pub(crate) norm: NormPlace,
}

/// What those inputs are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PerLayerInputsPlace {
    pub(crate) token_embd: Tiles,
    pub(crate) model: Tiles,
    pub(crate) norm: u64,
}

/// All of a model.
pub(crate) struct Placement<'m> {
    pub(crate) token_embd: Tiles,
    /// `[n_ctx_train, n_embd]` float32.
    pub(crate) positions: Option<u64>,
    pub(crate) per_layer: Option<PerLayerInputsPlace>,
    pub(crate) layers: Vec<LayerPlace>,
    pub(crate) output_norm: NormPlace,
    pub(crate) output: Tiles,
    /// Bytes of the region.
    pub(crate) n_bytes: u64,
    pub(crate) parts: Vec<Part<'m>>,
    /// All vectors, one after the other, and where they go.
    pub(crate) vectors: Vec<f32>,
    pub(crate) vectors_at: u64,
    /// The points of the grids that repacking looks up, each as a float32.
    pub(crate) grids: Vec<(Format, u64)>,
}

/// Places a model's tensors.
///
/// # Errors
/// What the kernels cannot compute, by name.
pub(crate) fn place(model: &Model) -> Result<Placement<'_>, Unsupported> {
    check::architecture(&model.architecture)?;
    check::weights(model)?;
    let weights = &model.weights;
    let mut placer = Placer {
        n_bytes: 0,
        parts: Vec::new(),
        vectors: Vec::new(),
        grids: Vec::new(),
        heads: HeadShape::of(&model.architecture),
        heads_apart: apart::heads(&model.architecture),
    };
    let token_embd = placer.matrix(&weights.token_embd, Order::Plain);
    let output = if weights.output.weight.name == weights.token_embd.name {
        Tiles { bias: placer.bias(weights.output.bias.as_deref(), token_embd.n_tile), ..token_embd }
    } else {
        placer.linear(&weights.output, Order::Plain)
    };
    let positions = match &weights.position_embd {
        Some(table) => Some(placer.floats(table)?),
        None => None,
    };
    let per_layer = weights.per_layer.as_ref().map(|inputs| PerLayerInputsPlace {
        token_embd: placer.matrix(&inputs.token_embd, Order::Plain),
        model: placer.linear(&inputs.model, Order::Plain),
        norm: placer.vector(inputs.norm.iter().copied()),
    });
    let layers = weights.layers.iter().enumerate();
    let layers = layers
        .map(|(n, layer)| placer.layer(layer, model.architecture.heads(n)))
        .collect::<Result<Vec<_>, _>>()?;
    let output_norm = placer.norm(&weights.output_norm);
    let Placer { n_bytes, parts, vectors, grids, .. } = placer;
    // Kernels for four tiles read up to three past a matrix's end, which must still be the region's.
    let widest = layers
        .iter()
        .map(LayerPlace::widest_tile)
        .chain([tile_of(&token_embd), tile_of(&output)])
        .chain(per_layer.iter().flat_map(|inputs| [tile_of(&inputs.token_embd), tile_of(&inputs.model)]))
        .max()
        .unwrap_or(0);
    let vectors_at = n_bytes.next_multiple_of(ALIGN);
    let n_bytes = vectors_at + (4 * vectors.len() as u64).max(3 * widest);
    let shift = |at: &mut u64| *at += vectors_at;
    let mut placement = Placement {
        token_embd,
        positions,
        per_layer,
        layers,
        output_norm,
        output,
        n_bytes,
        parts,
        vectors,
        vectors_at,
        grids,
    };
    placement.each_vector(shift);
    Ok(placement)
}

fn tile_of(tiles: &Tiles) -> u64 {
    tile_bytes(tiles.format, tiles.n_in) as u64
}

impl LayerPlace {
    fn tiles(&mut self) -> Vec<&mut Tiles> {
        let mut all = self.mixer.tiles();
        all.push(&mut self.attn_output);
        all.extend(self.ffn.tiles());
        all.extend(self.per_layer.iter_mut().flat_map(|place| [&mut place.gate, &mut place.output]));
        all
    }

    fn widest_tile(&self) -> u64 {
        self.clone().tiles().iter().map(|tiles| tile_of(tiles)).max().unwrap_or(0)
    }
}

impl Placement<'_> {
    /// Every offset of a vector.
    fn each_vector(&mut self, mut visit: impl FnMut(&mut u64)) {
        let norm = |n: &mut NormPlace, visit: &mut dyn FnMut(&mut u64)| {
            visit(&mut n.weight);
            n.bias.iter_mut().for_each(visit);
        };
        self.positions.iter_mut().for_each(&mut visit);
        self.grids.iter_mut().for_each(|(_, at)| visit(at));
        self.output.bias.iter_mut().for_each(&mut visit);
        if let Some(inputs) = &mut self.per_layer {
            visit(&mut inputs.norm);
            inputs.model.bias.iter_mut().for_each(&mut visit);
        }
        norm(&mut self.output_norm, &mut visit);
        for layer in &mut self.layers {
            let norms = [
                &mut layer.attn_norm,
                &mut layer.attn_post_norm,
                &mut layer.ffn_norm,
                &mut layer.ffn_post_norm,
            ];
            let of_input = layer.per_layer.iter_mut().map(|place| &mut place.norm);
            norms.into_iter().flatten().chain(of_input).for_each(|place| norm(place, &mut visit));
            layer.mixer.vectors().into_iter().for_each(&mut visit);
            layer.tiles().into_iter().flat_map(|tiles| &mut tiles.bias).for_each(&mut visit);
            layer.ffn.vectors().into_iter().for_each(&mut visit);
        }
    }
}

impl<'m> Placer<'m> {
    fn layer(&mut self, layer: &'m Layer, heads: Option<Heads>) -> Result<LayerPlace, Unsupported> {
        let head_dim = heads.map_or(0, |heads| heads.head_dim);
        let (mixer, output) = self.mixer(&layer.mixer, head_dim)?;
        Ok(LayerPlace {
            attn_norm: self.maybe_norm(layer.attn_norm.as_ref()),
            mixer,
            attn_output: output,
            attn_post_norm: self.maybe_norm(layer.attn_post_norm.as_ref()),
            ffn_norm: self.maybe_norm(layer.ffn_norm.as_ref()),
            ffn_post_norm: self.maybe_norm(layer.ffn_post_norm.as_ref()),
            per_layer: layer.per_layer.as_ref().map(|PerLayer { gate, output, norm }| PerLayerPlace {
                gate: self.linear(gate, Order::Plain),
                output: self.linear(output, Order::Plain),
                norm: self.norm(norm),
            }),
            scale: layer.scale,
            ffn: self.ffn(&layer.ffn)?,
        })
    }
}
