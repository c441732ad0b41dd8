//! Continuations as JSON: chunk by chunk, or whole. Of prompt p, answer a of n has the index p * n + a.

use std::iter;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use worker::receipt::Receipt;
use worker::{Event, Sampled, Scored, StopReason};

use crate::error::ApiError;
use crate::openai::choices::{self, Answer, Told};
use crate::openai::envelope::Message;
use crate::openai::logprobs::{CompletionLogprobs, by_id};
use crate::openai::usage::{Costs, Report, SoFar, Timings, Usage, Wish};
use crate::openai::{Envelope, Shape};
use crate::sse;
use crate::state::Served;

/// All answers of a response.
pub(super) struct CompletionAnswer {
    served: Arc<Served>,
    envelope: Envelope,
    shape: Shape,
    /// What each prompt's answers begin with.
    echoes: Vec<Echo>,
    choices: Vec<Choice>,
    /// Where the next token of each choice begins, in characters.
    offsets: Vec<usize>,
    /// How many tokens of each choice's prompt were told.
    scored: Vec<usize>,
    seeds: Vec<Option<u64>>,
    costs: Costs,
    usage: Usage,
    timings: Option<Timings>,
}

/// What a prompt's answers begin with.
pub(super) struct Echo {
    /// The prompt, or nothing.
    pub(super) text: String,
    /// Where its log probabilities are wanted, the first token and where each begins in the text.
    pub(super) scored: Option<(u32, Vec<usize>)>,
    /// Whether its log probabilities are wanted in a list of their own, by token id.
    pub(super) by_id: bool,
}

/// A choice, of a chunk or of all.
#[derive(Clone, Debug, Default, Serialize)]
struct Choice {
    index: usize,
    text: String,
    logprobs: Option<CompletionLogprobs>,
    /// Of each token of the prompt, in vLLM's form; null for the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_logprobs: Option<Vec<Value>>,
    /// Once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Receipt>,
}

/// Where each choice's own text begins, in characters.
fn echoes_end(echoes: &[Echo], n: usize) -> Vec<usize> {
    echoes.iter().flat_map(|echo| iter::repeat_n(echo.text.chars().count(), n)).collect()
}

impl CompletionAnswer {
    pub(super) fn new(
        served: Arc<Served>,
        envelope: Envelope,
        shape: Shape,
        echoes: Vec<Echo>,
    ) -> CompletionAnswer {
        let n_choice = echoes.len() * shape.n;
        let logprobs = shape.wants_logprobs.then(CompletionLogprobs::default);
        let prompt_logprobs = |index: usize| {
            let by_id = echoes.get(index / shape.n).is_some_and(|echo| echo.by_id);
            by_id.then(|| vec![Value::Null])
        };
        let choice = |index| Choice {
            index,
            logprobs: logprobs.clone(),
            prompt_logprobs: prompt_logprobs(index),
            ..Choice::default()
        };
        CompletionAnswer {
            served,
            envelope,
            choices: (0..n_choice).map(choice).collect(),
            offsets: echoes_end(&echoes, shape.n),
            scored: vec![1; n_choice],
            seeds: vec![None; n_choice],
            costs: Costs::new(shape.usage, n_choice),
            usage: Usage::default(),
            timings: None,
            echoes,
            shape,
        }
    }

    /// Sends a choice's part, or keeps it.
    fn pass(&mut self, part: Choice, timings: Option<Timings>) -> Vec<Bytes> {
        if !self.shape.is_stream {
            if let Some(whole) = self.choices.get_mut(part.index) {
                whole.text.push_str(&part.text);
                whole.finish_reason = part.finish_reason;
                whole.receipt = part.receipt;
                whole.seed = part.seed;
                if let (Some(whole), Some(part)) = (&mut whole.logprobs, part.logprobs) {
                    whole.append(part);
                }
            }
            self.timings = timings;
            return Vec::new();
        }
        let index = part.index;
        // Timings stand in the last chunk, which may be one of its own.
        self.timings = timings;
        let timings = timings.filter(|_| self.shape.usage == Wish::Never);
        let frame = sse::data(&Message {
            envelope: &self.envelope,
            choices: &[part],
            usage: self.costs.in_chunk(index),
            timings,
            ignored_parameters: &self.shape.ignored,
        });
        // Once is enough.
        self.shape.ignored.clear();
        vec![frame]
    }

