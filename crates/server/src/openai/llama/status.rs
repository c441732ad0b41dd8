//! GET /props and GET /slots: what is served and how busy it is, in llama-server's words.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::NO_SLOT;
use super::settings::Settings;
use crate::error::ApiError;
use crate::state::{App, Served};

/// The query of GET /slots.
#[derive(Debug, Deserialize)]
pub(crate) struct SlotsQuery {
    /// Any value asks for an error where no slot is free.
    fail_on_no_slot: Option<String>,
}

/// GET /props. `model_path` is the model's name: paths are nobody's business but the operator's.
pub(crate) async fn props(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let served = app.ready()?;
    let tokenizer = served.worker.tokenizer();
    let (special, template) = (tokenizer.special(), tokenizer.chat_template());
    let text = |id: Option<u32>| id.map(|id| tokenizer.decode(&[id], true)).unwrap_or_default();
    let program = Some(served.info.program.as_str()).filter(|text| !text.is_empty());
    Ok(Json(json!({
        "default_generation_settings": {"params": settings(&served), "n_ctx": served.worker.engine().capacity()},
        "total_slots": served.worker.engine().limits().n_slot,
        "model_alias": served.info.id,
        "model_path": served.info.id,
        "modalities": {"vision": false, "audio": false},
        "endpoint_slots": true,
        "endpoint_props": false,
        "endpoint_metrics": true,
        "chat_template": template.map_or("", |template| template.source()),
        "bos_token": text(special.bos),
        "eos_token": text(special.eos),
        "build_info": program.unwrap_or(concat!("worker-orcd ", env!("CARGO_PKG_VERSION"))),
        "is_sleeping": false,
    })))
}

/// GET /slots: as many as requests can run at once, the first of them busy.
pub(crate) async fn slots(
    State(app): State<App>,
    query: Result<Query<SlotsQuery>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(query) = query.map_err(|_| {
        ApiError::invalid("fail_on_no_slot", "expected it once in a query of name=value, found another query")
    })?;
    let served = app.ready()?;
    let engine = served.worker.engine();
    let (n_slot, n_running) = (engine.limits().n_slot, engine.load().n_running);
    if query.fail_on_no_slot.is_some() && n_running >= n_slot {
        return Err(ApiError::NoSlot { n_slot });
    }
    let params = settings(&served);
    let slot = |id| {
        json!({
            "id": id,
            "id_task": NO_SLOT,
            "n_ctx": engine.capacity(),
            "speculative": false,
            "is_processing": id < n_running,
            "params": params,
        })
    };
    Ok(Json((0..n_slot).map(slot).collect()))
}

/// Those of a request that says nothing.
fn settings(served: &Served) -> Value {
    let options = served.worker.options();
    Settings {
        params: &options.defaults.params(),
        n_predict: options.default_max_tokens,
        stop: &[],
        ignore_eos: false,
        is_stream: false,
    }
    .json()
}
