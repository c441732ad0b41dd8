//! The kernels of sample.cu on one device.

use std::sync::Arc;

use super::args::{SampleArgs, SampleBeginArgs};
use super::shape::{Hardware, SampleLimits, Spread, spread};
use crate::driver::{Device, DevicePtr, Function, LaunchShape, Module, Stream, launch};
use crate::error::CudaError;
use crate::launch::file::File;

/// `SAMPLE_BEGIN_IDS` of sample.cu.
const BEGIN_IDS: usize = 2048;

/// Threads of a block of `sample_check`, each for a row.
const CHECK_THREADS: u32 = 64;

/// The sampler's buffers on the device, of the sizes that [`SampleLimits::bytes`] gives. `rows`, `area` and `out` may also be pinned memory of
/// the host under its device address.
#[derive(Clone, Copy, Debug)]
pub struct SampleBuffers {
    /// The step's [`SampleRow`](super::SampleRow)s.
    pub rows: DevicePtr,
    /// The step's masks and biases.
    pub area: DevicePtr,
    /// Each slot's last sampled token: `[n_slot]` u32.
    pub last: DevicePtr,
    /// How often each id stands in each slot's answer; the top bit says whether in its prompt. `[n_slot, n_vocab]` u32.
    pub counts: DevicePtr,
    /// The step's [`SampleOut`](super::SampleOut)s.
    pub out: DevicePtr,
    /// Zero before the first use.
    pub scratch: DevicePtr,
}

/// The sampler, ready for one device and vocabulary.
#[derive(Clone)]
pub struct SampleKernels {
    team_8: Function,
    team_16: Function,
    begin: Function,
    check: Function,
    hardware: Hardware,
    n_vocab: usize,
}

impl SampleKernels {
    /// Loads the kernels.
    ///
    /// # Errors
    /// If this build has none for the device, or the device has no room for a row of this vocabulary.
    pub fn new(device: &Arc<Device>, limits: SampleLimits) -> Result<SampleKernels, CudaError> {
        let module = Module::load(device, File::Sample.fatbin()?)?;
        let n_vocab = limits.n_vocab;
        let function = |name| module.function(name);
        let (team_8, team_16) = (function("sample_8")?, function("sample_16")?);
        let (begin, check) = (function("sample_begin")?, function("sample_check")?);
        let mut hardware = Hardware {
            // Of the code that was loaded: PTX of an older architecture has no clusters on a newer device either.
            clusters: team_8.cluster_width()? == 8,
            large_clusters: false,
            n_sm: device.n_sm(),
            max_shared_bytes: device.max_shared_bytes(),
        };
        for function in [&team_8, &team_16] {
            function.set_max_dynamic_shared(hardware.max_shared_bytes)?;
        }
        if hardware.clusters {
            // Refused where clusters end at 8.
            let with_large = Hardware { large_clusters: true, ..hardware };
            let shape = spread(with_large, n_vocab, 1).filter(|s| s.team == 16).map(|s| s.shape);
            let room = shape.map(|shape| {
                team_16.allow_large_clusters()?;
                team_16.clusters_at_once(shape)
            });
            hardware.large_clusters = matches!(room, Some(Ok(n)) if n > 0);
        }
        let kernels = SampleKernels { team_8, team_16, begin, check, hardware, n_vocab };
        kernels.spread(1)?;
        Ok(kernels)
    }

    fn spread(&self, n_row: u32) -> Result<Spread, CudaError> {
        spread(self.hardware, self.n_vocab, n_row).ok_or(CudaError::InsufficientMemory {
            // Of the 16 blocks that share a row.
            needed: self.n_vocab as u64 * 4 / 16,
            free: self.hardware.max_shared_bytes.into(),
        })
    }

    /// Samples from `logits`, `[n_row, n_vocab]` f32, for the first `n_row` rows of `buffers.rows`, into as many of `buffers.out`. The launch
    /// depends on `n_row` alone, so it may be captured.
    ///
    /// # Errors
    /// If the driver refuses the launch.
    pub fn launch(
        &self,
        stream: &Stream,
        buffers: &SampleBuffers,
        logits: DevicePtr,
        n_row: u32,
    ) -> Result<(), CudaError> {
        if n_row == 0 {
            return Ok(());
        }
        let spread = self.spread(n_row)?;
        let args = self.args(buffers, logits, (n_row, spread.segment));
        launch(stream, if spread.team == 16 { &self.team_16 } else { &self.team_8 }, spread.shape, &args)
    }

    fn args(&self, buffers: &SampleBuffers, logits: DevicePtr, (n_row, segment): (u32, u32)) -> SampleArgs {
        SampleArgs {
            logits,
            rows: buffers.rows,
            area: buffers.area,
            last: buffers.last,
            counts: buffers.counts,
            out: buffers.out,
            scratch: buffers.scratch,
            n_vocab: self.n_vocab as i32,
            n_row: n_row.cast_signed(),
            segment: segment.cast_signed(),
            reserved: 0,
        }
    }

    /// After [`launch`](SampleKernels::launch): of each slot's checked rows, keeps those up to and with the first whose token is not the guess after
    /// it. Their tokens are counted, the last of them is the slot's, and the first row's result says how many they are.
    ///
    /// # Errors
    /// If the driver refuses the launch.
    pub fn check(&self, stream: &Stream, buffers: &SampleBuffers, n_row: u32) -> Result<(), CudaError> {
        let args = self.args(buffers, DevicePtr(0), (n_row, 0));
        let shape = LaunchShape {
            grid: [n_row.div_ceil(CHECK_THREADS).max(1), 1, 1],
            block: [CHECK_THREADS, 1, 1],
            shared_bytes: 0,
            // It follows a graph, which is waited for as a whole.
            pdl: false,
            cluster: 1,
        };
        launch(stream, &self.check, shape, &args)
    }

    /// Starts sequences in slots: `n_begin` records of [`SampleBegin`](super::SampleBegin) at `begins`, whose prompts are u32 at `ids`, both in
    /// device or pinned memory. Nothing is sampled yet there, and the prompts' ids count as seen. Ids past the vocabulary are not.
    ///
    /// # Errors
    /// If the driver refuses the launch.
    pub fn begin(
        &self,
        stream: &Stream,
        buffers: &SampleBuffers,
        (begins, n_begin): (DevicePtr, u32),
        ids: DevicePtr,
    ) -> Result<(), CudaError> {
        if n_begin == 0 {
            return Ok(());
        }
        let args = SampleBeginArgs {
            begins,
            ids,
            last: buffers.last,
            counts: buffers.counts,
            n_vocab: self.n_vocab as i32,
            reserved: 0,
        };
        let shape = LaunchShape {
            grid: [self.n_vocab.div_ceil(BEGIN_IDS) as u32, n_begin, 1],
            block: [256, 1, 1],
            shared_bytes: 0,
            // Its inputs are copied just before, and a copy is not waited for by such a launch's kernel.
            pdl: false,
            cluster: 1,
        };
        launch(stream, &self.begin, shape, &args)
    }
}
