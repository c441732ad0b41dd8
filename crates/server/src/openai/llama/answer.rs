//! Answers in llama-server's form: `content`, and at the end why it ended, what it cost and how it was asked for.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use worker::receipt::Receipt;
use worker::{Event, Sampled, StopReason, ValidRequest};

use crate::error::ApiError;
use crate::openai::choices::{Answer, Told};
use crate::openai::logprobs::llama as likely;
use crate::openai::usage::Timings;
use crate::sse;
use crate::state::Served;

use super::settings::Settings;

/// No place of its own computes an answer.
pub(super) const NO_SLOT: i32 = -1;

/// Tokens of each field that were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::openai) struct Cut {
    pub(in crate::openai) input_prefix: usize,
    pub(in crate::openai) input_suffix: usize,
    pub(in crate::openai) input_extra: usize,
}

/// What a response looks like, apart from what is in it.
#[derive(Clone, Debug, Default)]
pub(in crate::openai) struct Answered {
    pub(in crate::openai) is_stream: bool,
    /// Whether a whole answer lists its tokens; a stream's events do.
    pub(in crate::openai) with_tokens: bool,
    pub(in crate::openai) with_probabilities: bool,
    /// The fields of a whole answer or of a last event; all where empty.
    pub(in crate::openai) fields: Vec<String>,
    /// Of a gap in a file, what was left out around it.
    pub(in crate::openai) cut: Option<Cut>,
    /// Fields of the request that were not used.
    pub(in crate::openai) ignored: Vec<String>,
}

/// All answers of a response.
pub(in crate::openai) struct LlamaAnswer {
    served: Arc<Served>,
    shape: Answered,
    each: Vec<One>,
}

/// An answer under way.
#[derive(Debug)]
struct One {
    /// As ids: text is made of them when it is told.
    prompt: Arc<[u32]>,
    seed: u64,
    settings: Value,
    /// What was not told yet: all of it where it is no stream.
    content: String,
    tokens: Vec<u32>,
    probabilities: Vec<Value>,
    n_predicted: usize,
    has_new_line: bool,
    end: Value,
}

/// More of an answer.
#[derive(Debug, Serialize)]
struct More<'a> {
    index: usize,
    content: &'a str,
    tokens: &'a [u32],
    stop: bool,
    id_slot: i32,
    tokens_predicted: usize,
    tokens_evaluated: usize,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    completion_probabilities: &'a [Value],
}

/// The end of an answer, with all of it where it is no stream.
#[derive(Debug, Serialize)]
struct End<'a> {
    index: usize,
    content: &'a str,
    tokens: &'a [u32],
    id_slot: i32,
    stop: bool,
    model: &'a str,
    tokens_predicted: usize,
    tokens_evaluated: usize,
    generation_settings: &'a Value,
    prompt: String,
    has_new_line: bool,
    /// Whether anything was left out of the prompt, or the answer ended since the context was full.
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_left_out: Option<Cut>,
    stop_type: &'static str,
    stopping_word: &'a str,
    tokens_cached: usize,
    seed: u64,
    timings: Timings,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    completion_probabilities: &'a [Value],
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Receipt>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ignored_parameters: &'a [String],
}

impl LlamaAnswer {
    pub(in crate::openai) fn new(
        served: Arc<Served>,
        shape: Answered,
        requests: &[ValidRequest],
    ) -> LlamaAnswer {
        let one = |request: &ValidRequest| One {
            prompt: Arc::clone(request.prompt()),
            seed: request.seed(),
            settings: Settings::of(request, shape.is_stream).json(),
            content: String::new(),
            tokens: Vec::new(),
            probabilities: Vec::new(),
            n_predicted: 0,
            has_new_line: false,
            end: Value::Null,
        };
        LlamaAnswer { served, each: requests.iter().map(one).collect(), shape }
    }

