//! What sequences keep beside the KV cache: of each layer whose mixer is a recurrence the convolution's last inputs and the matrices.
//!
//! An entry is the state of a sequence in all layers. There is one for each slot, and after them one for each snapshot.

use std::ops::Range;

use device::Span;
use model::Architecture;

use crate::options::Options;

/// All entries.
pub(crate) struct States {
    /// `[n_slot + n_snapshot, n_value]`.
    values: Vec<f32>,
    n_value: usize,
    n_slot: usize,
    /// By layer: its part of an entry.
    parts: Vec<Range<usize>>,
}

impl States {
    /// All zero; the memory becomes resident as it is used.
    pub(crate) fn new(arch: &Architecture, options: &Options) -> States {
        let mut end = 0;
        let parts = arch.mixers.iter().map(|mixer| {
            let start = end;
            end += mixer.n_state();
            start..end
        });
        let parts = parts.collect();
        let n_value = arch.n_state();
        let values = vec![0.0; n_value * (options.n_slot + options.n_snapshot)];
        States { values, n_value, n_slot: options.n_slot, parts }
    }

    /// What a span's slot begins with.
    pub(crate) fn begin(&mut self, span: &Span) {
        if span.begin.is_none() {
            return;
        }
        match span.load {
            Some(snapshot) => self.copy(self.n_slot + snapshot as usize, span.slot as usize),
            None => {
                let at = span.slot as usize * self.n_value;
                self.values[at..at + self.n_value].fill(0.0);
            }
        }
    }

    /// Keeps what a span's slot ends with.
    pub(crate) fn save(&mut self, span: &Span) {
        if let Some(snapshot) = span.save {
            self.copy(span.slot as usize, self.n_slot + snapshot as usize);
        }
    }

    fn copy(&mut self, from: usize, to: usize) {
        let n = self.n_value;
        self.values.copy_within(from * n..(from + 1) * n, to * n);
    }

    /// A layer's part of each of these slots, in their order; no slot stands there twice.
    pub(crate) fn of(&mut self, layer: usize, slots: impl Iterator<Item = usize>) -> Vec<&mut [f32]> {
        let Some(part) = self.parts.get(layer).filter(|_| self.n_value > 0) else { return Vec::new() };
        let entries = self.values.chunks_exact_mut(self.n_value);
        let mut entries: Vec<_> = entries.map(|entry| entry.get_mut(part.clone())).collect();
        slots.filter_map(|slot| entries.get_mut(slot)?.take()).collect()
    }
}
