//! Where does the model run? The one place that picks a device and puts a model on it.
//!
//! `auto` says what it chose in the first line of the log; no other choice is ever made in place of the one that was asked for.
//! [`choose`] decides, [`gpu`] knows what can be found on a machine, [`bandwidth`] measures a device's memory.

mod bandwidth;
mod choose;
mod context;
mod draft;
mod gpu;
mod guard;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cpu::{CpuExecutor, Threads};
use cuda::CudaExecutor;
use device::{Executor, ExecutorError};
use gguf::Gguf;
use hub::ModelRef;
use model::{KvType, Model};
use tokenizer::Tokenizer;

pub(crate) use self::choose::{Chosen, CpuKernels, Device, DeviceArgs, choose};
pub(crate) use self::context::{beyond_training, default_ctx};
pub(crate) use self::draft::Draft;
pub(crate) use self::gpu::{Gpu, unsupported};
use self::guard::Guarded;
pub(crate) use self::guard::{Files, Look};
use crate::exit::Failure;
use crate::fetch;
use crate::log::LogArgs;
use crate::machine;
use crate::memory::Needed;
use crate::named::Named;
use crate::numbers::{self, at_least_one};
use crate::progress::{Copied, Progress};

/// The flags of every command that computes with a model.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Model and device")]
pub(crate) struct ModelArgs {
    #[command(flatten)]
    pub(crate) model: Named,
    #[command(flatten)]
    pub(crate) fetch: fetch::FetchArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Threads that compute on the CPU, or copy weights to a GPU [default: the physical cores this process may use]
    #[arg(long, short = 't', value_name = "N", value_parser = numbers::threads)]
    threads: Option<NonZeroUsize>,
    /// Context length: tokens of prompt and answer together [default: the model's training context, at most 4096]
    #[arg(long, short = 'c', alias = "ctx-size", value_name = "N", value_parser = at_least_one)]
    pub(crate) ctx: Option<NonZeroUsize>,
    /// MiB of the file that loading copies at once [default: 16 to a GPU, 8 on the CPU]
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u16).range(8..=1024))]
    load_chunk_mb: Option<u16>,
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    kv: KvArgs,
    /// Seconds between checks that the model is still in the GPU's own memory [default: 60]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    residency_check_sec: Option<u32>,
}

/// How a CPU has the model's file.
#[derive(clap::Args, Clone, Copy, Debug)]
struct FileArgs {
    /// CPU: read the file into memory instead of mapping it, so that later changes of the file have no effect
    #[arg(long)]
    no_mmap: bool,
    /// CPU: lock the model in memory, so that it is never swapped out or read again from the disk
    #[arg(long)]
    mlock: bool,
}

/// The flags of the KV cache.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct KvArgs {
    /// Data type of the KV cache: f16, or q8_0 in about half of the memory
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = kv_type)]
    pub(crate) kv_type: KvType,
}

/// Reads the name of a type for a flag.
pub(crate) fn kv_type(text: &str) -> Result<KvType, String> {
    let found = KvType::ALL.into_iter().find(|kv_type| kv_type.name() == text);
    found.ok_or_else(|| format!("expected {}", KvType::ALL.map(KvType::name).join(" or ")))
}

impl ModelArgs {
    /// The same flags for another model.
    pub(crate) fn of(&self, model: ModelRef) -> ModelArgs {
        ModelArgs { model: Named(model), ..self.clone() }
    }

    /// These flags, but with what decides a result as others have it: context, type of the KV cache, arithmetic.
    pub(crate) fn computing(&self, others: &ModelArgs) -> ModelArgs {
        let mut args = self.of(others.model.0.clone());
        (args.ctx, args.kv, args.device.exact) = (others.ctx, others.kv, others.device.exact);
        args
    }

    /// What decides a result, as flags.
    pub(crate) fn flags(&self) -> Vec<String> {
        let ctx = self.ctx.iter().map(|n| format!("--ctx={n}"));
        let kv_type = format!("--kv-type={}", self.kv.kv_type.name());
        let exact = self.device.exact.then(|| "--exact".to_owned());
        ctx.chain([kv_type]).chain(exact).collect()
    }

