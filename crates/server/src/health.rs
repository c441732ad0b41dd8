//! Is it well? GET /health: 200 while requests are taken, 503 otherwise, and what is known of model and device in both cases.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use worker::EngineError;

use crate::error::ApiError;
use crate::state::{App, Phase, Served};

#[derive(Debug, Serialize)]
struct Health<'a> {
    /// `healthy` or `unhealthy`.
    status: &'static str,
    /// `ready`, `draining` or `failed`; `loading` has a body of its own.
    phase: &'static str,
    model: &'a str,
    device: &'a str,
    kernels: &'a str,
    resident: bool,
    /// `unchanged`, `replaced` where its path leads to another file, or to none, than the one that is served, or `lost` where that one changed.
    model_file: &'static str,
    quant_kind: &'a str,
    vram_bytes_used: u64,
    /// The model's and, where there is one, its draft model's.
    memory_bytes: Memory,
    /// The draft model, and whether it is in use: not once it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    draft_model: Option<DraftModel<'a>>,
    memory_plan: Plan,
    tokenizer_kind: &'a str,
    vocab_size: usize,
    context_length: usize,
    uptime_seconds: u64,
    sm: Option<u32>,
    cuda_runtime_version: Option<&'a str>,
    n_running: usize,
    n_waiting: usize,
    kv_cache_usage: f64,
    kv_cache_reserved: f64,
    version: &'a str,
}

#[derive(Debug, Serialize)]
struct Memory {
    weights: u64,
    kv_cache: u64,
    /// What sequences keep beside it, in models with recurrent layers.
    state: u64,
    activations: u64,
}

#[derive(Debug, Serialize)]
struct DraftModel<'a> {
    name: &'a str,
    in_use: bool,
}

/// What the KV cache was sized for.
#[derive(Debug, Serialize)]
struct Plan {
    /// Sequences that can run at once.
    sequences: usize,
    /// Positions that one sequence can hold.
    context_length: usize,
    /// Positions that all sequences together can hold.
    kv_cache_positions: usize,
}

/// GET /health.
pub(crate) async fn health(State(app): State<App>) -> Response {
    let phase = app.phase();
    let (status, name) = match &phase {
        Phase::Ready => (StatusCode::OK, "ready"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        Phase::Failed(_) => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
        Phase::Loading => return loading(&app),
    };
    let Some(served) = app.served() else { return ApiError::Draining.into_response() };
    let mut health = Health { phase: name, ..of(&app, served, phase == Phase::Ready) };
    if matches!(phase, Phase::Failed(EngineError::ModelLost(_))) {
        (health.resident, health.model_file) = (false, "lost");
    }
    let mut body = json!(health);
    let error = match phase {
        Phase::Draining => Some(ApiError::Draining),
        Phase::Failed(error) => Some(error.into()),
        _ => None,
    };
    if let Some(error) = error {
        body["error"] = error.openai()["error"].take();
    }
    (status, Json(body)).into_response()
}

/// The error that every route has while the model loads, with the phase and how far the load is.
fn loading(app: &App) -> Response {
    let response = ApiError::Loading.into_response();
    let mut body = ApiError::Loading.openai();
    body["phase"] = json!("loading");
    body["percent"] = json!(app.options().percent_loaded.load(Ordering::Relaxed));
    (response.status(), Json(body)).into_response()
}

fn of<'a>(app: &App, served: &'a Served, is_healthy: bool) -> Health<'a> {
    let (info, engine) = (&served.info, served.worker.engine());
    let (memory, load, limits) = (engine.memory(), engine.load(), engine.limits());
    let share = |n_page: usize| if load.n_page == 0 { 0.0 } else { n_page as f64 / load.n_page as f64 };
    let bytes = memory.total();
    Health {
        status: if is_healthy { "healthy" } else { "unhealthy" },
        phase: "",
        model: &info.id,
        device: &info.device,
        kernels: &info.kernels,
        resident: memory.resident,
        model_file: if app.is_file_replaced() { "replaced" } else { "unchanged" },
        quant_kind: &info.quant_kind,
        vram_bytes_used: if info.device == "cpu" { 0 } else { bytes },
        memory_bytes: Memory {
            weights: memory.weights,
            kv_cache: memory.kv_cache,
            state: memory.state,
            activations: memory.activations,
        },
        draft_model: info.draft_model.as_deref().map(|name| DraftModel { name, in_use: load.has_draft }),
        memory_plan: Plan {
            sequences: limits.n_slot,
            context_length: engine.capacity(),
            kv_cache_positions: limits.n_page.saturating_mul(limits.page_size),
        },
        tokenizer_kind: &info.tokenizer_kind,
        vocab_size: limits.n_vocab,
        context_length: engine.capacity(),
        uptime_seconds: app.began().elapsed().as_secs(),
        sm: info.sm,
        cuda_runtime_version: info.cuda_version.as_deref(),
        n_running: load.n_running,
        n_waiting: load.n_waiting,
        kv_cache_usage: share(load.n_used_page),
        kv_cache_reserved: share(load.n_page.saturating_sub(load.n_free_page)),
        version: &info.program,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::options::ServerOptions;

    #[test]
    fn a_load_says_how_far_it_is() {
        let app = App::new(ServerOptions::default());
        app.options().percent_loaded.store(42, Ordering::Relaxed);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (status, body) = runtime.block_on(async {
            let response = health(State(app)).await;
            (response.status(), axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap())
        });
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((&body["phase"], &body["percent"]), (&json!("loading"), &json!(42)));
        assert_eq!(body["error"]["message"], "Loading model");
    }
}
