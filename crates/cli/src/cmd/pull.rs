//! Is the model here? Fetches it from a hub if it is not, and prints the path of its file.
//!
//! The path is the only line on stdout, for scripts. A path that was given is printed as it is, if there is a file.

use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use anyhow::Context;
use hub::ModelRef;

use crate::fetch;
use crate::log::LogArgs;

/// `worker-orcd pull`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    worker-orcd pull qwen3:0.6b\n  \
    worker-orcd pull hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M\n  \
    worker-orcd pull hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF::file=qwen2.5-0.5b-instruct-q4_k_m.gguf\n  \
    worker-orcd run --model \"$(worker-orcd pull hf:ORG/REPO@REVISION::file=PATH)\"\n\n\
    All parts of a split model are fetched. Read from the environment: HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN,\n\
    HF_TOKEN_PATH, HF_HUB_OFFLINE, HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE.")]
pub(crate) struct Args {
    /// A name such as qwen3:0.6b, hf:ORG/REPO[:QUANTIZATION] of a hub, or a path
    #[arg(value_name = "MODEL", value_parser = fetch::reference())]
    model: ModelRef,
    #[command(flatten)]
    fetch: fetch::FetchArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args, log: &LogArgs) -> anyhow::Result<()> {
    let path = fetch::path_of(&args.model, args.fetch, log)?;
    File::open(&path).with_context(|| path.display().to_string())?;
    let mut out = std::io::stdout().lock();
    out.write_all(path.as_os_str().as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
