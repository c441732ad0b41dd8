//! Text in, text stream out.
//!
//! A [`Worker`] joins an engine and a tokenizer. A raw [`Request`] becomes a [`ValidRequest`] (checked, templated, tokenised), a valid
//! request a [`Generation`]: a stream of [`Event`]s whose text is always whole characters and never holds a stop string.
//! Nothing here writes a prompt or an answer anywhere.

pub mod chat;
mod defaults;
pub mod embed;
mod error;
mod generate;
pub mod grammar;
mod infill;
pub mod integers;
mod pump;
pub mod receipt;
mod request;
pub mod stop;
mod text;
mod work;

use std::sync::Arc;

use tokenizer::Tokenizer;

pub use grammar::GrammarLoad;
use grammar::Grammars;

pub use chat::{Chat, ChatDelta, ChatEvent, ChatGeneration, Finish, ToolCallDelta, ToolChoice};
pub use defaults::Defaults;
pub use device::{MemoryReport, Sampled, SamplingParams};
pub use embed::Embedder;
pub use engine::{
    CacheBatch, CacheEvent, CacheListener, Canceller, EngineError, EngineHandle, Health, Load, Scored,
    Shutdown, Timings, Usage, priority,
};
pub use error::WorkerError;
pub use generate::{Event, Generation, StopReason};
pub use infill::{Before, Extra, Filling, GapInFile};
pub use request::{
    Format, MAX_STOP_BYTES, MAX_STOP_STRINGS, MAX_STOP_TOKEN_IDS, Prompt, Request, ValidRequest,
};
pub use tokenizer::Stopped;
pub use work::{Idle, Waiter, Work};

/// What holds for every request of a worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkerOptions {
    /// `max_tokens` of a request that names none; the rest of the context where this does not either. A running request holds
    /// pages for its `max_tokens`, so a server with many clients wants a number here.
    pub default_max_tokens: Option<usize>,
    /// How tokens are chosen where a request does not say. Whoever makes a [`Request`] fills them in: what the worker checks is complete.
    pub defaults: Defaults,
}

/// One model that answers requests. Clones share it.
#[derive(Clone, Debug)]
pub struct Worker {
    engine: EngineHandle,
    tokenizer: Arc<Tokenizer>,
    options: WorkerOptions,
    grammars: Arc<Grammars>,
    embedder: Arc<Embedder>,
}

impl Worker {
    /// Joins an engine and the tokenizer of its model.
    #[must_use]
    pub fn new(engine: EngineHandle, tokenizer: Arc<Tokenizer>, options: WorkerOptions) -> Worker {
        let grammars = Arc::new(Grammars::new(Arc::clone(&tokenizer), engine.limits().n_vocab));
        Worker { engine, tokenizer, options, grammars, embedder: Arc::default() }
    }

    /// The same worker with what its model's file says of vectors and ranks; without it, it is taken for one that says nothing.
    #[must_use]
    pub fn with_embedder(self, embedder: Embedder) -> Worker {
        Worker { embedder: Arc::new(embedder), ..self }
    }

    /// The engine behind it.
    #[must_use]
    pub fn engine(&self) -> &EngineHandle {
        &self.engine
    }

    /// What holds for every request.
    #[must_use]
    pub fn options(&self) -> WorkerOptions {
        self.options
    }

    /// The tokenizer of its model.
    #[must_use]
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// What compiling grammars takes, and what is kept of it.
    #[must_use]
    pub fn grammar_load(&self) -> GrammarLoad {
        self.grammars.load()
    }

    /// How many tokens a text is by itself, control tokens' names taken as text.
    ///
    /// # Errors
    /// [`WorkerError::Tokenizer`] for a text beyond the tokenizer's bounds.
    pub fn count_tokens(&self, text: &str) -> Result<usize, WorkerError> {
        let options = tokenizer::EncodeOptions { add_special: false, parse_special: false };
        Ok(self.tokenizer.encode(text, options)?.len())
    }

    /// Checks a request, renders its conversation and tokenises it.
    ///
    /// # Errors
    /// [`WorkerError::Invalid`] names the field; [`WorkerError::Tokenizer`] and [`WorkerError::NoChatTemplate`] say why there
    /// is no prompt.
    pub fn check(&self, request: Request) -> Result<ValidRequest, WorkerError> {
        self.check_within(request, &Work::default())
    }

    /// The same, given up with [`WorkerError::Stopped`] where the work ends before the prompt is written; the answer ends with the work's deadline too.
    ///
    /// # Errors
    /// Those of [`Worker::check`]; [`WorkerError::Stopped`].
    pub fn check_within(&self, request: Request, work: &Work) -> Result<ValidRequest, WorkerError> {
        request::check(self, request, work)
    }

    /// Starts a checked request.
    ///
    /// # Errors
    /// [`WorkerError::Engine`], where the engine takes no more at present, or ever.
    pub fn start(&self, request: ValidRequest) -> Result<Generation, WorkerError> {
        generate::start(self, request)
    }

    /// Starts a checked request whose answer is told apart into content, reasoning and calls of tools.
    ///
    /// # Errors
    /// [`WorkerError::Engine`], where the engine takes no more at present, or ever.
    pub fn chat(&self, request: ValidRequest) -> Result<ChatGeneration, WorkerError> {
        chat::start(self, request)
    }

    /// The text of a conversation's prompt.
    ///
    /// # Errors
    /// [`WorkerError::Message`], [`WorkerError::Invalid`], [`WorkerError::Tokenizer`] and [`WorkerError::NoChatTemplate`] say why
    /// there is none.
    pub fn render(&self, chat: &Chat) -> Result<String, WorkerError> {
        self.render_within(chat, &Work::default())
    }

    /// The same, given up where the work ends before the prompt is written.
    ///
    /// # Errors
    /// Those of [`Worker::render`]; [`WorkerError::Stopped`].
    pub fn render_within(&self, chat: &Chat, work: &Work) -> Result<String, WorkerError> {
        Ok(chat::render(&self.tokenizer, chat, work)?.text)
    }

    /// The ids of a prompt, whether or not it fits the context.
    ///
    /// # Errors
    /// Those of [`Worker::render`].
    pub fn tokenize(&self, prompt: &Prompt) -> Result<Vec<u32>, WorkerError> {
        self.tokenize_within(prompt, &Work::default())
    }

    /// The same, given up where the work ends before the prompt is written.
    ///
    /// # Errors
    /// Those of [`Worker::render`]; [`WorkerError::Stopped`].
    pub fn tokenize_within(&self, prompt: &Prompt, work: &Work) -> Result<Vec<u32>, WorkerError> {
        request::tokenise(&self.tokenizer, prompt, work)
    }

    /// [`Worker::check`], then [`Worker::start`].
    ///
    /// # Errors
    /// Those of both.
    pub fn generate(&self, request: Request) -> Result<Generation, WorkerError> {
        self.start(self.check(request)?)
    }
}
