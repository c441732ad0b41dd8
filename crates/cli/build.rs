//! Which commit is this? Tells the crate the revision its sources came from, as `WORKER_ORCD_COMMIT`.
//!
//! A build outside a git checkout (a source archive) leaves it unset; a packager may set it in the environment instead.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=WORKER_ORCD_COMMIT");
    if std::env::var_os("WORKER_ORCD_COMMIT").is_some() {
        return;
    }
    for log in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", log])
            && Path::new(&path).exists()
        {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        println!("cargo:rustc-env=WORKER_ORCD_COMMIT={commit}");
    }
}

/// What git prints; `None` without git or outside a checkout.
fn git(args: &[&str]) -> Option<String> {
    let out = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?.trim().to_owned();
    (out.status.success() && !text.is_empty()).then_some(text)
}
