//! A receipt's answer once more: the same request, read in the same way.

use engine::{Canceller, EngineError};

use super::{Receipt, StopRecord};
use crate::{ChatEvent, ChatGeneration, Event, Generation, StopReason, Worker, WorkerError, request};

/// Another run of a receipt's request.
#[derive(Debug)]
pub enum Replay {
    /// Of a text.
    Plain(Generation),
    /// Of a conversation.
    Chat(Box<ChatGeneration>),
}

impl Receipt {
    /// Runs its request again, with the prompt's ids.
    ///
    /// # Errors
    /// What stands in the receipt that no request may ask of this worker.
    pub fn replay(&self, worker: &Worker, prompt: Vec<u32>) -> Result<Replay, WorkerError> {
        let mut request = self.parameters.request();
        if self.stop == StopRecord::Interrupted {
            // What came after the interruption, nobody knows.
            request.max_tokens = Some(self.answer.len().max(1));
            request.min_tokens = request.min_tokens.min(self.answer.len().max(1));
        }
        let form = self.parameters.form()?;
        let is_chat = form.chat.is_some();
        let valid = request::check_as(worker, request, prompt, form)?;
        Ok(match is_chat {
            true => Replay::Chat(worker.chat(valid)?.into()),
            false => Replay::Plain(worker.start(valid)?),
        })
    }
}

impl Replay {
    /// A handle that cancels from elsewhere.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        match self {
            Replay::Plain(generation) => generation.canceller(),
            Replay::Chat(generation) => generation.canceller(),
        }
    }

    /// Waits for the tokens and the end on this thread, which must not be one that runs async tasks.
    ///
    /// # Errors
    /// What the engine failed of.
    pub fn wait(self) -> Result<(Vec<u32>, StopReason), EngineError> {
        let mut answer = Vec::new();
        let mut add = |tokens: &[device::Sampled]| answer.extend(tokens.iter().map(|sampled| sampled.token));
        let reason = match self {
            Replay::Plain(mut generation) => loop {
                match generation.next_blocking() {
                    Some(Event::Started { .. } | Event::Prompt(_)) => {}
                    Some(Event::Delta { tokens, .. }) => add(&tokens),
                    Some(Event::End { reason, .. }) => break reason,
                    Some(Event::Error(error)) => return Err(error),
                    None => return Err(EngineError::Stopped),
                }
            },
            Replay::Chat(mut generation) => loop {
                match generation.next_blocking() {
                    Some(ChatEvent::Started { .. } | ChatEvent::Prompt(_)) => {}
                    Some(ChatEvent::Delta(delta)) => add(&delta.tokens),
                    Some(ChatEvent::End { reason, .. }) => break reason,
                    Some(ChatEvent::Error(error)) => return Err(error),
                    None => return Err(EngineError::Stopped),
                }
            },
        };
        Ok((answer, reason))
    }
}
