//! What becomes of one question? A request to the worker, its text as it streams, and the answer with its figures.
//!
//! Ctrl-C cancels the request and nothing else; its end is then waited for like any other. Times are in milliseconds, rates in tokens
//! per second; a rate of no tokens or no time is absent.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use worker::receipt::{Draft, KeepPrompt, Origin, Receipt};
use worker::{
    Canceller, ChatEvent, ChatGeneration, Event, Generation, Prompt, Request, Sampled, StopReason, Timings,
    Usage, ValidRequest, Worker,
};

use super::proof::Proof;
use super::sampling::SamplingArgs;
use super::show::Piece;
use crate::cmd::verify::of_receipt;
use crate::interrupt::{self, Watch};
use crate::numbers::Seed;
use crate::typing::Hushed;

/// Whom to ask, and how.
pub(crate) struct Asker<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) sampling: SamplingArgs,
    pub(crate) receipts: Option<Receipts>,
    /// Whether somebody at a terminal types the prompts.
    pub(crate) is_talk: bool,
}

/// Where the receipt of an answer goes, and what it needs.
pub(crate) struct Receipts {
    pub(crate) path: PathBuf,
    pub(crate) origin: Origin,
    pub(crate) keep: KeepPrompt,
    /// What else is left of the answer, until it is complete.
    pub(crate) proof: RefCell<Option<Proof>>,
}

impl Receipts {
    fn draft(&self, worker: &Worker, valid: &ValidRequest) -> Draft {
        Draft::new(worker, valid, self.keep)
    }

    fn piece(&self, piece: &Piece, tokens: &[Sampled]) -> anyhow::Result<()> {
        match self.proof.borrow_mut().as_mut() {
            Some(proof) => {
                proof.piece(piece, &tokens.iter().map(|sampled| sampled.token).collect::<Vec<_>>())
            }
            None => Ok(()),
        }
    }

    fn write(&self, draft: Draft, reason: &StopReason, timings: &Times) -> anyhow::Result<()> {
        let receipt: Receipt = draft.finish(&self.origin, reason).map_err(of_receipt)?;
        let text = serde_json::to_string_pretty(&receipt)? + "\n";
        crate::whole::write(&self.path, text)?;
        self.proof.take().map_or(Ok(()), |proof| proof.finish(timings, &receipt.model))
    }
}

/// An answer under way.
enum Answering {
    /// The continuation of a text.
    Plain(Generation),
    /// What is said in a conversation.
    Chat(Box<ChatGeneration>),
}

/// What happens to an answer.
enum Step {
    Started { seed: u64 },
    More(Piece, Vec<Sampled>),
    End { reason: StopReason, usage: Usage, timings: Timings },
}

impl Answering {
    fn canceller(&self) -> Canceller {
        match self {
            Answering::Plain(generation) => generation.canceller(),
            Answering::Chat(generation) => generation.canceller(),
        }
    }

    fn next(&mut self) -> anyhow::Result<Step> {
        let step = match self {
            Answering::Plain(generation) => generation.next_blocking().map(|event| match event {
                Event::Started { seed, .. } => Ok(Step::Started { seed }),
                Event::Delta { text, tokens } => Ok(Step::More(Piece { text, ..Piece::default() }, tokens)),
                Event::Prompt(_) => Ok(Step::More(Piece::default(), Vec::new())),
                Event::End { reason, usage, timings } => Ok(Step::End { reason, usage, timings }),
                Event::Error(error) => Err(error),
            }),
            Answering::Chat(generation) => generation.next_blocking().map(|event| match event {
                ChatEvent::Started { seed, .. } => Ok(Step::Started { seed }),
                ChatEvent::Prompt(_) => Ok(Step::More(Piece::default(), Vec::new())),
                ChatEvent::Delta(delta) => {
                    let piece = Piece { reasoning: delta.reasoning, text: delta.content };
                    Ok(Step::More(piece, delta.tokens))
                }
                ChatEvent::End { reason, usage, timings, .. } => Ok(Step::End { reason, usage, timings }),
                ChatEvent::Error(error) => Err(error),
            }),
        };
        Ok(step.context("the answer has no end")??)
    }
}

/// A complete answer: the fields of `run --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    pub(crate) text: String,
    /// What the model thought before it, where that can be told apart.
    reasoning: String,
    /// Ids of the answer; an end token is not among them.
    pub(crate) tokens: Vec<u32>,
    prompt_tokens: usize,
    seed: u64,
    /// `end_token`, `stop_string`, `length`, `interrupted` or `deadline`.
    pub(crate) stop_reason: &'static str,
    /// Which end token it was.
    stop_token: Option<u32>,
    /// Which stop string it was.
    stop_string: Option<String>,
    timings: Times,
    #[serde(skip)]
    pub(crate) interrupted: bool,
}

/// Where the time went.
#[derive(Debug, Serialize)]
pub(super) struct Times {
    queue_ms: f64,
    /// From the start until the first token.
    prompt_ms: f64,
    /// From the first token until the end.
    decode_ms: f64,
    prompt_tokens_per_second: Option<f64>,
    decode_tokens_per_second: Option<f64>,
}

