//! What are the logits at every position of a prompt? For comparing with other implementations.
//!
//! In: a JSON array of token ids. Out: a NumPy file, float32 `[n_tokens, n_vocab]`. All tokens are computed as prompt, in a
//! context of exactly their number unless --ctx says otherwise: it decides between LongRoPE's two lists of factors.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::Soundness;
use crate::device::{self, ModelArgs, Shape};
use crate::exit::Failure;
use crate::input;
use crate::log::LogArgs;
use crate::whole::{self, Whole};
use crate::{npy, single};

/// Ids that are read from a file.
const MAX_IDS_BYTES: u64 = 64 << 20;

/// `worker-orcd eval logits`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: worker-orcd eval logits m.gguf --tokens ids.json --key tokens.text --out x.npy"
)]
pub(crate) struct Args {
    /// A JSON file: an array of token ids, or an object that holds one (see --key)
    #[arg(long, value_name = "IDS.json")]
    tokens: PathBuf,
    /// Where in the JSON file the array is: keys joined by dots
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The NumPy file to write, float32 [n_tokens, n_vocab]
    #[arg(long, value_name = "X.npy")]
    out: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args, log: &LogArgs) -> anyhow::Result<()> {
    let ids = read_ids(&args.tokens, args.key.as_deref())?;
    whole::check(&args.out)?;
    let shape = args.model.shape();
    let shape = Shape { n_ctx: shape.n_ctx.or(Some(ids.len().max(1))), ..shape };
    let mut loaded = device::open(&args.model, log)?.load(shape, log)?;
    let n_vocab = loaded.executor.limits().n_vocab;
    single::check(&ids, loaded.executor.limits())?;
    let place = || args.out.display().to_string();
    let mut out = Whole::create(&args.out)?;
    npy::write_header(&mut out, ids.len(), n_vocab).with_context(place)?;
    let executor = loaded.executor.as_mut();
    let mut soundness = Soundness::default();
    single::prompt_logits(executor, &ids, 0..ids.len(), |rows| {
        soundness.look(rows, n_vocab);
        npy::write_values(&mut out, rows).with_context(place)
    })?;
    out.finish()?;
    tracing::info!(rows = ids.len(), columns = n_vocab, "wrote {}", args.out.display());
    soundness.check()
}

/// The ids in a JSON file, bounded in size.
fn read_ids(path: &Path, key: Option<&str>) -> anyhow::Result<Vec<u32>> {
    let text = input::text(path, MAX_IDS_BYTES)?;
    pick_ids(&text, key).map_err(|reason| Failure::Request(format!("{}: {reason}", path.display())).into())
}

fn pick_ids(text: &str, key: Option<&str>) -> Result<Vec<u32>, String> {
    let mut value: Value = serde_json::from_str(text).map_err(|e| format!("expected JSON: {e}"))?;
    for part in key.into_iter().flat_map(|key| key.split('.')) {
        value = match value.get_mut(part) {
            Some(inner) => inner.take(),
            None => return Err(format!("expected a key {part:?}, found none")),
        };
    }
    if value.is_object() && key.is_none() {
        return Err("expected an array of token ids, found an object; name one with --key".into());
    }
    serde_json::from_value(value).map_err(|e| format!("expected an array of token ids: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_by_their_path() {
        let text = r#"{"tokens": {"text": [1, 2]}, "n": 3}"#;
        assert_eq!(pick_ids(text, Some("tokens.text")), Ok(vec![1, 2]));
        assert_eq!(pick_ids("[7]", None), Ok(vec![7]));
        for (text, key) in
            [(text, None), (text, Some("tokens.x")), (text, Some("n")), ("[-1]", None), ("[", None)]
        {
            assert!(pick_ids(text, key).is_err(), "{text} {key:?}");
        }
    }
}
