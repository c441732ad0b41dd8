//! POST /v1/embeddings. Source: OpenAI's API reference, "Create embeddings". And POST /embedding, llama-server's form of the same.
//!
//! As in llama-server and vLLM, the names of control tokens in a text are these tokens, and the vocabulary's own begin and end tokens stand around it.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use worker::Prompt;
use worker::embed::shorten;

use super::{Batch, Cost, asker, check, with_items};
use crate::admission::{Admitted, Held};
use crate::context::Context;
use crate::error::ApiError;
use crate::openai::body::{Body, Checked};
use crate::openai::llama::{Prompts, Written};
use crate::openai::models::check as check_model;
use crate::state::App;

const ROUTE: &str = "/v1/embeddings";

/// The most texts of a request.
const MAX_TEXTS: usize = 2048;

/// The most values of all vectors of a response.
const MAX_VALUES: usize = 1 << 21;

/// About the most bytes of a value as text, and of one in base64.
const VALUE_BYTES: [usize; 2] = [14, 6];

/// The schema `EmbeddingRequest`.
#[derive(Debug, Deserialize)]
pub(crate) struct EmbeddingRequest {
    model: Option<String>,
    input: Prompts,
    encoding_format: Option<Encoding>,
    dimensions: Option<usize>,
    add_special_tokens: Option<bool>,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Float,
    /// Float32 in the order of little-endian machines.
    Base64,
}

impl Body for EmbeddingRequest {
    const SCHEMA: &'static str = "EmbeddingRequest";
}

/// The schema `LlamaEmbeddingRequest`.
#[derive(Debug, Deserialize)]
pub(crate) struct LlamaEmbeddingRequest {
    model: Option<String>,
    content: Option<Prompts>,
    input: Option<Prompts>,
}

impl Body for LlamaEmbeddingRequest {
    const SCHEMA: &'static str = "LlamaEmbeddingRequest";
}

impl TryFrom<LlamaEmbeddingRequest> for EmbeddingRequest {
    type Error = ApiError;

    fn try_from(body: LlamaEmbeddingRequest) -> Result<EmbeddingRequest, ApiError> {
        let LlamaEmbeddingRequest { model, content, input } = body;
        let input = match (content, input) {
            (Some(input), None) | (None, Some(input)) => input,
            (Some(_), Some(_)) => return Err(ApiError::invalid("content", "expected none beside input")),
            (None, None) => return Err(ApiError::invalid("content", "expected a value, found none")),
        };
        Ok(EmbeddingRequest {
            model,
            input,
            encoding_format: None,
            dimensions: None,
            add_special_tokens: None,
        })
    }
}

/// What a response looks like, apart from its vectors.
#[derive(Clone, Debug)]
struct Shape {
    /// llama-server's: a list of vectors' lists, and nothing around it.
    is_bare: bool,
    encoding: Encoding,
    n_dimension: usize,
    n_text: usize,
    model: String,
    /// Fields of the request that were not used.
    ignored: Vec<String>,
}

/// POST /v1/embeddings.
pub(crate) async fn create(
    State(app): State<App>,
    admitted: Result<Admitted, ApiError>,
) -> Result<Response, ApiError> {
    respond(app, admitted?, (|held| Checked::<EmbeddingRequest>::of(held), false)).await
}

/// POST /embedding and /embeddings.
pub(crate) async fn create_llama(
    State(app): State<App>,
    admitted: Result<Admitted, ApiError>,
) -> Result<Response, ApiError> {
    let read = |held: &mut Held| {
        let Checked { body, ignored } = Checked::<LlamaEmbeddingRequest>::of(held)?;
        Ok(Checked { body: body.try_into()?, ignored })
    };
    respond(app, admitted?, (read, true)).await
}

/// How the body of a route becomes that of the first.
type Read = fn(&mut Held) -> Result<Checked<EmbeddingRequest>, ApiError>;

