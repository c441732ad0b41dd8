//! Recurrent layers for generated rows.

use model::stage::Stage;

use super::Decode;
use crate::args::ActOut;
use crate::error::CudaError;
use crate::placement::place::{DeltaRulePlace, ShortConvPlace};
use crate::step::buffers::Input;
use crate::step::observe::{Observer, Rows};
use crate::step::recurrence::StepRows;

impl Decode<'_> {
    fn step_rows(&self) -> StepRows {
        let buffers = &self.network.buffers.decode;
        let mixer =
            buffers.mixer.unwrap_or_else(|| unreachable!("a model with recurrent layers has their buffers"));
        StepRows { buffers: mixer, rows: buffers.rows, n_row: self.shape.n_row, are_few: true }
    }

    pub(super) fn short_conv(
        &self,
        (n, place): (usize, &ShortConvPlace),
        (normed, out): (Input, ActOut),
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        let (network, step) = (self.network, self.step_rows());
        let n_embd = network.arch.n_embd;
        self.store(&place.input, normed, (step.buffers.wide, place.input.n_row))?;
        network.prepare_short_conv(self.stream, step)?;
        observer.see(Stage::Qkv, n, Rows::float(step.buffers.inputs, step.n_row, n_embd))?;
        network.short_conv(self.stream, (n, place), step)?;
        self.round((step.buffers.mixed, n_embd), out)
    }

    pub(super) fn delta_rule(
        &self,
        (n, place): (usize, &DeltaRulePlace),
        (normed, out): (Input, ActOut),
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        let (network, step) = (self.network, self.step_rows());
        let n_channel = place.qkv.n_row;
        self.store(&place.qkv, normed, (step.buffers.inputs, n_channel))?;
        self.store(&place.gate, normed, (step.buffers.gate, place.gate.n_row))?;
        network.prepare_delta_rule(self.stream, (n, place, normed), step)?;
        observer.see(Stage::Qkv, n, Rows::float(step.buffers.wide, step.n_row, n_channel))?;
        // In one kernel a multiprocessor has room for one block, a head of a sequence; where there are many, memory wants more of them at once.
        let n_block = step.n_row * network.delta_rule_of(n).n_v_head;
        if n_block <= 4 * network.kernels.device().n_sm() as usize {
            return network.delta_few(self.stream, (n, place), (step, out));
        }
        network.delta_rule(self.stream, (n, place), step)?;
        self.round((step.buffers.mixed, place.gate.n_row), out)
    }
}
