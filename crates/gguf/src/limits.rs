//! How large may what a file claims be?
//!
//! Every count, length and size in a file is checked against these bounds and against the bytes that are left, before
//! it is used. They are far above every published model and low enough that no claim costs more than reading it.
//! Nothing is ever allocated for a count alone: [`ALLOCATION_FACTOR`] states what reading may take in all.

/// Files in a split model.
pub const MAX_SPLIT_FILES: usize = 1024;

/// Metadata keys in a file. Published models have fewer than 100.
pub const MAX_METADATA_KEYS: u64 = 1 << 16;

/// Bytes of a metadata key: the specification's own bound.
pub const MAX_KEY_BYTES: u64 = (1 << 16) - 1;

/// Bytes of a string value. The longest published ones are whole tokenizer.json files, some 20 MiB.
pub const MAX_STRING_BYTES: u64 = 1 << 28;

/// Elements of an array. The largest published vocabularies have 262,144 tokens and some 600,000 merges.
pub const MAX_ARRAY_LEN: u64 = 1 << 26;

/// Arrays within arrays; an array of numbers has depth 1.
pub const MAX_ARRAY_DEPTH: usize = 4;

/// Tensors in a file, and in a split model.
pub const MAX_TENSORS: u64 = 1 << 16;

/// Bytes of a tensor's name. ggml's own bound is 64.
pub const MAX_TENSOR_NAME_BYTES: u64 = 256;

/// Dimensions of a tensor: ggml's own bound.
pub const MAX_DIMS: u32 = 4;

/// The alignment of tensor data where `general.alignment` does not say.
pub const DEFAULT_ALIGNMENT: usize = 32;

/// The largest alignment: a huge page.
pub const MAX_ALIGNMENT: usize = 1 << 21;

/// What an alignment must be, for errors.
pub(crate) const ALIGNMENT_RULE: &str = "a power of two from 1 to 2097152";

/// A valid alignment.
pub(crate) fn alignment(value: i128) -> Option<usize> {
    let value = usize::try_from(value).ok()?;
    (value.is_power_of_two() && value <= MAX_ALIGNMENT).then_some(value)
}

/// Reading a file holds at most [`ALLOCATION_BASE`] bytes plus this many times the bytes of its header at any moment. The
/// densest header is a list of one-byte values under short keys: from 10 bytes each in the file (version 1) they become an
/// entry of 80 bytes, in a vector that has room for twice as many and was just copied from one of half the size.
pub const ALLOCATION_FACTOR: usize = 32;

/// Bytes that reading may hold whatever the header's size; see [`ALLOCATION_FACTOR`].
pub const ALLOCATION_BASE: usize = 4096;