    /// One sequence, as the flags have it.
    pub(crate) fn shape(&self) -> Shape {
        let n_ctx = self.ctx.map(NonZeroUsize::get);
        Shape { n_ctx, kv_type: self.kv.kv_type, ..Shape::one_sequence() }
    }
}

/// Copies of recurrent layers' state that are kept for later prompts, for each sequence at once: one where a conversation goes on, one where
/// prompts part.
const SNAPSHOTS_A_SLOT: usize = 2;

/// How much a command wants to compute at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Tokens a sequence; `None` for the default of the model.
    pub(crate) n_ctx: Option<usize>,
    /// Sequences at once.
    pub(crate) n_slot: usize,
    /// Pages of the KV cache; `None` for a full context for each sequence.
    pub(crate) n_page: Option<usize>,
    /// How keys and values are kept.
    pub(crate) kv_type: KvType,
    /// Whether a GPU's steps are to have few rows, since memory is short.
    pub(crate) few_rows: bool,
}

impl Shape {
    /// One sequence of the default length.
    pub(crate) fn one_sequence() -> Shape {
        Shape { n_ctx: None, n_slot: 1, n_page: None, kv_type: KvType::F16, few_rows: false }
    }

    fn n_ctx(self, model: &Model) -> usize {
        self.n_ctx.unwrap_or_else(|| default_ctx(&model.architecture))
    }

    fn n_snapshot(self) -> usize {
        SNAPSHOTS_A_SLOT.saturating_mul(self.n_slot)
    }

    /// What the CPU executor is asked for.
    pub(crate) fn cpu_options(self, model: &Model, threads: usize, kernels: CpuKernels) -> cpu::Options {
        let n_row = cpu::Options::default().n_row.max(self.n_slot);
        let n_ctx = self.n_ctx(model);
        cpu::Options {
            threads,
            exact: kernels.exact,
            isa: kernels.isa,
            n_ctx,
            n_slot: self.n_slot,
            n_row,
            n_page: self.n_page,
            n_snapshot: self.n_snapshot(),
            kv_type: self.kv_type,
        }
    }

    /// What the executor of a GPU is asked for.
    ///
    /// # Errors
    /// More sequences than it can have.
    pub(crate) fn cuda_options(self, model: &Model, ordinal: u32) -> Result<cuda::Options, Failure> {
        if self.n_slot > cuda::MAX_SLOTS {
            let text = format!(
                "expected at most {} sequences at once on a GPU, found {}",
                cuda::MAX_SLOTS,
                self.n_slot
            );
            return Err(Failure::Usage(text));
        }
        let options = cuda::Options {
            ordinal,
            n_ctx: self.n_ctx(model),
            n_slot: self.n_slot,
            n_page: self.n_page,
            n_snapshot: self.n_snapshot(),
            kv_type: self.kv_type,
            ..cuda::Options::default()
        };
        Ok(if self.few_rows { options } else { options.with_many_rows(model) })
    }
}

/// A model whose device is chosen, not yet on it.
pub(crate) struct Opened {
    /// The file.
    pub(crate) gguf: Gguf,
    /// The model.
    pub(crate) model: Arc<Model>,
    chosen: Chosen,
    threads: usize,
    kernels: CpuKernels,
    load_chunk: Option<usize>,
    residency_interval: Option<Duration>,
    file: FileArgs,
    draft: Option<Draft>,
    began: Instant,
}

/// A model on its device.
pub(crate) struct Loaded {
    /// The file.
    pub(crate) gguf: Gguf,
    /// What happens to it.
    pub(crate) files: Files,
    /// The model.
    pub(crate) model: Arc<Model>,
    /// On the device.
    pub(crate) executor: Box<dyn Executor>,
    /// A draft model beside it.
    pub(crate) draft: Option<Box<dyn Executor>>,
    /// What was given for the draft model, without the folder of a path.
    pub(crate) draft_name: Option<String>,
    /// The GPU's number, if it is one.
    pub(crate) gpu: Option<u32>,
    /// Its compute capability, such as 90.
    pub(crate) sm: Option<u32>,
    /// The version of CUDA that its driver is for.
    pub(crate) cuda_version: Option<String>,
    /// Threads that compute, or loaded.
    pub(crate) threads: usize,
    /// The kernels, for people.
    pub(crate) kernels: String,
    /// From opening the file to being ready.
    pub(crate) load_time: Duration,
    /// The part of it in which weights moved.
    pub(crate) copied: Copied,
}

