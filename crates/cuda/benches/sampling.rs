//! What does sampling add to a step? `cargo bench -p cuda --bench sampling` prints microseconds for 1, 8 and 64 rows, for each way to choose.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::sync::Arc;

use cuda::CudaError;
use cuda::driver::{Device, DeviceMemory, Event, EventKind, Stream};
use cuda::sampling::{Choice, SampleBegin, SampleBuffers, SampleKernels, SampleLimits, StepRows};
use device::sampling::SamplingParams;

const N_VOCAB: usize = 152_064;
const N_SLOT: usize = 64;

/// Launches in a graph, of which the mean is taken.
const N_LAUNCH: u32 = 50;

fn main() {
    let device = match Device::open(0) {
        Ok(device) => device,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    if !cuda::is_built() {
        return eprintln!("skipped: {}", CudaError::NotBuilt);
    }
    measure(&device).expect("a device that works");
}

/// Ways to choose, by name.
fn choices() -> Vec<(&'static str, SamplingParams)> {
    let plain = SamplingParams { seed: 3, ..SamplingParams::default() };
    let greedy = SamplingParams { temperature: 0.0, ..plain.clone() };
    vec![
        ("greedy", greedy.clone()),
        ("plain", plain.clone()),
        ("temperature 0.8", SamplingParams { temperature: 0.8, ..plain.clone() }),
        ("greedy, 20 alternatives", SamplingParams { n_alternatives: 20, ..greedy }),
        ("penalties", SamplingParams { repetition_penalty: 1.1, ..plain.clone() }),
        ("top-k 40", SamplingParams { top_k: 40, ..plain.clone() }),
        ("top-p 0.95", SamplingParams { top_p: 0.95, ..plain.clone() }),
        ("min-p 0.05", SamplingParams { min_p: 0.05, ..plain.clone() }),
        (
            "top-k 40, top-p 0.95, min-p 0.05",
            SamplingParams { top_k: 40, top_p: 0.95, min_p: 0.05, ..plain.clone() },
        ),
        ("typical 0.95", SamplingParams { typical_p: 0.95, ..plain.clone() }),
        ("all", SamplingParams { top_k: 1000, top_p: 0.95, min_p: 0.05, typical_p: 0.95, ..plain }),
    ]
}

fn measure(device: &Arc<Device>) -> Result<(), CudaError> {
    let limits = SampleLimits { n_slot: N_SLOT, n_vocab: N_VOCAB, n_row: N_SLOT, n_guess: 0 };
    let stream = Stream::new(device)?;
    let kernels = SampleKernels::new(device, limits)?;
    let bytes = limits.bytes();
    let sizes = [bytes.rows, bytes.area, bytes.last, bytes.counts, bytes.out, bytes.scratch];
    let memory =
        sizes.into_iter().map(|bytes| DeviceMemory::new(device, bytes)).collect::<Result<Vec<_>, _>>()?;
    for memory in &memory {
        stream.memset_async(memory.address(), 0, memory.bytes())?;
    }
    let at = |i: usize| memory[i].address();
    let buffers =
        SampleBuffers { rows: at(0), area: at(1), last: at(2), counts: at(3), out: at(4), scratch: at(5) };
    let logits = DeviceMemory::new(device, 4 * (N_SLOT * N_VOCAB) as u64)?;
    let begins: Vec<SampleBegin> =
        (0..N_SLOT as u32).map(|slot| SampleBegin { slot, first: 0, n: 3, reserved: 0 }).collect();
    let ids = buffers.area.offset(size_of_val(begins.as_slice()) as u64);
    stream.write(buffers.area, &begins)?;
    stream.write(ids, &[1u32, 2, 3])?;
    kernels.begin(&stream, &buffers, (buffers.area, N_SLOT as u32), ids)?;
    stream.synchronize()?;

    let mut numbers = Numbers(1);
    for (shape, deviation, peak) in [("peaked", 2.5, 22.0), ("normal", 2.5, 0.0), ("flat", 0.01, 0.0)] {
        let mut values: Vec<f32> = (0..N_SLOT * N_VOCAB).map(|_| numbers.normal() * deviation).collect();
        for row in values.chunks_mut(N_VOCAB) {
            for i in 0..30 {
                row[numbers.below(N_VOCAB)] = peak * (1.0 - i as f32 * 0.02);
            }
        }
        stream.write(logits.address(), &values)?;
        for (name, params) in &choices() {
            let mut times = [0.0; 3];
            for (time, n_row) in times.iter_mut().zip([1, 8, 64]) {
                let mut rows = StepRows::default();
                (0..n_row).for_each(|slot| {
                    rows.push(Choice { slot, params, mask: None, position: 7, guesses: None });
                });
                stream.write(buffers.rows, rows.rows())?;
                *time = microseconds(&stream, |stream| {
                    kernels.launch(stream, &buffers, logits.address(), n_row)
                })?;
            }
            println!("{shape}, {name}: {:.2} {:.2} {:.2}", times[0], times[1], times[2]);
        }
    }
    Ok(())
}

/// Of one launch among many in a graph: the median of some graphs.
fn microseconds(
    stream: &Stream,
    launch: impl Fn(&Stream) -> Result<(), CudaError>,
) -> Result<f64, CudaError> {
    let graph = stream.capture(|stream| (0..N_LAUNCH).try_for_each(|_| launch(stream)))?;
    let start = Event::new(stream.device(), EventKind::Timing)?;
    let end = Event::new(stream.device(), EventKind::Timing)?;
    let mut times = Vec::new();
    for _ in 0..12 {
        start.record(stream)?;
        graph.launch(stream)?;
        end.record(stream)?;
        stream.synchronize()?;
        times.push(end.elapsed_since(&start)?.as_secs_f64() * 1e6 / f64::from(N_LAUNCH));
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// A generator (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// About normal: the sum of four 16-bit numbers.
    fn normal(&mut self) -> f32 {
        let bits = self.bits();
        let sum: u64 = (0..4).map(|i| bits >> (16 * i) & 0xFFFF).sum();
        (sum as f32 / 65_536.0 - 2.0) * 1.732
    }

    fn below(&mut self, n: usize) -> usize {
        (((self.bits() >> 32) * n as u64) >> 32) as usize
    }
}
