//! Which HTTP status, which code? The one place that decides.
//!
//! Each group of routes has a form of its own ([`Form`]). Messages name fields, what was
//! expected and what was found; they hold no paths, no addresses, no prompts, and of the inside of the process nothing but the kind of failure.

mod form;

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;
use worker::{EngineError, Stopped, WorkerError};

pub(crate) use form::{Form, Reworded};

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApiError {
    /// The request is not acceptable.
    #[error("{message}")]
    Invalid {
        /// The field, as a path such as `messages[1].role`.
        param: Option<String>,
        /// What was expected, and what was found.
        message: String,
    },
    /// The prompt is longer than the context.
    #[error("{message}")]
    ContextLength {
        /// The field with the prompt.
        param: String,
        /// How many tokens there may be, and how many there are.
        message: String,
        /// Tokens of the prompt.
        n_prompt: usize,
        /// Tokens of the context.
        n_ctx: usize,
    },
    /// No or a wrong key.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The request came by a way that is not open to it.
    #[error("{0}")]
    Forbidden(&'static str),
    /// No such route.
    #[error("no such route")]
    NotFound,
    /// The route does not know this method.
    #[error("this route does not support this method")]
    MethodNotAllowed,
    /// Another model than the one that is served.
    #[error("the model `{0}` is not served here; GET /v1/models names the one that is")]
    ModelNotFound(String),
    /// The model or its device is not for what is asked.
    #[error("{0}")]
    Unfit(String),
    /// No such response is kept for this client.
    #[error(
        "no response with the id {id:?} is kept: it was not stored, is not this client's, or was forgotten for newer ones"
    )]
    ResponseNotFound {
        /// What was looked for.
        id: String,
        /// Whether another was to go on from it; else it was to be read or deleted.
        is_previous: bool,
    },
    /// The body is too large.
    #[error("the body is too large: expected at most {limit} bytes")]
    TooLarge {
        /// Bytes.
        limit: usize,
    },
    /// The body is not JSON by its content type.
    #[error("expected a body of type application/json")]
    MediaType,
    /// The body is compressed.
    #[error("expected a body without a content encoding, found {0:?}")]
    ContentEncoding(String),
    /// The body did not come in time.
    #[error("the body did not arrive in time")]
    SlowBody,
    /// Too many of the client's requests are unfinished.
    #[error("busy: {limit} requests of this client are unfinished, and no more are accepted now")]
    Busy {
        /// How many of the client's may be unfinished now.
        limit: usize,
    },
    /// The bodies of other requests take all the memory there is for them.
    #[error("busy: other requests use all the memory for bodies")]
    Full,
    /// Other requests' preparation leaves no place for this one's.
    #[error("{0}")]
    Overloaded(String),
    /// All slots are busy, and the client asked to be told so.
    #[error("busy: all {n_slot} slots compute")]
    NoSlot {
        /// How many there are.
        n_slot: usize,
    },
    /// The connection stands on a place that is kept for probes.
    #[error("busy: too many connections are open, and this one can use only /health")]
    Crowded,
    /// The model is not there yet.
    #[error("Loading model")]
    Loading,
    /// The process is ending.
    #[error("the server is shutting down")]
    Draining,
    /// The time of the request is over.
    #[error("the request timed out")]
    Deadline,
    /// The client asked for the end.
    #[error("the request was cancelled")]
    Cancelled,
    /// The device failed.
    #[error("the device failed; the server ends")]
    Device,
    /// The model's file changed under the server.
    #[error("the model's file was truncated or written to while it was in use; the server ends")]
    ModelLost,
    /// The model gives no token a probability.
    #[error("the model's logits are not numbers")]
    NotNumbers,
    /// The answer is complete, and its receipt cannot be made.
    #[error("the answer is complete, but the model's file could not be read again for its receipt")]
    Receipt,
    /// A defect.
    #[error("internal error")]
    Internal,
}

/// In the extensions of a response: that its request is refused, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    /// The code of the job API.
    pub(crate) code: &'static str,
    /// Where the request was not even looked at, why.
    pub(crate) reason: Option<&'static str>,
}

impl Refused {
    /// The values of the metrics' label `reason`.
    pub(crate) const NAMES: [&'static str; 10] = [
        "queue",
        "memory",
        "grammars",
        "connections",
        "size",
        "slow_body",
        "key",
        "forbidden",
        "loading",
        "draining",
    ];
}

/// The most bytes of a field's name in an error: some names are the client's own.
const MAX_PARAM: usize = 256;
/// The most bytes of a message.
const MAX_MESSAGE: usize = 1024;

/// A text, cut where it is longer than an error should be.
fn bounded(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return text.into();
    }
    let end = text.floor_char_boundary(limit / 2);
    format!("{}... ({} bytes in all)", &text[..end], text.len()).into()
}

/// What an error is, on each wire.
struct Kind {
    status: StatusCode,
    /// Of the job API.
    code: &'static str,
    /// OpenAI's `type`.
    kind: &'static str,
    /// OpenAI's `code`.
    openai_code: Option<&'static str>,
    /// Whether the same request may succeed later.
    is_retriable: bool,
}

