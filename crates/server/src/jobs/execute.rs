//! POST /execute: a job's answer as it is written.
//!
//! Events, in order: `started`, any number of `token`, `metrics` before an `end` if wanted, then one `end` or `error`. The prompt is continued as it stands; the names of control tokens in
//! it are these tokens, as the caller of this route is the one who writes prompts. A `token` event brings text (whole characters) and the index of the
//! last token that has part in it.

use std::time::SystemTime;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::json;
use worker::receipt::Receipt;
use worker::{Event, Generation, Prompt, Request, SamplingParams, StopReason};

use super::{Job, checked_id, moment};
use crate::admission::{Admitted, Held};
use crate::context::Context;
use crate::error::{ApiError, JobError};
use crate::metrics::Recorder;
use crate::openai::{Body, Checked, Timings};
use crate::receipts::{Noted, Wanted};
use crate::sse;
use crate::state::{App, Served};

/// The most stop strings of a job.
const MAX_STOP: usize = 4;
/// The most tokens of each.
const MAX_STOP_TOKENS: usize = 32;

/// The body of POST /execute.
#[derive(Debug, Deserialize)]
pub(crate) struct Execute {
    job_id: String,
    prompt: String,
    max_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    stop: Option<Vec<String>>,
    seed: Option<u64>,
    /// Whether the event `metrics` is wanted.
    metrics: Option<bool>,
    #[serde(default)]
    receipt: Wanted,
}

impl Body for Execute {
    const SCHEMA: &'static str = "ExecuteRequest";
}

/// The event `end`.
#[derive(Debug, Serialize)]
struct End {
    tokens_out: usize,
    /// From the first token to the last: the prompt's time is not in it.
    decode_time_ms: u64,
    stop_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Receipt>,
}

/// The event `error`.
#[derive(Debug, Serialize)]
struct Failed {
    #[serde(flatten)]
    error: JobError,
    /// Of what there was when the job was cancelled or its time was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Box<Receipt>>,
}

/// POST /execute.
pub(crate) async fn execute(State(app): State<App>, admitted: Result<Admitted, ApiError>) -> Response {
    let running = async {
        let admitted = admitted?;
        let context = admitted.context.clone();
        admitted.prepare(move |held| start(&app, &context, held)).await
    };
    match running.await {
        Ok(stream) => sse::response(frames(stream)),
        Err(error) => error.job_response(),
    }
}

/// A job that was accepted.
struct Running {
    served: std::sync::Arc<Served>,
    generation: Generation,
    job: Job,
    recorder: Recorder,
    noted: Option<Noted>,
    n_token: usize,
    tells_metrics: bool,
}

fn start(app: &App, context: &Context, mut held: Held) -> Result<Running, ApiError> {
    let served = app.ready()?;
    let Checked { body: execute, .. } = Checked::<Execute>::of(&mut held)?;
    let id = checked_id(execute.job_id)?;
    execute.receipt.check(&served)?;
    let limits = app.options().limits;
    let n_char = execute.prompt.chars().count();
    if n_char == 0 || n_char > limits.prompt_chars {
        let message = format!("expected 1 to {} characters, found {n_char}", limits.prompt_chars);
        return Err(ApiError::invalid("prompt", message));
    }
    let stop = execute.stop.unwrap_or_default();
    check_stops(&served, &stop)?;
    if let Some(n) = execute.max_tokens.filter(|&n| n > limits.max_tokens) {
        let message = format!("expected at most {}, found {n}", limits.max_tokens);
        return Err(ApiError::invalid("max_tokens", message));
    }
    let default = served.worker.options().defaults.params();
    let sampling = SamplingParams {
        temperature: execute.temperature.unwrap_or(default.temperature),
        top_p: execute.top_p.unwrap_or(default.top_p),
        top_k: execute.top_k.unwrap_or(default.top_k),
        min_p: execute.min_p.unwrap_or(default.min_p),
        repetition_penalty: execute.repetition_penalty.unwrap_or(default.repetition_penalty),
        ..default
    };
    let prompt = Prompt::Text { text: execute.prompt, add_special: true, parse_special: true };
    let request = Request {
        max_tokens: execute.max_tokens,
        sampling,
        seed: execute.seed.or(context.unsaid.seed),
        stop: stop.into_iter().filter(|stop| !stop.is_empty()).collect(),
        timeout: Some(context.left()?),
        client: context.client.id,
        weight: context.client.weight,
        cache_scope: context.client.cache_scope,
        ..Request::new(prompt)
    };
    let request = served.worker.check_within(request, held.work())?;
    let n_prompt = request.prompt().len();
    if let Some(limit) = limits.prompt_tokens.filter(|&limit| n_prompt > limit) {
        let message = format!("expected at most {limit} tokens, found {n_prompt}");
        return Err(ApiError::invalid("prompt", message));
    }
    let noted = execute.receipt.begin(&served, &request);
    held.leave();
    let generation = served.worker.start(request)?;
    let job = app.jobs().enter(context.client.id, &id, generation.canceller())?;
    let recorder = app.record_job(context, &served, "/execute", Some(&id));
    let tells_metrics = execute.metrics.unwrap_or(false);
    Ok(Running { served, generation, job, recorder, noted, n_token: 0, tells_metrics })
}

