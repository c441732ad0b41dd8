//! What happens to one request, for the metrics and the log.
//!
//! A route makes a recorder once the engine has accepted a request, one for each answer, and tells it of each event that it passes on. Dropping it
//! without an end means that the client is gone. The log gets `execute_start` and `execute_end` with lengths and times, never a text.

use std::time::{Duration, Instant, SystemTime};

use worker::{ChatEvent, Event, StopReason, Timings, Usage};

use super::Metrics;
use crate::context::Context;
use crate::error::ApiError;
use crate::spans::{self, Span, Spans};
use crate::state::{App, Served};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The model, a stop string or a stop id ended the answer; calls of tools too.
    Stop,
    /// `max_tokens`, or the context was full.
    Length,
    /// The client asked.
    Cancelled,
    /// The client is gone.
    Disconnected,
    /// Its time was over.
    Timeout,
    /// It failed.
    Error,
}

impl Outcome {
    /// The values of the label `outcome`.
    pub(super) const NAMES: [&'static str; 6] =
        ["stop", "length", "cancelled", "disconnected", "timeout", "error"];

    fn name(self) -> &'static str {
        Outcome::NAMES[self as usize]
    }

    /// vLLM's `finished_reason`.
    fn finished_reason(self) -> &'static str {
        match self {
            Outcome::Stop => "stop",
            Outcome::Length => "length",
            Outcome::Cancelled | Outcome::Disconnected | Outcome::Timeout => "abort",
            Outcome::Error => "error",
        }
    }
}

impl From<&StopReason> for Outcome {
    fn from(reason: &StopReason) -> Outcome {
        match reason {
            StopReason::Token(_) | StopReason::Text(_) => Outcome::Stop,
            StopReason::Length => Outcome::Length,
            StopReason::Cancelled => Outcome::Cancelled,
            StopReason::Deadline => Outcome::Timeout,
        }
    }
}

/// Follows one request from its acceptance to its end.
#[derive(Debug)]
pub struct Recorder {
    metrics: Metrics,
    context: Context,
    route: &'static str,
    /// The id that the client gave its job, on the routes of jobs.
    job: Option<Box<str>>,
    model: String,
    n_prompt: usize,
    n_generated: usize,
    first_token: Option<Duration>,
    last_token: Option<Instant>,
    queued: Option<Duration>,
    n_cached: usize,
    spans: Option<Spans>,
    is_over: bool,
}

impl App {
    /// Follows a request that was accepted on this route: call it once for each answer.
    #[must_use]
    pub fn record(&self, context: &Context, served: &Served, route: &'static str) -> Recorder {
        self.record_job(context, served, route, None)
    }

    /// The same for a job that its client has named.
    #[must_use]
    pub fn record_job(
        &self,
        context: &Context,
        served: &Served,
        route: &'static str,
        job_id: Option<&str>,
    ) -> Recorder {
        let Context { client, correlation, .. } = context;
        let client = format_args!("{:016x}", client.id);
        tracing::info!(event = "execute_start", job_id, %correlation, route, client);
        Recorder {
            metrics: self.metrics().clone(),
            context: context.clone(),
            route,
            job: job_id.map(Into::into),
            model: served.info.id.clone(),
            n_prompt: 0,
            n_generated: 0,
            first_token: None,
            last_token: None,
            queued: None,
            n_cached: 0,
            spans: self.options().spans.clone().filter(|_| context.trace.is_sampled),
            is_over: false,
        }
    }
}

impl Recorder {
    /// It runs from now on.
    pub fn started(&mut self, n_prompt: usize) {
        self.n_prompt = n_prompt;
        let vllm = self.metrics.0.vllm(&self.model);
        let queued = self.context.arrived.elapsed();
        self.queued = Some(queued);
        vllm.queue.observe(queued.as_secs_f64());
        vllm.prompt_tokens.inc_by(n_prompt as u64);
    }

    /// More of its answer: so many tokens.
    pub fn tokens(&mut self, n: usize) {
        if n == 0 {
            return;
        }
        let now = Instant::now();
        let vllm = self.metrics.0.vllm(&self.model);
        match self.last_token.replace(now) {
            Some(last) => {
                // Tokens whose text had to wait come together; their time is shared out.
                let seconds = now.duration_since(last).as_secs_f64() / n as f64;
                (0..n).for_each(|_| vllm.between_tokens.observe(seconds));
            }
            None => {
                let first = now.duration_since(self.context.arrived);
                vllm.first_token.observe(first.as_secs_f64());
                self.first_token = Some(first);
            }
        }
        self.n_generated += n;
        vllm.generation_tokens.inc_by(n as u64);
        self.metrics.0.tokens.inc_by(n as u64);
    }