impl ApiError {
    /// A field that is not acceptable.
    #[must_use]
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> ApiError {
        ApiError::Invalid { param: Some(param.into()), message: message.into() }
    }

    /// A body that is not acceptable as a whole.
    #[must_use]
    pub fn body(message: impl Into<String>) -> ApiError {
        ApiError::Invalid { param: None, message: message.into() }
    }

    /// A prompt that is longer than the context; `param` is where the route has it.
    pub(crate) fn too_long(param: &str, error: &WorkerError, (n_prompt, n_ctx): (usize, usize)) -> ApiError {
        let said = error.to_string();
        let message = said.strip_prefix("prompt: ").unwrap_or(&said).to_owned();
        ApiError::ContextLength { param: param.to_owned(), message, n_prompt, n_ctx }
    }

    fn kind(&self) -> Kind {
        let (status, code, kind, openai_code, is_retriable) = match self {
            ApiError::Invalid { .. } => {
                (StatusCode::BAD_REQUEST, "INVALID_REQUEST", "invalid_request_error", None, false)
            }
            ApiError::ContextLength { .. } => (
                StatusCode::BAD_REQUEST,
                "INVALID_REQUEST",
                "invalid_request_error",
                Some("context_length_exceeded"),
                false,
            ),
            ApiError::Unfit(_) => (
                StatusCode::BAD_REQUEST,
                "INVALID_REQUEST",
                "invalid_request_error",
                Some("unsupported_model"),
                false,
            ),
            ApiError::Unauthorized(_) => (
                StatusCode::UNAUTHORIZED,
                "UNAUTHORIZED",
                "authentication_error",
                Some("invalid_api_key"),
                false,
            ),
            ApiError::Forbidden(_) => (StatusCode::FORBIDDEN, "FORBIDDEN", "permission_error", None, false),
            ApiError::NotFound => {
                (StatusCode::NOT_FOUND, "INVALID_REQUEST", "invalid_request_error", Some("not_found"), false)
            }
            ApiError::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "INVALID_REQUEST",
                "invalid_request_error",
                Some("method_not_allowed"),
                false,
            ),
            ApiError::ModelNotFound(_) => (
                StatusCode::NOT_FOUND,
                "INVALID_REQUEST",
                "invalid_request_error",
                Some("model_not_found"),
                false,
            ),
            ApiError::ResponseNotFound { is_previous: false, .. } => {
                (StatusCode::NOT_FOUND, "INVALID_REQUEST", "invalid_request_error", Some("not_found"), false)
            }
            ApiError::ResponseNotFound { is_previous: true, .. } => (
                StatusCode::BAD_REQUEST,
                "INVALID_REQUEST",
                "invalid_request_error",
                Some("previous_response_not_found"),
                false,
            ),
            ApiError::TooLarge { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "INVALID_REQUEST", "invalid_request_error", None, false)
            }
            ApiError::MediaType | ApiError::ContentEncoding(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "INVALID_REQUEST", "invalid_request_error", None, false)
            }
            ApiError::SlowBody => {
                (StatusCode::REQUEST_TIMEOUT, "INVALID_REQUEST", "invalid_request_error", None, true)
            }
            ApiError::Busy { .. } | ApiError::Full | ApiError::Overloaded(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "BUSY", "rate_limit_error", Some("busy"), true)
            }
            ApiError::Loading | ApiError::Draining | ApiError::Crowded | ApiError::NoSlot { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "unavailable_error", None, true)
            }
            ApiError::Deadline => {
                (StatusCode::GATEWAY_TIMEOUT, "INFERENCE_TIMEOUT", "timeout_error", Some("timeout"), true)
            }
            ApiError::Cancelled => {
                (status(499), "CANCELLED", "invalid_request_error", Some("cancelled"), true)
            }
            ApiError::Device => {
                (StatusCode::INTERNAL_SERVER_ERROR, "CUDA_ERROR", "server_error", Some("device_error"), true)
            }
            ApiError::ModelLost => {
                (StatusCode::INTERNAL_SERVER_ERROR, "MODEL_LOST", "server_error", Some("model_lost"), true)
            }
            ApiError::NotNumbers => {
                (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "server_error", Some("not_numbers"), false)
            }
            ApiError::Receipt => {
                (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "server_error", Some("receipt_failed"), false)
            }
            ApiError::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "server_error", None, true),
        };
        Kind { status, code, kind, openai_code, is_retriable }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.kind().status
    }

    /// The code of the job API.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.kind().code
    }

    /// The body of the OpenAI routes, also within a stream.
    #[must_use]
    pub fn openai(&self) -> Value {
        let Kind { kind, openai_code, status, .. } = self.kind();
        // llama-server's clients wait while they see this number.
        let code = match self {
            ApiError::Loading | ApiError::Draining | ApiError::Crowded => json!(status.as_u16()),
            _ => json!(openai_code),
        };
        let param = match self {
            ApiError::Invalid { param, .. } => param.as_deref(),
            ApiError::ContextLength { param, .. } => Some(param.as_str()),
            ApiError::ModelNotFound(_) | ApiError::Unfit(_) => Some("model"),
            ApiError::ResponseNotFound { is_previous: true, .. } => Some("previous_response_id"),
            _ => None,
        };
        let param = param.map(|param| bounded(param, MAX_PARAM));
        let mut error = json!({"message": self.said(), "type": kind, "param": param, "code": code});
        if let ApiError::ContextLength { n_prompt, n_ctx, .. } = self {
            error["n_prompt_tokens"] = json!(n_prompt);
            error["n_ctx"] = json!(n_ctx);
        }
        json!({"error": error})
    }

    /// The body of the job API, also within a stream.
    #[must_use]
    pub fn job(&self) -> JobError {
        let Kind { code, is_retriable, .. } = self.kind();
        JobError { code, message: self.said(), retriable: is_retriable }
    }

    /// The message with the field that it is about, since many clients show nothing else.
    fn said(&self) -> String {
        match self {
            ApiError::Invalid { param: Some(param), message }
            | ApiError::ContextLength { param, message, .. } => {
                format!("{}: {}", bounded(param, MAX_PARAM), bounded(message, MAX_MESSAGE))
            }
            other => bounded(&other.to_string(), MAX_MESSAGE).into_owned(),
        }
    }

    /// Whether nothing but the moment is wrong.
    fn is_for_later(&self) -> bool {
        matches!(
            self,
            ApiError::Busy { .. }
                | ApiError::Full
                | ApiError::Overloaded(_)
                | ApiError::Crowded
                | ApiError::Loading
                | ApiError::Draining
        )
    }

    /// Why the request was not even looked at, for the metrics.
    fn refusal(&self) -> Option<&'static str> {
        let reason = match self {
            ApiError::Busy { .. } => "queue",
            ApiError::Full => "memory",
            ApiError::Overloaded(_) => "grammars",
            ApiError::Crowded => "connections",
            ApiError::TooLarge { .. } => "size",
            ApiError::SlowBody => "slow_body",
            ApiError::Unauthorized(_) => "key",
            ApiError::Forbidden(_) => "forbidden",
            ApiError::Loading => "loading",
            ApiError::Draining => "draining",
            _ => return None,
        };
        Some(reason)
    }

    /// The response of a job route.
    #[must_use]
    pub fn job_response(&self) -> Response {
        self.with_headers((self.status(), Json(self.job())).into_response())
    }

    fn with_headers(&self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        if self.is_for_later() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if matches!(self, ApiError::Unauthorized(_)) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(Refused { code: self.code(), reason: self.refusal() });
        if matches!(self, ApiError::ContextLength { .. }) {
            response.extensions_mut().insert(Reworded(self.clone()));
        }
        response
    }
}

