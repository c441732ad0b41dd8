//! How fast do weights get onto the device? Uploads a file from the page cache: `cargo bench -p cuda --bench upload -- [GB]`.
//!
//! Prints what opening the device takes, and the upload's time (the median of five, the least and the most) with buffers of several sizes and several numbers
//! of threads.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::fs::File;
use std::io::Write as _;
use std::time::Instant;

use cuda::driver::{Device, DeviceMemory, DevicePtr, Stream};
use cuda::upload::{Piece, UploadOptions, upload};

fn main() {
    let start = Instant::now();
    let device = match Device::open(0) {
        Ok(device) => device,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    println!("{device:?} opened in {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    let start = Instant::now();
    for (_, fatbin) in cuda::MODULES {
        cuda::driver::Module::load(&device, fatbin).expect("a module of this build");
    }
    println!("{} modules loaded in {:.0} ms", cuda::MODULES.len(), start.elapsed().as_secs_f64() * 1e3);
    let n_gb: usize = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(2);
    let path = std::env::temp_dir().join(format!("worker-orcd-upload-{}.bin", std::process::id()));
    write(&path, n_gb << 30).expect("room for the file");
    // SAFETY: nobody else writes to the file.
    let map = || unsafe { memmap2::Mmap::map(&File::open(&path).expect("the file")).expect("a mapping") };
    let target = DeviceMemory::new(&device, 256 << 20).expect("256 MB");
    for (chunk_mb, n_chunk, n_thread) in [
        (16, 6, 8),
        (1, 6, 8),
        (2, 6, 8),
        (4, 6, 8),
        (8, 6, 8),
        (16, 6, 8),
        (32, 6, 8),
        (64, 6, 8),
        (256, 6, 8),
        (1, 96, 8),
        (8, 12, 8),
        (16, 12, 8),
        (32, 4, 8),
        (16, 6, 1),
        (16, 6, 2),
        (16, 6, 4),
        (16, 6, 12),
        (16, 6, 16),
    ] {
        let options = UploadOptions { chunk_bytes: chunk_mb << 20, n_chunk, n_thread };
        let map = map();
        let pieces: Vec<Piece<'_>> = map.chunks(options.chunk_bytes).map(|src| Piece { src }).collect();
        let mut place = |stream: &Stream, staged: DevicePtr, index: usize| {
            stream.memcpy_d2d_async(target.address(), staged, pieces[index].src.len() as u64)
        };
        let mut times = [(); 5].map(|()| {
            let start = Instant::now();
            upload(&device, &pieces, options, &mut place).expect("an upload");
            start.elapsed().as_secs_f64()
        });
        times.sort_unstable_by(f64::total_cmp);
        println!(
            "{n_chunk:2} chunks of {chunk_mb:3} MB, {n_thread:2} threads: {:6.1} ms, {:5.1} GB/s; {:.1} to {:.1} ms",
            times[2] * 1e3,
            map.len() as f64 / times[2] / 1e9,
            times[0] * 1e3,
            times[4] * 1e3
        );
    }
    let _ = std::fs::remove_file(&path);
}

fn write(path: &std::path::Path, bytes: usize) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let block: Vec<u8> = (0..1usize << 24).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for _ in 0..bytes / block.len() {
        file.write_all(&block)?;
    }
    Ok(())
}
