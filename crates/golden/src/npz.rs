//! NumPy's .npz: a ZIP archive of .npy files, here of float32 matrices alone.
//!
//! Sources: PKWARE's APPNOTE 6.3 (central directory, local headers), NumPy's format specification 1.0.

use std::path::Path;

use crate::{GoldenError, read_file};

/// Bytes of an archive that are read, and of one of its arrays once unpacked.
const MAX_ARCHIVE: u64 = 256 << 20;
const MAX_ARRAY: usize = 1 << 30;
/// Arrays of an archive that are read.
const MAX_ARRAYS: usize = 16;

/// One array of an archive.
pub(crate) struct Array {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// In C order.
    pub(crate) values: Vec<f32>,
}

/// The arrays of an archive.
pub(crate) fn read(path: &Path) -> Result<Vec<Array>, GoldenError> {
    let wrong = |(expected, found)| GoldenError::Malformed { path: path.to_owned(), expected, found };
    arrays(&read_file(path, MAX_ARCHIVE)?).map_err(wrong)
}

/// What was expected and what was found.
type Wrong = (String, String);

fn arrays(bytes: &[u8]) -> Result<Vec<Array>, Wrong> {
    let end = bytes
        .len()
        .checked_sub(22)
        .and_then(|last| (0..=last).rev().find(|&at| bytes[at..].starts_with(b"PK\x05\x06")));
    let end = end.ok_or_else(|| ("a ZIP archive".to_owned(), "no end of a ZIP directory".to_owned()))?;
    let (count, mut entry) = (u16_at(bytes, end + 10)?, u32_at(bytes, end + 16)?);
    if count > MAX_ARRAYS {
        return Err((format!("at most {MAX_ARRAYS} arrays"), count.to_string()));
    }
    let mut arrays = Vec::new();
    for _ in 0..count {
        let (method, size) = (u16_at(bytes, entry + 10)?, u32_at(bytes, entry + 20)?);
        let (name_len, local) = (u16_at(bytes, entry + 28)?, u32_at(bytes, entry + 42)?);
        let name = String::from_utf8_lossy(part(bytes, entry + 46, name_len)?).replace(".npy", "");
        entry += 46 + name_len + u16_at(bytes, entry + 30)? + u16_at(bytes, entry + 32)?;
        let data = local + 30 + u16_at(bytes, local + 26)? + u16_at(bytes, local + 28)?;
        let stored = part(bytes, data, size)?;
        let array = match method {
            0 => npy(stored),
            8 => {
                let inflated = miniz_oxide::inflate::decompress_to_vec_with_limit(stored, MAX_ARRAY);
                npy(&inflated.map_err(|e| {
                    (format!("{name:?} to be deflated data of at most {MAX_ARRAY} bytes"), e.to_string())
                })?)
            }
            other => Err(("a stored or deflated array".to_owned(), format!("ZIP method {other}"))),
        };
        let (shape, values) =
            array.map_err(|(expected, found)| (format!("{expected} in {name:?}"), found))?;
        arrays.push(Array { name, shape, values });
    }
    Ok(arrays)
}

/// The shape and values of a .npy file.
fn npy(bytes: &[u8]) -> Result<(Vec<usize>, Vec<f32>), Wrong> {
    if !bytes.starts_with(b"\x93NUMPY\x01\x00") {
        return Err(("a .npy file of version 1.0".to_owned(), "another beginning".to_owned()));
    }
    let header_len = u16_at(bytes, 8)?;
    let header = String::from_utf8_lossy(part(bytes, 10, header_len)?);
    if !(header.contains("'<f4'") && header.contains("'fortran_order': False")) {
        return Err(("float32 in C order".to_owned(), header.trim().to_owned()));
    }
    let shape = shape_of(&header).ok_or_else(|| ("a shape".to_owned(), header.trim().to_owned()))?;
    let n_value = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    let data = &bytes[10 + header_len..];
    if n_value.and_then(|n| n.checked_mul(4)) != Some(data.len()) {
        return Err((format!("values for the shape {shape:?}"), format!("{} bytes", data.len())));
    }
    Ok((shape, data.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()))
}

/// `'shape': (2, 3)`.
fn shape_of(header: &str) -> Option<Vec<usize>> {
    let (_, rest) = header.split_once("'shape': (")?;
    let (sizes, _) = rest.split_once(')')?;
    sizes.split(',').map(str::trim).filter(|size| !size.is_empty()).map(|size| size.parse().ok()).collect()
}

fn part(bytes: &[u8], at: usize, len: usize) -> Result<&[u8], Wrong> {
    let end = at.checked_add(len).filter(|&end| end <= bytes.len());
    let end =
        end.ok_or_else(|| (format!("{len} bytes at {at}"), format!("a file of {} bytes", bytes.len())))?;
    Ok(&bytes[at..end])
}

fn u16_at(bytes: &[u8], at: usize) -> Result<usize, Wrong> {
    let found = part(bytes, at, 2)?;
    Ok(usize::from(found[0]) | usize::from(found[1]) << 8)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<usize, Wrong> {
    Ok(u16_at(bytes, at)? | u16_at(bytes, at + 2)? << 16)
}
