//! Work that is queued once and started many times.

use std::sync::Arc;

use cudarc::driver::sys;

use super::{Device, Stream, call, call_quietly};
use crate::error::CudaError;

/// A captured graph, ready to start.
pub struct GraphExec {
    device: Arc<Device>,
    handle: sys::CUgraphExec,
    n_node: usize,
}

// SAFETY: an executable graph may be used by any thread, by one at a time: it is `Send` and not `Sync`.
unsafe impl Send for GraphExec {}

impl Stream {
    /// Records what the closure queues in this stream, without running any of it, as a graph. The closure must not wait for the
    /// device, nor allocate.
    ///
    /// # Errors
    /// The closure's own, or why the driver refuses what it queued. The stream can be used again in either case.
    pub fn capture<E: From<CudaError>>(
        &self,
        queue: impl FnOnce(&Stream) -> Result<(), E>,
    ) -> Result<GraphExec, E> {
        let handle = self.bound()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: a live stream of the current context.
        unsafe { call!(cuStreamBeginCapture_v2(handle, mode)) }?;
        let capture = Capture { stream: self, open: true };
        queue(self)?;
        Ok(capture.end()?)
    }
}

/// Ends a capture whatever becomes of the closure.
struct Capture<'a> {
    stream: &'a Stream,
    open: bool,
}

impl Capture<'_> {
    fn end(mut self) -> Result<GraphExec, CudaError> {
        self.open = false;
        let graph = Graph::end_capture(self.stream)?;
        let mut n_node = 0;
        // SAFETY: a live graph; without a list to fill the function gives the number alone.
        unsafe { call!(cuGraphGetNodes(graph.0, std::ptr::null_mut(), &raw mut n_node)) }?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: a live graph, and a pointer to a live pointer.
        unsafe { call!(cuGraphInstantiateWithFlags(&raw mut handle, graph.0, 0)) }?;
        Ok(GraphExec { device: Arc::clone(self.stream.device()), handle, n_node })
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if self.open {
            drop(Graph::end_capture(self.stream));
        }
    }
}

/// What was captured, which its executable form no longer needs.
struct Graph(sys::CUgraph);

impl Graph {
    fn end_capture(stream: &Stream) -> Result<Graph, CudaError> {
        let mut graph = std::ptr::null_mut();
        // SAFETY: a live stream in which this thread began a capture, and a pointer to a live pointer.
        unsafe { call!(cuStreamEndCapture(stream.bound()?, &raw mut graph)) }?;
        Ok(Graph(graph))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: given by `cuStreamEndCapture` and destroyed nowhere else.
            unsafe { call_quietly!(cuGraphDestroy(self.0)) };
        }
    }
}

impl GraphExec {
    /// Starts it in a stream, behind what is queued there.
    ///
    /// # Errors
    /// If the context is lost.
    pub fn launch(&self, stream: &Stream) -> Result<(), CudaError> {
        let handle = stream.bound()?;
        // SAFETY: a live graph and a live stream of the same context.
        unsafe { call!(cuGraphLaunch(self.handle, handle)) }
    }

    /// Brings it to the device ahead of its first start, which is then as fast as the others.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn upload(&self, stream: &Stream) -> Result<(), CudaError> {
        let handle = stream.bound()?;
        // SAFETY: a live graph and a live stream of the same context.
        unsafe { call!(cuGraphUpload(self.handle, handle)) }
    }

    /// How many kernels and copies it has.
    #[must_use]
    pub fn n_node(&self) -> usize {
        self.n_node
    }
}

impl Drop for GraphExec {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: made by `Capture::end` and destroyed nowhere else; the driver keeps it until a running start ends.
            unsafe { call_quietly!(cuGraphExecDestroy(self.handle)) };
        }
    }
}
