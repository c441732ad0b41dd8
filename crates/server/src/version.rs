//! GET /version: which program is this? Also while it loads.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::state::App;

/// GET /version. `program` has the commit too, once the model is there.
pub(crate) async fn version(State(app): State<App>) -> Json<Value> {
    let program = app.served().map(|served| served.info.program.as_str()).filter(|text| !text.is_empty());
    Json(json!({"version": env!("CARGO_PKG_VERSION"), "program": program}))
}
