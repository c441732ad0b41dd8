//! How does the process end? The one place that decides exit codes and writes the error line.
//!
//! | code | meaning                                                        |
//! |------|----------------------------------------------------------------|
//! | 0    | done (a reader that closed our stdout is done too)             |
//! | 1    | internal error                                                 |
//! | 2    | wrong usage of the command line                                |
//! | 3    | a file is not there, or cannot be read or written              |
//! | 4    | the model file is invalid, or its logits are not numbers       |
//! | 5    | the model or its tokenizer is of a kind that is not supported  |
//! | 6    | insufficient memory on the device                              |
//! | 7    | the device is not available                                    |
//! | 8    | the request or its input is invalid                            |
//! | 9    | the GPU or its driver failed while it was in use               |
//! | 10   | a model could not be fetched: network, refusal or wrong hash   |
//! | 11   | a receipt is not what comes from this model                    |
//! | 12   | the model's file was cut short or written to while in use      |
//! | 13   | what an evaluation measured is out of its bound                |
//! | 130  | interrupted by Ctrl-C                                          |

use std::io::{self, Write};
use std::process::ExitCode;

use device::ExecutorError;
use gguf::GgufError;
use golden::GoldenError;
use hub::HubError;
use model::ModelError;
use server::{FileError, ServerError, TlsError};
use thiserror::Error;
use tokenizer::TokenizerError;
use worker::{EngineError, WorkerError};

use crate::log::{self, LogArgs};
use crate::memory::Needed;

/// What stands below the list of commands.
pub(crate) const HELP: &str = "Examples:\n  \
    worker-orcd run m.gguf                       chat in the terminal\n  \
    worker-orcd run m.gguf 'Why is the sky blue?'\n  \
    worker-orcd serve m.gguf                     a page and OpenAI's routes on http://127.0.0.1:8080\n  \
    worker-orcd inspect m.gguf                   what is in the file, and the memory that it needs\n  \
    worker-orcd pull hf:ORG/REPO:Q4_K_M          fetch a model; hf:... is a name for each command\n\n\
    Exit codes: 0 done, 1 internal error, 2 wrong usage, 3 file not found or unreadable, \
    4 invalid model file, 5 unsupported model or tokenizer, 6 insufficient memory, 7 device not available, \
    8 invalid request, 9 GPU failure, 10 download failed, 11 receipt does not match, 12 model file changed in use, 13 measurement out of bounds, 130 interrupted.";

/// Exit code of a process that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// Exit code where a GPU or its driver failed while it was in use.
const GPU_FAILED: u8 = 9;

/// Exit code where the model's file changed while it was in use.
const MODEL_LOST: u8 = 12;

/// Reasons to end that arise in this crate.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// A combination of flags that the parser cannot refuse by itself.
    #[error("{0}")]
    Usage(String),
    /// The chosen device is not there.
    #[error("device {device} is not available: {reason}")]
    Device {
        /// As given with `--device`.
        device: String,
        /// Why.
        reason: String,
    },
    /// The model does not fit.
    #[error("{}", memory(device, needed, *free))]
    Memory {
        /// As in `MemoryReport`.
        device: String,
        /// What it would take.
        needed: Box<Needed>,
        /// Bytes free.
        free: u64,
    },
    /// The GPU's kernels cannot compute the model.
    #[error("{0}")]
    Unsupported(String),
    /// A GPU or its driver failed.
    #[error("device {device}: {error}")]
    Cuda {
        /// As in `MemoryReport`.
        device: String,
        /// What the driver said.
        error: String,
    },
    /// What the user gave to compute cannot be computed.
    #[error("{0}")]
    Request(String),
    /// What came is not what a receipt says.
    #[error("{0}")]
    Different(String),
    /// What the model computes is no number.
    #[error("{0}")]
    Unsound(String),
    /// What was measured is worse than it may be.
    #[error("{0}")]
    OutOfBounds(String),
    /// Ctrl-C stopped the answer.
    #[error("interrupted")]
    Interrupted,
}

