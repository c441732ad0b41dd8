//! Which path leads where? All routes of the server, and what stands around each of them.

use axum::http::Uri;
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router, middleware};

use crate::error::{ApiError, Form};
use crate::state::App;
use crate::{around, health, jobs, metrics, openai, openapi, page, text, version};

/// Marks a route that has the engine compute, so that a request needs a place there before its body is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Computes;

/// All routes but the page's, by their paths; the document describes each.
fn routes() -> Vec<(&'static str, MethodRouter<App>)> {
    let computing =
        computing().into_iter().map(|(path, route)| (path, route.route_layer(Extension(Computes))));
    computing.chain(others()).collect()
}

/// The routes that have the engine compute.
fn computing() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/execute", post(jobs::execute)),
        ("/v1/chat/completions", post(openai::chat_completions)),
        ("/v1/completions", post(openai::completions)),
        ("/infill", post(openai::infill)),
        ("/completion", post(openai::completion)),
        // llama-server's, which has not the form of /v1/completions.
        ("/completions", post(openai::completion)),
        ("/chat/completions", post(openai::chat_completions)),
        ("/responses", post(openai::responses)),
        ("/embedding", post(openai::llama_embeddings)),
        ("/embeddings", post(openai::llama_embeddings)),
        ("/v1/responses", post(openai::responses)),
        ("/v1/messages", post(openai::messages)),
        ("/v1/embeddings", post(openai::embeddings)),
        ("/v1/rerank", post(openai::rerank)),
        // The paths of Cohere's second version, and of llama-server and vLLM.
        ("/v2/rerank", post(openai::rerank)),
        ("/rerank", post(openai::rerank)),
        ("/reranking", post(openai::rerank)),
        ("/v1/reranking", post(openai::rerank)),
    ]
}

/// The routes that do not.
fn others() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/health", get(health::health)),
        ("/props", get(openai::props)),
        ("/slots", get(openai::slots)),
        ("/models", get(openai::list_models)),
        ("/metrics", get(metrics::metrics)),
        ("/version", get(version::version)),
        ("/openapi.json", get(openapi::openapi)),
        ("/cancel", post(jobs::cancel)),
        ("/shutdown", post(jobs::shutdown)),
        ("/v1/chat/completions/input_tokens", post(openai::count_chat)),
        ("/chat/completions/input_tokens", post(openai::count_chat)),
        ("/v1/responses/input_tokens", post(openai::count_response)),
        ("/v1/responses/{id}", get(openai::get_response).delete(openai::delete_response)),
        ("/v1/responses/{id}/input_items", get(openai::input_items)),
        ("/v1/messages/count_tokens", post(openai::count_message)),
        ("/v1/models", get(openai::list_models)),
        // Names of models may hold slashes.
        ("/v1/models/{*model}", get(openai::get_model)),
        ("/tokenize", post(text::tokenize)),
        ("/detokenize", post(text::detokenize)),
        ("/apply-template", post(text::apply_template)),
    ]
}

/// All routes, and what stands around them.
pub(crate) fn router(app: App) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, (path, route)| router.route(path, route));
    finish(router.merge(page::routes()), app)
}

/// /health alone, for a port of its own.
pub(crate) fn health_router(app: App) -> Router {
    finish(Router::new().route("/health", get(health::health)), app)
}

/// What stands around all routes.
fn finish(router: Router<App>, app: App) -> Router {
    router
        .fallback(|uri: Uri| async move { ApiError::NotFound.response(Form::of(uri.path())) })
        .method_not_allowed_fallback(|uri: Uri| async move {
            ApiError::MethodNotAllowed.response(Form::of(uri.path()))
        })
        .layer(middleware::from_fn_with_state(app.clone(), around::around))
        .with_state(app)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::routes;
    use crate::openapi;

    #[test]
    fn the_document_describes_every_route_and_no_other() {
        let routes: BTreeSet<String> =
            routes().into_iter().map(|(path, _)| path.replace("{*", "{")).collect();
        assert_eq!(routes, openapi::paths());
    }
}
