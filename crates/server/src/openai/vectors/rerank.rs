//! POST /v1/rerank: how probable is it that each document fits a query?
//!
//! The form of Jina's and Cohere's APIs, of llama-server's and vLLM's; with `texts` instead of `documents` that of Hugging Face's text embeddings
//! inference. Only models with a classifier rank; see [`worker::Worker::ranks`].

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
    documents: Option<Vec<Document>>,
    texts: Option<Vec<String>>,
    top_n: Option<usize>,
    return_documents: Option<bool>,
    return_text: Option<bool>,
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
    /// Hugging Face's form: a list and nothing around it.
    is_bare: bool,
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

/// A rank in Hugging Face's form.
#[derive(Serialize)]
struct BareRank {
    index: usize,
    score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
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
    let is_bare = shape.is_bare;
    let ranking = shape.ranking(&scores, usage);
    Ok(if is_bare { Json(ranking.bare()).into_response() } else { Json(ranking).into_response() })
}

/// From a body to documents, the first of them under way.
fn begin(app: &App, context: &Context, mut held: Held) -> Result<(Batch, Shape), ApiError> {
    let Checked { body, ignored } = Checked::<RerankRequest>::of(&mut held)?;
    let served = app.ready()?;
    check_model(body.model.as_deref(), &served)?;
    served.worker.ranks()?;
    let RerankRequest { query, top_n, .. } = body;
    let (documents, name, returned) = match (body.documents, body.texts) {
        (Some(documents), None) => (documents, "documents", body.return_documents),
        (None, Some(texts)) => (texts.into_iter().map(Document::Text).collect(), "texts", body.return_text),
        (None, None) => return Err(ApiError::invalid("documents", "expected a value, found none")),
        (Some(_), Some(_)) => return Err(ApiError::invalid("texts", "expected none beside documents")),
    };
    let (is_bare, returned) = (name == "texts", returned.unwrap_or(false));
    let (n_document, asker) = (documents.len(), asker(context));
    let named = documents.iter().enumerate().map(|(i, document)| (format!("{name}[{i}]"), document.text()));
    let checked = |text: &str| served.worker.check_document(&query, text, asker, held.work());
    let texts = check((app, &served, &held), named, checked)?;
    let n_text: usize = documents.iter().map(|document| document.text().len()).filter(|_| returned).sum();
    let shape = Shape {
        top_n: top_n.unwrap_or(n_document),
        documents: if returned { documents } else { Vec::new() },
        n_document,
        is_bare,
        model: served.info.id.clone(),
        ignored,
    };
    let n_byte = n_text + n_document * RESULT_BYTES;
    Ok((Batch::begin((app, context), (served, ROUTE), texts, (held, n_byte))?, shape))
}

impl Ranking {
    /// The same in Hugging Face's form.
    fn bare(self) -> Vec<BareRank> {
        let bare = |rank: Rank| BareRank {
            index: rank.index,
            score: rank.relevance_score,
            text: rank.document.map(|document| document.text),
        };
        self.results.into_iter().map(bare).collect()
    }
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
