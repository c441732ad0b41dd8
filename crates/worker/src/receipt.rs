//! How can an answer be proven later? A receipt says everything that decided its tokens, and the tokens.
//!
//! The same file, parameters, seed and prompt on the same kind of device give the same tokens, so whoever has the file can run a
//! receipt again ([`Receipt::replay`]) and compare ([`Receipt::compare`]). A receipt holds the prompt's ids, from which its text follows, or
//! their hash alone. Hashes are SHA-256 in lower-case hex.

mod effective;
mod files;
mod replay;

use std::fmt;
use std::sync::Arc;

use device::Sampled;

use model::KvType;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokenizer::Tokenizer;

pub(crate) use effective::short;
pub use effective::{Effective, GrammarRecord};
pub use files::FileHashes;
pub use replay::Replay;

use crate::{StopReason, ValidRequest, Worker};

/// The version of receipts that this program writes and reads.
pub const RECEIPT_VERSION: u32 = 2;

/// What decided an answer's tokens, and the tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// [`RECEIPT_VERSION`].
    pub version: u32,
    /// The program's version and commit.
    pub program: String,
    /// Hashes of the model's files, in order.
    pub model: Vec<String>,
    /// Of the vocabulary.
    pub tokenizer: String,
    /// Of the chat template.
    pub template: Option<String>,
    /// The kind of the device and its kernels, such as `cuda sm_90`.
    pub device: String,
    /// Tokens of the context that the device was set up for.
    pub n_ctx: usize,
    /// How keys and values were kept, by the name that flags have for it.
    pub kv_type: String,
    /// How tokens were chosen, and when it was to end.
    pub parameters: Effective,
    /// What was continued.
    pub prompt: PromptRecord,
    /// The answer's ids; an end token is not among them.
    pub answer: Vec<u32>,
    /// Why the answer ended.
    pub stop: StopRecord,
}

/// What a receipt says of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptRecord {
    /// Its ids.
    Ids(Vec<u32>),
    /// The hash of its ids, as little-endian 32-bit numbers.
    Sha256(String),
}

/// What a receipt is to say of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepPrompt {
    /// Its ids.
    #[default]
    Ids,
    /// Their hash: whoever verifies needs the prompt from elsewhere.
    Hash,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopRecord {
    /// This end token.
    Token(u32),
    /// This stop string.
    Text(String),
    /// Its one call of a tool was complete.
    Call,
    /// As many tokens as there could be.
    Length,
    /// The client, or the time; another run cannot know.
    Interrupted,
}

/// What all receipts of a process share.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The program's version and commit.
    pub program: String,
    /// The kind of the device and its kernels.
    pub device: String,
    /// How keys and values are kept.
    pub kv_type: KvType,
    /// The model's files.
    pub model: Arc<FileHashes>,
    tokenizer: String,
    template: Option<String>,
}

/// What stands in the way of a receipt.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReceiptError {
    /// The model's file cannot be read again.
    #[error("the model's hash: {0}")]
    Model(String),
    /// Not a receipt.
    #[error("expected a receipt: {0}")]
    Form(String),
    /// Another program's.
    #[error("version: expected {RECEIPT_VERSION}, found {0}")]
    Version(u32),
    /// The prompt is not in the receipt, and what was given is not it.
    #[error("prompt: expected ids with the SHA-256 {expected}, found {found}")]
    Prompt {
        /// In the receipt.
        expected: String,
        /// Of what was given.
        found: String,
    },
}

/// How another run compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Every token and the end.
    Equal,
    /// Not from this position of the answer on; `None` is an end.
    Different {
        /// From 0.
        position: usize,
        /// In the receipt.
        expected: Option<u32>,
        /// In the other run.
        found: Option<u32>,
    },
    /// The tokens are equal, and their end is another.
    OtherEnd {
        /// In the receipt.
        expected: StopRecord,
        /// In the other run.
        found: StopRecord,
    },
}