    /// How likely the next tokens of a choice's prompt were.
    fn prompt(&mut self, index: usize, tokens: Vec<Scored>) -> Vec<Bytes> {
        if let Some(list) = self.choices.get_mut(index).and_then(|choice| choice.prompt_logprobs.as_mut()) {
            list.extend(tokens.iter().map(|token| by_id(&self.served.worker, token)));
        }
        let tokens: Vec<Sampled> = tokens.into_iter().map(|token| token.sampled).collect();
        match self.scored(index, &tokens) {
            Some(logprobs) => {
                self.pass(Choice { index, logprobs: Some(logprobs), ..Choice::default() }, None)
            }
            None => Vec::new(),
        }
    }

    /// Of the next tokens of a choice's prompt.
    fn scored(&mut self, index: usize, tokens: &[Sampled]) -> Option<CompletionLogprobs> {
        let (_, offsets) = self.echoes.get(index / self.shape.n)?.scored.as_ref()?;
        let at = self.scored.get_mut(index)?;
        let offsets = offsets.get(*at..*at + tokens.len())?;
        *at += tokens.len();
        Some(CompletionLogprobs::new(&self.served.worker, tokens, &mut 0).at(offsets))
    }

    fn logprobs(&mut self, index: usize, tokens: &[Sampled]) -> Option<CompletionLogprobs> {
        let offset = self.offsets.get_mut(index)?;
        self.shape.wants_logprobs.then(|| CompletionLogprobs::new(&self.served.worker, tokens, offset))
    }
}

impl Answer for CompletionAnswer {
    type Event = Event;

    fn take(&mut self, index: usize, Told { event, receipt }: Told<Event>) -> Vec<Bytes> {
        match event {
            Event::Started { n_prompt, seed } => {
                if let Some(place) = self.seeds.get_mut(index) {
                    *place = Some(seed);
                }
                self.costs.set(index, SoFar::new(n_prompt, 0));
                let Some(Echo { text, scored, .. }) = self.echoes.get(index / self.shape.n) else {
                    return Vec::new();
                };
                if text.is_empty() && scored.is_none() {
                    return Vec::new();
                }
                let first = |&(token, _): &(u32, _)| CompletionLogprobs::first(&self.served.worker, token);
                let (text, logprobs) = (text.clone(), scored.as_ref().map(first));
                self.pass(Choice { index, text, logprobs, ..Choice::default() }, None)
            }
            Event::Prompt(tokens) => self.prompt(index, tokens),
            Event::Delta { text, tokens } => {
                self.costs.add(index, tokens.len());
                let logprobs = self.logprobs(index, &tokens);
                if text.is_empty() && logprobs.is_none() {
                    return Vec::new();
                }
                self.pass(Choice { index, text, logprobs, ..Choice::default() }, None)
            }
            Event::End { reason, usage, timings } => {
                self.usage.add(usage, 0, index.is_multiple_of(self.shape.n));
                self.costs.set(index, SoFar::new(usage.n_prompt, usage.n_generated));
                let timings = (self.offsets.len() == 1).then(|| Timings::new(usage, timings));
                let finish_reason = Some(if reason == StopReason::Length { "length" } else { "stop" });
                let seed = self.seeds.get(index).copied().flatten();
                self.pass(Choice { index, seed, finish_reason, receipt, ..Choice::default() }, timings)
            }
            // Taken out before.
            Event::Error(_) => Vec::new(),
        }
    }

    fn finish(&mut self) -> Vec<Bytes> {
        if self.shape.usage == Wish::Never {
            return vec![sse::DONE];
        }
        let usage = sse::data(&Message::<Choice> {
            envelope: &self.envelope,
            choices: &[],
            usage: Some(Some(Report::Whole(self.usage))),
            timings: self.timings,
            ignored_parameters: &[],
        });
        vec![usage, sse::DONE]
    }

    fn fail(&mut self, error: &ApiError) -> Vec<Bytes> {
        choices::failed(error)
    }

    fn is_stream(&self) -> bool {
        self.shape.is_stream
    }

    fn whole(self) -> Value {
        json!(Message {
            envelope: &self.envelope,
            choices: &self.choices,
            usage: Some(Some(Report::Whole(self.usage))),
            timings: self.timings,
            ignored_parameters: &self.shape.ignored,
        })
    }
}