impl Asker<'_> {
    /// Asks, hands each piece to `show`, and waits for the end.
    pub(crate) fn ask(
        &self,
        prompt: Prompt,
        show: &mut dyn FnMut(&Piece) -> io::Result<()>,
    ) -> anyhow::Result<Answer> {
        let is_chat = matches!(prompt, Prompt::Chat(_));
        let valid = self.worker.check(self.request(prompt))?;
        let mut draft = self.receipts.as_ref().map(|receipts| receipts.draft(self.worker, &valid));
        let mut answering = match is_chat {
            true => Answering::Chat(self.worker.chat(valid)?.into()),
            false => Answering::Plain(self.worker.start(valid)?),
        };
        let canceller = answering.canceller();
        let cancel = move || canceller.cancel();
        let hushed = self.is_talk.then(Hushed::start).flatten();
        let watch = match hushed.as_ref().map(Hushed::before) {
            None => Watch::start(cancel),
            Some(typing) => Watch::start_twice(cancel, move || {
                typing.restore();
                interrupt::end();
            }),
        };
        let (mut all, mut ids, mut drawn) = (Piece::default(), Vec::new(), 0);
        loop {
            match answering.next()? {
                Step::Started { seed } => drawn = seed,
                Step::More(piece, tokens) => {
                    ids.extend(tokens.iter().map(|sampled| sampled.token));
                    if let Some((receipts, draft)) = self.receipts.as_ref().zip(draft.as_mut()) {
                        draft.add(&tokens);
                        receipts.piece(&piece, &tokens)?;
                    }
                    show(&piece)?;
                    all.text.push_str(&piece.text);
                    all.reasoning.push_str(&piece.reasoning);
                }
                Step::End { reason, usage, timings } => {
                    let interrupted = watch.raised();
                    let times = Times::new(usage, timings);
                    if let Some((receipts, draft)) = self.receipts.as_ref().zip(draft) {
                        receipts.write(draft, &reason, &times)?;
                    }
                    let Piece { reasoning, text } = all;
                    let answer = Answer::new(reason, usage, times);
                    return Ok(Answer { text, reasoning, tokens: ids, seed: drawn, interrupted, ..answer });
                }
            }
        }
    }

    fn request(&self, prompt: Prompt) -> Request {
        let sampling = &self.sampling;
        Request {
            max_tokens: sampling.max_tokens,
            min_tokens: sampling.min_tokens,
            sampling: sampling.params(self.worker.options().defaults),
            seed: sampling.seed.and_then(|Seed(seed)| seed),
            stop: sampling.stop.clone(),
            ignore_eos: sampling.ignore_eos,
            ..Request::new(prompt)
        }
    }
}

impl Answer {
    fn new(reason: StopReason, usage: Usage, timings: Times) -> Answer {
        let (stop_reason, stop_token, stop_string) = match reason {
            StopReason::Token(id) => ("end_token", Some(id), None),
            StopReason::Text(text) => ("stop_string", None, Some(text)),
            StopReason::Length => ("length", None, None),
            StopReason::Cancelled => ("interrupted", None, None),
            StopReason::Deadline => ("deadline", None, None),
        };
        Answer {
            text: String::new(),
            reasoning: String::new(),
            tokens: Vec::new(),
            prompt_tokens: usage.n_prompt,
            seed: 0,
            stop_reason,
            stop_token,
            stop_string,
            timings,
            interrupted: false,
        }
    }

    /// Tokens of prompt and answer together.
    pub(crate) fn n_context(&self) -> usize {
        self.prompt_tokens + self.tokens.len()
    }

    /// What somebody who waited wants to know.
    pub(crate) fn figures(&self, capacity: usize) -> String {
        let Times { queue_ms, prompt_ms, decode_tokens_per_second, .. } = &self.timings;
        let rate = decode_tokens_per_second.map(|rate| format!(" at {rate:.1} tokens/s")).unwrap_or_default();
        let (n, first) = (self.tokens.len(), queue_ms + prompt_ms);
        format!("{n} tokens{rate}, the first after {first:.0} ms; context {} of {capacity}", self.n_context())
    }

    /// Lengths and rates, without the text.
    pub(crate) fn summary(&self) -> String {
        let rate = |rate: Option<f64>| rate.map(|r| format!(" at {r:.1} tokens/s")).unwrap_or_default();
        format!(
            "prompt {} tokens{}, answer {} tokens{}, ended by {}, seed {}",
            self.prompt_tokens,
            rate(self.timings.prompt_tokens_per_second),
            self.tokens.len(),
            rate(self.timings.decode_tokens_per_second),
            self.stop_reason,
            self.seed,
        )
    }
}

impl Times {
    fn new(usage: Usage, timings: Timings) -> Times {
        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let rate = |tokens: usize, time: Duration| {
            (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
        };
        Times {
            queue_ms: ms(timings.queue),
            prompt_ms: ms(timings.prompt),
            decode_ms: ms(timings.decode),
            prompt_tokens_per_second: rate(usage.n_prompt, timings.prompt),
            // The first token's time is the prompt's.
            decode_tokens_per_second: rate(usage.n_generated.saturating_sub(1), timings.decode),
        }
    }
}
