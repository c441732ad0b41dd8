//! The engine's thread, and the handle through which the rest of the program reaches it.
//!
//! The thread owns the executor. It sleeps while there is nothing to do and looks for new requests between steps. An error or a panic in the
//! executor ends it: every request hears of it, and later ones are refused with the same error. So they do where the executor hangs, but
//! then it is the watchdog that says so.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use device::{Executor, Limits, MemoryReport};

use crate::cache_events::{self, CacheListener, Listening};
use crate::engine::{Core, EngineOptions};
use crate::error::panic_message;
use crate::load::{Counters, Load};
use crate::pages::PagePool;
use crate::places::Places;
use crate::stall::{self, Call, CallClock};
use crate::stream::{OpenRequests, Stream};
use crate::waiting::Waiting;
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
    Tell(Listening),
    Shutdown(Shutdown),
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    memory: Mutex<MemoryReport>,
    pool: PagePool,
    counters: Arc<Counters>,
    clock: Arc<CallClock>,
    open: OpenRequests,
    max_unfinished: usize,
    health: Mutex<Health>,
    /// Whether the thread has ended or was given up.
    ended: Mutex<bool>,
    end: Condvar,
}

impl Shared {
    fn set_ended(&self) {
        *lock(&self.ended) = true;
        self.end.notify_all();
    }

    /// What the watchdog does: the engine's thread hangs, so nothing here may wait for it.
    fn give_up(&self, error: &EngineError) {
        tracing::error!(%error, "the engine is given up");
        *lock(&self.health) = Health::Failed(error.clone());
        self.open.close(error);
        self.set_ended();
    }
}

impl Engine {
    /// Moves the executor to a thread of its own and runs requests on it.
    ///
    /// # Errors
    /// When the operating system starts no thread.
    pub fn spawn(executor: Box<dyn Executor>, options: EngineOptions) -> io::Result<EngineHandle> {
        Engine::start(Core::new(executor, options)?)
    }

    /// The same, with a draft model beside the model: a second executor whose likeliest tokens are guesses, as [`EngineOptions::speculation`] says. Its ids mean the same
    /// tokens; that is the caller's to check. No token depends on it, and where it fails the engine goes on without it.
    ///
    /// # Errors
    /// When the operating system starts no thread, and for a draft model whose sequences have a state beside their pages: a wrong token of it could not be taken
    /// back.
    pub fn spawn_with_draft(
        executor: Box<dyn Executor>,
        draft: Box<dyn Executor>,
        options: EngineOptions,
    ) -> io::Result<EngineHandle> {
        if draft.limits().n_snapshot.is_some() {
            let text =
                "a draft model: expected pages alone, found recurrent layers, whose state keeps wrong tokens";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Engine::start(Core::new(executor, options)?.with_draft(draft))
    }

    fn start(core: Core) -> io::Result<EngineHandle> {
        let limits = core.executor().limits();
        let max_unfinished = limits.n_slot.saturating_add(core.options().n_waiting);
        let shared = Arc::new(Shared {
            limits,
            memory: Mutex::new(core.memory().map_err(io::Error::other)?),
            pool: core.pool(),
            counters: core.counters(),
            clock: core.clock(),
            open: OpenRequests::new(Places::new(max_unfinished, limits.n_slot)),
            max_unfinished,
            health: Mutex::new(Health::Running),
            ended: Mutex::new(false),
            end: Condvar::new(),
        });
        let (commands, inbox) = channel();
        let for_thread = Arc::clone(&shared);
        let (alive, is_alive) = channel();
        let thread = move || {
            run(core, &inbox, &for_thread);
            drop(alive);
        };
        thread::Builder::new().name("engine".to_owned()).spawn(thread)?;
        let for_watchdog = Arc::clone(&shared);
        stall::watch(Arc::clone(&shared.clock), is_alive, move |error| for_watchdog.give_up(&error))?;
        Ok(EngineHandle { commands, shared })
    }
}

impl EngineHandle {
    /// Hands a request to the engine.
    ///
    /// # Errors
    /// [`EngineError::Request`] for one that can never run here, [`EngineError::Busy`] for one too many,
    /// what the engine failed with or [`EngineError::Stopped`] when it takes none.
    pub fn submit(&self, request: EngineRequest) -> Result<Stream, EngineError> {
        match self.health() {
            Health::Running => {}
            Health::Stopping => return Err(EngineError::Stopped),
            Health::Failed(error) => return Err(error),
        }
        let request = request.check(&self.shared.limits)?;
        let (outbox, stream) = self.shared.open.open(request.client, request.weight)?;
        let waiting = Box::new(Waiting::new(request, outbox, &self.shared.limits));
        // Where the engine has just ended, the outbox comes back in the error and closes the stream.
        let _ended = self.commands.send(Command::Submit(waiting));
        Ok(stream)
    }