    /// More of an answer, sent where it is a stream.
    fn more(&mut self, index: usize, text: &str, sampled: &[Sampled]) -> Vec<Bytes> {
        let Some(one) = self.each.get_mut(index) else { return Vec::new() };
        one.content.push_str(text);
        one.has_new_line |= text.contains('\n');
        one.n_predicted += sampled.len();
        if self.shape.with_tokens || self.shape.is_stream {
            one.tokens.extend(sampled.iter().map(|token| token.token));
        }
        if self.shape.with_probabilities {
            one.probabilities.extend(sampled.iter().map(|token| likely(&self.served.worker, token)));
        }
        // A token that is no text yet comes with the next that is.
        if !self.shape.is_stream || one.content.is_empty() {
            return Vec::new();
        }
        let frame = sse::data(&More {
            index,
            content: &one.content,
            tokens: &one.tokens,
            stop: false,
            id_slot: NO_SLOT,
            tokens_predicted: one.n_predicted,
            tokens_evaluated: one.prompt.len(),
            completion_probabilities: &one.probabilities,
        });
        one.content.clear();
        one.tokens.clear();
        one.probabilities.clear();
        vec![frame]
    }

    fn end(
        &mut self,
        index: usize,
        (reason, receipt): (&StopReason, Option<Receipt>),
        (usage, timings): (worker::Usage, worker::Timings),
    ) -> Vec<Bytes> {
        let Some(one) = self.each.get_mut(index) else { return Vec::new() };
        let (stop_type, stopping_word) = match reason {
            StopReason::Text(text) => ("word", text.as_str()),
            StopReason::Length => ("limit", ""),
            _ => ("eos", ""),
        };
        let worker = &self.served.worker;
        let is_full =
            stop_type == "limit" && usage.n_prompt + usage.n_generated >= worker.engine().capacity();
        let end = json!(End {
            index,
            content: &one.content,
            tokens: &one.tokens,
            id_slot: NO_SLOT,
            stop: true,
            model: &self.served.info.id,
            tokens_predicted: usage.n_generated,
            tokens_evaluated: usage.n_prompt,
            generation_settings: &one.settings,
            prompt: worker.tokenizer().decode(&one.prompt, true),
            has_new_line: one.has_new_line,
            truncated: is_full || self.shape.cut.is_some_and(|cut| cut != Cut::default()),
            tokens_left_out: self.shape.cut,
            stop_type,
            stopping_word,
            tokens_cached: usage.n_cached,
            seed: one.seed,
            timings: Timings::new(usage, timings),
            completion_probabilities: &one.probabilities,
            receipt,
            ignored_parameters: &self.shape.ignored,
        });
        let end = if self.shape.fields.is_empty() { end } else { only(&self.shape.fields, &end) };
        if self.shape.is_stream {
            return vec![sse::data(&end)];
        }
        one.end = end;
        Vec::new()
    }
}

/// These fields of an answer. `a/b` is the field b of a; a field that is not there is left out.
fn only(fields: &[String], answer: &Value) -> Value {
    let found = fields.iter().filter_map(|field| {
        let value = field.split('/').try_fold(answer, |value, name| value.get(name))?;
        Some((field.clone(), value.clone()))
    });
    Value::Object(found.collect::<Map<String, Value>>())
}

impl Answer for LlamaAnswer {
    type Event = Event;

    fn take(&mut self, index: usize, Told { event, receipt }: Told<Event>) -> Vec<Bytes> {
        match event {
            Event::Delta { text, tokens } => self.more(index, &text, &tokens),
            Event::End { reason, usage, timings } => self.end(index, (&reason, receipt), (usage, timings)),
            // Known before, taken out before, or not wanted.
            Event::Started { .. } | Event::Error(_) | Event::Prompt(_) => Vec::new(),
        }
    }

    fn finish(&mut self) -> Vec<Bytes> {
        Vec::new()
    }

    fn fail(&mut self, error: &ApiError) -> Vec<Bytes> {
        vec![sse::data(&error.openai())]
    }

    fn is_stream(&self) -> bool {
        self.shape.is_stream
    }

    /// One answer stands by itself, several in a list.
    fn whole(mut self) -> Value {
        match self.each.as_mut_slice() {
            [one] => one.end.take(),
            all => all.iter_mut().map(|one| one.end.take()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_chosen_by_their_paths() {
        let answer = json!({"a": 1, "b": {"c": [2], "d": 3}});
        let chosen = only(&["a".to_owned(), "b/c".to_owned(), "b/x".to_owned(), "y".to_owned()], &answer);
        assert_eq!(chosen, json!({"a": 1, "b/c": [2]}));
    }
}
