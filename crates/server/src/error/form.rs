//! In whose form does an error go out? The path decides, so that what stands around the routes answers as they do.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{ApiError, status};

/// The form of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `{"error":{message,type,param,code}}`.
    OpenAi,
    /// `{"type":"error","error":{type,message}}`.
    Anthropic,
    /// `{code,message,retriable}`.
    Job,
    /// OpenAI's, with llama-server's type where a prompt is too long.
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

    /// The body of llama-server's own routes.
    fn llama(&self) -> Value {
        let mut body = self.openai();
        if matches!(self, ApiError::ContextLength { .. }) {
            body["error"]["type"] = EXCEEDED.into();
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
        let forms =
            ["/execute", "/v1/messages", "/v1/messages/count_tokens", "/v1/messagesx", "/"].map(Form::of);
        assert_eq!(forms, [Form::Job, Form::Anthropic, Form::Anthropic, Form::OpenAi, Form::OpenAi]);
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
