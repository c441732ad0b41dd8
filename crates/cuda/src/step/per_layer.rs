//! What layers add of the token itself, for generated rows and for prompts alike: what stands between the products.

use crate::driver::{DevicePtr, Stream};
use crate::error::CudaError;
use crate::launch::per_layer::{self, PerLayerGateArgs, PerLayerInputsArgs};
use crate::placement::place::PerLayerInputsPlace;
use crate::step::buffers::PerLayerBuffers;
use crate::step::network::{Network, Table};

impl Network {
    /// The embeddings of the tokens for each layer; see [`Network::embed`].
    pub(crate) fn embed_per_layer(
        &self,
        stream: &Stream,
        (place, buffers): (&PerLayerInputsPlace, PerLayerBuffers),
        (rows, last): (DevicePtr, DevicePtr),
        n_row: usize,
    ) -> Result<(), CudaError> {
        let n = place.token_embd.n_in;
        let scale = ((n / self.arch.n_layer) as f32).sqrt();
        let table = Table { tiles: &place.token_embd, positions: None, scale };
        self.embed_from(stream, table, (rows, last, buffers.inputs), [n_row, (n / 4).div_ceil(256)])
    }

    /// The layers' inputs, from those and from what a map has made of the model's own embeddings.
    pub(crate) fn per_layer_inputs(
        &self,
        stream: &Stream,
        (place, buffers): (&PerLayerInputsPlace, PerLayerBuffers),
        n_row: usize,
    ) -> Result<(), CudaError> {
        let n_layer = self.arch.n_layer;
        let args = PerLayerInputsArgs {
            inputs: buffers.inputs,
            model: buffers.product,
            norm: self.at(place.norm),
            n_layer: n_layer as i32,
            n: (place.token_embd.n_in / n_layer) as i32,
            scale: 1.0 / (self.arch.n_embd as f32).sqrt(),
            eps: self.arch.norm.eps,
        };
        self.kernels.launch(stream, &per_layer::inputs(n_row, n_layer), &args)
    }

    /// What a layer's product has left of `n` values a row, activated and times the layer's input.
    pub(crate) fn per_layer_gate(
        &self,
        stream: &Stream,
        (layer, buffers): (usize, PerLayerBuffers),
        [n_row, n]: [usize; 2],
    ) -> Result<(), CudaError> {
        let (activation, alpha, limit) = self.activation(layer);
        let args = PerLayerGateArgs {
            x: buffers.product,
            input: buffers.inputs.offset(4 * (layer * n) as u64),
            n: n as i32,
            ld: (n * self.arch.n_layer) as i32,
            activation,
            alpha,
            limit,
            reserved: 0,
        };
        self.kernels.launch(stream, &per_layer::gate(n_row), &args)
    }
}
