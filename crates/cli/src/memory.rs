//! What memory does a model take, and is it there? Bytes.
//!
//! The model is resident or it is refused: loading compares what it will take with what the system and the cgroup leave free,
//! before anything is allocated.

use std::fmt;

use model::Model;
use serde::Serialize;

use crate::device::Shape;
use crate::exit::Failure;
use crate::machine;
use crate::units::Bytes;

/// What a model takes at a context length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Needed {
    n_ctx: usize,
    sequences: usize,
    weights: u64,
    kv_cache: u64,
    activations: u64,
    total: u64,
}

impl Needed {
    /// With the fast kernels.
    pub(crate) fn of(model: &Model, shape: Shape) -> Needed {
        let options = shape.cpu_options(model, 1, false);
        Needed::planned(options.plan(model), options.n_ctx, options.n_slot)
    }

    /// From the executor's own plan.
    pub(crate) fn planned(plan: cpu::MemoryPlan, n_ctx: usize, sequences: usize) -> Needed {
        let cpu::MemoryPlan { weights, kv_cache, activations } = plan;
        let total = weights.saturating_add(kv_cache).saturating_add(activations);
        Needed { n_ctx, sequences, weights, kv_cache, activations, total }
    }

    /// Refuses what does not fit; where free memory is unknown, nothing is refused.
    pub(crate) fn check(&self, device: &str) -> Result<(), Failure> {
        self.fits(device, machine::memory_free())
    }

    fn fits(&self, device: &str, free: Option<u64>) -> Result<(), Failure> {
        match free {
            Some(free) if free < self.total => Err(Failure::Memory {
                device: device.to_owned(),
                needed: self.total,
                weights: self.weights,
                kv_cache: self.kv_cache,
                activations: self.activations,
                free,
            }),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [total, weights, kv_cache, activations] =
            [self.total, self.weights, self.kv_cache, self.activations].map(Bytes);
        let parts = format!("weights {weights}, KV cache {kv_cache}, activations {activations}");
        write!(f, "{total} at a context of {} tokens: {parts}", self.n_ctx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_refused_one_byte_short_and_absurd_sizes_do_not_wrap() {
        let plan = cpu::MemoryPlan { weights: 100, kv_cache: 20, activations: 3 };
        let needed = Needed::planned(plan, 8, 1);
        assert!(needed.fits("cpu", Some(123)).is_ok() && needed.fits("cpu", None).is_ok());
        let refusal = needed.fits("cpu", Some(122)).unwrap_err().to_string();
        assert!(refusal.contains("123 bytes needed") && refusal.contains("122 bytes free"), "{refusal}");
        let absurd = Needed::planned(cpu::MemoryPlan { kv_cache: u64::MAX, ..plan }, 8, 1);
        assert!(absurd.fits("cpu", Some(1 << 40)).is_err());
    }
}
