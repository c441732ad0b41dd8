//! How do the weights get from the file onto the device as fast as the bus allows?
//!
//! The pieces are packed into chunks. Several threads copy them out of the mapped file into a ring of registered buffers; each full buffer
//! goes to a buffer on the device in one asynchronous copy, and from there the caller's kernels take it to its place, while the
//! next one is on its way. Order: a buffer on the host is refilled when its copy is done, one on the device when its kernels are.
//!
//! Measured with a file in the page cache: a thread copies 10 GB/s out of it, eight 75 GB/s; the bus takes 55 GB/s (PCIe 5 x16).

mod pack;
mod progress;

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::driver::{Device, DeviceMemory, DevicePtr, Event, EventKind, RegisteredBuffer, Stream};
use crate::error::CudaError;
use pack::{Chunk, Packing, Task};
use progress::{Progress, StopOnDrop, StopOnPanic};

/// Bytes that a kernel needs together, such as some rows of a matrix.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Where they are: in the mapped file, as a rule.
    pub src: &'a [u8],
}

/// How much memory and how many threads an upload may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadOptions {
    /// Size of a buffer, which no piece may exceed.
    pub chunk_bytes: usize,
    /// Buffers on the host, and as many on the device.
    pub n_chunk: usize,
    /// Threads that copy out of the file.
    pub n_thread: usize,
}

impl Default for UploadOptions {
    fn default() -> UploadOptions {
        let n_thread = thread::available_parallelism().map_or(1, |n| n.get().min(8));
        UploadOptions { chunk_bytes: 16 << 20, n_chunk: 6, n_thread }
    }
}

impl UploadOptions {
    /// What it takes of the device's memory while it runs, and as much of the host's.
    #[must_use]
    pub fn staging_bytes(&self) -> u64 {
        (self.chunk_bytes as u64).saturating_mul(self.n_chunk as u64)
    }
}

/// What a caller does with an upload's pieces.
pub trait Placement {
    /// Piece `index` is at `staged` on the device, at a multiple of 16, when what is queued in `stream` now runs, and stays until all
    /// of that has run. Pieces come in their order.
    ///
    /// # Errors
    /// Any error ends the upload.
    fn place(&mut self, stream: &Stream, staged: DevicePtr, index: usize) -> Result<(), CudaError>;

    /// So many bytes of pieces are on the device.
    fn progress(&mut self, bytes: u64) {
        let _ = bytes;
    }
}

impl<F: FnMut(&Stream, DevicePtr, usize) -> Result<(), CudaError>> Placement for F {
    fn place(&mut self, stream: &Stream, staged: DevicePtr, index: usize) -> Result<(), CudaError> {
        self(stream, staged, index)
    }
}

/// Takes pieces to the device and waits until all of them are placed.
///
/// # Errors
/// [`CudaError::PieceTooLarge`] before anything is done; otherwise the first that any thread or the placement met.
pub fn upload(
    device: &Arc<Device>,
    pieces: &[Piece<'_>],
    options: UploadOptions,
    placement: &mut impl Placement,
) -> Result<(), CudaError> {
    let sizes: Vec<usize> = pieces.iter().map(|piece| piece.src.len()).collect();
    let packing = pack::pack(sizes.iter().copied(), options.chunk_bytes)?;
    let tasks = pack::tasks(&packing, &sizes);
    let mut to_fill = vec![0; packing.chunks.len()];
    for task in &tasks {
        to_fill[task.chunk] += 1;
    }
    let n_slot = options.n_chunk.clamp(1, packing.chunks.len().max(1));
    let progress = Progress::new(to_fill, n_slot);
    let job = Job {
        pieces,
        packing: &packing,
        tasks: &tasks,
        next: AtomicUsize::new(0),
        buffers: (0..n_slot).map(|_| RegisteredBuffer::new(options.chunk_bytes)).collect(),
    };
    // Dropped before the buffers, which waits for the copies out of them.
    let lanes = OnceCell::new();
    let result = thread::scope(|scope| {
        let _stop = StopOnDrop(&progress);
        for _ in 0..options.n_thread.clamp(1, tasks.len().max(1)) {
            scope.spawn(|| job.fill(&progress));
        }
        // Made while the threads fill the first buffers.
        let made = Lanes::new(device, n_slot, options.chunk_bytes)?;
        let lanes = lanes.get_or_init(|| made);
        scope.spawn(|| lanes.await_copies(packing.chunks.len(), &progress));
        job.queue(lanes, &progress, placement)?;
        lanes.finish()
    });
    if let Some(error) = progress.into_error() {
        return Err(error);
    }
    result.inspect(|()| placement.progress(sizes.iter().map(|&size| size as u64).sum()))
}

/// What the threads of an upload share.
struct Job<'a> {
    pieces: &'a [Piece<'a>],
    packing: &'a Packing,
    tasks: &'a [Task],
    /// The first task that nobody has taken.
    next: AtomicUsize,
    /// On the host; chunk `c` goes through buffer `c % n`.
    buffers: Vec<RegisteredBuffer>,
}

