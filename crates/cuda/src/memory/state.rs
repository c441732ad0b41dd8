//! What do sequences keep beside the KV cache, and where? Of each layer whose mixer is a recurrence its state, in float32.
//!
//! An entry is the state of a sequence in all layers. There is one for each slot, and after them one for each snapshot.

use device::Span;
use model::architecture::{Architecture, Mixer};

use crate::driver::{DevicePtr, Stream};
use crate::error::CudaError;
use crate::sizes::Sizes;

/// Bytes of a value.
const VALUE: u64 = 4;

/// All entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct States {
    /// `[n_slot + n_snapshot, n_value]`.
    at: DevicePtr,
    n_value: u64,
    n_slot: u32,
}

impl States {
    /// Bytes of all entries; saturating.
    pub(crate) fn bytes(arch: &Architecture, sizes: &Sizes) -> u64 {
        let n_entry = (sizes.n_slot as u64).saturating_add(sizes.n_snapshot as u64);
        n_entry.saturating_mul(arch.n_state() as u64).saturating_mul(VALUE)
    }

    /// In that many bytes at `at`.
    pub(crate) fn new(arch: &Architecture, sizes: &Sizes, at: DevicePtr) -> States {
        States { at, n_value: arch.n_state() as u64, n_slot: sizes.n_slot as u32 }
    }

    /// The first slot's state in a layer, and values from a slot's to the next one's.
    pub(crate) fn of(&self, arch: &Architecture, layer: usize) -> (DevicePtr, u64) {
        let before: usize = arch.mixers[..layer].iter().map(Mixer::n_state).sum();
        (self.at.offset(VALUE * before as u64), self.n_value)
    }

    /// What a span's slot begins with.
    pub(crate) fn begin(&self, stream: &Stream, span: &Span) -> Result<(), CudaError> {
        match (&span.begin, span.load) {
            (None, _) => Ok(()),
            (Some(_), Some(snapshot)) => self.copy(stream, self.n_slot + snapshot, span.slot),
            (Some(_), None) => stream.memset_async(self.entry(span.slot), 0, self.entry_bytes()),
        }
    }

    /// Keeps what a span's slot ends with.
    pub(crate) fn save(&self, stream: &Stream, span: &Span) -> Result<(), CudaError> {
        span.save.map_or(Ok(()), |snapshot| self.copy(stream, span.slot, self.n_slot + snapshot))
    }

    fn copy(&self, stream: &Stream, from: u32, to: u32) -> Result<(), CudaError> {
        stream.memcpy_d2d_async(self.entry(to), self.entry(from), self.entry_bytes())
    }

    fn entry(&self, index: u32) -> DevicePtr {
        self.at.offset(u64::from(index) * self.entry_bytes())
    }

    fn entry_bytes(&self) -> u64 {
        VALUE * self.n_value
    }
}