    /// Hears from now on which pages of prompts come into the prefix cache and which leave it; who listened before hears no more. At most `n_batch`
    /// steps' events wait to be taken: the engine waits for nobody, and what finds no room is lost and counted.
    #[must_use]
    pub fn listen_to_cache(&self, n_batch: usize) -> CacheListener {
        let (to, listener) = cache_events::listen(n_batch);
        // Where the engine has ended, the listener hears that.
        let _ended = self.commands.send(Command::Tell(to));
        listener
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

    /// Tokens that a prompt without an answer can have ([`EngineRequest::embeds`]).
    #[must_use]
    pub fn longest_embedded(&self) -> usize {
        EngineRequest::longest_embedded(&self.shared.limits)
    }

    /// What the executor said of its memory last: it is asked every [`EngineOptions::memory_every`].
    #[must_use]
    pub fn memory(&self) -> MemoryReport {
        lock(&self.shared.memory).clone()
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
        let n_unfinished = self.shared.open.len();
        // A thread that hangs does not count any more, though its requests have ended.
        let n_running = counted.n_running.min(n_unfinished);
        Load {
            n_unfinished,
            n_running,
            n_waiting: n_unfinished - n_running,
            max_unfinished: self.shared.max_unfinished,
            n_client: self.shared.open.n_client(),
            n_free_page: self.shared.pool.n_free(),
            n_used_page: self.shared.pool.n_used(),
            n_page: self.shared.limits.n_page,
            ..counted
        }
    }

    /// Places for unfinished requests that this client can take now, however many the others have taken.
    #[must_use]
    pub fn n_own_place(&self, client: u64) -> usize {
        let (n, own) = self.shared.open.of(client);
        own.saturating_sub(n)
    }

    /// Takes no more requests, lets the engine end as told and waits until it has released the device, or is given up because it
    /// hangs. May be called again, to turn a drain that another thread waits for into an abort.
    pub fn shutdown(&self, how: Shutdown) {
        {
            let mut health = lock(&self.shared.health);
            if *health == Health::Running {
                *health = Health::Stopping;
            }
        }
        let _ended = self.commands.send(Command::Shutdown(how));
        let mut ended = lock(&self.shared.ended);
        while !*ended {
            ended = self.shared.end.wait(ended).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The thread: until it is shut down, is out of reach or fails.
fn run(mut core: Core, inbox: &Receiver<Command>, shared: &Shared) {
    let result = catch_unwind(AssertUnwindSafe(|| serve(&mut core, inbox, shared)))
        .unwrap_or_else(|panic| Err(EngineError::Failed(format!("panic: {}", panic_message(&*panic)))));
    shared.clock.reset();
    let error = result.err().unwrap_or(EngineError::Stopped);
    *lock(&shared.health) = match &error {
        EngineError::Stopped => Health::Stopping,
        error => {
            tracing::error!(%error, "the engine ends");
            Health::Failed(error.clone())
        }
    };
    core.fail(&error);
    // Those that are still on their way here.
    shared.open.close(&error);
    let dropped = shared.clock.call(Call::Drop, || catch_unwind(AssertUnwindSafe(|| drop(core))));
    if let Ok(Err(panic)) = dropped {
        tracing::error!(panic = panic_message(&*panic), "the executor panicked as it was dropped");
    }
    shared.set_ended();
}

fn serve(core: &mut Core, inbox: &Receiver<Command>, shared: &Shared) -> Result<(), EngineError> {
    let mut draining = false;
    // Asks the executor at once.
    let mut next_look = Duration::ZERO;
    let mut looked = Instant::now();
    loop {
        if draining && core.is_idle() {
            return Ok(());
        }
        if looked.elapsed() >= next_look {
            let memory = core.memory()?;
            let resident = memory.resident;
            *lock(&shared.memory) = memory;
            if !resident {
                return Err(EngineError::NotResident);
            }
            (looked, next_look) = (Instant::now(), core.options().memory_every.max(LEAST_MEMORY_EVERY));
        }
        let command = if core.is_idle() {
            inbox.recv_timeout(next_look.saturating_sub(looked.elapsed())).map_err(|error| match error {
                RecvTimeoutError::Timeout => TryRecvError::Empty,
                RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
            })
        } else {
            inbox.try_recv()
        };
        match command {
            Ok(Command::Submit(waiting)) => core.enqueue(*waiting),
            Ok(Command::Tell(to)) => core.tell(to),
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

/// The executor is not asked for its memory more often.
const LEAST_MEMORY_EVERY: Duration = Duration::from_millis(1);

/// Values behind these locks are replaced whole, so a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
