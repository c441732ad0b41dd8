//! How is one file read?
//!
//! Magic, version, counts; keys and values; tensor entries; padding to the alignment; tensor data. Specification: GGUF
//! versions 1 to 3 (ggml, docs/gguf.md). Every claim is checked before use; what is refused although ggml might read it: other
//! byte order, tensors that overlap (so that all tensors together are never larger than the file) and empty names.

use crate::codec::{read_type, read_value};
use crate::cursor::{Bound, Cursor, Place, Width};
use crate::error::GgufError;
use crate::limits;
use crate::mapping::TensorBytes;
use crate::metadata::{Entry, Metadata};
use crate::tensor::{TensorInfo, read_info};

/// One file's header, checked against the file's size.
pub(crate) struct Part {
    pub(crate) version: u32,
    pub(crate) alignment: usize,
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<TensorInfo>,
    pub(crate) bytes: TensorBytes,
}

const KEYS: Bound = Bound { what: "a number of metadata keys", max: limits::MAX_METADATA_KEYS };
const TENSORS: Bound = Bound { what: "a number of tensors", max: limits::MAX_TENSORS };
const KEY: Bound = Bound { what: "a key length", max: limits::MAX_KEY_BYTES };

/// Reads the header of a file that is all there.
pub(crate) fn read(bytes: &TensorBytes) -> Result<Part, GgufError> {
    read_header(bytes, bytes.len() as u64)
}

/// Reads the header of a file of `file_len` bytes, of which `bytes` are the first.
pub(crate) fn read_header(bytes: &TensorBytes, file_len: u64) -> Result<Part, GgufError> {
    let version = read_version(bytes)?;
    let width = if version == 1 { Width::Narrow } else { Width::Wide };
    let mut cursor = Cursor::new(bytes, 8, width);
    let n_tensors = cursor.count(TENSORS, Place::Header)?;
    let n_keys = cursor.count(KEYS, Place::Header)?;

    let mut entries = Vec::new();
    for n in 0..n_keys {
        let offset = cursor.pos() as u64;
        let key = cursor.name(KEY, Place::KeyNumber(n))?;
        let value_type = read_type(&mut cursor, Place::Key(key))?;
        let value = read_value(&mut cursor, value_type, bytes, Place::Key(key))?;
        entries.push(Entry { key: key.to_owned(), offset, value });
    }
    let metadata = Metadata::from_entries(entries)?;
    let alignment = read_alignment(&metadata)?;

    let mut tensors = Vec::new();
    for n in 0..n_tensors {
        tensors.push(read_info(&mut cursor, n)?);
    }
    let data_start = (cursor.pos() as u64).next_multiple_of(alignment as u64);
    place_tensors(&mut tensors, data_start, alignment, file_len)?;
    Ok(Part { version, alignment, metadata, tensors, bytes: bytes.clone() })
}

fn read_version(bytes: &[u8]) -> Result<u32, GgufError> {
    let mut cursor = Cursor::new(bytes, 0, Width::Wide);
    if !bytes.starts_with(b"GGUF") {
        return Err(GgufError::Magic { found: describe_magic(bytes) });
    }
    cursor.take(4, Place::Header)?;
    match cursor.u32(Place::Header)? {
        version @ 1..=3 => Ok(version),
        // No version has 65,536 or more: its bytes are swapped.
        swapped if swapped & 0xffff == 0 && swapped != 0 => {
            Err(GgufError::BigEndian { version: swapped.swap_bytes() })
        }
        found => Err(GgufError::Version { found }),
    }
}

/// The first bytes, and which other kind of file they are likely of.
fn describe_magic(bytes: &[u8]) -> String {
    let known = [
        (&b"version https://git-lfs"[..], ", a Git LFS pointer: the model itself was not downloaded"),
        (b"PK\x03\x04", ", a zip archive, perhaps a PyTorch checkpoint"),
        (b"<", ", perhaps a web page saved instead of the model"),
        (b"lmgg", ", a GGML file from before GGUF"),
        (b"fmgg", ", a GGML file from before GGUF"),
        (b"tjgg", ", a GGML file from before GGUF"),
        (b"FUGG", ", a GGUF file with its bytes swapped"),
    ];
    let hint = known.iter().find(|(magic, _)| bytes.starts_with(magic)).map_or("", |(_, hint)| hint);
    let safetensors = if bytes.get(8) == Some(&b'{') { ", perhaps a safetensors file" } else { "" };
    let first = bytes.get(..4).unwrap_or(bytes);
    format!("\"{}\"{hint}{safetensors}", first.escape_ascii())
}

fn read_alignment(metadata: &Metadata) -> Result<usize, GgufError> {
    let key = "general.alignment";
    let Some(found) = metadata.i64_of(key)? else { return Ok(limits::DEFAULT_ALIGNMENT) };
    limits::alignment(found.into()).ok_or_else(|| GgufError::WrongValue {
        key: key.to_owned(),
        offset: metadata.offset_of(key),
        expected: limits::ALIGNMENT_RULE.to_owned(),
        found: found.to_string(),
    })
}

/// Makes the tensors' offsets absolute, having checked that each is aligned and in the file and that none overlap.
fn place_tensors(
    tensors: &mut [TensorInfo],
    data_start: u64,
    alignment: usize,
    file_len: u64,
) -> Result<(), GgufError> {
    for tensor in tensors.iter_mut() {
        let name = || tensor.name.clone();
        let found = tensor.offset;
        if !found.is_multiple_of(alignment as u64) {
            return Err(GgufError::TensorAlignment { name: name(), data: data_start, alignment, found });
        }
        let start = data_start.saturating_add(found);
        let n_bytes = tensor.n_bytes as u64;
        if start.checked_add(n_bytes).is_none_or(|end| end > file_len) {
            return Err(GgufError::TensorBounds { name: name(), start, n_bytes, file_len });
        }
        tensor.offset = start;
    }
    // The reader admits at most 2^16 tensors.
    let mut by_offset: Vec<u32> = (0..tensors.len() as u32).collect();
    by_offset.sort_by_key(|&i| tensors[i as usize].offset);
    for pair in by_offset.windows(2) {
        let (first, second) = (&tensors[pair[0] as usize], &tensors[pair[1] as usize]);
        let end = first.offset + first.n_bytes as u64;
        if second.offset < end {
            let (first, start, second) = (first.name.clone(), second.offset, second.name.clone());
            return Err(GgufError::TensorOverlap { first, second, start, end });
        }
    }
    Ok(())
}
