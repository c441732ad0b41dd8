//! What is in the file?
//!
//! Reads GGUF (versions 1 to 3, little-endian, whole or split) without copying: [`Gguf`] maps a file, [`Metadata`] holds its
//! keys, [`Tensor`] a range of its bytes. Files are hostile until proven otherwise: see [`limits`] for every bound, and
//! [`GgufError`] for what is refused. Specification: ggml's docs/gguf.md.

mod array;
mod codec;
mod cursor;
mod error;
mod file;
mod file_type;
pub mod limits;
mod mapping;
mod metadata;
mod reader;
mod split;
mod tensor;
mod value;
mod watch;
mod writer;

pub use array::{Array, StrArray};
pub use error::GgufError;
pub use file::Gguf;
pub use mapping::TensorBytes;
pub use metadata::Metadata;
pub use tensor::{Tensor, TensorInfo};
pub use value::{Text, Value, ValueType};
pub use watch::FileChange;
pub use writer::Writer;
