//! In whose form does an error go out? The path decides, so that what stands around the routes answers as they do.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{ApiError, status};
use crate::compat::Compat;

/// The form of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `{"error":{message,type,param,code}}`.
    OpenAi,
    /// `{"type":"error","error":{type,message}}`.
    Anthropic,
    /// `{code,message,retriable}`.
    Job,
    /// OpenAI's, with llama-server's type and words where a prompt is too long.
    Llama,
}

/// In the extensions of a response: an error that another form has other words for.
#[derive(Clone, Debug)]
pub(crate) struct Reworded(pub(crate) ApiError);

/// llama-server's type of a prompt that is too long, which its clients look for.
const EXCEEDED: &str = "exceed_context_size_error";

/// "Overloaded", in Anthropic's API.
const OVERLOADED: u16 = 529;

impl Form {
    /// The form of a path's errors.
    pub(crate) fn of(path: &str) -> Form {
        match path {
            "/execute" | "/cancel" | "/shutdown" => Form::Job,
            "/v1/messages" => Form::Anthropic,
            _ if path.starts_with("/v1/messages/") => Form::Anthropic,
            "/completion" | "/completions" | "/chat/completions" | "/infill" | "/embedding"
            | "/embeddings" => Form::Llama,
            _ => Form::OpenAi,
        }
    }

    /// The form of a server that stands in another's place: llama-server has one form on its own paths and on OpenAI's.
    pub(crate) fn with(self, compat: Compat) -> Form {
        if self == Form::OpenAi && compat == Compat::LlamaServer { Form::Llama } else { self }
    }
}

impl ApiError {
    /// The response in this form.
    pub(crate) fn response(self, form: Form) -> Response {
        match form {
            Form::OpenAi => self.into_response(),
            Form::Job => self.job_response(),
            Form::Llama => self.with_headers((self.status(), Json(self.llama())).into_response()),
            Form::Anthropic => {
                self.with_headers((self.anthropic_status(), Json(self.anthropic())).into_response())
            }
        }
    }

    /// The body of llama-server's own routes. Clients that shorten their prompts look for its words.
    /// Source: llama.cpp, tools/server/server-context.cpp.
    fn llama(&self) -> Value {
        let mut body = self.openai();
        if let ApiError::ContextLength { n_prompt, n_ctx, .. } = self {
            body["error"]["type"] = EXCEEDED.into();
            // An operator's limit of prompts is none of the context.
            if n_prompt >= n_ctx {
                let said = self.said();
                body["error"]["message"] = format!(
                    "the request ({n_prompt} tokens) exceeds the available context size ({n_ctx} tokens): {said}"
                )
                .into();
            }
        }
        body
    }

    /// The body of Anthropic's routes, also within a stream. Source: Anthropic's API reference, "Errors".
    pub(crate) fn anthropic(&self) -> Value {
        let kind = match self.anthropic_status().as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            504 => "timeout_error",
            OVERLOADED => "overloaded_error",
            400..500 => "invalid_request_error",
            _ => "api_error",
        };
        json!({"type": "error", "error": {"type": kind, "message": self.said()}})
    }

    /// A server that cannot answer anybody now is overloaded there.
    fn anthropic_status(&self) -> StatusCode {
        match self.status() {
            StatusCode::SERVICE_UNAVAILABLE => status(OVERLOADED),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_form_of_its_path() {
        let paths =
            ["/execute", "/v1/messages", "/v1/messages/count_tokens", "/v1/messagesx", "/", "/completion"];
        for (compat, other) in [(Compat::Lenient, Form::OpenAi), (Compat::LlamaServer, Form::Llama)] {
            assert_eq!(
                paths.map(|path| Form::of(path).with(compat)),
                [Form::Job, Form::Anthropic, Form::Anthropic, other, other, Form::Llama]
            );
        }
    }

    #[test]
    fn only_what_is_longer_than_the_context_is_said_to_be() {
        let message = |n_prompt| {
            let limit = ApiError::ContextLength {
                param: "prompt".to_owned(),
                message: "expected at most 5 tokens".to_owned(),
                n_prompt,
                n_ctx: 10,
            };
            limit.llama()["error"]["message"].as_str().unwrap_or_default().to_owned()
        };
        assert_eq!(message(9), "prompt: expected at most 5 tokens");
        let words = "the request (10 tokens) exceeds the available context size (10 tokens): ";
        assert_eq!(message(10), format!("{words}prompt: expected at most 5 tokens"));
    }

    #[test]
    fn each_status_has_anthropics_type() {
        let kinds = [
            (ApiError::invalid("a", "b"), 400, "invalid_request_error"),
            (ApiError::Unauthorized(""), 401, "authentication_error"),
            (ApiError::Forbidden(""), 403, "permission_error"),
            (ApiError::ModelNotFound(String::new()), 404, "not_found_error"),
            (ApiError::MethodNotAllowed, 405, "invalid_request_error"),
            (ApiError::TooLarge { limit: 1 }, 413, "request_too_large"),
            (ApiError::Full, 429, "rate_limit_error"),
            (ApiError::Internal, 500, "api_error"),
            (ApiError::Deadline, 504, "timeout_error"),
            (ApiError::Loading, 529, "overloaded_error"),
            (ApiError::Draining, 529, "overloaded_error"),
        ];
        for (error, status, kind) in kinds {
            assert_eq!(error.anthropic()["error"]["type"], kind, "{error}");
            assert_eq!(error.response(Form::Anthropic).status().as_u16(), status, "{kind}");
        }
    }
}