/// Reads a body, and answers it.
async fn respond(app: App, admitted: Admitted, (read, is_bare): (Read, bool)) -> Result<Response, ApiError> {
    let context = admitted.context.clone();
    let (batch, shape) = admitted
        .prepare(move |mut held| {
            let body = read(&mut held)?;
            begin(&app, &context, (held, body, is_bare))
        })
        .await?;
    let mut items = vec![Vec::new(); shape.n_text];
    let cost = batch.run(|index, vector| items[index] = shape.item(index, vector)).await?;
    Ok(shape.response(&items, cost))
}

/// From a body to texts, the first of them under way.
fn begin(
    app: &App,
    context: &Context,
    (held, Checked { body, ignored }, is_bare): (Held, Checked<EmbeddingRequest>, bool),
) -> Result<(Batch, Shape), ApiError> {
    let served = app.ready()?;
    check_model(body.model.as_deref(), &served)?;
    served.worker.embeds()?;
    let n_embd = served.worker.engine().limits().n_embd;
    let n_dimension = body.dimensions.unwrap_or(n_embd);
    if n_dimension > n_embd {
        let message = format!("expected 1 to {n_embd}, the model's own, found {n_dimension}");
        return Err(ApiError::invalid("dimensions", message));
    }
    let inputs = body.input.into_list("input")?;
    let most = MAX_TEXTS.min(MAX_VALUES / n_dimension.max(1));
    if inputs.len() > most {
        let message = format!(
            "expected at most {most} texts with vectors of {n_dimension} values, found {}",
            inputs.len()
        );
        return Err(ApiError::invalid("input", message));
    }
    let encoding = body.encoding_format.unwrap_or_default();
    let shape = Shape {
        is_bare,
        encoding,
        n_dimension,
        n_text: inputs.len(),
        model: served.info.id.clone(),
        ignored,
    };
    let asker = asker(context);
    let add_special = body.add_special_tokens.unwrap_or(true);
    let prompt = |(field, written): (String, Written)| {
        let prompt = written.into_prompt((&served.worker, held.work()), &field, add_special)?;
        Ok((field, prompt))
    };
    let prompts: Vec<(String, Prompt)> = inputs.into_iter().map(prompt).collect::<Result<_, ApiError>>()?;
    let checked = |input| served.worker.check_text(&input, asker, held.work());
    let texts = check((app, &served, &held), prompts.into_iter(), checked)?;
    let n_byte = shape.n_text * n_dimension * VALUE_BYTES[encoding as usize];
    Ok((Batch::begin((app, context), (served, ROUTE), texts, (held, n_byte))?, shape))
}

impl Shape {
    /// One vector, as JSON.
    fn item(&self, index: usize, mut vector: Vec<f32>) -> Vec<u8> {
        shorten(&mut vector, self.n_dimension);
        let value = match self.encoding {
            // Numbers as short as they can be, which a Value would make those of a double.
            Encoding::Float => serde_json::to_string(&vector).unwrap_or_default(),
            Encoding::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                format!("\"{}\"", STANDARD.encode(bytes))
            }
        };
        match self.is_bare {
            false => format!(r#"{{"object":"embedding","index":{index},"embedding":{value}}}"#),
            true => format!(r#"{{"index":{index},"embedding":[{value}]}}"#),
        }
        .into_bytes()
    }

    fn response(&self, items: &[Vec<u8>], cost: Cost) -> Response {
        if self.is_bare {
            return ([(header::CONTENT_TYPE, "application/json")], with_items(("[", "]"), items))
                .into_response();
        }
        let mut rest = json!({"model": self.model, "usage": cost});
        if !self.ignored.is_empty() {
            rest["ignored_parameters"] = Value::from(self.ignored.clone());
        }
        // The rest's own opening brace is the end of the list.
        let rest = rest.to_string();
        let after = format!("],{}", rest.strip_prefix('{').unwrap_or_default());
        let body = with_items((r#"{"object":"list","data":["#, &after), items);
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}