impl Origin {
    /// What is known of a model in this process.
    #[must_use]
    pub fn new(
        program: String,
        (device, kv_type): (String, KvType),
        model: Arc<FileHashes>,
        tokenizer: &Tokenizer,
    ) -> Origin {
        let template = tokenizer.chat_template().map(|template| hash(template.source().as_bytes()));
        Origin { program, device, kv_type, model, tokenizer: of_vocabulary(tokenizer), template }
    }

    /// The hash of the vocabulary.
    #[must_use]
    pub fn tokenizer(&self) -> &str {
        &self.tokenizer
    }

    /// The hash of the chat template.
    #[must_use]
    pub fn template(&self) -> Option<&str> {
        self.template.as_deref()
    }
}

/// A receipt whose answer is still to come. Its end and each of its tokens must be those of the request that it is made for: of a conversation
/// as [`Worker::chat`] gives them, else as [`Worker::start`] does.
#[derive(Clone, Debug)]
pub struct Draft {
    parameters: Effective,
    prompt: Arc<[u32]>,
    keep: KeepPrompt,
    n_ctx: usize,
    answer: Vec<u32>,
}

impl Draft {
    /// What will decide the answer to this request.
    #[must_use]
    pub fn new(worker: &Worker, valid: &ValidRequest, keep: KeepPrompt) -> Draft {
        Draft {
            parameters: Effective::of(worker, valid),
            prompt: Arc::clone(valid.prompt()),
            keep,
            n_ctx: worker.engine.limits().n_ctx,
            answer: Vec::new(),
        }
    }

    /// More of the answer.
    pub fn add(&mut self, tokens: &[Sampled]) {
        self.answer.extend(tokens.iter().map(|sampled| sampled.token));
    }

    /// The receipt of a finished answer. Waits for the model's hash where that is not known yet, on this thread, which must not be one that runs
    /// async tasks.
    ///
    /// # Errors
    /// [`ReceiptError::Model`].
    pub fn finish(self, origin: &Origin, reason: &StopReason) -> Result<Receipt, ReceiptError> {
        Ok(self.with_model(origin, origin.model.wait()?, reason))
    }

    /// The receipt of a finished answer. Waits for the model's hash where that is not known yet.
    ///
    /// # Errors
    /// [`ReceiptError::Model`].
    pub async fn finished(self, origin: &Origin, reason: &StopReason) -> Result<Receipt, ReceiptError> {
        Ok(self.with_model(origin, origin.model.hashed().await?, reason))
    }

    fn with_model(self, origin: &Origin, model: Vec<String>, reason: &StopReason) -> Receipt {
        let prompt = match self.keep {
            KeepPrompt::Ids => PromptRecord::Ids(self.prompt.to_vec()),
            KeepPrompt::Hash => PromptRecord::Sha256(of_ids(&self.prompt)),
        };
        Receipt {
            version: RECEIPT_VERSION,
            program: origin.program.clone(),
            model,
            tokenizer: origin.tokenizer.clone(),
            template: origin.template.clone(),
            device: origin.device.clone(),
            n_ctx: self.n_ctx,
            kv_type: origin.kv_type.to_string(),
            parameters: self.parameters,
            prompt,
            answer: self.answer,
            stop: StopRecord::from(reason),
        }
    }
}

impl Receipt {
    /// A receipt's text, of this program's version or of another's.
    ///
    /// # Errors
    /// [`ReceiptError::Form`] and [`ReceiptError::Version`].
    pub fn parse(text: &str) -> Result<Receipt, ReceiptError> {
        #[derive(Deserialize)]
        struct AnyVersion {
            version: u32,
        }
        let form = |error: serde_json::Error| ReceiptError::Form(error.to_string());
        // Another version may have other fields, which is not what should be said of it.
        match serde_json::from_str(text).map_err(form)? {
            AnyVersion { version: RECEIPT_VERSION } => {
                let receipt: Receipt = serde_json::from_str(text).map_err(form)?;
                match &receipt.parameters.seed_text {
                    Some(digits) if digits.parse::<u64>().is_err() => Err(ReceiptError::Form(format!(
                        "seed_text: expected an integer of 64 bits, found {digits:?}"
                    ))),
                    _ => Ok(receipt),
                }
            }
            AnyVersion { version } => Err(ReceiptError::Version(version)),
        }
    }

