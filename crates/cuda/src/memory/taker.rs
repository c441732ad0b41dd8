//! Where in a region does each buffer lie? Counted before anything is allocated, and then again over the region.

use crate::driver::DevicePtr;

/// Hands out consecutive ranges of a region.
#[derive(Debug, Default)]
pub(crate) struct Taker {
    base: u64,
    n_bytes: u64,
}

impl Taker {
    /// For counting (base 0), or over a region that has as many bytes as counting gave.
    pub(crate) fn new(base: DevicePtr) -> Taker {
        Taker { base: base.0, n_bytes: 0 }
    }

    /// `n` values of `size` bytes, saturating.
    pub(crate) fn take(&mut self, n: usize, size: usize) -> DevicePtr {
        let at = self.n_bytes;
        let bytes = (n as u64).saturating_mul(size as u64);
        self.n_bytes = at.saturating_add(bytes).saturating_add(255) & !255;
        DevicePtr(self.base.saturating_add(at))
    }

    /// Bytes handed out.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }
}
