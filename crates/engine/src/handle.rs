//! The engine's thread, and the handle through which the rest of the program reaches it.
//!
//! The thread owns the executor. It sleeps while there is nothing to do and looks for new requests between steps. An error or a panic in the
//! executor ends it: every request hears of it, and later ones are refused with the same error.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use model::{Executor, Limits, MemoryReport};

use crate::engine::{Core, EngineOptions};
use crate::error::panic_message;
use crate::load::{Counters, Load};
use crate::pages::PagePool;
use crate::sequence::Waiting;
use crate::stream::{Event, Outbox, Place, Stream};
use crate::{EngineError, EngineRequest};

/// Starts engines.
#[derive(Debug)]
pub struct Engine;

/// Reaches a running engine. When the last clone is dropped, the engine finishes what it has accepted and ends.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    commands: Sender<Command>,
    shared: Arc<Shared>,
}

/// Whether the engine takes requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Running,
    /// It was told to shut down, or already has.
    Stopping,
    /// The device failed.
    Failed(EngineError),
}

/// How an engine is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// After what it has accepted.
    Drain,
    /// After the step under way; unfinished requests end with [`EngineError::Stopped`].
    Abort,
}

#[derive(Debug)]
enum Command {
    Submit(Box<Waiting>),
    Shutdown(Shutdown),
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    memory: MemoryReport,
    pool: PagePool,
    counters: Arc<Counters>,
    n_unfinished: Arc<AtomicUsize>,
    max_unfinished: usize,
    health: Mutex<Health>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Moves the executor to a thread of its own and runs requests on it.
    ///
    /// # Errors
    /// When the operating system starts no thread.
    pub fn spawn(executor: Box<dyn Executor>, options: EngineOptions) -> io::Result<EngineHandle> {
        let core = Core::new(executor, options);
        let limits = core.executor().limits();
        let shared = Arc::new(Shared {
            limits,
            memory: core.executor().memory(),
            pool: core.pool(),
            counters: core.counters(),
            n_unfinished: Arc::default(),
            max_unfinished: limits.n_slot.saturating_add(options.n_waiting),
            health: Mutex::new(Health::Running),
            thread: Mutex::new(None),
        });
        let (commands, inbox) = channel();
        let for_thread = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name("engine".to_owned()).spawn(move || run(core, &inbox, &for_thread))?;
        *lock(&shared.thread) = Some(thread);
        Ok(EngineHandle { commands, shared })
    }
}

impl EngineHandle {
    /// Hands a request to the engine.
    ///
    /// # Errors
    /// [`EngineError::Request`] for one that can never run here, [`EngineError::Busy`] for one too many,
    /// [`EngineError::Failed`] or [`EngineError::Stopped`] when the engine takes none.
    pub fn submit(&self, request: EngineRequest) -> Result<Stream, EngineError> {
        match self.health() {
            Health::Running => {}
            Health::Stopping => return Err(EngineError::Stopped),
            Health::Failed(error) => return Err(error),
        }
        let request = request.check(&self.shared.limits)?;
        let place = Place::take(&self.shared.n_unfinished, self.shared.max_unfinished)?;
        let (outbox, stream) = Outbox::open(place);
        let waiting = Box::new(Waiting::new(request, outbox, &self.shared.limits));
        // Where the engine has just ended, the outbox comes back in the error and closes the stream.
        let _ended = self.commands.send(Command::Submit(waiting));
        Ok(stream)
    }

    /// The executor's limits.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// Tokens a request can have, prompt and answer together: the context, or what the KV cache holds if that is less.
    #[must_use]
    pub fn capacity(&self) -> usize {
        EngineRequest::capacity(&self.shared.limits)
    }

    /// What the executor said of its memory when the engine started.
    #[must_use]
    pub fn memory(&self) -> MemoryReport {
        self.shared.memory.clone()
    }

    /// Whether it takes requests.
    #[must_use]
    pub fn health(&self) -> Health {
        lock(&self.shared.health).clone()
    }

    /// How busy it is.
    #[must_use]
    pub fn load(&self) -> Load {
        let counted = self.shared.counters.load();
        let n_unfinished = self.shared.n_unfinished.load(Ordering::Relaxed);
        Load {
            n_unfinished,
            n_waiting: n_unfinished.saturating_sub(counted.n_running),
            max_unfinished: self.shared.max_unfinished,
            n_free_page: self.shared.pool.n_free(),
            n_page: self.shared.limits.n_page,
            ..counted
        }
    }

    /// Takes no more requests, lets the engine end as told and waits for that. May be called again, to turn a drain that
    /// another thread waits for into an abort; then that thread goes on waiting and this one does not.
    pub fn shutdown(&self, how: Shutdown) {
        {
            let mut health = lock(&self.shared.health);
            if *health == Health::Running {
                *health = Health::Stopping;
            }
        }
        let _ended = self.commands.send(Command::Shutdown(how));
        let thread = lock(&self.shared.thread).take();
        if let Some(thread) = thread {
            let _panicked = thread.join();
        }
    }
}

/// The thread: until it is shut down, is out of reach or fails.
fn run(mut core: Core, inbox: &Receiver<Command>, shared: &Shared) {
    let result = catch_unwind(AssertUnwindSafe(|| serve(&mut core, inbox)))
        .unwrap_or_else(|panic| Err(EngineError::Failed(format!("panic: {}", panic_message(&*panic)))));
    let error = result.err().unwrap_or(EngineError::Stopped);
    *lock(&shared.health) = match &error {
        EngineError::Stopped => Health::Stopping,
        error => {
            tracing::error!(%error, "the engine ends");
            Health::Failed(error.clone())
        }
    };
    core.fail(&error);
    for command in inbox.try_iter() {
        if let Command::Submit(waiting) = command {
            waiting.finish(Event::Error(error.clone()));
        }
    }
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(core))) {
        tracing::error!(panic = panic_message(&*panic), "the executor panicked as it was dropped");
    }
}

fn serve(core: &mut Core, inbox: &Receiver<Command>) -> Result<(), EngineError> {
    let mut draining = false;
    loop {
        if draining && core.is_idle() {
            return Ok(());
        }
        let command = if core.is_idle() {
            inbox.recv().map_err(|RecvError| TryRecvError::Disconnected)
        } else {
            inbox.try_recv()
        };
        match command {
            Ok(Command::Submit(waiting)) => core.enqueue(*waiting),
            Ok(Command::Shutdown(Shutdown::Abort)) => return Ok(()),
            Ok(Command::Shutdown(Shutdown::Drain)) => draining = true,
            Err(TryRecvError::Empty) => core.step()?,
            Err(TryRecvError::Disconnected) => {
                draining = true;
                if !core.is_idle() {
                    core.step()?;
                }
            }
        }
    }
}

/// Values behind these locks are replaced whole, so a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
