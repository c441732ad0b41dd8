//! A chat's events, made from its text's where they are taken.

use engine::Canceller;

use super::{ChatDelta, ChatEvent, Finish};
use crate::generate::{self, Event, Generation};
use crate::{StopReason, ValidRequest, Worker, WorkerError};

/// A chat's events. Dropping it cancels the request.
#[derive(Debug)]
pub struct ChatGeneration {
    text: Generation,
}

pub(crate) fn start(worker: &Worker, request: ValidRequest) -> Result<ChatGeneration, WorkerError> {
    Ok(ChatGeneration { text: generate::start(worker, request)? })
}

impl ChatGeneration {
    /// Waits for the next event; `None` after the terminal one.
    pub async fn recv(&mut self) -> Option<ChatEvent> {
        self.text.recv().await.map(told_apart)
    }

    /// Waits for the next event on this thread, which must not be one that runs async tasks; `None` after the terminal one.
    pub fn next_blocking(&mut self) -> Option<ChatEvent> {
        self.text.next_blocking().map(told_apart)
    }

    /// Asks for the end; the terminal event follows within a step.
    pub fn cancel(&self) {
        self.text.cancel();
    }

    /// A handle that cancels from elsewhere.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.text.canceller()
    }
}

fn told_apart(event: Event) -> ChatEvent {
    match event {
        Event::Started { n_prompt, seed } => ChatEvent::Started { n_prompt, seed },
        Event::Delta { text, tokens } => ChatEvent::Delta(ChatDelta {
            content: text,
            is_content: vec![true; tokens.len()],
            tokens,
            ..ChatDelta::default()
        }),
        Event::End { reason, usage, timings } => {
            let finish = match reason {
                StopReason::Token(_) | StopReason::Text(_) => Finish::Stop,
                StopReason::Length => Finish::Length,
                StopReason::Cancelled => Finish::Cancelled,
                StopReason::Deadline => Finish::Deadline,
            };
            ChatEvent::End { reason, finish, usage, timings, n_reasoning: 0 }
        }
        Event::Error(error) => ChatEvent::Error(error),
    }
}
