//! How much device memory is needed, is there as much, and where does each buffer lie?
//!
//! A plan adds up the regions first, while nothing is allocated; then everything is allocated or refused at once: one plain allocation
//! a purpose, in the device's own memory. Sizes in bytes; every region starts at a multiple of [`ALIGNMENT`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::driver::{Device, DeviceMemory, DevicePtr, Stream};
use crate::error::CudaError;
use crate::memory::residency::{Allocation, Residency};

/// Regions start at multiples of this.
pub const ALIGNMENT: u64 = 256;

/// Bytes of the device that stay free for what the driver takes later: graphs, kernels, their local memory.
pub(crate) const RESERVE: u64 = 256 << 20;

/// The driver hands out device memory in pages of this size.
const DEVICE_PAGE: u64 = 2 << 20;

/// What memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The model's, which never change.
    Weights,
    /// Keys and values of the tokens so far.
    KvCache,
    /// What sequences keep beside it, and its copies.
    State,
    /// Everything else a step needs.
    Activations,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Purpose; 4] = [Purpose::Weights, Purpose::KvCache, Purpose::State, Purpose::Activations];

    /// In a sentence.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Weights => "weights",
            Purpose::KvCache => "KV cache",
            Purpose::State => "state of sequences",
            Purpose::Activations => "activations",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A place in an arena, by its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    purpose: Purpose,
    offset: u64,
    bytes: u64,
}

impl Region {
    /// Its size as it was asked for.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// What an arena will hold.
///
/// Sizes saturate: a plan that no machine could hold is refused like any other that does not fit.
#[derive(Clone, Debug, Default)]
pub struct ArenaPlan {
    /// By [`Purpose`].
    bytes: [u64; 4],
}

impl ArenaPlan {
    /// A plan of nothing.
    #[must_use]
    pub fn new() -> ArenaPlan {
        ArenaPlan::default()
    }

    /// Adds a region.
    pub fn add(&mut self, purpose: Purpose, bytes: u64) -> Region {
        let sum = &mut self.bytes[purpose as usize];
        let offset = *sum;
        let padded = bytes.checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX);
        *sum = sum.saturating_add(padded);
        Region { purpose, offset, bytes }
    }

    /// What the regions of a purpose take, with the gaps between them.
    #[must_use]
    pub fn bytes(&self, purpose: Purpose) -> u64 {
        self.bytes[purpose as usize]
    }

    /// What the device must have free for it: whole pages of its memory.
    #[must_use]
    pub fn needed(&self) -> u64 {
        self.bytes.iter().fold(0, |sum, bytes| {
            sum.saturating_add(bytes.checked_next_multiple_of(DEVICE_PAGE).unwrap_or(u64::MAX))
        })
    }

    /// Whether it fits, with `reserve` left over.
    ///
    /// # Errors
    /// [`CudaError::InsufficientMemory`] with what is needed, the reserve included.
    pub fn check(&self, free: u64, reserve: u64) -> Result<(), CudaError> {
        let needed = self.needed().saturating_add(reserve);
        if needed > free { Err(CudaError::InsufficientMemory { needed, free }) } else { Ok(()) }
    }
}

/// Device memory for everything a model needs. Dropping it frees all of it.
pub struct Arena {
    device: Arc<Device>,
    /// By [`Purpose`].
    memory: [DeviceMemory; 4],
}

impl Arena {
    /// Allocates what was planned. `reserve` must stay free: for the driver's own needs, and for what is allocated later.
    ///
    /// # Errors
    /// [`CudaError::InsufficientMemory`], with nothing allocated.
    pub fn new(device: &Arc<Device>, plan: &ArenaPlan, reserve: u64) -> Result<Arena, CudaError> {
        plan.check(device.memory()?.free, reserve)?;
        let [weights, kv_cache, state, activations] = plan.bytes;
        let memory = [
            DeviceMemory::new(device, weights)?,
            DeviceMemory::new(device, kv_cache)?,
            DeviceMemory::new(device, state)?,
            DeviceMemory::new(device, activations)?,
        ];
        Ok(Arena { device: Arc::clone(device), memory })
    }

    /// Where a region of its plan starts.
    ///
    /// # Panics
    /// If the region is of another plan and does not fit in this one's memory.
    #[must_use]
    pub fn take(&self, region: Region) -> DevicePtr {
        let memory = &self.memory[region.purpose as usize];
        let end = region.offset.checked_add(region.bytes);
        assert!(end.is_some_and(|end| end <= memory.bytes()), "{region:?} of {} bytes", memory.bytes());
        memory.address().offset(region.offset)
    }

    /// Queues the filling of all memory of a purpose with zeros.
    ///
    /// # Errors
    /// If the context is lost.
    pub fn clear(&self, purpose: Purpose, stream: &Stream) -> Result<(), CudaError> {
        let memory = &self.memory[purpose as usize];
        stream.memset_async(memory.address(), 0, memory.bytes())
    }

    /// What is allocated for a purpose.
    #[must_use]
    pub fn bytes(&self, purpose: Purpose) -> u64 {
        self.memory[purpose as usize].bytes()
    }

    /// Its allocations.
    pub fn allocations(&self) -> impl Iterator<Item = Allocation> {
        Purpose::ALL.into_iter().map(|purpose| {
            let memory = &self.memory[purpose as usize];
            Allocation { what: purpose.name(), address: memory.address(), bytes: memory.bytes() }
        })
    }

    /// Checks that all of it is in the device's own memory, and again whenever the interval has passed. Drop the result first.
    ///
    /// # Errors
    /// [`CudaError::NotResident`] if it is not so now.
    pub fn watch(&self, interval: Duration) -> Result<Residency, CudaError> {
        Residency::watch(&self.device, self.allocations().collect(), interval)
    }
}

#[cfg(test)]
mod tests {
    use super::{ArenaPlan, Purpose};
    use crate::error::CudaError;

    #[test]
    fn regions_of_a_purpose_follow_each_other() {
        let mut plan = ArenaPlan::new();
        let regions = [
            plan.add(Purpose::Weights, 1),
            plan.add(Purpose::Activations, 300),
            plan.add(Purpose::Weights, 256),
            plan.add(Purpose::Weights, 0),
            plan.add(Purpose::Weights, 5),
        ];
        assert_eq!(regions.map(|region| region.offset), [0, 0, 256, 512, 512]);
        assert_eq!(regions.map(|region| region.bytes()), [1, 300, 256, 0, 5]);
        assert_eq!(Purpose::ALL.map(|purpose| plan.bytes(purpose)), [768, 0, 0, 512]);
        assert_eq!(plan.needed(), 4 << 20);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_size() {
        let mut plan = ArenaPlan::new();
        plan.add(Purpose::KvCache, 3 << 20);
        let needed = (4 << 20) + 1000;
        assert_eq!(plan.check(needed, 1000), Ok(()));
        let refused = plan.check(needed - 1, 1000);
        assert_eq!(refused, Err(CudaError::InsufficientMemory { needed, free: needed - 1 }));
    }

    #[test]
    fn sizes_beyond_all_machines_saturate() {
        let mut plan = ArenaPlan::new();
        plan.add(Purpose::Weights, u64::MAX);
        plan.add(Purpose::Weights, u64::MAX - 5);
        plan.add(Purpose::KvCache, 1);
        assert_eq!(plan.needed(), u64::MAX);
        assert!(plan.check(u64::MAX - 1, u64::MAX).is_err());
    }
}
