//! What the host tells the device in a step, in pinned memory, so that copies run on their own.
//!
//! Each step in flight has its own [`Staging`], which is written again only after the step is done.

use std::sync::Arc;

use bytemuck::NoUninit;

use crate::driver::{Device, DevicePtr, PinnedBuffer, Stream};
use crate::error::CudaError;

/// Values are put at multiples of this.
const ALIGN: usize = 16;

/// One step's inputs.
pub(crate) struct Staging {
    pinned: PinnedBuffer,
    used: usize,
}

impl Staging {
    pub(crate) fn new(device: &Arc<Device>, bytes: usize) -> Result<Staging, CudaError> {
        Ok(Staging { pinned: PinnedBuffer::new(device, bytes)?, used: 0 })
    }

    /// Starts over. Only for a step that is done: its copies may be under way until then.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
    }

    /// Queues a copy of values to the device. What does not fit is waited for instead.
    pub(crate) fn send<T: NoUninit>(
        &mut self,
        stream: &Stream,
        to: DevicePtr,
        values: &[T],
    ) -> Result<(), CudaError> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let start = self.used.next_multiple_of(ALIGN);
        let end = start.saturating_add(bytes.len());
        let Some(room) = self.pinned.as_mut_slice::<u8>().get_mut(start..end) else {
            return stream.write(to, values);
        };
        room.copy_from_slice(bytes);
        self.used = end;
        // SAFETY: this part of the buffer is not written again before `clear`, whose caller has waited for the step.
        unsafe { stream.memcpy_h2d_async(to, &self.pinned.as_slice::<u8>()[start..end]) }
    }
}