    /// The prompt's ids: the receipt's own, or those given if they are the ones.
    ///
    /// # Errors
    /// [`ReceiptError::Prompt`].
    pub fn prompt_ids(&self, given: Option<Vec<u32>>) -> Result<Vec<u32>, ReceiptError> {
        match (&self.prompt, given) {
            (PromptRecord::Ids(ids), None) => Ok(ids.clone()),
            (PromptRecord::Sha256(expected), None) => {
                Err(ReceiptError::Prompt { expected: expected.clone(), found: "none".to_owned() })
            }
            (record, Some(given)) => {
                let expected = match record {
                    PromptRecord::Ids(ids) => of_ids(ids),
                    PromptRecord::Sha256(hash) => hash.clone(),
                };
                let found = of_ids(&given);
                if found == expected { Ok(given) } else { Err(ReceiptError::Prompt { expected, found }) }
            }
        }
    }

    /// Compares what another run gave.
    #[must_use]
    pub fn compare(&self, answer: &[u32], reason: &StopReason) -> Comparison {
        let interrupted = self.stop == StopRecord::Interrupted;
        let n = if interrupted { self.answer.len() } else { self.answer.len().max(answer.len()) };
        let at = |ids: &[u32], position: usize| ids.get(position).copied();
        if let Some(position) = (0..n).find(|&i| at(&self.answer, i) != at(answer, i)) {
            let (expected, found) = (at(&self.answer, position), at(answer, position));
            return Comparison::Different { position, expected, found };
        }
        let found = StopRecord::from(reason);
        if interrupted || found == self.stop {
            return Comparison::Equal;
        }
        Comparison::OtherEnd { expected: self.stop.clone(), found }
    }
}

impl From<&StopReason> for StopRecord {
    fn from(reason: &StopReason) -> StopRecord {
        match reason {
            StopReason::Token(id) => StopRecord::Token(*id),
            // The end of an answer that may call once has no text of its own.
            StopReason::Text(text) if text.is_empty() => StopRecord::Call,
            StopReason::Text(text) => StopRecord::Text(text.clone()),
            StopReason::Length => StopRecord::Length,
            StopReason::Cancelled | StopReason::Deadline => StopRecord::Interrupted,
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = |id: &Option<u32>| id.map_or("the answer's end".to_owned(), |id| format!("id {id}"));
        match self {
            Comparison::Equal => f.write_str("equal"),
            Comparison::Different { position, expected, found } => {
                let (expected, found) = (id(expected), id(found));
                write!(f, "different at token {position} of the answer: expected {expected}, found {found}")
            }
            Comparison::OtherEnd { expected, found } => {
                write!(f, "different at the answer's end: expected {expected}, found {found}")
            }
        }
    }
}

impl fmt::Display for StopRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopRecord::Token(id) => write!(f, "end token {id}"),
            StopRecord::Text(_) => f.write_str("a stop string"),
            StopRecord::Call => f.write_str("its one call"),
            StopRecord::Length => f.write_str("its maximum length"),
            StopRecord::Interrupted => f.write_str("an interruption"),
        }
    }
}

/// A vocabulary: its kind, each token's bytes behind their number, which are special and which end an answer.
fn of_vocabulary(tokenizer: &Tokenizer) -> String {
    let mut hash = Sha256::new();
    hash.update(tokenizer.kind().to_string());
    for id in 0..tokenizer.n_vocab() as u32 {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
        hash.update([u8::from(tokenizer.is_special(id)), u8::from(tokenizer.is_end(id))]);
    }
    hex(&hash.finalize())
}

/// SHA-256 of token ids, each as 4 bytes, little-endian.
#[must_use]
pub fn of_ids(ids: &[u32]) -> String {
    hash(&ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>())
}

fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