/// The tokenizer of a file, or of a tokenizer.json beside it.
pub(crate) fn open_tokenizer(gguf: &Gguf) -> anyhow::Result<Tokenizer> {
    let tokenizer = read_tokenizer(gguf)?;
    tokenizer.notices().iter().for_each(|notice| tracing::warn!("{notice}"));
    Ok(tokenizer)
}

fn read_tokenizer(gguf: &Gguf) -> anyhow::Result<Tokenizer> {
    let beside = gguf.paths().first().and_then(|path| path.parent());
    Ok(Tokenizer::from_gguf(gguf.metadata(), beside)?)
}

/// Chooses the device that the flags ask for and reads what the file says about its model.
pub(crate) fn open(args: &ModelArgs, log: &LogArgs) -> anyhow::Result<Opened> {
    Ok(open_and(args, log, |_| Ok(()))?.0)
}

/// The same, and the file's tokenizer.
pub(crate) fn open_with_tokenizer(args: &ModelArgs, log: &LogArgs) -> anyhow::Result<(Opened, Tokenizer)> {
    let (opened, tokenizer) = open_and(args, log, read_tokenizer)?;
    tokenizer.notices().iter().for_each(|notice| tracing::warn!("{notice}"));
    Ok((opened, tokenizer))
}

/// Opens device and file side by side, because a GPU takes its time and neither needs the other. `read` takes from the file what else is
/// wanted; it says nothing to the log, whose first line is the device's.
fn open_and<T: Send>(
    args: &ModelArgs,
    log: &LogArgs,
    read: impl FnOnce(&Gguf) -> anyhow::Result<T> + Send,
) -> anyhow::Result<(Opened, T)> {
    let mut began = Instant::now();
    let threads = args.threads.map_or_else(machine::default_threads, NonZeroUsize::get);
    let read_file = |path: &Path| -> anyhow::Result<_> {
        let gguf = Gguf::open(fetch::there(path)?)?;
        let model = Model::load(&gguf)?;
        let read = read(&gguf)?;
        Ok((gguf, Arc::new(model), read))
    };
    let (chosen, (gguf, model, read)) = match &args.model.0 {
        ModelRef::Path(path) => {
            let (chosen, file) = thread::scope(|scope| {
                let file = scope.spawn(|| read_file(path));
                let chosen = choose(&args.device, threads);
                (chosen, file.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            });
            (chosen?, file?)
        }
        // Nothing is fetched for a device that is not there, and what fetching takes is not loading.
        hub @ (ModelRef::Hub(_) | ModelRef::Repo(_)) => {
            let chosen = choose(&args.device, threads)?;
            let path = fetch::path_with_room(hub, args.fetch, chosen.room().as_ref(), log)?;
            began = Instant::now();
            (chosen, read_file(&path)?)
        }
    };
    let load_chunk = args.load_chunk_mb.map(|mb| usize::from(mb) << 20);
    let residency_interval = args.residency_check_sec.map(|seconds| Duration::from_secs(seconds.into()));
    let (kernels, file) = (args.device.cpu_kernels(), args.file);
    if matches!(chosen, Chosen::Cuda(_)) && (file.no_mmap || file.mlock) {
        let text = "--no-mmap and --mlock are for the CPU: on a GPU the file is not needed after loading";
        return Err(Failure::Usage(text.to_owned()).into());
    }
    let draft = None;
    let opened =
        Opened { gguf, model, chosen, threads, kernels, load_chunk, residency_interval, file, draft, began };
    Ok((opened, read))
}

impl Opened {
    /// GB/s that the device's memory gives, and how that was found. Leaves no trace in what loading is said to take.
    pub(crate) fn bandwidth(&mut self) -> anyhow::Result<(f64, &'static str)> {
        let began = Instant::now();
        let found = match &self.chosen {
            Chosen::Cpu => bandwidth::of_cpu(self.threads),
            Chosen::Cuda(gpu) => bandwidth::of_gpu(&gpu.device).map_err(|error| gpu.failure(error))?,
        };
        machine::forget_peak();
        self.began += began.elapsed();
        Ok(found)
    }

    /// The device: `cpu` or `cuda:N`.
    pub(crate) fn device(&self) -> String {
        match &self.chosen {
            Chosen::Cpu => "cpu".to_owned(),
            Chosen::Cuda(gpu) => gpu.id(),
        }
    }

    /// Whether the device is a GPU.
    pub(crate) fn is_on_gpu(&self) -> bool {
        matches!(self.chosen, Chosen::Cuda(_))
    }

    /// Chooses the size of the KV cache for many sequences: as many bytes as asked for, else a full context for each of them, else what the device
    /// has room for. Never less than one full context, which is then for loading to refuse.
    pub(crate) fn fit(&self, shape: Shape, kv_bytes: Option<u64>) -> anyhow::Result<Shape> {
        let pages = |n_page| Shape { n_page: Some(n_page), ..shape };
        let n_full = self.needed(shape)?.pages.pages;
        let n_least = self.needed(Shape { n_slot: 1, ..shape })?.pages.pages.max(1);
        let n_most = match kv_bytes {
            Some(bytes) => {
                let of_one = self.needed(pages(1))?.kv_cache.max(1);
                n_full.max(usize::try_from(bytes / of_one).unwrap_or(usize::MAX))
            }
            None => n_full,
        };
        let free = match &self.chosen {
            // The rest of the machine wants to live too.
            Chosen::Cpu => machine::memory_free().map_or(u64::MAX, |free| free / 2),
            Chosen::Cuda(gpu) => gpu.device.memory().map_err(|error| gpu.failure(error))?.free,
        };
        let has_room = |needed: Needed| match kv_bytes {
            Some(bytes) => needed.kv_cache <= bytes,
            None => needed.in_all() <= free,
        };
        // The most pages that there is room for: the more pages the more bytes, though not evenly where layers have windows.
        let most = |few_rows| -> anyhow::Result<usize> {
            let (mut fits, mut too_many) = (0, n_most.saturating_add(1));
            while fits + 1 < too_many {
                let middle = fits + (too_many - fits) / 2;
                let needed = self.needed(Shape { few_rows, ..pages(middle) })?;
                *(if has_room(needed) { &mut fits } else { &mut too_many }) = middle;
            }
            Ok(fits)
        };
        // Steps are short where else not even one context would fit.
        let fits = most(shape.few_rows)?;
        if fits >= n_least || shape.few_rows {
            return Ok(pages(fits.max(n_least)));
        }
        Ok(Shape { few_rows: true, ..pages(most(true)?.max(n_least)) })
    }

    /// What the model and its draft model take.
    pub(crate) fn needed(&self, shape: Shape) -> anyhow::Result<Needed> {
        let (needed, draft) = match &self.chosen {
            Chosen::Cpu => {
                let options = shape.cpu_options(&self.model, self.threads, self.kernels);
                let of_draft = |draft: &Draft| draft.needed_on_cpu(shape, &self.model, self.kernels);
                (Needed::on_cpu(options.plan(&self.model), &options), self.draft.as_ref().map(of_draft))
            }
            Chosen::Cuda(gpu) => {
                let options = shape.cuda_options(&self.model, gpu.ordinal)?;
                let of_draft = |draft: &Draft| draft.needed_on_cuda(shape, &self.model, gpu.ordinal);
                let needed = Needed::on_cuda(&self.model, &options).map_err(|what| unsupported(&what))?;
                (needed, self.draft.as_ref().map(of_draft).transpose()?)
            }
        };
        Ok(draft.map_or(needed, |draft| needed.beside(&draft)))
    }

    /// Puts the model on its device, if it fits.
    pub(crate) fn load(mut self, mut shape: Shape, log: &LogArgs) -> anyhow::Result<Loaded> {
        if let Chosen::Cuda(gpu) = &self.chosen {
            let free = gpu.device.memory().map_err(|error| gpu.failure(error))?.free;
            shape.few_rows |= self.needed(shape)?.in_all() > free;
        }
        let (needed, on_device) = match &self.chosen {
            Chosen::Cpu => self.load_cpu(shape, log)?,
            Chosen::Cuda(gpu) => self.load_cuda(gpu, shape, log)?,
        };
        let OnDevice { executor, threads, kernels, copied } = on_device;
        let draft = self.draft.take().filter(|_| executor.limits().n_guess > 0);
        let draft_name = draft.as_ref().map(Draft::public_name);
        let draft = draft.map(|draft| self.load_draft(draft, shape, threads)).transpose()?;
        // While it is loaded a file is needed whatever the device.
        Files::new(&self.gguf, true).check_load()?;
        let are_needed = matches!(self.chosen, Chosen::Cpu) && !self.file.no_mmap;
        let files = Files::new(&self.gguf, are_needed);
        let executor: Box<dyn Executor> = match are_needed {
            true => Box::new(Guarded { executor, files: files.clone() }),
            false => executor,
        };
        let load_time = self.began.elapsed();
        let limits = executor.limits();
        let n_position = limits.n_page.saturating_mul(limits.page_size);
        tracing::info!(
            "loaded in {:.2} s, {copied}: {needed}; {n_position} positions in the KV cache; kernels {kernels}",
            load_time.as_secs_f64()
        );
        if let Some(notice) = needed.cache_notice() {
            tracing::info!("{notice}");
        }
        if let Some(notice) = beyond_training(&self.model.architecture, limits.n_ctx) {
            tracing::warn!("{notice}");
        }
        let gpu = match &self.chosen {
            Chosen::Cpu => None,
            Chosen::Cuda(gpu) => Some(gpu),
        };
        Ok(Loaded {
            executor,
            draft,
            draft_name,
            gpu: gpu.map(|gpu| gpu.ordinal),
            sm: gpu.map(Gpu::sm),
            cuda_version: gpu.map(Gpu::cuda_version),
            gguf: self.gguf,
            files,
            model: self.model,
            threads: self.threads,
            kernels,
            load_time,
            copied,
        })
    }

    fn load_cpu(&mut self, shape: Shape, log: &LogArgs) -> anyhow::Result<(Needed, OnDevice)> {
        let options = shape.cpu_options(&self.model, self.threads, self.kernels);
        let needed = self.needed(shape)?;
        needed.check("cpu", machine::memory_free())?;
        draft::settle(self.file, &mut self.gguf, &mut self.model)?;
        let copied = Progress::start(log).read(&self.gguf, self.load_chunk);
        let executor = CpuExecutor::new(Arc::clone(&self.model), &options).map_err(|error| match error {
            ExecutorError::Device(text) => Failure::Usage(text).into(),
            error => anyhow::Error::from(error),
        })?;
        let (kernels, threads) = (executor.kernels(), Some(executor.threads()));
        Ok((needed, OnDevice { executor: Box::new(executor), threads, kernels, copied }))
    }

    fn load_cuda(&self, gpu: &Gpu, shape: Shape, log: &LogArgs) -> anyhow::Result<(Needed, OnDevice)> {
        let mut options = shape.cuda_options(&self.model, gpu.ordinal)?;
        options.load_chunk = self.load_chunk.unwrap_or(options.load_chunk);
        options.load_threads = self.threads.min(options.load_threads);
        options.residency_interval = self.residency_interval.unwrap_or(options.residency_interval);
        let needed = self.needed(shape)?;
        let free = gpu.device.memory().map_err(|error| gpu.failure(error))?.free;
        needed.check(&gpu.id(), Some(free))?;
        let mut progress = Progress::start(log);
        let executor = CudaExecutor::new(&self.model, &options, &mut |done, total| progress.at(done, total))
            .map_err(|error| gpu.refusal(error, &needed))?;
        progress.finish();
        let stats = executor.load_stats();
        let copied = Copied { n_bytes: stats.n_bytes, seconds: stats.seconds };
        let (executor, kernels) = (Box::new(executor), gpu.kernels());
        Ok((needed, OnDevice { executor, threads: None, kernels, copied }))
    }
}

/// What loading made.
struct OnDevice {
    executor: Box<dyn Executor>,
    /// Of a CPU.
    threads: Option<Threads>,
    kernels: String,
    copied: Copied,
}
