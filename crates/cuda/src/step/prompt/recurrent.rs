//! Recurrent layers for prompt rows.

use model::stage::Stage;

use super::{Prompt, whole};
use crate::error::CudaError;
use crate::placement::place::{DeltaRulePlace, ShortConvPlace};
use crate::step::buffers::Input;
use crate::step::observe::{Observer, Rows};
use crate::step::recurrence::StepRows;

impl Prompt<'_> {
    fn step_rows(&self) -> StepRows {
        let buffers = &self.network.buffers.prompt;
        let mixer =
            buffers.mixer.unwrap_or_else(|| unreachable!("a model with recurrent layers has their buffers"));
        StepRows { buffers: mixer, rows: buffers.rows, n_row: self.n_row, are_few: false }
    }

    pub(super) fn short_conv(
        &self,
        (n, place): (usize, &ShortConvPlace),
        ((of_normed, of_mixed), [is_packed, is_output_packed]): ((usize, usize), [bool; 2]),
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        let (network, step) = (self.network, self.step_rows());
        let n_embd = network.arch.n_embd;
        self.store(whole(&place.input, of_normed).packed(is_packed), step.buffers.wide)?;
        network.prepare_short_conv(self.stream, step)?;
        observer.see(Stage::Qkv, n, Rows::float(step.buffers.inputs, step.n_row, n_embd))?;
        network.short_conv(self.stream, (n, place), step)?;
        let attended = network.buffers.prompt.attended;
        self.round((step.buffers.mixed, n_embd), (attended, of_mixed, is_output_packed))
    }

    /// `normed`: the rows that the products read, in float32.
    pub(super) fn delta_rule(
        &self,
        (n, place, normed): (usize, &DeltaRulePlace, Input),
        ((of_normed, of_mixed), [is_packed, is_output_packed]): ((usize, usize), [bool; 2]),
        observer: &mut Observer<'_>,
    ) -> Result<(), CudaError> {
        let (network, step) = (self.network, self.step_rows());
        let n_channel = place.qkv.n_row;
        self.store(whole(&place.qkv, of_normed).packed(is_packed), step.buffers.inputs)?;
        self.store(whole(&place.gate, of_normed).packed(is_packed), step.buffers.gate)?;
        network.prepare_delta_rule(self.stream, (n, place, normed), step)?;
        observer.see(Stage::Qkv, n, Rows::float(step.buffers.wide, step.n_row, n_channel))?;
        network.delta_rule(self.stream, (n, place), step)?;
        let attended = network.buffers.prompt.attended;
        self.round((step.buffers.mixed, place.gate.n_row), (attended, of_mixed, is_output_packed))
    }
}
