//! What fills a gap, as llama-server's clients read it: `content`, and at the end why it ended and what it cost.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use worker::receipt::Receipt;
use worker::{Event, StopReason};

use crate::error::ApiError;
use crate::openai::choices::{Answer, Told};
use crate::openai::usage::Timings;
use crate::sse;

/// Tokens of each field that were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Cut {
    pub(super) input_prefix: usize,
    pub(super) input_suffix: usize,
    pub(super) input_extra: usize,
}

/// An answer under way.
pub(super) struct InfillAnswer {
    model: String,
    seed: u64,
    cut: Cut,
    is_stream: bool,
    ignored: Vec<String>,
    /// All of it, where it is no stream.
    content: String,
    n_prompt: usize,
    n_predicted: usize,
    end: Option<Value>,
}

/// More of an answer.
#[derive(Debug, Serialize)]
struct More<'a> {
    index: usize,
    content: &'a str,
    stop: bool,
    tokens_predicted: usize,
    tokens_evaluated: usize,
}

/// The end of an answer, with all of it where it is no stream.
#[derive(Debug, Serialize)]
struct End<'a> {
    index: usize,
    content: &'a str,
    stop: bool,
    model: &'a str,
    tokens_predicted: usize,
    tokens_evaluated: usize,
    tokens_cached: usize,
    /// Whether anything was left out of the prompt.
    truncated: bool,
    tokens_left_out: Cut,
    stop_type: &'static str,
    stopping_word: &'a str,
    seed: u64,
    timings: Timings,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Receipt>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ignored_parameters: &'a [String],
}

impl InfillAnswer {
    pub(super) fn new(
        model: String,
        seed: u64,
        cut: Cut,
        (is_stream, ignored): (bool, Vec<String>),
    ) -> InfillAnswer {
        let (content, n_prompt, n_predicted) = (String::new(), 0, 0);
        InfillAnswer { model, seed, cut, is_stream, ignored, content, n_prompt, n_predicted, end: None }
    }
}

impl Answer for InfillAnswer {
    type Event = Event;

    fn take(&mut self, index: usize, Told { event, receipt }: Told<Event>) -> Vec<Bytes> {
        match event {
            Event::Started { n_prompt, .. } => {
                self.n_prompt = n_prompt;
                Vec::new()
            }
            Event::Delta { text, tokens } => {
                self.n_predicted += tokens.len();
                if !self.is_stream {
                    self.content.push_str(&text);
                    return Vec::new();
                }
                if text.is_empty() {
                    return Vec::new();
                }
                let (tokens_predicted, tokens_evaluated) = (self.n_predicted, self.n_prompt);
                vec![sse::data(&More {
                    index,
                    content: &text,
                    stop: false,
                    tokens_predicted,
                    tokens_evaluated,
                })]
            }
            Event::End { reason, usage, timings } => {
                let (stop_type, stopping_word) = match &reason {
                    StopReason::Text(text) => ("word", text.as_str()),
                    StopReason::Length => ("limit", ""),
                    _ => ("eos", ""),
                };
                self.end = Some(json!(End {
                    index,
                    content: &self.content,
                    stop: true,
                    model: &self.model,
                    tokens_predicted: usage.n_generated,
                    tokens_evaluated: usage.n_prompt,
                    tokens_cached: usage.n_cached,
                    truncated: self.cut != Cut::default(),
                    tokens_left_out: self.cut,
                    stop_type,
                    stopping_word,
                    seed: self.seed,
                    timings: Timings::new(usage, timings),
                    receipt,
                    ignored_parameters: &self.ignored,
                }));
                Vec::new()
            }
            // Taken out before, or not wanted.
            Event::Error(_) | Event::Prompt(_) => Vec::new(),
        }
    }

    fn finish(&mut self) -> Vec<Bytes> {
        self.end.take().map(|end| sse::data(&end)).into_iter().collect()
    }

    fn fail(&mut self, error: &ApiError) -> Vec<Bytes> {
        vec![sse::data(&error.openai())]
    }

    fn is_stream(&self) -> bool {
        self.is_stream
    }

    fn whole(self) -> Value {
        self.end.unwrap_or_default()
    }
}
