//! POST /infill: what stands in a gap of a file? llama-server's route for editors, in its words.
//!
//! Texts are cut rather than refused, since an editor sends what it has; the answer says how much was left out. What is shared with
//! completions is read and answered as there. Source: llama.cpp, tools/server/README.md and `format_prompt_infill`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use worker::{Event, Extra, Filling, GapInFile, Prompt};

use super::body::{Body, Checked};
use super::choices::{self, Choices};
use super::llama::{Answered, Cut, LlamaAnswer};
use super::sampling::{Likely, Sampling};
use super::{check, check_model, refused};
use crate::admission::{Admitted, Held};
use crate::context::Context;
use crate::error::ApiError;
use crate::options::Limits;
use crate::state::{App, Served};

/// The file of a text that names none, as llama-server has it.
const NO_NAME: &str = "tmp";

/// The schema `InfillRequest`.
#[derive(Debug, Deserialize)]
pub(crate) struct InfillRequest {
    #[serde(flatten)]
    sampling: Sampling,
    input_prefix: String,
    input_suffix: String,
    input_extra: Option<Vec<InputExtra>>,
    prompt: Option<String>,
    n_predict: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct InputExtra {
    filename: Option<String>,
    text: String,
}

impl Body for InfillRequest {
    const SCHEMA: &'static str = "InfillRequest";
}

/// POST /infill.
pub(crate) async fn create(
    State(app): State<App>,
    admitted: Result<Admitted, ApiError>,
) -> Result<Response, ApiError> {
    choices::respond(app, admitted, begin).await
}

/// From a body to an answer under way.
fn begin(app: &App, context: &Context, mut held: Held) -> Result<(Choices<Event>, LlamaAnswer), ApiError> {
    let Checked { body, mut ignored } = Checked::<InfillRequest>::of(&mut held)?;
    let served = app.ready()?;
    let InfillRequest { mut sampling, input_prefix, input_suffix, input_extra, prompt, n_predict } = body;
    check_model(sampling.model.as_deref(), &served)?;
    let wanted = sampling.receipt;
    wanted.check(&served)?;
    let is_stream = sampling.stream == Some(true);
    sampling.also_called("n_predict", n_predict)?;

    let defaults = served.worker.options().defaults;
    let mut request = sampling.request(Prompt::Tokens(Vec::new()), Likely::default(), defaults, context)?;
    let extra = input_extra.unwrap_or_default();
    let names_files = extra.iter().any(|extra| extra.filename.is_some());
    let gap = GapInFile {
        prefix: input_prefix,
        prompt: prompt.unwrap_or_default(),
        suffix: input_suffix,
        extra: extra.into_iter().map(InputExtra::into_worker).collect(),
    };
    let longest = longest(&served, &app.options().limits, request.max_tokens);
    let filling = served.worker.fill_in_file(&gap, longest, "input_suffix");
    let filling = filling.map_err(|error| refused(error, "input_prefix"))?;
    if names_files && !filling.has_filenames {
        ignored.push("input_extra.filename".to_owned());
    }
    let Filling { ids, n_prefix_cut, n_suffix_cut, n_extra_cut, has_filenames: _ } = filling;
    request.prompt = Prompt::Tokens(ids);
    let request = check(&served, &app.options().limits, (request, held.work()), "prompt")?;
    held.leave();

    let cut = Cut { input_prefix: n_prefix_cut, input_suffix: n_suffix_cut, input_extra: n_extra_cut };
    let shape = Answered { is_stream, cut: Some(cut), ignored, ..Answered::default() };
    let answer = LlamaAnswer::new(Arc::clone(&served), shape, std::slice::from_ref(&request));
    let noted = wanted.begin(&served, &request);
    let generation = served.worker.start(request)?;
    let generation = (generation, app.record(context, &served, "/infill"), noted);
    Ok((Choices::plain(vec![generation]), answer))
}

/// The most tokens of a prompt that leaves room for the answer, or for half of it: the context's other half is the prompt's.
fn longest(served: &Served, limits: &Limits, max_tokens: Option<usize>) -> usize {
    let n_ctx = served.worker.engine().capacity();
    let default = served.worker.options().default_max_tokens.unwrap_or(limits.max_tokens);
    let n_answer = max_tokens.unwrap_or(default).min(limits.max_tokens).clamp(1, (n_ctx / 2).max(1));
    let longest = n_ctx.saturating_sub(n_answer);
    limits.prompt_tokens.map_or(longest, |limit| limit.min(longest))
}

impl InputExtra {
    fn into_worker(self) -> Extra {
        Extra { filename: self.filename.unwrap_or_else(|| NO_NAME.to_owned()), text: self.text }
    }
}
