//! Is a receipt true? Runs it again on a model of one's own and says whether the same tokens come.
//!
//! Another file is refused before it is loaded. Another program version, chat template or kind of device is only warned of: the answer
//! may still be the same, and then it is the same.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use engine::{Engine, EngineOptions, Shutdown};
use gguf::Gguf;
use hub::ModelRef;
use model::KvType;
use tokenizer::Tokenizer;
use worker::receipt::{Comparison, FileHashes, Origin, Receipt, ReceiptError};
use worker::{StopReason, Worker, WorkerOptions};

use crate::cmd;
use crate::cmd::bench::NO_MODEL;
use crate::cmd::run::RECEIPT;
use crate::device::{self, Loaded, ModelArgs, Shape};
use crate::exit::Failure;
use crate::fetch;
use crate::interrupt::Watch;
use crate::log::LogArgs;
use crate::named;
use crate::proof::{self, InputArgs, MEASUREMENT};
use crate::version;

/// The most bytes of a receipt.
const MAX_BYTES: u64 = 64 << 20;

/// `worker-orcd verify`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  worker-orcd verify answer.json m.gguf\n  \
    worker-orcd verify FOLDER m.gguf --file wiki.test.raw\n\n\
    FOLDER is what run, eval or bench wrote with --proof. The exit code is 0 if every token and the end are the same, or\n\
    every value of an evaluation, and 11 if not or if the model or a text is another.")]
#[command(mut_arg(named::FLAG, |arg| arg.default_value(NO_MODEL).hide_default_value(true)))]
#[command(mut_group(named::GROUP, |group| group.required(false)))]
pub(crate) struct Args {
    /// The receipt, or the folder that --proof wrote
    #[arg(value_name = "RECEIPT")]
    receipt: PathBuf,
    /// A JSON array of the prompt's ids, for a receipt that holds only their hash
    #[arg(long, value_name = "FILE")]
    prompt_ids: Option<PathBuf>,
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// What is known of a loaded model for its receipts.
pub(crate) fn origin(
    loaded: &Loaded,
    tokenizer: &Tokenizer,
    model: Arc<FileHashes>,
    kv_type: KvType,
) -> Origin {
    let commit = version::COMMIT.map(|commit| format!("+{commit}")).unwrap_or_default();
    let program = format!("{}{commit}", env!("CARGO_PKG_VERSION"));
    let device = match loaded.sm {
        Some(sm) => format!("cuda sm_{sm}"),
        None => format!("cpu {}", loaded.kernels),
    };
    Origin::new(program, (device, kv_type), model, tokenizer)
}

/// Runs the command.
pub(crate) fn run(args: &Args, log: &LogArgs) -> anyhow::Result<()> {
    let model = match &args.model.model.0 {
        ModelRef::Path(path) if path.as_os_str() == NO_MODEL => None,
        model => Some(model),
    };
    if args.receipt.join(MEASUREMENT).exists() {
        return proof::repeat(&args.receipt, (model, &args.model), &args.inputs, log);
    }
    if is_model(&args.receipt) {
        let receipt = match model {
            Some(ModelRef::Path(path)) if !is_model(path) => path.display().to_string(),
            _ => "RECEIPT".to_owned(),
        };
        let model = args.receipt.display();
        let text =
            format!("{model} is a model; the receipt comes first: worker-orcd verify {receipt} {model}");
        return Err(Failure::Usage(text).into());
    }
    let Some(model) = model else {
        let text =
            "expected the model that answered: MODEL or --model, as in worker-orcd verify RECEIPT MODEL";
        return Err(Failure::Usage(text.to_owned()).into());
    };
    let path = match args.receipt.is_dir() {
        true => args.receipt.join(RECEIPT),
        false => args.receipt.clone(),
    };
    let (text, place) = (read(&path)?, path.display());
    let receipt = Receipt::parse(&text).map_err(|e| Failure::Request(format!("{place}: {e}")))?;
    let parameters = &receipt.parameters;
    if parameters.seed != parameters.seed() {
        tracing::warn!(
            "seed was rounded to {} on its way here; {} is used, as seed_text says",
            parameters.seed,
            parameters.seed()
        );
    }
    let given = match &args.prompt_ids {
        Some(path) => {
            let ids = serde_json::from_str(&read(path)?);
            Some(ids.map_err(|e| Failure::Request(format!("{}: expected ids: {e}", path.display())))?)
        }
        None => None,
    };
    let prompt = receipt.prompt_ids(given).map_err(|e| Failure::Request(format!("{place}: {e}")))?;
    let kv_type = device::kv_type(&receipt.kv_type)
        .map_err(|reason| Failure::Request(format!("{place}: kv_type: {reason}")))?;
    let path = fetch::path_of(model, args.model.fetch, log)?;
    let hashes = FileHashes::open(Gguf::open(&path)?.paths());
    let found = hashes.wait().map_err(of_receipt)?;
    if found != receipt.model {
        return Err(different("model", &receipt.model.join(" "), &found.join(" ")));
    }
    let model = args.model.of(ModelRef::Path(path));
    let (opened, tokenizer) = device::open_with_tokenizer(&model, log)?;
    let shape = Shape { n_ctx: Some(receipt.n_ctx), kv_type, ..Shape::one_sequence() };
    let loaded = opened.load(shape, log)?;
    let origin = origin(&loaded, &tokenizer, hashes, kv_type);
    if origin.tokenizer() != receipt.tokenizer {
        return Err(different("tokenizer", &receipt.tokenizer, origin.tokenizer()));
    }
    warn("program", &receipt.program, &origin.program);
    warn("device", &receipt.device, &origin.device);
    let none = "none";
    warn("chat template", receipt.template.as_deref().unwrap_or(none), origin.template().unwrap_or(none));

    let engine = Engine::spawn(loaded.executor, EngineOptions::default()).context("starting the engine")?;
    let worker = Worker::new(engine.clone(), Arc::new(tokenizer), WorkerOptions::default());
    let answer = replay(&worker, &receipt, prompt);
    engine.shutdown(Shutdown::Abort);
    let (answer, reason) = answer?;
    let comparison = receipt.compare(&answer, &reason);
    if comparison != Comparison::Equal {
        let seed = receipt.parameters.seed;
        let note = if receipt.parameters.seed_text.is_none() && may_be_rounded(seed) {
            format!(
                "; the receipt's seed {seed} looks rounded: jq before 1.7 and JavaScript keep 53 bits of a number, so take the receipt \
                 from the answer with another program"
            )
        } else {
            String::new()
        };
        return Err(Failure::Different(format!("{comparison}{note}")).into());
    }
    cmd::print(&format!("equal: {} tokens, ended by {}\n", receipt.answer.len(), receipt.stop))
}

/// Whether a seed is what a program that computes with doubles writes for a longer one: a double's exact value, its shortest digits, as
/// JavaScript writes them, or 17 digits, as jq 1.6 does, with zeros behind.
fn may_be_rounded(seed: u64) -> bool {
    let double = seed as f64;
    let text = seed.to_string();
    let long = format!("{double:.16e}");
    let seventeen = long.split_once('e').and_then(|(digits, exponent)| {
        let n_digit = exponent.parse::<usize>().ok()? + 1;
        Some(format!("{:0<n_digit$}", digits.replace('.', "")))
    });
    seed >= 1 << 53
        && (double as u128 == u128::from(seed) || double.to_string() == text || seventeen == Some(text))
}

/// The tokens and the end of another run.
fn replay(worker: &Worker, receipt: &Receipt, prompt: Vec<u32>) -> anyhow::Result<(Vec<u32>, StopReason)> {
    let replay = receipt.replay(worker, prompt)?;
    let canceller = replay.canceller();
    let watch = Watch::start(move || canceller.cancel());
    let found = replay.wait();
    if watch.raised() { Err(Failure::Interrupted.into()) } else { Ok(found?) }
}

/// Reads a text of at most [`MAX_BYTES`].
pub(crate) fn read(path: &std::path::Path) -> anyhow::Result<String> {
    let name = || path.display().to_string();
    let mut bytes = Vec::new();
    File::open(path).with_context(name)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).with_context(name)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::Request(format!("{}: expected at most {MAX_BYTES} bytes", name())).into());
    }
    String::from_utf8(bytes).map_err(|e| Failure::Request(format!("{}: expected UTF-8: {e}", name())).into())
}

