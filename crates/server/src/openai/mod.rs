//! The routes of OpenAI's API, as its clients know them.
//!
//! A body is held against the document ([`crate::openapi`]), becomes a request of the worker, and the worker's events become JSON: chunk by
//! chunk or whole. A field that is not supported is refused by name where it would change the answer, and named in the answer's
//! `ignored_parameters` where it would not. Sources: OpenAI's API reference; vLLM and llama-server for what they add.

mod body;
mod chat;
mod choices;
mod completions;
mod envelope;
mod format;
mod infill;
mod llama;
mod logprobs;
mod messages;
mod models;
mod responses;
mod sampling;
mod usage;
mod vectors;

pub(crate) use body::{Body, Checked, read};
pub(crate) use chat::{TemplateRequest, count as count_chat, create as chat_completions};
pub(crate) use completions::create as completions;
use envelope::Envelope;
pub(crate) use infill::create as infill;
pub(crate) use llama::{completion, props, slots};
pub(crate) use messages::{count as count_message, create as messages};
pub(crate) use models::{check as check_model, list as list_models, one as get_model};
pub(crate) use responses::{
    Store, count as count_response, create as responses, delete as delete_response, get as get_response,
    input_items,
};
pub(crate) use sampling::refused;
pub(crate) use usage::Timings;
pub(crate) use vectors::{embeddings, llama_embeddings, rerank};

use worker::{Request, ValidRequest, Work};

use crate::error::ApiError;
use crate::options::Limits;
use crate::state::Served;

/// What a response looks like, apart from what is in it.
#[derive(Clone, Debug)]
struct Shape {
    /// Answers to each prompt.
    n: usize,
    is_stream: bool,
    /// When a stream says its usage.
    usage: usage::Wish,
    wants_logprobs: bool,
    /// Fields of the request that were not used.
    ignored: Vec<String>,
}

/// Checks a request against the model and the operator's limits. `prompt` is the field with the prompt. Where an answer may not
/// have as many tokens as it asks for, it has as many as it may, and says so by its end.
fn check(
    served: &Served,
    limits: &Limits,
    (mut request, work): (Request, &Work),
    prompt: &str,
) -> Result<ValidRequest, ApiError> {
    request.max_tokens = request.max_tokens.map(|n| n.min(limits.max_tokens));
    let valid = served.worker.check_within(request, work).map_err(|error| refused(error, prompt))?;
    match (valid.prompt().len(), limits.prompt_tokens) {
        (n, Some(limit)) if n > limit => {
            let message = format!("expected at most {limit} tokens, found {n}");
            let n_ctx = served.worker.engine().capacity();
            Err(ApiError::ContextLength { param: prompt.to_owned(), message, n_prompt: n, n_ctx })
        }
        _ => Ok(valid),
    }
}
