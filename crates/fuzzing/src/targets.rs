//! What each target feeds to what, and what must hold.

pub(crate) mod gguf_reader;
pub(crate) mod grammar;
pub(crate) mod http;
pub(crate) mod keys;
pub(crate) mod model;
pub(crate) mod receipt;
pub(crate) mod template;
pub(crate) mod tokenizer;