fn memory(device: &str, needed: &Needed, free: u64) -> String {
    let (name, kept) = match device {
        "cpu" => ("", String::new()),
        _ => ("INSUFFICIENT_VRAM: ", format!(", {} kept free", needed.reserve)),
    };
    let state = if needed.state > 0 { format!(" {} state,", needed.state) } else { String::new() };
    let draft = needed.draft.map(|n| format!(", {n} draft model")).unwrap_or_default();
    format!(
        "{name}insufficient memory on {device}: {} bytes needed ({} weights, {} KV cache,{state} {} activations{draft}{kept}), {free} bytes free; \
         a smaller --ctx needs less",
        needed.in_all(),
        needed.weights,
        needed.kv_cache,
        needed.activations,
    )
}

/// Ends the process over a refused command line; `--help` and `--version` arrive here too.
pub(crate) fn usage(refusal: &clap::Error) -> ExitCode {
    if !refusal.use_stderr() {
        // What is kept until a line is complete may fail only when it is written.
        return match refusal.print().and_then(|()| io::stdout().flush()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if of_io(&error) == 0 => ExitCode::SUCCESS,
            Err(error) => early(&anyhow::Error::from(error).context("stdout")),
        };
    }
    // Its own lines: the reason, the usage, and what may have been meant.
    let text = refusal.render();
    let text = if log::has_colour() { text.ansi().to_string() } else { text.to_string() };
    log::line(text.trim_end());
    ExitCode::from(2)
}

/// Why a value is refused, on one line.
pub(crate) fn reason(refusal: &clap::Error) -> String {
    let text = refusal.render().to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let reason: Vec<&str> = lines.take_while(|line| !line.starts_with("Usage:")).collect();
    let reason: Vec<&str> =
        reason.into_iter().filter(|line| !line.starts_with("For more information")).collect();
    let reason = reason.join(" ");
    reason.strip_prefix("error: ").unwrap_or(&reason).to_owned()
}

/// Ends the process over an error that came before the log was there.
pub(crate) fn early(error: &anyhow::Error) -> ExitCode {
    log::line(&format!("error: {}", one_line(error)));
    ExitCode::from(code(error))
}

/// Ends the process over an error: one line on stderr, with its causes, and the code.
pub(crate) fn report(error: &anyhow::Error, log: &LogArgs) -> ExitCode {
    let code = code(error);
    if code == 0 {
        return ExitCode::SUCCESS;
    }
    let mut message = one_line(error);
    if code == GPU_FAILED {
        message.insert_str(0, "CUDA_ERROR: ");
    }
    if log.is_json() {
        tracing::error!(event = "error", exit_code = code, "{message}");
    } else {
        log::line(&format!("error: {message}"));
    }
    ExitCode::from(code)
}

/// The error and its causes, each said once, on one line.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.contains(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The exit code: the first cause whose kind is known decides.
fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(1)
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(of_failure(failure));
    }
    if let Some(ServerError::Open { .. }) = cause.downcast_ref::<ServerError>() {
        return Some(2);
    }
    if let Some(error) = cause.downcast_ref::<TlsError>() {
        return Some(match error {
            TlsError::File(error) => of_file(error),
            TlsError::Certificate { .. } | TlsError::Key { .. } | TlsError::Pair { .. } => 2,
        });
    }
    if let Some(error) = cause.downcast_ref::<FileError>() {
        return Some(of_file(error));
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        return Some(of_io(error));
    }
    if let Some(error) = cause.downcast_ref::<HubError>() {
        return Some(of_hub(error));
    }
    if let Some(error) = cause.downcast_ref::<GgufError>() {
        return Some(of_gguf(error));
    }
    if let Some(error) = cause.downcast_ref::<GoldenError>() {
        return Some(if matches!(error, GoldenError::Io { .. }) { 3 } else { 8 });
    }
    if let Some(error) = cause.downcast_ref::<ModelError>() {
        return Some(of_model(error));
    }
    if let Some(error) = cause.downcast_ref::<TokenizerError>() {
        return Some(of_tokenizer(error));
    }
    if let Some(error) = cause.downcast_ref::<WorkerError>() {
        return Some(of_worker(error));
    }
    if let Some(error) = cause.downcast_ref::<EngineError>() {
        return Some(of_engine(error));
    }
    let error = cause.downcast_ref::<ExecutorError>()?;
    Some(match error {
        ExecutorError::InsufficientMemory { .. } => 6,
        ExecutorError::Device(_) => GPU_FAILED,
        ExecutorError::ModelLost(_) => MODEL_LOST,
        ExecutorError::Batch { .. } | ExecutorError::Ticket(_) => 1,
    })
}

