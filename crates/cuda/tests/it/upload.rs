//! Uploads: every byte arrives, whatever the pieces' sizes, and an error ends everything.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cuda::CudaError;
use cuda::driver::{DeviceMemory, DevicePtr, Stream};
use cuda::upload::{Piece, Placement, UploadOptions, page_in, upload};

use crate::gpu::gpu;

const OPTIONS: UploadOptions = UploadOptions { chunk_bytes: 3 << 20, n_chunk: 3, n_thread: 5 };

/// Bytes that look random, from a linear congruential generator (Knuth, MMIX).
fn bytes(n: usize) -> Vec<u8> {
    let mut state = n as u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(n).collect()
}

/// Copies each piece to its place in one allocation, and counts.
struct Collect {
    target: DevicePtr,
    offsets: Vec<u64>,
    sizes: Vec<u64>,
    reported: Vec<u64>,
    seen: usize,
}

impl Placement for Collect {
    fn place(&mut self, stream: &Stream, staged: DevicePtr, index: usize) -> Result<(), CudaError> {
        assert_eq!(index, self.seen);
        assert_eq!(staged.0 % 16, 0);
        self.seen += 1;
        if self.sizes[index] > 0 {
            stream.memcpy_d2d_async(self.target.offset(self.offsets[index]), staged, self.sizes[index])?;
        }
        Ok(())
    }

    fn progress(&mut self, bytes: u64) {
        self.reported.push(bytes);
    }
}

#[test]
fn every_byte_arrives() {
    let Some(gpu) = gpu() else { return };
    let sizes: Vec<usize> =
        (0..200).map(|i| [0, 1, 17, 1000, 700_001, 3 << 20, 2_000_000, 31][i * 7 % 8]).collect();
    let source = bytes(sizes.iter().sum());
    let mut rest = source.as_slice();
    let pieces: Vec<Piece<'_>> =
        sizes.iter().map(|&size| Piece { src: rest.split_off(..size).unwrap() }).collect();
    page_in(&pieces, 4, &AtomicBool::new(false));
    let memory = DeviceMemory::new(&gpu, source.len() as u64).unwrap();
    let offsets = sizes.iter().scan(0, |at, &size| {
        *at += size as u64;
        Some(*at - size as u64)
    });
    let mut placement = Collect {
        target: memory.address(),
        offsets: offsets.collect(),
        sizes: sizes.iter().map(|&size| size as u64).collect(),
        reported: Vec::new(),
        seen: 0,
    };
    let stream = Stream::new(&gpu).unwrap();
    for _ in 0..3 {
        stream.memset_async(memory.address(), 0, memory.bytes()).unwrap();
        stream.synchronize().unwrap();
        placement.seen = 0;
        upload(&gpu, &pieces, OPTIONS, &mut placement).unwrap();
        let mut back = vec![0u8; source.len()];
        stream.read(&mut back, memory.address()).unwrap();
        assert!(back == source, "{} bytes", source.len());
    }
    assert_eq!(placement.seen, pieces.len());
    assert_eq!(placement.reported.last(), Some(&(source.len() as u64)));
    upload(&gpu, &[], OPTIONS, &mut placement).unwrap();
}

#[test]
fn an_error_ends_the_upload_and_nothing_else() {
    let Some(gpu) = gpu() else { return };
    let source = bytes(40 << 20);
    let pieces: Vec<Piece<'_>> = source.chunks(1 << 20).map(|src| Piece { src }).collect();
    let mut well = |_: &Stream, _: DevicePtr, _: usize| Ok(());
    // The driver keeps the first stream's own memory for later ones.
    upload(&gpu, &pieces, OPTIONS, &mut well).unwrap();
    let before = gpu.memory().unwrap();
    let n = AtomicUsize::new(0);
    let mut fail = |_: &Stream, _: DevicePtr, index: usize| {
        n.fetch_add(1, Ordering::Relaxed);
        if index == 20 { Err(CudaError::NotBuilt) } else { Ok(()) }
    };
    assert_eq!(upload(&gpu, &pieces, OPTIONS, &mut fail), Err(CudaError::NotBuilt));
    assert_eq!(n.load(Ordering::Relaxed), 21);
    let panicked = Mutex::new(());
    let caught = std::panic::catch_unwind(|| {
        let _poisoned = panicked.lock();
        let mut panic = |_: &Stream, _: DevicePtr, index: usize| {
            assert!(index < 20, "a panic in the placement");
            Ok(())
        };
        upload(&gpu, &pieces, OPTIONS, &mut panic)
    });
    assert!(caught.is_err());
    let large = UploadOptions { chunk_bytes: 1000, ..OPTIONS };
    let error = upload(&gpu, &pieces, large, &mut fail);
    assert_eq!(error, Err(CudaError::PieceTooLarge { index: 0, bytes: 1 << 20, limit: 1000 }));
    assert_eq!(gpu.memory().unwrap(), before);
    upload(&gpu, &pieces, OPTIONS, &mut well).unwrap();
    assert_eq!(gpu.memory().unwrap(), before);
}
