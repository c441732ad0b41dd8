//! Is everything still in the device's own memory?
//!
//! The driver is asked of each allocation: device memory, of this device, not managed (which may move to the host), without an address
//! on the host, and as large as it was. Source: CUDA Driver API 13.0, `cuPointerGetAttribute`.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::driver::{Device, DevicePtr, PointerFacts};
use crate::error::CudaError;

/// How often to check, unless something else is asked for.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// Memory that must stay where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// What it holds, as an error names it.
    pub what: &'static str,
    /// Its first byte.
    pub address: DevicePtr,
    /// Its size; nothing is checked of an allocation of none.
    pub bytes: u64,
}

/// Watches allocations, on a thread of its own, until it is dropped; drop it before they are freed. May be shared.
pub struct Residency {
    device: Arc<Device>,
    allocations: Arc<[Allocation]>,
    healthy: Arc<AtomicBool>,
    /// Dropped first, which ends the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Residency {
    /// Checks once, then each time the interval has passed.
    ///
    /// # Errors
    /// [`CudaError::NotResident`] if an allocation is not where it must be, or why the driver cannot say.
    pub fn watch(
        device: &Arc<Device>,
        allocations: Vec<Allocation>,
        interval: Duration,
    ) -> Result<Residency, CudaError> {
        let allocations: Arc<[Allocation]> = allocations.into();
        check_all(device, &allocations)?;
        let healthy = Arc::new(AtomicBool::new(true));
        let (stop, stopped) = mpsc::channel();
        let thread = {
            let (device, allocations, healthy) =
                (Arc::clone(device), Arc::clone(&allocations), Arc::clone(&healthy));
            thread::Builder::new()
                .name("residency".to_owned())
                .spawn(move || {
                    while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                        note(&check_all(&device, &allocations), &healthy);
                    }
                })
                .ok()
        };
        if thread.is_none() {
            tracing::warn!("no thread to watch the device's memory: it is checked on demand alone");
        }
        Ok(Residency { device: Arc::clone(device), allocations, healthy, stop: Some(stop), thread })
    }

    /// Checks now.
    ///
    /// # Errors
    /// [`CudaError::NotResident`] if an allocation is not where it must be, or why the driver cannot say.
    pub fn check(&self) -> Result<(), CudaError> {
        let result = check_all(&self.device, &self.allocations);
        note(&result, &self.healthy);
        result
    }

    /// Whether no check has failed so far.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    /// The same for who outlives this: false once a check has failed.
    #[must_use]
    pub fn health(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.healthy)
    }
}

impl Drop for Residency {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn note(result: &Result<(), CudaError>, healthy: &AtomicBool) {
    if let Err(error) = result
        && healthy.swap(false, Ordering::AcqRel)
    {
        tracing::error!(%error, "the device's memory is no longer what it must be");
    }
}

fn check_all(device: &Device, allocations: &[Allocation]) -> Result<(), CudaError> {
    let occupied = allocations.iter().filter(|allocation| allocation.bytes > 0);
    for allocation in occupied {
        check_facts(allocation, &device.pointer_facts(allocation.address)?, device.ordinal())?;
    }
    Ok(())
}

/// Holds what the driver says of an allocation against what must be.
fn check_facts(allocation: &Allocation, facts: &PointerFacts, ordinal: u32) -> Result<(), CudaError> {
    let wrong = |expected, found: &dyn Debug| {
        let (what, address) = (allocation.what, allocation.address.0);
        Err(CudaError::NotResident { what, address, expected, found: format!("{found:?}") })
    };
    if !facts.is_device_memory {
        return wrong("device memory", &facts.memory_type);
    }
    if facts.is_managed {
        return wrong("no managed memory", &"managed memory");
    }
    if let Some(address) = facts.host_address {
        return wrong("no address on the host", &address);
    }
    if facts.ordinal != ordinal {
        return wrong("memory of the chosen device", &facts.ordinal);
    }
    if facts.range != (allocation.address.0, allocation.bytes) {
        return wrong("the allocation it was", &facts.range);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_must_hold() {
        let allocation = Allocation { what: "weights", address: DevicePtr(512), bytes: 100 };
        let good = PointerFacts {
            is_device_memory: true,
            memory_type: 2,
            is_managed: false,
            host_address: None,
            ordinal: 1,
            range: (512, 100),
        };
        assert_eq!(check_facts(&allocation, &good, 1), Ok(()));
        let bad = [
            PointerFacts { is_device_memory: false, memory_type: 1, ..good },
            PointerFacts { is_managed: true, ..good },
            PointerFacts { host_address: Some(512), ..good },
            PointerFacts { ordinal: 0, ..good },
            PointerFacts { range: (512, 99), ..good },
        ];
        for facts in bad {
            assert!(check_facts(&allocation, &facts, 1).is_err(), "{facts:?}");
        }
        let error = check_facts(&allocation, &bad[1], 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the weights at 0x200 must lie in the device's own memory: expected no managed memory, found \"managed memory\""
        );
    }
}
