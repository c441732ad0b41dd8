//! What did each stage leave behind, and how long did it take? For comparing executors, stage by stage; a run that nobody watches pays nothing.

use std::sync::Arc;

use device::StageTime;
use model::stage::Stage;

use crate::driver::{Device, DevicePtr, Event, EventKind, GraphExec, Stream};
use crate::error::CudaError;
use crate::step::buffers::Act;

/// Rows of a stage's result on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    at: DevicePtr,
    n_row: usize,
    n_value: usize,
    /// Values from one row to the next.
    stride: usize,
    form: Form,
    /// Whether each 16 values are in the order of prompt_packed.cuh.
    even_then_odd: bool,
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
        Rows { at, n_row, n_value, stride: n_value, form: Form::Float, even_then_odd: false }
    }

    /// `[n_row, n_term, n_value]` float16 terms of what was divided by `scale`.
    pub(crate) fn half(at: DevicePtr, [n_row, n_term, n_value]: [usize; 3], scale: f32) -> Rows {
        Rows { stride: n_term * n_value, form: Form::Half(n_term, scale), ..Rows::float(at, n_row, n_value) }
    }

    /// The same, whose values lie in the order of prompt_packed.cuh if `is_so`.
    pub(crate) fn even_then_odd(self, is_so: bool) -> Rows {
        Rows { even_then_odd: is_so, ..self }
    }

    /// The float form of activations.
    pub(crate) fn act(act: &Act, n_row: usize) -> Rows {
        let (at, stride) = act.floats();
        Rows { stride, ..Rows::float(at, n_row, act.width) }
    }

    fn read(&self, stream: &Stream) -> Result<Vec<f32>, CudaError> {
        let n = self.n_row * self.stride;
        let mut values = match self.form {
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
        if self.even_then_odd {
            for sixteen in values.chunks_exact_mut(16) {
                let stored: [f32; 16] = std::array::from_fn(|i| sixteen[i]);
                sixteen.iter_mut().enumerate().for_each(|(i, value)| *value = stored[i % 2 * 8 + i / 2]);
            }
        }
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

/// Who watches a step.
pub(crate) enum Watcher<'a> {
    /// Someone who wants what stages leave behind.
    Values(Watch<'a>),
    /// Someone who wants to know how long they take.
    Times(&'a mut Marks),
}

/// Marks in a stream, each behind what a stage queued, and before the first of them one where they begin.
pub(crate) struct Marks {
    device: Arc<Device>,
    marks: Vec<(&'static str, Event)>,
    /// The graph that reaches them, if it is one.
    pub(crate) graph: Option<GraphExec>,
}

impl Marks {
    pub(crate) fn new(device: &Arc<Device>) -> Marks {
        Marks { device: Arc::clone(device), marks: Vec::new(), graph: None }
    }

    /// Puts one behind all that was queued, in a stream that is captured if `is_captured`.
    pub(crate) fn put(
        &mut self,
        name: &'static str,
        stream: &Stream,
        is_captured: bool,
    ) -> Result<(), CudaError> {
        let event = Event::new(&self.device, EventKind::Timing)?;
        if is_captured {
            event.record_in_graph(stream)?;
        } else {
            event.record(stream)?;
        }
        self.marks.push((name, event));
        Ok(())
    }

    /// The times between them, once all are reached.
    pub(crate) fn times(&self) -> Result<Vec<StageTime>, CudaError> {
        let mut times = Vec::new();
        for pair in self.marks.windows(2) {
            StageTime::add(&mut times, pair[1].0, pair[1].1.elapsed_since(&pair[0].1)?);
        }
        Ok(times)
    }
}

/// Shows stages to whoever watches.
pub(crate) struct Observer<'a> {
    watch: Option<(Watch<'a>, &'a Stream)>,
    marks: Option<(&'a mut Marks, &'a Stream, bool)>,
}

impl<'a> Observer<'a> {
    pub(crate) fn nobody() -> Observer<'a> {
        Observer { watch: None, marks: None }
    }

    pub(crate) fn watching(watch: Watch<'a>, stream: &'a Stream) -> Observer<'a> {
        Observer { watch: Some((watch, stream)), marks: None }
    }

    /// Takes times from here on, in a stream that is captured if `is_captured`.
    pub(crate) fn timing(
        marks: &'a mut Marks,
        stream: &'a Stream,
        is_captured: bool,
    ) -> Result<Observer<'a>, CudaError> {
        marks.put("", stream, is_captured)?;
        Ok(Observer { watch: None, marks: Some((marks, stream, is_captured)) })
    }

    /// Whether stages must leave behind what nothing else reads.
    pub(crate) fn is_watching(&self) -> bool {
        self.watch.is_some()
    }

    pub(crate) fn see(&mut self, stage: Stage, layer: usize, rows: Rows) -> Result<(), CudaError> {
        if let Some((watch, stream)) = &mut self.watch {
            watch(stage, layer, &rows.read(stream)?);
        }
        self.mark(stage.name())
    }

    /// Where the part of this name ends, for whoever takes times.
    pub(crate) fn mark(&mut self, name: &'static str) -> Result<(), CudaError> {
        match &mut self.marks {
            Some((marks, stream, is_captured)) => marks.put(name, stream, *is_captured),
            None => Ok(()),
        }
    }

    /// What experts leave in their hidden rows, where row `i` belongs at `order[i]`, and after them those of the expert that all rows use.
    pub(crate) fn see_experts(
        &mut self,
        layer: usize,
        (rows, order): (Rows, Option<DevicePtr>),
        shared: Option<Rows>,
    ) -> Result<(), CudaError> {
        let Some((watch, stream)) = &mut self.watch else { return self.mark(Stage::FfnIn.name()) };
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
