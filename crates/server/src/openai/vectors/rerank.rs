//! POST /v1/rerank: how probable is it that each document fits a query?
//!
//! The form of Jina's and Cohere's APIs, of llama-server's and vLLM's. Only models with a classifier rank; see [`worker::Worker::ranks`].

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::{Batch, Cost, asker, check};
use crate::admission::{Admitted, Held};
use crate::context::Context;
use crate::error::ApiError;
use crate::openai::body::{Body, Checked};
use crate::openai::envelope::new_id;
use crate::openai::models::check as check_model;
use crate::state::App;

const ROUTE: &str = "/v1/rerank";

/// About the most bytes of a result without its document.
const RESULT_BYTES: usize = 80;

/// The schema `RerankRequest`.
#[derive(Debug, Deserialize)]
pub(crate) struct RerankRequest {
    model: Option<String>,
    query: String,
    documents: Vec<Document>,
    top_n: Option<usize>,
    return_documents: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Document {
    Text(String),
    Object(Text),
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Text {
    text: String,
}

impl Document {
    fn text(&self) -> &str {
        match self {
            Document::Text(text) | Document::Object(Text { text }) => text,
        }
    }

    fn into_text(self) -> Text {
        match self {
            Document::Text(text) => Text { text },
            Document::Object(text) => text,
        }
    }
}

impl Body for RerankRequest {
    const SCHEMA: &'static str = "RerankRequest";
}

/// What a response has beside its ranks.
struct Shape {
    top_n: usize,
    /// Empty where they are not wanted.
    documents: Vec<Document>,
    n_document: usize,
    model: String,
    ignored: Vec<String>,
}

#[derive(Serialize)]
struct Ranking {
    id: String,
    object: &'static str,
    model: String,
    results: Vec<Rank>,
    usage: Cost,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignored_parameters: Vec<String>,
}

#[derive(Serialize)]
struct Rank {
    index: usize,
    relevance_score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Text>,
}

/// POST /v1/rerank.
pub(crate) async fn create(
    State(app): State<App>,
    admitted: Result<Admitted, ApiError>,
) -> Result<Response, ApiError> {
    let admitted = admitted?;
    let context = admitted.context.clone();
    let (batch, shape) = admitted.prepare(move |held| begin(&app, &context, held)).await?;
    let worker = batch.served.worker.clone();
    let mut scores = vec![0.0; shape.n_document];
    let usage = batch.run(|index, vector| scores[index] = worker.rank(&vector)).await?;
    Ok(Json(shape.ranking(&scores, usage)).into_response())
}

/// From a body to documents, the first of them under way.
fn begin(app: &App, context: &Context, mut held: Held) -> Result<(Batch, Shape), ApiError> {
    let Checked { body, ignored } = Checked::<RerankRequest>::of(&mut held)?;
    let served = app.ready()?;
    check_model(body.model.as_deref(), &served)?;
    served.worker.ranks()?;
    let RerankRequest { query, documents, top_n, return_documents, .. } = body;
    let (n_document, asker) = (documents.len(), asker(context));
    let named =
        documents.iter().enumerate().map(|(i, document)| (format!("documents[{i}]"), document.text()));
    let checked = |text: &str| served.worker.check_document(&query, text, asker, held.work());
    let texts = check((app, &held), named, checked)?;
    let returned = return_documents.unwrap_or(false);
    let n_text: usize = documents.iter().map(|document| document.text().len()).filter(|_| returned).sum();
    let shape = Shape {
        top_n: top_n.unwrap_or(n_document),
        documents: if returned { documents } else { Vec::new() },
        n_document,
        model: served.info.id.clone(),
        ignored,
    };
    let n_byte = n_text + n_document * RESULT_BYTES;
    Ok((Batch::begin((app, context), (served, ROUTE), texts, (held, n_byte))?, shape))
}

impl Shape {
    /// The best first; of equal ones the first.
    fn ranking(mut self, scores: &[f64], usage: Cost) -> Ranking {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        order.truncate(self.top_n);
        let results = order.into_iter().map(|index| {
            let empty = || Document::Text(String::new());
            let document = self.documents.get_mut(index).map(|text| std::mem::replace(text, empty()));
            Rank { index, relevance_score: scores[index], document: document.map(Document::into_text) }
        });
        Ranking {
            id: new_id("rerank-"),
            object: "list",
            results: results.collect(),
            model: self.model,
            usage,
            ignored_parameters: self.ignored,
        }
    }
}
