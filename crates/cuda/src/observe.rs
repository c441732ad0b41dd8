//! What did each stage leave behind? For comparing executors, stage by stage; a run that nobody watches pays nothing.

use model::stage::Stage;

use crate::buffers::Act;
use crate::driver::{DevicePtr, Stream};
use crate::error::CudaError;

/// Rows of a stage's result on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    at: DevicePtr,
    n_row: usize,
    n_value: usize,
    /// Values from one row to the next.
    stride: usize,
    form: Form,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Float,
    /// The sum of so many float16 terms, one after the other's row, times this.
    Half(usize, f32),
}

impl Rows {
    /// `[n_row, n_value]` float32.
    pub(crate) fn float(at: DevicePtr, n_row: usize, n_value: usize) -> Rows {
        Rows { at, n_row, n_value, stride: n_value, form: Form::Float }
    }

    /// `[n_row, n_term, n_value]` float16 terms of what was divided by `scale`.
    pub(crate) fn half(at: DevicePtr, [n_row, n_term, n_value]: [usize; 3], scale: f32) -> Rows {
        Rows { at, n_row, n_value, stride: n_term * n_value, form: Form::Half(n_term, scale) }
    }

    /// The float form of activations.
    pub(crate) fn act(act: &Act, n_row: usize) -> Rows {
        let (at, stride) = act.floats();
        Rows { at, n_row, n_value: act.width, stride, form: Form::Float }
    }

    fn read(&self, stream: &Stream) -> Result<Vec<f32>, CudaError> {
        let n = self.n_row * self.stride;
        let values = match self.form {
            Form::Float => fetch::<f32>(stream, self.at, n)?,
            Form::Half(n_term, scale) => {
                let halves = fetch::<quant::Half>(stream, self.at, n)?;
                let mut values: Vec<f32> = halves.into_iter().map(|half| half.to_f32() * scale).collect();
                for row in values.chunks_exact_mut(self.stride) {
                    let (first, rest) = row.split_at_mut(self.n_value);
                    for term in rest.chunks_exact(self.n_value).take(n_term - 1) {
                        first.iter_mut().zip(term).for_each(|(sum, term)| *sum += term);
                    }
                }
                values
            }
        };
        let rows = values.chunks_exact(self.stride);
        Ok(rows.flat_map(|row| &row[..self.n_value]).copied().collect())
    }
}

fn fetch<T: bytemuck::Pod>(stream: &Stream, at: DevicePtr, n: usize) -> Result<Vec<T>, CudaError> {
    let mut values = vec![T::zeroed(); n];
    stream.read(&mut values, at)?;
    Ok(values)
}

/// Called with what a stage left behind, `[n_row, _]`; `layer` is 0 outside the layers.
pub type Watch<'a> = &'a mut dyn FnMut(Stage, usize, &[f32]);

/// Shows stages to whoever watches.
pub(crate) struct Observer<'a> {
    watch: Option<(Watch<'a>, &'a Stream)>,
}

impl<'a> Observer<'a> {
    pub(crate) fn nobody() -> Observer<'a> {
        Observer { watch: None }
    }

    pub(crate) fn watching(watch: Watch<'a>, stream: &'a Stream) -> Observer<'a> {
        Observer { watch: Some((watch, stream)) }
    }

    pub(crate) fn is_watching(&self) -> bool {
        self.watch.is_some()
    }

    pub(crate) fn see(&mut self, stage: Stage, layer: usize, rows: Rows) -> Result<(), CudaError> {
        if let Some((watch, stream)) = &mut self.watch {
            watch(stage, layer, &rows.read(stream)?);
        }
        Ok(())
    }

    /// What experts leave in their hidden rows, where row `i` belongs at `order[i]`, and after them those of the expert that all rows use.
    pub(crate) fn see_experts(
        &mut self,
        layer: usize,
        (rows, order): (Rows, Option<DevicePtr>),
        shared: Option<Rows>,
    ) -> Result<(), CudaError> {
        let Some((watch, stream)) = &mut self.watch else { return Ok(()) };
        let mut found = rows.read(stream)?;
        if let Some(order) = order {
            let order = fetch::<i32>(stream, order, rows.n_row)?;
            let mut ordered = vec![0.0; found.len()];
            for (row, &to) in found.chunks_exact(rows.n_value).zip(&order) {
                ordered[to as usize * rows.n_value..][..rows.n_value].copy_from_slice(row);
            }
            found = ordered;
        }
        if let Some(shared) = shared {
            found.extend(shared.read(stream)?);
        }
        watch(Stage::FfnIn, layer, &found);
        Ok(())
    }
}
