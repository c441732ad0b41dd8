//! What happens to the model's file while it is served? Looked at five times a second, on a thread of its own, since a file system may be slow.

use std::io;
use std::thread;
use std::time::Duration;

use server::App;

use crate::device::{Files, Look};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(200);

/// Watches until the process ends or the model is lost.
pub(super) fn watch(files: Files, app: App) -> io::Result<()> {
    let watch = move || {
        let mut is_warned = false;
        loop {
            match files.look() {
                Look::Unchanged => {}
                Look::Harmless(change) => {
                    if !is_warned {
                        tracing::warn!(
                            event = "model_file_changed",
                            "{change}; the server goes on with the model that it loaded"
                        );
                    }
                    is_warned = true;
                    app.set_file_replaced();
                }
                Look::Lost(reason) => {
                    tracing::error!(event = "model_lost", "{reason}");
                    return app.lose_model(reason);
                }
            }
            thread::sleep(EVERY);
        }
    };
    thread::Builder::new().name("files".to_owned()).spawn(watch).map(drop)
}
