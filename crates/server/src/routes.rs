//! Which path leads where? All routes of the server, and what stands around each of them.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::error::ApiError;
use crate::state::App;
use crate::{health, jobs, page};

/// All routes.
pub(crate) fn router(app: App) -> Router {
    let body_bytes = app.options().limits.body_bytes;
    Router::new()
        .route("/health", get(health::health))
        .route("/execute", post(jobs::execute))
        .route("/cancel", post(jobs::cancel))
        .route("/shutdown", post(jobs::shutdown))
        .merge(page::routes())
        .fallback(|| async { ApiError::NotFound })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .layer(DefaultBodyLimit::max(body_bytes))
        .with_state(app)
}
