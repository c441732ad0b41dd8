//! GET /v1/models and /v1/models/{model}: the one model that is served.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::state::{App, Served};

/// GET /v1/models.
pub(crate) async fn list(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let served = app.served().ok_or(ApiError::Loading)?;
    Ok(Json(json!({"object": "list", "data": [entry(served)]})))
}

/// GET /v1/models/{model}, by its id or an alias.
pub(crate) async fn one(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = id.map_err(|_| ApiError::NotFound)?;
    let served = app.served().ok_or(ApiError::Loading)?;
    check(Some(&id), served)?;
    Ok(Json(entry(served)))
}

/// Is this the model that is served? No name and an empty one are.
pub(crate) fn check(name: Option<&str>, served: &Served) -> Result<(), ApiError> {
    let is_served = |name: &str| {
        name.is_empty() || name == served.info.id || served.info.aliases.iter().any(|alias| alias == name)
    };
    match name {
        Some(name) if !is_served(name) => {
            // Repeated, but not whatever its length.
            Err(ApiError::ModelNotFound(name.chars().filter(|c| !c.is_control()).take(128).collect()))
        }
        _ => Ok(()),
    }
}

fn entry(served: &Served) -> Value {
    let (info, options) = (&served.info, served.worker.options());
    let mut defaults = json!(options.defaults);
    defaults["max_tokens"] = json!(options.default_max_tokens);
    let (worker, embedder) = (&served.worker, served.worker.embedder());
    let n_embd = worker.engine().limits().n_embd;
    let embeddings = worker.embeds().ok().map(|()| {
        json!({
            "pooling": embedder.pooling().name(),
            "pooling_of_file": embedder.is_of_file(),
            "dimensions": n_embd,
            "max_input_tokens": worker.engine().longest_embedded(),
        })
    });
    json!({
        "id": info.id,
        "object": "model",
        "created": info.created,
        "owned_by": "worker-orcd",
        "max_model_len": served.worker.engine().capacity(),
        "aliases": info.aliases,
        "defaults": defaults,
        "embeddings": embeddings,
        "rerank": worker.ranks().is_ok(),
        "meta": {
            "n_vocab": served.worker.engine().limits().n_vocab,
            "n_ctx_train": info.n_ctx_train,
            "n_params": info.n_params,
            "size": info.n_bytes,
        },
    })
}
