//! How does text become ids, ids text, and a conversation a prompt?
//!
//! [`Tokenizer`] reads its vocabulary from a GGUF file (byte-level BPE, SentencePiece) or a tokenizer.json, encodes in linear
//! time, and decodes in streams that never hold half a character. [`ChatTemplate`] renders a file's own Jinja template in a
//! sandbox. Files, texts and templates are hostile until proven otherwise: see [`limits`] and [`TokenizerError`].

mod bpe;
mod chat;
mod error;
mod gguf_keys;
mod gguf_vocab;
mod hf_json;
pub mod limits;
mod merge;
mod pretokenize;
mod rank;
mod same;
mod special;
mod special_tokens;
mod spm;
mod stop;
mod stream;
mod tokenizer;
mod vocab;
mod words;

pub use chat::{ChatInput, ChatTemplate, RenderedChat};
pub use error::{Stopped, TokenizerError};
pub use same::Difference;
pub use special_tokens::SpecialTokens;
pub use stop::Stop;
pub use stream::Decoder;
pub use tokenizer::{EncodeOptions, Kind, Tokenizer};
