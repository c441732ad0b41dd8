//! Why can a file not be read?
//!
//! Every error says what was expected, what was found and where: a key or a tensor, and the byte offset in the file.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use thiserror::Error;

/// Why a file cannot be read, or a value in it is not what was asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The fields are named by the messages.
pub enum GgufError {
    /// An error in one of the files that were opened.
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: Box<GgufError> },

    /// The operating system could not open, map or write the file.
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },

    /// The operating system does not keep a file in memory.
    #[error("{}: cannot keep {len} bytes locked in memory: {error} (`ulimit -l` says how many may be)", path.display())]
    Lock { path: PathBuf, len: usize, error: io::Error },

    /// A model could not be written out.
    #[error("writing a model: {error}")]
    Write { error: io::Error },

    /// A folder, a pipe or a device.
    #[error("{}: expected a regular file", path.display())]
    NotAFile { path: PathBuf },

    /// The first four bytes are not `GGUF`.
    #[error("not a GGUF file: expected the bytes \"GGUF\" at byte 0, found {found}")]
    Magic { found: String },

    /// The file is for machines of the other byte order.
    #[error(
        "big-endian GGUF file (version {version} with its bytes swapped at byte 4): only little-endian files are read"
    )]
    BigEndian { version: u32 },

    /// A version that does not exist yet.
    #[error("expected GGUF version 1, 2 or 3 at byte 4, found {found}")]
    Version { found: u32 },

    /// The file ends too early.
    #[error(
        "truncated file: {place} at byte {offset} needs {needed} bytes, found {available} to the end of the file"
    )]
    Truncated { place: String, offset: u64, needed: u64, available: u64 },

    /// A count or a length is over its bound in [`crate::limits`].
    #[error("{place}, byte {offset}: expected {what} of at most {max}, found {found}")]
    Limit { place: String, offset: u64, what: &'static str, max: u64, found: u64 },

    /// A key or a name of no characters.
    #[error("{place}, byte {offset}: expected a name, found an empty string")]
    Empty { place: String, offset: u64 },

    /// Text that must be UTF-8 is not.
    #[error("{place}, byte {offset}: expected UTF-8, found an invalid sequence {valid} bytes into the text")]
    NotUtf8 { place: String, offset: u64, valid: usize },

    /// A value's type id does not exist.
    #[error("{place}, byte {offset}: expected a value type from 0 to 12, found {found}")]
    UnknownValueType { place: String, offset: u64, found: u32 },

    /// A value has another type than was asked for.
    #[error("key {key:?}, byte {offset}: expected {expected}, found {found}")]
    WrongType { key: String, offset: u64, expected: &'static str, found: String },

    /// A value has the right type but cannot be represented or used.
    #[error("key {key:?}, byte {offset}: expected {expected}, found {found}")]
    WrongValue { key: String, offset: u64, expected: String, found: String },

    /// A key stands twice.
    #[error("key {key:?} stands twice: at byte {first} and at byte {second}")]
    DuplicateKey { key: String, first: u64, second: u64 },

    /// A tensor's name stands twice.
    #[error("tensor {name:?} stands twice: its data at byte {first} and at byte {second}")]
    DuplicateTensor { name: String, first: u64, second: u64 },

    /// A tensor's type id is unknown or not a weight format that is read.
    #[error(
        "tensor {name:?}, byte {offset}: expected a supported weight format, found type {id} ({type_name})"
    )]
    TensorType { name: String, offset: u64, id: u32, type_name: &'static str },

    /// A tensor's dimensions contradict its format or overflow.
    #[error("tensor {name:?}, byte {offset}: expected {expected}, found dimensions {found:?}")]
    TensorShape { name: String, offset: u64, expected: String, found: Vec<u64> },

    /// A tensor's data does not start at a multiple of the alignment.
    #[error(
        "tensor {name:?}: expected an offset into the data at byte {data} that is a multiple of {alignment}, found {found}"
    )]
    TensorAlignment { name: String, data: u64, alignment: usize, found: u64 },

    /// A tensor's data is not in the file.
    #[error(
        "truncated file: tensor {name:?} has {n_bytes} bytes at byte {start}, found a file of {file_len} bytes"
    )]
    TensorBounds { name: String, start: u64, n_bytes: u64, file_len: u64 },

    /// Two tensors share bytes.
    #[error("tensor {second:?} starts at byte {start}, inside tensor {first:?} that ends at byte {end}")]
    TensorOverlap { first: String, second: String, start: u64, end: u64 },

    /// The files of a split model do not fit together.
    #[error("split model: expected {expected}, found {found}")]
    Split { expected: String, found: String },

    /// A range outside the bytes it is taken from.
    #[error("expected a range within {len} bytes, found {range:?}")]
    Range { range: Range<usize>, len: usize },

    /// A tensor given to the writer has another number of bytes than its shape says.
    #[error("tensor {name:?}: expected {expected} bytes, found {found}")]
    TensorData { name: String, expected: usize, found: usize },
}