/// An error as the job API writes it.
#[derive(Clone, Debug, Serialize)]
pub struct JobError {
    /// One of the codes.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retriable: bool,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.with_headers((self.status(), Json(self.openai())).into_response())
    }
}

impl From<WorkerError> for ApiError {
    fn from(error: WorkerError) -> ApiError {
        match error {
            WorkerError::Invalid { field, expected, found } => {
                ApiError::invalid(field, format!("expected {expected}, found {found}"))
            }
            WorkerError::Message { path, expected, found } => {
                ApiError::invalid(path, format!("expected {expected}, found {found}"))
            }
            WorkerError::TooLong { n_prompt, n_ctx, .. } => {
                ApiError::too_long("prompt", &error, (n_prompt, n_ctx))
            }
            WorkerError::Unfit { .. } => ApiError::Unfit(error.to_string()),
            WorkerError::NoChatTemplate => ApiError::invalid("messages", error.to_string()),
            WorkerError::Tokenizer(error) => ApiError::body(error.to_string()),
            WorkerError::Overloaded { .. } => ApiError::Overloaded(error.to_string()),
            WorkerError::Stopped(Stopped::Deadline) => ApiError::Deadline,
            WorkerError::Stopped(Stopped::Cancelled) => ApiError::Cancelled,
            WorkerError::Engine(error) => error.into(),
        }
    }
}

/// What the engine says of the device goes to the log, not to clients.
impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> ApiError {
        match error {
            EngineError::Request { field, expected, found } => {
                ApiError::invalid(field, format!("expected {expected}, found {found}"))
            }
            EngineError::NothingAllowed { .. }
            | EngineError::SlowConstraint { .. }
            | EngineError::Constraint(_) => ApiError::body(error.to_string()),
            EngineError::Busy { limit } => ApiError::Busy { limit },
            EngineError::Stopped => ApiError::Draining,
            EngineError::Device(_) | EngineError::Stalled { .. } | EngineError::NotResident => {
                ApiError::Device
            }
            EngineError::ModelLost(_) => ApiError::ModelLost,
            EngineError::NotNumbers { .. } => ApiError::NotNumbers,
            EngineError::Failed(_) => ApiError::Internal,
        }
    }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
