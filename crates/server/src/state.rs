//! What do all routes share? The model once it is there, the phase of the process's life, and the jobs under way.
//!
//! Phases go one way: loading, ready, draining; failed can follow any of them. [`App::phase`] is the truth that /health tells.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use tokio::sync::watch;
use worker::receipt::Origin;
use worker::{EngineError, Health, Worker};

use crate::admission::{Admission, Budget, Pool};
use crate::auth::Keys;
use crate::error::ApiError;
use crate::host::Hosts;
use crate::jobs::Jobs;
use crate::kv_events::KvEvents;
use crate::metrics::Metrics;
use crate::openai::Store;
use crate::options::ServerOptions;

/// How far the process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The model is not there yet.
    Loading,
    /// Requests are taken.
    Ready,
    /// Running requests finish, new ones are refused.
    Draining,
    /// The engine or the device is of no more use.
    Failed(EngineError),
}

/// What the routes share. Clones are the same.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    options: ServerOptions,
    phase: watch::Sender<Phase>,
    is_cut: AtomicBool,
    is_file_replaced: AtomicBool,
    served: OnceLock<Arc<Served>>,
    jobs: Jobs,
    responses: Store,
    keys: RwLock<Arc<Keys>>,
    hosts: Hosts,
    metrics: Metrics,
    kv_events: Option<KvEvents>,
    admission: Admission,
    began: Instant,
}

/// The model that is served.
#[derive(Debug)]
pub struct Served {
    /// Answers requests.
    pub worker: Worker,
    /// What there is to know of it.
    pub info: ModelInfo,
    /// What its receipts have in common.
    pub origin: Origin,
}

impl Served {
    /// Whether a template of the model's has a variable of this name.
    pub(crate) fn template_names(&self, variable: &str) -> bool {
        let tokenizer = self.worker.tokenizer();
        let templates = [tokenizer.chat_template(), tokenizer.named_chat_template("tool_use")];
        templates.into_iter().flatten().any(|template| template.names(variable))
    }
}

/// What there is to know of the model.
#[derive(Clone, Debug, Default)]
pub struct ModelInfo {
    /// The name that clients use.
    pub id: String,
    /// Other names that clients may use.
    pub aliases: Vec<String>,
    /// What the operator gave for the model.
    pub reference: String,
    /// The name of its draft model, if it has one.
    pub draft_model: Option<String>,
    /// When it was ready, in seconds since 1970.
    pub created: u64,
    /// Weights.
    pub n_params: u64,
    /// Bytes of the file.
    pub n_bytes: u64,
    /// Tokens of context that it was trained with.
    pub n_ctx_train: usize,
    /// What the file calls its quantisation, such as `Q4_K_M`; else the commonest format of its weights.
    pub quant_kind: String,
    /// `gguf-bpe`, `gguf-spm` or `hf-json`.
    pub tokenizer_kind: String,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// The kernels, for people.
    pub kernels: String,
    /// A GPU's compute capability, such as 90.
    pub sm: Option<u32>,
    /// The version of CUDA that the driver is for, such as 13.0.
    pub cuda_version: Option<String>,
    /// This program's version, and its commit where that is known.
    pub program: String,
}

impl App {
    /// An app whose model is still loading.
    #[must_use]
    pub fn new(options: ServerOptions) -> App {
        let metrics = Metrics::default();
        App(Arc::new(Inner {
            kv_events: options.kv_events.as_ref().map(|options| metrics.kv_events(options)),
            keys: RwLock::new(Arc::new(options.security.keys.clone())),
            hosts: Hosts::new(options.bind.ip(), &options.security.allowed_hosts),
            metrics,
            admission: Admission::new(options.limits.budget_bytes.max(options.limits.body_bytes)),
            options,
            phase: watch::Sender::new(Phase::Loading),
            is_cut: AtomicBool::new(false),
            is_file_replaced: AtomicBool::new(false),
            served: OnceLock::new(),
            jobs: Jobs::default(),
            responses: Store::default(),
            began: Instant::now(),
        }))
    }

    /// How the server is set up.
    #[must_use]
    pub fn options(&self) -> &ServerOptions {
        &self.0.options
    }