/// Whether a file begins as models do.
fn is_model(path: &std::path::Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"GGUF"
}

/// What making a receipt failed of, by its exit code.
pub(crate) fn of_receipt(error: ReceiptError) -> anyhow::Error {
    match error {
        ReceiptError::Model(text) => std::io::Error::other(text).into(),
        error => Failure::Request(error.to_string()).into(),
    }
}

/// Another file than the one that is meant.
pub(crate) fn different(what: &str, expected: &str, found: &str) -> anyhow::Error {
    Failure::Different(format!("another {what}: expected SHA-256 {expected}, found {found}")).into()
}

fn warn(what: &str, expected: &str, found: &str) {
    if expected != found {
        tracing::warn!("another {what}: the receipt's is {expected}, this is {found}");
    }
}

#[cfg(test)]
mod tests {
    use super::may_be_rounded;

    #[test]
    fn a_rounded_seed_is_told_from_a_whole_one() {
        // 11259375439824732113 as JavaScript and jq 1.6 write it, and as its exact double.
        let exact = 11_259_375_439_824_732_113_u64 as f64 as u64;
        let [shortest, seventeen] = [11_259_375_439_824_732_000, 11_259_375_439_824_732_000];
        for rounded in [exact, shortest, seventeen, 1 << 53, 1 << 63] {
            assert!(may_be_rounded(rounded), "{rounded}");
        }
        for whole in [0, 7, (1 << 53) - 1, (1 << 53) + 1, 11_259_375_439_824_732_113, u64::MAX] {
            assert!(!may_be_rounded(whole), "{whole}");
        }
    }
}