    /// It is over.
    pub fn end(&mut self, outcome: Outcome) {
        self.close(outcome, None);
    }

    /// It failed.
    pub fn fail(&mut self, error: &ApiError) {
        let outcome = match error {
            ApiError::Cancelled => Outcome::Cancelled,
            ApiError::Deadline => Outcome::Timeout,
            _ => Outcome::Error,
        };
        self.close(outcome, Some(error));
    }

    /// All of these, for a route that passes on the worker's plain events.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Started { n_prompt, .. } => self.started(*n_prompt),
            Event::Prompt(_) => {}
            Event::Delta { tokens, .. } => self.tokens(tokens.len()),
            Event::End { reason, usage, timings } => {
                self.cost(usage, timings);
                self.end(reason.into());
            }
            Event::Error(error) => self.fail(&error.clone().into()),
        }
    }

    /// The same, for one that passes on the events of a conversation.
    pub fn chat_event(&mut self, event: &ChatEvent) {
        match event {
            ChatEvent::Started { n_prompt, .. } => self.started(*n_prompt),
            ChatEvent::Prompt(_) => {}
            ChatEvent::Delta(delta) => self.tokens(delta.tokens.len()),
            ChatEvent::End { reason, usage, timings, .. } => {
                self.cost(usage, timings);
                self.end(reason.into());
            }
            ChatEvent::Error(error) => self.fail(&error.clone().into()),
        }
    }

    /// What it has cost, where it was answered.
    fn cost(&mut self, usage: &Usage, timings: &Timings) {
        self.n_cached = usage.n_cached;
        self.metrics.0.llama.ended(usage, timings);
    }

    /// Its prompts have no answers; so many of their tokens were in the cache.
    pub(crate) fn embedded(&mut self, n_cached: usize, took: Duration) {
        self.n_cached = n_cached;
        self.metrics.0.llama.embedded(self.n_prompt, n_cached, took);
    }

    /// Its span, where somebody exports it.
    fn span(&self, outcome: Outcome, error: Option<&ApiError>, took: Duration) {
        let Some(spans) = &self.spans else { return };
        spans.put(Span {
            trace: self.context.trace,
            id: spans::draw(),
            route: self.route,
            model: self.model.clone(),
            began: SystemTime::now().checked_sub(took).unwrap_or(SystemTime::UNIX_EPOCH),
            took,
            queued: self.queued,
            first_token: self.first_token,
            n_prompt: self.n_prompt,
            n_cached: self.n_cached,
            n_generated: self.n_generated,
            outcome: outcome.name(),
            error: error.filter(|_| outcome == Outcome::Error).map(ApiError::code),
            correlation: self.context.correlation.to_string(),
        });
    }

    fn close(&mut self, outcome: Outcome, error: Option<&ApiError>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let took = self.context.arrived.elapsed();
        let inner = &self.metrics.0;
        inner.requests.with_label_values(&[outcome.name()]).inc();
        inner.duration.observe(took.as_secs_f64() * 1e3);
        let vllm = inner.vllm(&self.model);
        vllm.success.with_label_values(&[outcome.finished_reason()]).inc();
        vllm.latency.observe(took.as_secs_f64());
        let (job_id, correlation, route) = (self.job.as_deref(), &self.context.correlation, self.route);
        if let Some(error) = error.filter(|_| outcome == Outcome::Error) {
            let code = error.code();
            // A fault of the client's is nothing that an operator has to be called for.
            match error.status().is_client_error() {
                true => tracing::warn!(event = "error", job_id, %correlation, route, code, "{error}"),
                false => tracing::error!(event = "error", job_id, %correlation, route, code, "{error}"),
            }
        }
        self.span(outcome, error, took);
        tracing::info!(
            event = "execute_end",
            job_id,
            %correlation,
            route,
            outcome = outcome.name(),
            n_prompt = self.n_prompt,
            n_generated = self.n_generated,
            first_token_ms = self.first_token.map(milliseconds),
            total_ms = milliseconds(took),
        );
    }
}

/// With microseconds, so that logs stay readable.
fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.close(Outcome::Disconnected, None);
    }
}