impl Job<'_> {
    /// Copies tasks into their buffers until none is left.
    fn fill(&self, progress: &Progress) {
        let _stop = StopOnPanic(progress);
        while let Some(task) = self.tasks.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if !progress.wait_free(task.chunk) {
                return;
            }
            let buffer = &self.buffers[task.chunk % self.buffers.len()];
            for part in &task.parts {
                let from = &self.pieces[part.piece].src[part.range.clone()];
                let at = self.packing.offsets[part.piece] + part.range.start;
                populate(from);
                // SAFETY: `pack` keeps every piece within a chunk's size, which is the buffer's, and pieces apart; `tasks` gives each
                // byte to one thread; the device has read what was in the buffer before (`wait_free`).
                unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), buffer.as_ptr().add(at), from.len()) };
            }
            progress.filled(task.chunk);
        }
    }

    /// Queues the copies and the placement of every chunk as it fills.
    fn queue(
        &self,
        lanes: &Lanes,
        progress: &Progress,
        placement: &mut impl Placement,
    ) -> Result<(), CudaError> {
        let (mut n_reported, mut bytes_copied) = (0, 0u64);
        for (index, chunk) in self.packing.chunks.iter().enumerate() {
            if !progress.wait_filled(index) {
                return Ok(()); // Whoever stopped it has said why.
            }
            let slot = index % self.buffers.len();
            let buffer = &self.buffers[slot];
            if index < self.buffers.len() {
                buffer.register(lanes.copying.device())?;
            }
            let staged = lanes.copy(slot, buffer, chunk.bytes)?;
            for piece in chunk.pieces.clone() {
                let at = staged.offset(self.packing.offsets[piece] as u64);
                placement.place(&lanes.placing, at, piece)?;
            }
            lanes.slots[slot].placed.record(&lanes.placing)?;
            progress.queued();
            let n_copied = progress.n_copied();
            if n_copied > n_reported {
                let done = &self.packing.chunks[n_reported..n_copied];
                bytes_copied += done.iter().map(|chunk| self.bytes(chunk)).sum::<u64>();
                n_reported = n_copied;
                placement.progress(bytes_copied);
            }
        }
        Ok(())
    }

    fn bytes(&self, chunk: &Chunk) -> u64 {
        self.pieces[chunk.pieces.clone()].iter().map(|piece| piece.src.len() as u64).sum()
    }
}

/// The device's side: two streams, so that a chunk is placed while the next is copied.
struct Lanes {
    copying: Stream,
    placing: Stream,
    slots: Vec<Slot>,
    staging: DeviceMemory,
    chunk_bytes: usize,
}

/// The state of one buffer of the ring.
struct Slot {
    copied: Event,
    placed: Event,
}

impl Lanes {
    fn new(device: &Arc<Device>, n_slot: usize, chunk_bytes: usize) -> Result<Lanes, CudaError> {
        let slot = || {
            Ok(Slot {
                copied: Event::new(device, EventKind::Sleeping)?,
                placed: Event::new(device, EventKind::Order)?,
            })
        };
        Ok(Lanes {
            copying: Stream::new(device)?,
            placing: Stream::new(device)?,
            slots: (0..n_slot).map(|_| slot()).collect::<Result<_, CudaError>>()?,
            staging: DeviceMemory::new(device, chunk_bytes as u64 * n_slot as u64)?,
            chunk_bytes,
        })
    }

    /// Queues a buffer's copy to the device, and lets what is queued in `placing` next wait for it. Gives where it will be.
    fn copy(&self, slot: usize, buffer: &RegisteredBuffer, bytes: usize) -> Result<DevicePtr, CudaError> {
        let Slot { copied, placed } = &self.slots[slot];
        let staged = self.staging.address().offset((slot * self.chunk_bytes) as u64);
        self.copying.wait(placed)?;
        if bytes > 0 {
            // SAFETY: these bytes were written when the chunk was filled, and are not again before `copied` is reached.
            let from = unsafe { std::slice::from_raw_parts(buffer.as_ptr(), bytes) };
            // SAFETY: as above; the buffer outlives the stream's work, since `Lanes` waits for it when dropped, before the buffers.
            unsafe { self.copying.memcpy_h2d_async(staged, from) }?;
        }
        copied.record(&self.copying)?;
        self.placing.wait(copied)?;
        Ok(staged)
    }

    /// Tells the filling threads when buffers are free again.
    fn await_copies(&self, n_chunk: usize, progress: &Progress) {
        for chunk in 0..n_chunk {
            if !progress.wait_queued(chunk) {
                return;
            }
            match self.slots[chunk % self.slots.len()].copied.synchronize() {
                Ok(()) => progress.copied(),
                Err(error) => return progress.stop(Some(error)),
            }
        }
    }

    fn finish(&self) -> Result<(), CudaError> {
        self.copying.synchronize().and(self.placing.synchronize())
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

/// Reads the file's pages and maps them, ahead of an upload: while the device is being opened, say. Returns when all are in memory, or soon
/// after `stop` is set. Uploading reads what is missing by itself.
pub fn page_in(pieces: &[Piece<'_>], n_thread: usize, stop: &AtomicBool) {
    const STEP: usize = 4 << 20;
    let steps: Vec<&[u8]> = pieces.iter().flat_map(|piece| piece.src.chunks(STEP)).collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..n_thread.clamp(1, steps.len().max(1)) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed)
                    && let Some(step) = steps.get(next.fetch_add(1, Ordering::Relaxed))
                    && populate(step)
                {}
            });
        }
    });
}

/// Maps the pages of some bytes in one call, which takes a fault for each otherwise. False where the system cannot.
fn populate(bytes: &[u8]) -> bool {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let before = bytes.as_ptr().addr() % PAGE;
        // SAFETY: pages of a live slice; reading them changes nothing, and a refusal nothing but speed.
        let done = unsafe {
            let first = bytes.as_ptr().sub(before).cast_mut();
            libc::madvise(first.cast(), bytes.len() + before, libc::MADV_POPULATE_READ)
        };
        done == 0
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = bytes;
        false
    }
}
