//! Tells whoever started this worker that it is ready: one POST of `{worker_id, model_ref, vram_bytes, uri}`.
//!
//! On a thread of its own, with a few tries: the worker serves whether or not anybody listens there.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use server::App;

use super::Args;

const TRIES: u32 = 5;
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the callback says.
#[derive(Debug, Serialize)]
struct Ready {
    worker_id: String,
    model_ref: String,
    /// Bytes that the model takes on a GPU; 0 on the CPU.
    vram_bytes: u64,
    uri: String,
}

/// Sends the callback, if one is asked for.
pub(super) fn tell(args: &Args, app: &App, address: SocketAddr) {
    let (Some(url), Some(worker_id), Some(served)) = (&args.callback_url, &args.worker_id, app.served())
    else {
        return;
    };
    let memory = served.worker.engine().memory();
    let bytes = memory.total();
    let ready = Ready {
        worker_id: worker_id.clone(),
        model_ref: args.model.model.0.to_string(),
        vram_bytes: if served.info.device == "cpu" { 0 } else { bytes },
        uri: format!("{}://{}", if args.security.is_tls() { "https" } else { "http" }, reachable(address)),
    };
    let url = url.clone();
    let sending = thread::Builder::new().name("callback".to_owned()).spawn(move || send(&url, &ready));
    if let Err(error) = sending {
        tracing::error!(%error, "no thread for the callback");
    }
}

/// An address that listens everywhere is told as this machine's loopback: a worker does not know its names.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn send(url: &str, ready: &Ready) {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).build().into();
    let body = serde_json::json!(ready).to_string();
    for attempt in 1..=TRIES {
        match agent.post(url).content_type("application/json").send(&body) {
            Ok(_) => {
                tracing::info!("the callback was accepted");
                return;
            }
            Err(error) if attempt < TRIES => {
                tracing::warn!(%error, attempt, "the callback failed");
                thread::sleep(Duration::from_secs(1 << (attempt - 1)));
            }
            Err(error) => tracing::error!(%error, "the callback failed for good"),
        }
    }
}