fn check_stops(served: &Served, stops: &[String]) -> Result<(), ApiError> {
    if stops.len() > MAX_STOP {
        let message = format!("expected at most {MAX_STOP} strings, found {}", stops.len());
        return Err(ApiError::invalid("stop", message));
    }
    for (i, stop) in stops.iter().enumerate() {
        let n_token = served.worker.count_tokens(stop)?;
        if n_token > MAX_STOP_TOKENS {
            let message = format!("expected at most {MAX_STOP_TOKENS} tokens, found {n_token}");
            return Err(ApiError::invalid(format!("stop[{i}]"), message));
        }
    }
    Ok(())
}

fn frames(running: Running) -> impl futures_util::Stream<Item = Bytes> + Send {
    stream::unfold(running, |mut running| async {
        let event = running.generation.recv().await?;
        running.recorder.event(&event);
        Some((running.frame(event).await, running))
    })
}

impl Running {
    async fn frame(&mut self, event: Event) -> Bytes {
        match event {
            Event::Started { seed, .. } => {
                let now = SystemTime::now();
                let (_, id) = &self.job.key;
                let value = json!({
                    "job_id": id,
                    "model": self.served.info.id,
                    "started_at": moment::iso(now),
                    "started_at_ms": moment::millis(now),
                    "seed": seed,
                });
                sse::event("started", &value)
            }
            // No job asks for its prompt's log probabilities.
            Event::Prompt(_) => Bytes::new(),
            Event::Delta { text, tokens } => {
                self.n_token += tokens.len();
                if let Some(noted) = &mut self.noted {
                    noted.add(&tokens);
                }
                sse::event("token", &json!({"t": text, "i": self.n_token.saturating_sub(1)}))
            }
            Event::End { reason, usage, timings } => {
                let decode_time_ms = timings.decode.as_millis() as u64;
                match self.end(&reason).await {
                    Ok((stop_reason, receipt)) => {
                        let tokens_out = usage.n_generated;
                        let end =
                            sse::event("end", &End { tokens_out, decode_time_ms, stop_reason, receipt });
                        match self.tells_metrics {
                            true => {
                                let metrics = sse::event("metrics", &Timings::new(usage, timings));
                                [metrics, end].concat().into()
                            }
                            false => end,
                        }
                    }
                    Err(failed) => sse::event("error", &failed),
                }
            }
            Event::Error(error) => sse::event("error", &ApiError::from(error).job()),
        }
    }

    /// How an answer ended, and its receipt where one is wanted.
    async fn end(&mut self, reason: &StopReason) -> Result<(&'static str, Option<Receipt>), Failed> {
        let noted = self.noted.take();
        match (end(reason), noted) {
            (Ok(name), None) => Ok((name, None)),
            (Ok(name), Some(noted)) => match noted.finish(reason).await {
                Ok(receipt) => Ok((name, Some(receipt))),
                Err(error) => Err(Failed { error: error.job(), receipt: None }),
            },
            (Err(error), None) => Err(Failed { error: error.job(), receipt: None }),
            (Err(error), Some(noted)) => {
                Err(Failed { error: error.job(), receipt: noted.at_hand(reason).await.map(Box::new) })
            }
        }
    }
}

/// The name of an answer's end; one that the caller did not get to see whole is an error.
fn end(reason: &StopReason) -> Result<&'static str, ApiError> {
    match reason {
        StopReason::Token(_) => Ok("stop"),
        StopReason::Text(_) => Ok("stop_string"),
        StopReason::Length => Ok("length"),
        StopReason::Cancelled => Err(ApiError::Cancelled),
        StopReason::Deadline => Err(ApiError::Deadline),
    }
}
