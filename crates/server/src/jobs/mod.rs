//! The job API: one job is one answer, named by its caller.
//!
//! POST /execute streams it, POST /cancel ends it, POST /shutdown ends the process. Errors before the stream are HTTP statuses, later ones
//! its last event.

mod execute;
mod moment;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use worker::Canceller;

use crate::admission::Small;
use crate::context::Context;
use crate::error::ApiError;
use crate::openai::Body;
use crate::state::App;

pub(crate) use execute::execute;

/// The most bytes of a job's id.
const MAX_JOB_ID: usize = 256;

/// A client's job: other clients can neither see nor cancel it.
type Key = (u64, String);

/// The jobs under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jobs(Arc<Mutex<HashMap<Key, Canceller>>>);

/// A job under way; dropping it forgets it.
#[derive(Debug)]
struct Job {
    jobs: Jobs,
    key: Key,
}

impl Jobs {
    /// Remembers a job.
    fn enter(&self, client: u64, id: &str, canceller: Canceller) -> Result<Job, ApiError> {
        let key = (client, id.to_owned());
        match self.lock().entry(key.clone()) {
            Entry::Occupied(_) => Err(ApiError::invalid("job_id", "expected a new id, found one that runs")),
            Entry::Vacant(place) => {
                place.insert(canceller);
                Ok(Job { jobs: self.clone(), key })
            }
        }
    }

    /// Ends a job, if there is one.
    fn cancel(&self, client: u64, id: &str) {
        if let Some(canceller) = self.lock().get(&(client, id.to_owned())) {
            canceller.cancel();
        }
    }

    /// The map is whole after every operation, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Canceller>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.jobs.lock().remove(&self.key);
    }
}

/// The body of POST /cancel.
#[derive(Debug, Deserialize)]
pub(crate) struct Cancel {
    job_id: String,
}

impl Body for Cancel {
    const SCHEMA: &'static str = "CancelRequest";
}

/// POST /cancel: 202, also where the job is over or never was.
pub(crate) async fn cancel(
    State(app): State<App>,
    context: Context,
    body: Result<Small<Cancel>, ApiError>,
) -> Response {
    match body.and_then(|Small(cancel)| checked_id(cancel.job_id)) {
        Ok(id) => {
            app.jobs().cancel(context.client.id, &id);
            (StatusCode::ACCEPTED, Json(json!({"job_id": id}))).into_response()
        }
        Err(error) => error.job_response(),
    }
}

/// POST /shutdown: 202; running requests finish, then the process ends.
pub(crate) async fn shutdown(State(app): State<App>) -> Response {
    tracing::info!(event = "shutdown", "a client asked for the end: running requests finish");
    app.drain();
    (StatusCode::ACCEPTED, Json(json!({"status": "draining"}))).into_response()
}

/// A job's id, if it can be one.
fn checked_id(id: String) -> Result<String, ApiError> {
    if id.is_empty() || id.len() > MAX_JOB_ID {
        let message = format!("expected 1 to {MAX_JOB_ID} bytes, found {}", id.len());
        return Err(ApiError::invalid("job_id", message));
    }
    Ok(id)
}
