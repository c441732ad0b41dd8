//! POST /v1/completions: the older route, which continues texts as they stand.
//!
//! The names of control tokens in a prompt are these tokens: whoever uses this route writes prompts themselves. Beside a suffix they are
//! text, since the server writes the prompt.

mod answer;
mod request;

use axum::extract::State;
use axum::response::Response;
use worker::{Event, ValidRequest, Work};

use super::body::Checked;
use super::choices::{self, Choices};
use super::logprobs::prompt_offsets;
use super::{Envelope, Shape, check, check_model, refused};
use crate::admission::{Admitted, Held};
use crate::context::Context;
use crate::error::ApiError;
use crate::options::Limits;
use crate::state::{App, Served};

use answer::{CompletionAnswer, Echo};
use request::CompletionRequest;

/// The most answers of a request.
const MAX_CHOICES: usize = 128;

/// POST /v1/completions.
pub(crate) async fn create(
    State(app): State<App>,
    admitted: Result<Admitted, ApiError>,
) -> Result<Response, ApiError> {
    choices::respond(app, admitted, begin).await
}

/// From a body to answers under way.
fn begin(
    app: &App,
    context: &Context,
    mut held: Held,
) -> Result<(Choices<Event>, CompletionAnswer), ApiError> {
    let Checked { body, mut ignored } = Checked::<CompletionRequest>::of(&mut held)?;
    let served = app.ready()?;
    check_model(body.sampling.model.as_deref(), &served)?;
    let wanted = body.sampling.receipt;
    wanted.check(&served)?;
    body.sampling.note_ignored(&mut ignored);
    let shape = Shape {
        n: body.sampling.n(),
        is_stream: body.sampling.stream == Some(true),
        usage: body.sampling.usage(),
        wants_logprobs: body.logprobs.is_some(),
        ignored,
    };
    let prepared = prepare((body, held.work()), &served, &app.options().limits, context)?;
    held.leave();
    let mut generations = Vec::new();
    for request in &prepared.requests {
        for i in 0..shape.n as u64 {
            let request = request.with_seed(request.seed().wrapping_add(i));
            let noted = wanted.begin(&served, &request);
            let generation = served.worker.start(request)?;
            generations.push((generation, app.record(context, &served, "/v1/completions"), noted));
        }
    }
    let envelope = Envelope::new(&served, "cmpl", "text_completion");
    let answer = CompletionAnswer::new(served, envelope, shape, prepared.echoes);
    Ok((Choices::plain(generations), answer))
}

/// What a body becomes.
struct Prepared {
    /// One for each prompt.
    requests: Vec<ValidRequest>,
    /// What each prompt's answers begin with.
    echoes: Vec<Echo>,
}

fn prepare(
    (body, work): (CompletionRequest, &Work),
    served: &Served,
    limits: &Limits,
    context: &Context,
) -> Result<Prepared, ApiError> {
    body.check()?;
    let (echoes_logprobs, by_id) = (body.echoes_logprobs(), body.prompt_logprobs.is_some());
    let n = body.sampling.n();
    let echo = body.echo == Some(true);
    let suffix = body.suffix().map(str::to_owned);
    let (request, prompts) = body.into_request(served.worker.options().defaults, context)?;
    if prompts.len() * n > MAX_CHOICES {
        let message =
            format!("expected at most {MAX_CHOICES} answers, found {} prompts times {n}", prompts.len());
        return Err(ApiError::invalid("prompt", message));
    }
    let mut prepared = Prepared { requests: Vec::new(), echoes: Vec::new() };
    for prompt in prompts {
        let text = if echo { prompt.text(served) } else { String::new() };
        let prompt = match &suffix {
            Some(suffix) => {
                prompt.before(suffix, &served.worker).map_err(|error| refused(error, "prompt"))?
            }
            None => prompt.into_worker(),
        };
        let request = worker::Request { prompt, ..request.clone() };
        let request = check(served, limits, (request, work), "prompt")?;
        let first = request.prompt().first().filter(|_| echoes_logprobs);
        let scored = first.map(|&first| (first, prompt_offsets(&served.worker, request.prompt(), &text)));
        prepared.echoes.push(Echo { text, scored, by_id });
        prepared.requests.push(request);
    }
    Ok(prepared)
}
