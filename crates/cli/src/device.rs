//! Where does the model run? The one place that picks a device and puts a model on it.
//!
//! `auto` says what it chose in the first line of the log; no other choice is ever made in place of the one that was asked for.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cpu::CpuExecutor;
use cpu::simd::isa::Isa;
use gguf::Gguf;
use model::{Architecture, Executor, Model};
use tokenizer::Tokenizer;

use crate::cmd::at_least_one;
use crate::exit::Failure;
use crate::log::LogArgs;
use crate::machine;
use crate::memory::Needed;
use crate::progress::Progress;

/// The context of a run where none is given, in tokens, if the model was made for as many.
const DEFAULT_CTX: usize = 4096;

/// The flags of every command that computes with a model.
#[derive(clap::Args, Debug)]
pub(crate) struct ModelArgs {
    /// The GGUF file; any part of a split one
    #[arg(long, short, value_name = "PATH")]
    pub(crate) model: PathBuf,
    /// Where to run: auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: Device,
    /// Threads that compute [default: the physical cores this process may use]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    threads: Option<NonZeroUsize>,
    /// Compute in float32 throughout: slow, the reference
    #[arg(long)]
    pub(crate) exact: bool,
    /// Tokens of context [default: what the model was made for, at most 4096]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) ctx: Option<NonZeroUsize>,
}

/// A device as `--device` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// The best there is.
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda(u32),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Device, String> {
        let index = |text: &str| text.strip_prefix("cuda:")?.parse().ok();
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            other => index(other).map(Device::Cuda).ok_or_else(|| "expected auto, cpu or cuda:N".to_owned()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

/// How much a command wants to compute at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Tokens a sequence; `None` for the default of the model.
    pub(crate) n_ctx: Option<usize>,
    /// Sequences at once.
    pub(crate) n_slot: usize,
}

impl Shape {
    /// One sequence of the default length.
    pub(crate) fn one_sequence() -> Shape {
        Shape { n_ctx: None, n_slot: 1 }
    }

    /// What the CPU executor is asked for.
    pub(crate) fn cpu_options(self, model: &Model, threads: usize, exact: bool) -> cpu::Options {
        let n_ctx = self.n_ctx.unwrap_or_else(|| default_ctx(&model.architecture));
        let n_row = cpu::Options::default().n_row.max(self.n_slot);
        cpu::Options { threads, exact, n_ctx, n_slot: self.n_slot, n_row, ..cpu::Options::default() }
    }
}

/// The context of a run where none is given, in tokens.
pub(crate) fn default_ctx(architecture: &Architecture) -> usize {
    architecture.n_ctx_train.min(DEFAULT_CTX)
}

/// A model whose device is chosen, not yet on it.
pub(crate) struct Opened {
    /// The file.
    pub(crate) gguf: Gguf,
    /// The model.
    pub(crate) model: Arc<Model>,
    threads: usize,
    exact: bool,
    began: Instant,
}

/// A model on its device.
pub(crate) struct Loaded {
    /// The file.
    pub(crate) gguf: Gguf,
    /// The model.
    pub(crate) model: Arc<Model>,
    /// On the device.
    pub(crate) executor: Box<dyn Executor>,
    /// Threads that compute.
    pub(crate) threads: usize,
    /// The kernels, for people.
    pub(crate) kernels: String,
    /// From opening the file to being ready.
    pub(crate) load_time: Duration,
}

/// The tokenizer of a file, or of a tokenizer.json beside it.
pub(crate) fn open_tokenizer(gguf: &Gguf) -> anyhow::Result<Tokenizer> {
    let beside = gguf.paths().first().and_then(|path| path.parent());
    let tokenizer = Tokenizer::from_gguf(gguf.metadata(), beside)?;
    tokenizer.notices().iter().for_each(|notice| tracing::warn!("{notice}"));
    Ok(tokenizer)
}

/// Chooses the device that the flags ask for and reads what the file says about its model.
pub(crate) fn open(args: &ModelArgs) -> anyhow::Result<Opened> {
    let threads = args.threads.map_or_else(machine::default_threads, NonZeroUsize::get);
    match args.device {
        Device::Auto => {
            tracing::info!(
                "device cpu, chosen by auto: {} on {threads} threads; CUDA is not built in",
                Isa::detect()
            );
        }
        Device::Cpu => tracing::info!("device cpu: {} on {threads} threads", Isa::detect()),
        Device::Cuda(_) => {
            let (device, reason) = (args.device.to_string(), "built without CUDA kernels".to_owned());
            return Err(Failure::Device { device, reason }.into());
        }
    }
    let began = Instant::now();
    let gguf = Gguf::open(&args.model)?;
    let model = Arc::new(Model::load(&gguf)?);
    Ok(Opened { gguf, model, threads, exact: args.exact, began })
}

impl Opened {
    /// The file's tokenizer.
    pub(crate) fn tokenizer(&self) -> anyhow::Result<Tokenizer> {
        open_tokenizer(&self.gguf)
    }

    /// Puts the model on its device, if it fits.
    pub(crate) fn load(self, shape: Shape, log: &LogArgs) -> anyhow::Result<Loaded> {
        let Opened { gguf, model, threads, exact, began } = self;
        let options = shape.cpu_options(&model, threads, exact);
        let needed = Needed::planned(options.plan(&model), options.n_ctx, options.n_slot);
        needed.check("cpu")?;
        Progress::start(log).read(&gguf);
        let executor = CpuExecutor::new(Arc::clone(&model), &options)?;
        let load_time = began.elapsed();
        let kernels = executor.kernels();
        tracing::info!("loaded in {:.2} s: {needed}; kernels {kernels}", load_time.as_secs_f64());
        Ok(Loaded { gguf, model, executor: Box::new(executor), threads, kernels, load_time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_exactly() {
        for (text, device) in [("auto", Device::Auto), ("cpu", Device::Cpu), ("cuda:3", Device::Cuda(3))] {
            assert_eq!((text.parse(), device.to_string()), (Ok(device), text.to_owned()));
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }
}