    /// The model is there: requests are taken, unless the process is already ending. Only the first call counts.
    pub fn set_ready(&self, served: Served) {
        if let Some(Err(error)) = self.kv_events().map(|events| events.follow(&served)) {
            tracing::error!(event = "error", %error, "no thread for the KV cache's events: none are published");
        }
        let _second = self.0.served.set(Arc::new(served));
        self.0.phase.send_if_modified(|phase| {
            let is_next = *phase == Phase::Loading;
            if is_next {
                *phase = Phase::Ready;
            }
            is_next
        });
    }

    /// New requests are refused from now on; running ones finish.
    pub fn drain(&self) {
        let is_first = self.0.phase.send_if_modified(|phase| {
            let is_next = matches!(phase, Phase::Loading | Phase::Ready);
            if is_next {
                *phase = Phase::Draining;
            }
            is_next
        });
        if is_first {
            let n_unfinished = self.served().map_or(0, |served| served.worker.engine().load().n_unfinished);
            let seconds = self.options().drain_timeout.as_secs_f64();
            tracing::info!(
                event = "draining",
                n_unfinished,
                "new requests are refused; waiting at most {seconds} s for {n_unfinished} running ones"
            );
        }
    }

    /// The same, and running requests get no more time: each ends now, with its last event.
    pub fn cut(&self) {
        self.0.is_cut.store(true, Ordering::Relaxed);
        self.drain();
    }

    /// Whether running requests get no more time.
    pub(crate) fn is_cut(&self) -> bool {
        self.0.is_cut.load(Ordering::Relaxed)
    }

    /// The engine is of no more use.
    pub(crate) fn fail(&self, error: EngineError) {
        self.0.phase.send_replace(Phase::Failed(error));
    }

    /// The model's file is not what it was when it was opened, so nothing computed from it is of use.
    pub fn lose_model(&self, reason: String) {
        self.fail(EngineError::ModelLost(reason));
    }

    /// The path of the model's file leads to another one, or to none, by now. The model that is served is the one that was loaded.
    pub fn set_file_replaced(&self) {
        self.0.is_file_replaced.store(true, Ordering::Relaxed);
    }

    /// Whether the path of the model's file leads to another one, or to none, by now.
    pub(crate) fn is_file_replaced(&self) -> bool {
        self.0.is_file_replaced.load(Ordering::Relaxed)
    }

    /// How far the process is. The engine is asked too, so that its failure is known as soon as it is its own.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.served().map(|served| served.worker.engine().health()) {
            Some(Health::Failed(error)) => Phase::Failed(error),
            _ => self.0.phase.borrow().clone(),
        }
    }

    /// Tells of every change of phase.
    pub(crate) fn watch(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// The model, whatever the phase; `None` while it loads.
    #[must_use]
    pub fn served(&self) -> Option<&Arc<Served>> {
        self.0.served.get()
    }

    /// The model, if requests are taken.
    ///
    /// # Errors
    /// Why they are not.
    pub fn ready(&self) -> Result<Arc<Served>, ApiError> {
        match (self.phase(), self.served()) {
            (Phase::Ready, Some(served)) => Ok(Arc::clone(served)),
            (Phase::Failed(error), _) => Err(error.into()),
            (Phase::Draining, _) => Err(ApiError::Draining),
            (Phase::Loading | Phase::Ready, _) => Err(ApiError::Loading),
        }
    }

    /// The jobs under way.
    pub(crate) fn jobs(&self) -> &Jobs {
        &self.0.jobs
    }

    /// The conversations that are kept.
    pub(crate) fn responses(&self) -> &Store {
        &self.0.responses
    }

    /// The keys that are accepted.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.0.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Accepts these keys from now on. Requests under way go on.
    pub fn set_keys(&self, keys: Keys) {
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// The names that the server answers to.
    pub(crate) fn hosts(&self) -> &Hosts {
        &self.0.hosts
    }

    /// What publishes the prefix cache's events, if anything does.
    pub(crate) fn kv_events(&self) -> Option<&KvEvents> {
        self.0.kv_events.as_ref()
    }

    /// The server's numbers.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// What requests may hold before the engine has them.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.0.admission.budget
    }

    /// The threads that prepare requests.
    pub(crate) fn pool(&self) -> &Pool {
        &self.0.admission.pool
    }

    /// When the process began.
    pub(crate) fn began(&self) -> Instant {
        self.0.began
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("phase", &self.phase()).finish_non_exhaustive()
    }
}
