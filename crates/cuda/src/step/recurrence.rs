//! Recurrent layers and gates, for generated rows and for prompts alike: what follows their products.

use model::architecture::{Conv, DeltaRule, Mixer};

use crate::args::ActOut;
use crate::driver::{DevicePtr, Stream};
use crate::error::CudaError;
use crate::launch::recurrence::{self, ConvArgs, DeltaArgs, DeltaFewArgs, GateArgs, GateHalvesArgs};
use crate::placement::place::{DeltaRulePlace, ShortConvPlace};
use crate::step::buffers::{Input, MixerBuffers};
use crate::step::network::Network;

/// Rows of a step and where they belong.
#[derive(Clone, Copy)]
pub(crate) struct StepRows {
    pub(crate) buffers: MixerBuffers,
    /// `[n_row]` of [`crate::args::Row`].
    pub(crate) rows: DevicePtr,
    pub(crate) n_row: usize,
    /// Whether a sequence has few of them, as generated rows are.
    pub(crate) are_few: bool,
}

impl Network {
    /// A layer's delta rule; it has one, as its weights do.
    pub(crate) fn delta_rule_of(&self, layer: usize) -> DeltaRule {
        match self.arch.mixers[layer] {
            Mixer::DeltaRule(rule) => rule,
            _ => unreachable!("layer {layer} has a delta rule"),
        }
    }

    /// From what the product of queries, keys and values left in `inputs` to `wide`; and, from the same normalised rows `x` in float32, how much each
    /// head forgets and writes.
    pub(crate) fn prepare_delta_rule(
        &self,
        stream: &Stream,
        (layer, place, x): (usize, &DeltaRulePlace, Input),
        step: StepRows,
    ) -> Result<(), CudaError> {
        let (buffers, conv) = (step.buffers, self.delta_rule_of(layer).conv());
        let maps = [(&place.alpha, buffers.alpha), (&place.beta, buffers.beta)];
        self.launch_maps(stream, maps, (x, step.n_row))?;
        let args = ConvArgs { out: buffers.wide, ..self.conv(layer, (conv, place.taps), step) };
        self.convolve(stream, &args, step)
    }

    /// From there to `mixed`, gates included.
    pub(crate) fn delta_rule(
        &self,
        stream: &Stream,
        (layer, place): (usize, &DeltaRulePlace),
        step: StepRows,
    ) -> Result<(), CudaError> {
        let args = self.delta_args((layer, place), step);
        let launches = recurrence::delta_rule(self.delta_rule_of(layer).head_dim, &args);
        launches.iter().try_for_each(|launch| self.kernels.launch(stream, launch, &args))
    }

    /// Likewise for few rows a sequence, to activations.
    pub(crate) fn delta_few(
        &self,
        stream: &Stream,
        (layer, place): (usize, &DeltaRulePlace),
        (step, act): (StepRows, ActOut),
    ) -> Result<(), CudaError> {
        let args = DeltaFewArgs { delta: self.delta_args((layer, place), step), act };
        let launch = recurrence::delta_few(self.delta_rule_of(layer).head_dim, &args);
        self.kernels.launch(stream, &launch, &args)
    }

    fn delta_args(&self, (layer, place): (usize, &DeltaRulePlace), step: StepRows) -> DeltaArgs {
        let rule = self.delta_rule_of(layer);
        let (state, stride) = self.states.of(&self.arch, layer);
        let buffers = step.buffers;
        DeltaArgs {
            qkv: buffers.wide,
            gate: buffers.gate,
            alpha: buffers.alpha,
            beta: buffers.beta,
            a: self.at(place.a),
            dt: self.at(place.dt),
            norm: self.at(place.norm),
            out: buffers.mixed,
            state: state.offset(4 * rule.conv().n_state() as u64),
            rows: step.rows,
            stride,
            n_row: step.n_row as i32,
            n_k_head: rule.n_k_head as i32,
            n_v_head: rule.n_v_head as i32,
            eps: self.arch.norm.eps,
        }
    }

    /// The gated inputs of a short convolution, from what its product left in `wide` to `inputs`.
    pub(crate) fn prepare_short_conv(&self, stream: &Stream, step: StepRows) -> Result<(), CudaError> {
        let (n, buffers) = (self.arch.n_embd, step.buffers);
        let args = GateArgs {
            x: buffers.wide,
            gate: buffers.wide.offset(8 * n as u64),
            out: buffers.inputs,
            n: n as i32,
            ld: 3 * n as i32,
            ..GateArgs::default()
        };
        self.kernels.launch(stream, &recurrence::gate(step.n_row), &args)
    }

    /// From there to `mixed`, the second gate included.
    pub(crate) fn short_conv(
        &self,
        stream: &Stream,
        (layer, place): (usize, &ShortConvPlace),
        step: StepRows,
    ) -> Result<(), CudaError> {
        let Mixer::ShortConv(conv) = self.arch.mixers[layer] else {
            unreachable!("layer {layer} has a short convolution")
        };
        let n = self.arch.n_embd;
        let args = ConvArgs {
            out: step.buffers.mixed,
            factor: step.buffers.wide.offset(4 * n as u64),
            ld: 3 * n as i32,
            ..self.conv(layer, (conv, place.taps), step)
        };
        self.convolve(stream, &args, step)
    }

    /// `x *= sigmoid(gate)`, both `[n_row, n]`.
    pub(crate) fn open_gates(
        &self,
        stream: &Stream,
        [x, gate]: [DevicePtr; 2],
        [n_row, n]: [usize; 2],
    ) -> Result<(), CudaError> {
        let args = GateArgs { x, gate, out: x, n: n as i32, ld: n as i32, is_sigmoid: 1, reserved: 0 };
        self.kernels.launch(stream, &recurrence::gate(n_row), &args)
    }

    /// The same of `n_term` terms of float16, `[n_row, n_term, n]`.
    pub(crate) fn open_gates_of_halves(
        &self,
        stream: &Stream,
        [x, gate]: [DevicePtr; 2],
        [n_row, n_term, n]: [usize; 3],
    ) -> Result<(), CudaError> {
        let args = GateHalvesArgs { x, gate, n: n as i32, n_term: n_term as i32 };
        self.kernels.launch(stream, &recurrence::gate_halves(n_row), &args)
    }

    /// A convolution of `inputs`; where the results go is for the caller to say.
    fn conv(&self, layer: usize, (conv, taps): (Conv, u64), step: StepRows) -> ConvArgs {
        let (state, stride) = self.states.of(&self.arch, layer);
        ConvArgs {
            x: step.buffers.inputs,
            taps: self.at(taps),
            state,
            rows: step.rows,
            stride,
            n_row: step.n_row as i32,
            n_channel: conv.n_channel as i32,
            n_tap: conv.n_tap as i32,
            ..ConvArgs::default()
        }
    }

    fn convolve(&self, stream: &Stream, args: &ConvArgs, step: StepRows) -> Result<(), CudaError> {
        let launches = recurrence::convolve(args, step.are_few);
        launches.iter().try_for_each(|launch| self.kernels.launch(stream, launch, args))
    }
}
