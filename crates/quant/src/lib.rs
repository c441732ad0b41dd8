//! What do a weight's bytes mean?
//!
//! A GGUF tensor is a sequence of blocks; a block holds `block_len` weights in `block_bytes` bytes. This crate has one
//! file per block format, with the field names of ggml's block structs, and the dequantisation that defines each format.
//! No kernel lives here: executors read blocks in their own way and are checked against `dequantize`.

mod format;

pub use format::Format;
