//! Streams, in which the device's work runs in order, and events, which mark how far it is.

use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::sys;

use super::{Device, DevicePtr, call, call_quietly};
use crate::error::CudaError;

/// A queue of work for a device.
pub struct Stream {
    device: Arc<Device>,
    handle: sys::CUstream,
}

// SAFETY: the driver's functions may be called with the same stream by any thread; their order is the caller's concern.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    /// Makes a stream that waits for no other.
    ///
    /// # Errors
    /// If the context is lost or the device out of memory.
    pub fn new(device: &Arc<Device>) -> Result<Stream, CudaError> {
        device.bind()?;
        let mut handle = std::ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the context is current, and the pointer is to a live pointer.
        unsafe { call!(cuStreamCreate(&raw mut handle, flags)) }?;
        Ok(Stream { device: Arc::clone(device), handle })
    }

    /// Whose work this is.
    #[must_use]
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Makes the stream's context current and gives its handle.
    pub(super) fn bound(&self) -> Result<sys::CUstream, CudaError> {
        self.device.bind()?;
        Ok(self.handle)
    }

    /// Waits until everything queued so far is done.
    ///
    /// # Errors
    /// What went wrong in any of it.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        let handle = self.bound()?;
        // SAFETY: a live stream of the current context.
        unsafe { call!(cuStreamSynchronize(handle)) }
    }

    /// Lets what is queued from here on start only when the event's last record is reached, in whichever stream that was.
    ///
    /// # Errors
    /// If the context is lost.
    pub fn wait(&self, event: &Event) -> Result<(), CudaError> {
        let handle = self.bound()?;
        // SAFETY: a live stream and a live event.
        unsafe { call!(cuStreamWaitEvent(handle, event.handle, 0)) }
    }

    /// Queues a copy from the host's memory to the device's. From memory that is not pinned it is slow and may wait.
    ///
    /// # Safety
    /// `from` must stay, unchanged, until the stream has passed this point.
    ///
    /// # Errors
    /// If the driver refuses it.
    pub unsafe fn memcpy_h2d_async(&self, to: DevicePtr, from: &[u8]) -> Result<(), CudaError> {
        let handle = self.bound()?;
        // SAFETY: the source is a live slice that the caller keeps; the driver checks device addresses.
        unsafe { call!(cuMemcpyHtoDAsync_v2(to.0, from.as_ptr().cast(), from.len(), handle)) }
    }

    /// Queues a copy from the device's memory to the host's.
    ///
    /// # Safety
    /// `to` must have room for `bytes` and must stay, untouched, until the stream has passed this point.
    ///
    /// # Errors
    /// If the driver refuses it.
    pub unsafe fn memcpy_d2h_async(
        &self,
        to: *mut u8,
        from: DevicePtr,
        bytes: usize,
    ) -> Result<(), CudaError> {
        let handle = self.bound()?;
        // SAFETY: the caller answers for the target; the driver checks device addresses.
        unsafe { call!(cuMemcpyDtoHAsync_v2(to.cast(), from.0, bytes, handle)) }
    }

    /// Queues a copy within the device's memory.
    ///
    /// # Errors
    /// If the driver refuses it.
    pub fn memcpy_d2d_async(&self, to: DevicePtr, from: DevicePtr, bytes: u64) -> Result<(), CudaError> {
        let handle = self.bound()?;
        // SAFETY: touches the device's memory alone.
        unsafe { call!(cuMemcpyDtoDAsync_v2(to.0, from.0, bytes as usize, handle)) }
    }

    /// Queues the filling of device memory with a byte.
    ///
    /// # Errors
    /// If the driver refuses it.
    pub fn memset_async(&self, to: DevicePtr, value: u8, bytes: u64) -> Result<(), CudaError> {
        if bytes == 0 {
            return Ok(());
        }
        let handle = self.bound()?;
        // SAFETY: touches the device's memory alone.
        unsafe { call!(cuMemsetD8Async(to.0, value, bytes as usize, handle)) }
    }

    /// Copies values to the device and waits until they are there.
    ///
    /// # Errors
    /// If the driver refuses it, or what went wrong in earlier work.
    pub fn write<T: bytemuck::NoUninit>(&self, to: DevicePtr, from: &[T]) -> Result<(), CudaError> {
        // SAFETY: waits for the copy before `from` can change.
        unsafe { self.memcpy_h2d_async(to, bytemuck::cast_slice(from)) }?;
        self.synchronize()
    }

    /// Waits for earlier work, then copies values from the device.
    ///
    /// # Errors
    /// If the driver refuses it, or what went wrong in earlier work.
    pub fn read<T: bytemuck::Pod>(&self, to: &mut [T], from: DevicePtr) -> Result<(), CudaError> {
        let bytes = size_of_val(to);
        // SAFETY: the slice has that many bytes, any of which are values of a `Pod`; waits for the copy before it is seen.
        unsafe { self.memcpy_d2h_async(to.as_mut_ptr().cast(), from, bytes) }?;
        self.synchronize()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: made by `new` and destroyed nowhere else; the driver finishes its work first.
            unsafe { call_quietly!(cuStreamDestroy_v2(self.handle)) };
        }
    }
}