fn of_failure(failure: &Failure) -> u8 {
    match failure {
        Failure::Usage(_) => 2,
        Failure::Unsupported(_) => 5,
        Failure::Memory { .. } => 6,
        Failure::Cuda { .. } => GPU_FAILED,
        Failure::Device { .. } => 7,
        Failure::Request(_) => 8,
        Failure::Different(_) => 11,
        Failure::Unsound(_) => 4,
        Failure::OutOfBounds(_) => 13,
        Failure::Interrupted => INTERRUPTED,
    }
}

fn of_io(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 3 }
}

fn of_file(error: &FileError) -> u8 {
    match error {
        FileError::Read { source, .. } => of_io(source),
        FileError::Kind { .. } => 3,
        FileError::TooLarge { .. } => 2,
    }
}

fn of_hub(error: &HubError) -> u8 {
    match error {
        HubError::Reference { .. } | HubError::Environment { .. } => 2,
        HubError::Offline { .. }
        | HubError::NotFound { .. }
        | HubError::Choice { .. }
        | HubError::DiskFull { .. }
        | HubError::Name { .. }
        | HubError::Io { .. } => 3,
        HubError::NoRoom { .. } => 6,
        HubError::Refused { .. }
        | HubError::Network { .. }
        | HubError::Status { .. }
        | HubError::Protocol { .. }
        | HubError::Hash { .. } => 10,
    }
}

fn of_gguf(error: &GgufError) -> u8 {
    match error {
        GgufError::Lock { .. } => 6,
        GgufError::Io { .. } | GgufError::NotAFile { .. } => 3,
        GgufError::File { error, .. } => of_gguf(error),
        GgufError::TensorType { .. } => 5,
        _ => 4,
    }
}

fn of_model(error: &ModelError) -> u8 {
    match error {
        ModelError::Gguf(error) => of_gguf(error),
        ModelError::UnknownArchitecture { .. } | ModelError::NotAModel { .. } => 5,
        _ => 4,
    }
}

fn of_worker(error: &WorkerError) -> u8 {
    match error {
        WorkerError::Invalid { .. }
        | WorkerError::TooLong { .. }
        | WorkerError::Message { .. }
        | WorkerError::Unfit { .. }
        | WorkerError::NoChatTemplate
        | WorkerError::Overloaded { .. }
        | WorkerError::Stopped(_) => 8,
        WorkerError::Tokenizer(error) => of_tokenizer(error),
        WorkerError::Engine(error) => of_engine(error),
    }
}

fn of_engine(error: &EngineError) -> u8 {
    match error {
        EngineError::Request { .. }
        | EngineError::NothingAllowed { .. }
        | EngineError::SlowConstraint { .. }
        | EngineError::Constraint(_) => 8,
        EngineError::Device(_) | EngineError::NotResident => GPU_FAILED,
        EngineError::ModelLost(_) => MODEL_LOST,
        EngineError::NotNumbers { .. } => 4,
        EngineError::Busy { .. }
        | EngineError::Stalled { .. }
        | EngineError::Failed(_)
        | EngineError::Stopped => 1,
    }
}

fn of_tokenizer(error: &TokenizerError) -> u8 {
    match error {
        TokenizerError::Gguf(error) => of_gguf(error),
        TokenizerError::NoVocabulary { .. } => 5,
        TokenizerError::TooLarge { .. } | TokenizerError::TemplateRaised(_) => 8,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_fails_is_9_whoever_met_it() {
        let lost = || {
            ExecutorError::Device(
                "cuStreamSynchronize failed: CUDA_ERROR_ILLEGAL_ADDRESS (700): x".to_owned(),
            )
        };
        let through_the_engine = WorkerError::Engine(lost().into());
        let loading = Failure::Cuda { device: "cuda:0".to_owned(), error: "x".to_owned() };
        assert_eq!(
            [anyhow::Error::from(lost()), through_the_engine.into(), loading.into()]
                .map(|error| code(&error)),
            [9, 9, 9]
        );
        let lost = || "m.gguf: cut short".to_owned();
        let lost =
            [anyhow::Error::from(ExecutorError::ModelLost(lost())), EngineError::ModelLost(lost()).into()];
        assert_eq!(lost.map(|error| code(&error)), [12, 12]);
        let panic = EngineError::Failed("panic: x".to_owned());
        assert_eq!(code(&panic.into()), 1);
    }
}
