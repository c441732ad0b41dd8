//! How fast is the device's memory? GB/s (10^9 bytes), for holding a decode's bytes against.
//!
//! On a GPU a copy within its memory counts its bytes twice, read and written. On the CPU every thread reads its share of a buffer that no
//! cache holds. The best of a few passes: others on the machine only ever slow it down.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use cuda::CudaError;
use cuda::driver::{Device, DeviceMemory, Stream};

use crate::machine;

const PASSES: usize = 5;
const CPU_BYTES: u64 = 512 << 20;
const GPU_BYTES: u64 = 1 << 30;
/// Copies between two looks at the clock, so that starting them does not count.
const GPU_COPIES: u32 = 8;

/// Reading by all threads.
pub(crate) fn of_cpu(threads: usize) -> (f64, &'static str) {
    let bytes = machine::memory_free().map_or(CPU_BYTES, |free| CPU_BYTES.min(free / 8)).max(1 << 20);
    let words = vec![1u64; usize::try_from(bytes / 8).unwrap_or(1)];
    let share = words.len().div_ceil(threads.max(1));
    let pass = || {
        let began = Instant::now();
        thread::scope(|scope| {
            for words in words.chunks(share) {
                scope.spawn(|| {
                    std::hint::black_box(words.iter().fold(0u64, |sum, &word| sum.wrapping_add(word)))
                });
            }
        });
        (8 * words.len()) as f64 / began.elapsed().as_secs_f64().max(1e-9) / 1e9
    };
    ((0..PASSES).map(|_| pass()).fold(0.0, f64::max), "read")
}

/// Copying on the device.
pub(crate) fn of_gpu(device: &Arc<Device>) -> Result<(f64, &'static str), CudaError> {
    let bytes = GPU_BYTES.min(device.memory()?.free / 8);
    let (from, to) = (DeviceMemory::new(device, bytes)?, DeviceMemory::new(device, bytes)?);
    let stream = Stream::new(device)?;
    stream.memset_async(from.address(), 1, bytes)?;
    stream.synchronize()?;
    let mut best: f64 = 0.0;
    for _ in 0..PASSES {
        let began = Instant::now();
        for _ in 0..GPU_COPIES {
            stream.memcpy_d2d_async(to.address(), from.address(), bytes)?;
        }
        stream.synchronize()?;
        let moved = 2.0 * bytes as f64 * f64::from(GPU_COPIES);
        best = best.max(moved / began.elapsed().as_secs_f64().max(1e-9) / 1e9);
    }
    Ok((best, "copy"))
}