/// What an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Order alone: the cheapest. A thread that waits for it spins.
    Order,
    /// Order; a thread that waits for it sleeps, and wakes some tens of microseconds late.
    Sleeping,
    /// Order and time.
    Timing,
}

/// A mark in a stream.
pub struct Event {
    device: Arc<Device>,
    handle: sys::CUevent,
}

// SAFETY: the driver's functions may be called with the same event by any thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// Makes an event that was never recorded, which counts as reached.
    ///
    /// # Errors
    /// If the context is lost or the device out of memory.
    pub fn new(device: &Arc<Device>, kind: EventKind) -> Result<Event, CudaError> {
        use sys::CUevent_flags::{CU_EVENT_BLOCKING_SYNC, CU_EVENT_DISABLE_TIMING};
        let flags = match kind {
            EventKind::Order => CU_EVENT_DISABLE_TIMING as u32,
            EventKind::Sleeping => CU_EVENT_DISABLE_TIMING as u32 | CU_EVENT_BLOCKING_SYNC as u32,
            EventKind::Timing => 0,
        };
        device.bind()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the context is current, and the pointer is to a live pointer.
        unsafe { call!(cuEventCreate(&raw mut handle, flags)) }?;
        Ok(Event { device: Arc::clone(device), handle })
    }

    /// Marks the point behind everything queued in the stream so far.
    ///
    /// # Errors
    /// If the context is lost.
    pub fn record(&self, stream: &Stream) -> Result<(), CudaError> {
        let handle = stream.bound()?;
        // SAFETY: a live event and a live stream.
        unsafe { call!(cuEventRecord(self.handle, handle)) }
    }

    /// Likewise while the stream is captured: each start of the graph marks the point anew. Anywhere else it is an error.
    ///
    /// # Errors
    /// If the stream is not captured, or the context is lost.
    pub fn record_in_graph(&self, stream: &Stream) -> Result<(), CudaError> {
        let handle = stream.bound()?;
        let flags = sys::CUevent_record_flags_enum::CU_EVENT_RECORD_EXTERNAL as u32;
        // SAFETY: a live event and a live stream.
        unsafe { call!(cuEventRecordWithFlags(self.handle, handle, flags)) }
    }

    /// Waits until the mark is reached.
    ///
    /// # Errors
    /// What went wrong before it.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.device.bind()?;
        // SAFETY: a live event.
        unsafe { call!(cuEventSynchronize(self.handle)) }
    }

    /// Whether the mark is reached.
    ///
    /// # Errors
    /// What went wrong before it.
    pub fn query(&self) -> Result<bool, CudaError> {
        self.device.bind()?;
        // SAFETY: a live event.
        let code = unsafe { sys::cuEventQuery(self.handle) };
        if code == sys::CUresult::CUDA_ERROR_NOT_READY {
            return Ok(false);
        }
        super::check("cuEventQuery", code)?;
        Ok(true)
    }

    /// The time on the device from an earlier mark to this one. Both must be [`EventKind::Timing`] and reached.
    ///
    /// # Errors
    /// If they are not.
    pub fn elapsed_since(&self, earlier: &Event) -> Result<Duration, CudaError> {
        self.device.bind()?;
        let mut milliseconds = 0.0f32;
        // SAFETY: live events, and a pointer to a live float.
        unsafe { call!(cuEventElapsedTime_v2(&raw mut milliseconds, earlier.handle, self.handle)) }?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1e3))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: made by `new` and destroyed nowhere else.
            unsafe { call_quietly!(cuEventDestroy_v2(self.handle)) };
        }
    }
}
