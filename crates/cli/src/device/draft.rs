//! A draft model beside the model: opened, compared and planned with it, and on the same device.

use std::sync::Arc;

use anyhow::Context;
use cpu::{CpuExecutor, Threads};
use cuda::CudaExecutor;
use device::Executor;
use gguf::Gguf;
use hub::ModelRef;
use model::Model;
use tokenizer::Tokenizer;

use super::{Chosen, FileArgs, Files, Guarded, Opened, Shape, read_tokenizer, unsupported};
use crate::exit::Failure;
use crate::fetch::{self, FetchArgs};
use crate::log::LogArgs;
use crate::memory::Needed;

/// The most sequences that are drafted for at once: where more run, steps are full without guesses.
const MAX_SLOTS: usize = 8;

/// A draft model whose vocabulary is the model's, not yet on the device.
pub(crate) struct Draft {
    gguf: Gguf,
    model: Arc<Model>,
    /// What was given for it.
    reference: ModelRef,
}

impl Draft {
    /// Reads what a file says, and refuses one whose ids do not mean what `tokenizer`'s do.
    pub(crate) fn open(
        reference: &ModelRef,
        tokenizer: &Tokenizer,
        fetch: FetchArgs,
        log: &LogArgs,
    ) -> anyhow::Result<Draft> {
        let read = || -> anyhow::Result<Draft> {
            let gguf = Gguf::open(&fetch::path_of(reference, fetch, log)?)?;
            let model = Arc::new(Model::load(&gguf)?);
            let refuse = |text: String| Err(Failure::Unsupported(text).into());
            if let Err(difference) = tokenizer.same_ids(&read_tokenizer(&gguf)?) {
                return refuse(format!("its vocabulary is not the model's: {difference}"));
            }
            if model.architecture.n_state() > 0 {
                return refuse(
                    "its recurrent layers keep a state that a wrong guess would change".to_owned(),
                );
            }
            Ok(Draft { gguf, model, reference: reference.clone() })
        };
        read().with_context(|| format!("--draft-model {reference}"))
    }

    /// Its name for clients, who get no paths.
    pub(super) fn public_name(&self) -> String {
        match &self.reference {
            ModelRef::Path(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            hub => hub.to_string(),
        }
    }

    /// The sequences that it is planned for beside a model with these.
    fn shape(shape: Shape, model: &Model) -> Shape {
        // It computes a prompt piece by piece, beside the model's own steps.
        let (n_ctx, n_slot) = (Some(shape.n_ctx(model)), shape.n_slot.min(MAX_SLOTS));
        Shape { n_ctx, n_slot, n_page: None, few_rows: true, ..shape }
    }

    /// What it takes on a CPU beside a model of this shape.
    pub(crate) fn needed_on_cpu(&self, shape: Shape, model: &Model, kernels: super::CpuKernels) -> Needed {
        let options = Draft::shape(shape, model).cpu_options(&self.model, 1, kernels);
        Needed::on_cpu(options.plan(&self.model), &options)
    }

    /// The same on a GPU.
    pub(crate) fn needed_on_cuda(&self, shape: Shape, model: &Model, ordinal: u32) -> anyhow::Result<Needed> {
        let options = Draft::shape(shape, model).cuda_options(&self.model, ordinal)?;
        let needed = Needed::on_cuda(&self.model, &options).map_err(|what| unsupported(&what));
        needed.with_context(|| format!("--draft-model {}", self.reference))
    }
}

impl Opened {
    /// With a draft model beside the model: planned, refused and loaded together.
    pub(crate) fn with_draft(self, draft: Option<Draft>) -> Opened {
        Opened { draft, ..self }
    }

    /// Puts the draft model on the device, on the same threads.
    pub(super) fn load_draft(
        &self,
        mut draft: Draft,
        shape: Shape,
        threads: Option<Threads>,
    ) -> anyhow::Result<Box<dyn Executor>> {
        let shape = Draft::shape(shape, &self.model);
        let context = format!("--draft-model {}", draft.reference);
        match &self.chosen {
            Chosen::Cpu => {
                settle(self.file, &mut draft.gguf, &mut draft.model)?;
                let options = shape.cpu_options(&draft.model, self.threads, self.kernels);
                let threads = threads.unwrap_or_else(|| Threads::new(self.threads));
                let executor = CpuExecutor::on_threads(Arc::clone(&draft.model), &options, threads);
                let executor: Box<dyn Executor> = Box::new(executor.context(context)?);
                let files = Files::new(&draft.gguf, !self.file.no_mmap);
                files.check_load()?;
                Ok(Box::new(Guarded { executor, files }))
            }
            Chosen::Cuda(gpu) => {
                let mut options = shape.cuda_options(&draft.model, gpu.ordinal)?;
                options.load_threads = self.threads.min(options.load_threads);
                options.residency_interval = self.residency_interval.unwrap_or(options.residency_interval);
                let needed = Needed::on_cuda(&draft.model, &options).map_err(|what| unsupported(&what))?;
                let executor = CudaExecutor::new(&draft.model, &options, &mut |_, _| {})
                    .map_err(|error| gpu.refusal(error, &needed))
                    .context(context)?;
                Files::new(&draft.gguf, true).check_load()?;
                Ok(Box::new(executor))
            }
        }
    }
}

/// Takes a file's bytes into memory, as the flags say. What was read from it so far is of the same file, or this is an error.
pub(super) fn settle(file: FileArgs, gguf: &mut Gguf, model: &mut Arc<Model>) -> anyhow::Result<()> {
    if let Some(path) = gguf.paths().first().filter(|_| file.no_mmap) {
        let read = Gguf::read(path)?;
        *model = Arc::new(Model::load(&read)?);
        let mapped = std::mem::replace(gguf, read);
        mapped.check_files().map_err(|change| device::ExecutorError::ModelLost(change.to_string()))?;
    }
    if file.mlock { Ok(gguf.lock()?) } else { Ok(()) }
}
