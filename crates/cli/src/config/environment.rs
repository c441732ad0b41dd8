//! What does the environment say? `WORKER_ORCD_` and a flag's long name in capitals; an empty variable says nothing.
//!
//! A name with the prefix that is no flag's is an error, but for those of the build and the tests, and those that Kubernetes sets in every
//! container for a Service that is called worker-orcd: `WORKER_ORCD_SERVICE_HOST`, `WORKER_ORCD_PORT=tcp://10.0.0.1:80` and so on.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::Arg;

use super::value::Raw;
use super::{Origin, Setting, flags, long, unknown};
use crate::exit::Failure;

const PREFIX: &str = "WORKER_ORCD_";
/// Names that building, testing and measuring read.
const NOT_OURS: [&str; 4] = ["COMMIT", "CUDA_TARGETS", "FIXTURES", "GOLDEN"];

/// A flag's variable.
pub(super) fn variable(arg: &Arg) -> String {
    format!("{PREFIX}{}", long(arg).replace('-', "_").to_ascii_uppercase())
}

/// What the environment says of these flags, and the file of further settings that it names.
pub(super) fn settings(
    known: &[&Arg],
    environment: &[(OsString, OsString)],
) -> anyhow::Result<(Vec<Setting>, Option<PathBuf>)> {
    let (mut settings, mut config) = (Vec::new(), None);
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if value.is_empty() || NOT_OURS.contains(&&name[PREFIX.len()..]) || is_of_kubernetes(name, value) {
            continue;
        }
        if name == "WORKER_ORCD_CONFIG" {
            config = Some(PathBuf::from(value));
            continue;
        }
        let Some(arg) = known.iter().find(|arg| variable(arg) == name) else {
            let mut names: Vec<String> = known.iter().map(|arg| variable(arg)).collect();
            names.push("WORKER_ORCD_CONFIG".to_owned());
            return Err(unknown("environment", name, names.iter().map(String::as_str)));
        };
        let flags = flags(arg, Raw::Text(value.clone()))
            .map_err(|expected| Failure::Usage(format!("{name}: expected {expected}")))?;
        let origin = Origin::Environment(name.to_owned());
        settings.push(Setting { id: arg.get_id().to_string(), flags, origin });
    }
    Ok((settings, config))
}

/// Whether Kubernetes says where a Service is.
fn is_of_kubernetes(name: &str, value: &OsString) -> bool {
    let rest = &name[PREFIX.len()..];
    let is_address =
        ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.to_string_lossy().starts_with(scheme));
    let is_port = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    rest == "SERVICE_HOST"
        || rest.starts_with("SERVICE_PORT")
        || rest == "PORT" && is_address
        || rest.strip_prefix("PORT_").is_some_and(is_port)
}
