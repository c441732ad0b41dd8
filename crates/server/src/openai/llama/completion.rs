//! POST /completion: what follows a text or tokens, in llama-server's words. Also as POST /completions.
//!
//! As in POST /v1/completions, the names of control tokens in a prompt are these tokens.

use axum::extract::State;
use axum::response::Response;
use worker::{Event, Format, Prompt, Request, ValidRequest, Work};

use super::request::LlamaRequest;
use super::{Answered, LlamaAnswer};
use crate::admission::{Admitted, Held};
use crate::context::Context;
use crate::error::ApiError;
use crate::openai::body::Checked;
use crate::openai::choices::{self, Choices};
use crate::openai::sampling::Likely;
use crate::openai::{check, check_model};
use crate::state::{App, Served};

/// The most answers of a request.
const MAX_ANSWERS: usize = 128;

/// POST /completion.
pub(crate) async fn create(
    State(app): State<App>,
    admitted: Result<Admitted, ApiError>,
) -> Result<Response, ApiError> {
    choices::respond(app, admitted, begin).await
}

/// From a body to answers under way.
fn begin(app: &App, context: &Context, mut held: Held) -> Result<(Choices<Event>, LlamaAnswer), ApiError> {
    let Checked { body, ignored } = Checked::<LlamaRequest>::of(&mut held)?;
    let served = app.ready()?;
    check_model(body.sampling.model.as_deref(), &served)?;
    let wanted = body.sampling.receipt;
    wanted.check(&served)?;
    let n = body.sampling.n();
    let shape = Answered {
        is_stream: body.sampling.stream == Some(true),
        with_tokens: body.return_tokens == Some(true),
        with_probabilities: body.n_probs.is_some_and(|n| n > 0),
        fields: body.response_fields.clone().unwrap_or_default(),
        cut: None,
        ignored,
    };
    let (request, prompts) = prepare((body, held.work()), &served, context)?;
    if prompts.len() * n > MAX_ANSWERS {
        let message =
            format!("expected at most {MAX_ANSWERS} answers, found {} prompts times {n}", prompts.len());
        return Err(ApiError::invalid("prompt", message));
    }
    let mut requests: Vec<ValidRequest> = Vec::with_capacity(prompts.len() * n);
    for ids in prompts {
        let request = Request { prompt: Prompt::Tokens(ids), ..request.clone() };
        let request = check(&served, &app.options().limits, (request, held.work()), "prompt")?;
        requests.extend((0..n as u64).map(|i| request.with_seed(request.seed().wrapping_add(i))));
    }
    held.leave();
    let answer = LlamaAnswer::new(served.clone(), shape, &requests);
    let mut generations = Vec::with_capacity(requests.len());
    for request in requests {
        let noted = wanted.begin(&served, &request);
        let generation = served.worker.start(request)?;
        generations.push((generation, app.record(context, &served, "/completion"), noted));
    }
    Ok((Choices::plain(generations), answer))
}

/// The request for each of the prompts.
fn prepare(
    (body, work): (LlamaRequest, &Work),
    served: &Served,
    context: &Context,
) -> Result<(Request, Vec<Vec<u32>>), ApiError> {
    let LlamaRequest { mut sampling, prompt, n_predict, n_probs, logit_bias, json_schema, .. } = body;
    sampling.also_called("n_predict", n_predict)?;
    sampling.check_receipt()?;
    let prompts = prompt.into_ids((&served.worker, work))?;
    let bias = logit_bias.map(|bias| bias.into_pairs((&served.worker, work))).transpose()?;
    let likely = Likely { n_alternatives: n_probs.unwrap_or(0), of_prompt: false };
    let defaults = served.worker.options().defaults;
    let mut request = sampling.request(Prompt::Tokens(Vec::new()), likely, defaults, context)?;
    request.sampling.logit_bias = bias.unwrap_or_default();
    if let Some(schema) = json_schema {
        if request.format.is_some() {
            let message =
                "expected one of json_schema, grammar, response_format and structured_outputs, found more";
            return Err(ApiError::invalid("json_schema", message));
        }
        (request.format, request.format_field) = (Some(Format::JsonSchema(schema)), Some("json_schema"));
    }
    Ok((request, prompts))
}
