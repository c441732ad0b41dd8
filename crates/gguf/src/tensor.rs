//! What is a tensor, as the file lists it?
//!
//! Name, format, shape and place. Shapes are in ggml's order, innermost dimension first: a matrix of `n_out` rows of `n_in`
//! weights has shape `[n_in, n_out]`. Sizes and offsets in bytes. Layout rules: the GGUF specification.

use quant::Format;

use crate::cursor::{Bound, Cursor, Place};
use crate::error::GgufError;
use crate::limits;
use crate::mapping::TensorBytes;

/// A tensor's entry in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Unique in a file, and in a split model.
    pub name: String,
    /// How its values are stored.
    pub format: Format,
    /// Innermost dimension first; one to four dimensions, none zero, the first a whole number of the format's blocks.
    pub shape: Vec<usize>,
    /// Index of its file in a split model; 0 otherwise.
    pub file: usize,
    /// Where its data starts in that file.
    pub offset: u64,
    /// Bytes of its data; the range `offset .. offset + n_bytes` is in the file.
    pub n_bytes: usize,
}

impl TensorInfo {
    /// How many values it has: the product of its shape.
    #[must_use]
    pub fn n_values(&self) -> usize {
        self.shape.iter().product()
    }

    /// Values in a row: the innermost dimension.
    #[must_use]
    pub fn row_len(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }
}

/// A tensor and its data.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its entry.
    pub info: TensorInfo,
    /// Its data, `info.n_bytes` long.
    pub bytes: TensorBytes,
}

const NAME: Bound = Bound { what: "a name length", max: limits::MAX_TENSOR_NAME_BYTES };

/// Reads entry number `n`. Its offset is still relative to the start of the data and unchecked.
pub(crate) fn read_info(cursor: &mut Cursor<'_>, n: u64) -> Result<TensorInfo, GgufError> {
    let offset = cursor.pos() as u64;
    let name = cursor.name(NAME, Place::TensorNumber(n))?;
    let place = Place::Tensor(name);
    let dims = read_dims(cursor, place)?;
    let id = cursor.u32(place)?;
    let format = Format::from_id(id).ok_or_else(|| GgufError::TensorType {
        name: name.to_owned(),
        offset,
        id,
        type_name: type_name(id),
    })?;
    let shape_error = |expected: String| GgufError::TensorShape {
        name: name.to_owned(),
        offset,
        expected,
        found: dims.clone(),
    };
    if dims.contains(&0) {
        return Err(shape_error("no dimension of zero".to_owned()));
    }
    let too_large = || shape_error("a size that can be addressed".to_owned());
    let mut shape = Vec::with_capacity(dims.len());
    let mut n_values = 1usize;
    for &dim in &dims {
        let dim = usize::try_from(dim).map_err(|_| too_large())?;
        n_values = n_values.checked_mul(dim).ok_or_else(too_large)?;
        shape.push(dim);
    }
    if shape.is_empty() {
        shape.push(1);
    }
    if !shape[0].is_multiple_of(format.block_len()) {
        let block_len = format.block_len();
        return Err(shape_error(format!("a first dimension that is a multiple of {block_len} for {format}")));
    }
    let n_bytes = format.bytes_for(n_values).ok_or_else(too_large)?;
    let data_offset = cursor.u64(place)?;
    Ok(TensorInfo { name: name.to_owned(), format, shape, file: 0, offset: data_offset, n_bytes })
}

fn read_dims(cursor: &mut Cursor<'_>, place: Place<'_>) -> Result<Vec<u64>, GgufError> {
    let offset = cursor.pos() as u64;
    let n_dims = cursor.u32(place)?;
    if n_dims > limits::MAX_DIMS {
        let (max, found) = (limits::MAX_DIMS.into(), n_dims.into());
        return Err(GgufError::Limit {
            place: place.to_string(),
            offset,
            what: "a number of dimensions",
            max,
            found,
        });
    }
    (0..n_dims).map(|_| cursor.raw_count(place)).collect()
}

/// ggml's name of a type that is not read.
fn type_name(id: u32) -> &'static str {
    match id {
        4 => "Q4_2, removed from ggml",
        5 => "Q4_3, removed from ggml",
        9 => "Q8_1",
        15 => "Q8_K",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        31 => "Q4_0_4_4, removed from ggml",
        32 => "Q4_0_4_8, removed from ggml",
        33 => "Q4_0_8_8, removed from ggml",
        36 => "IQ4_NL_4_4, removed from ggml",
        37 => "IQ4_NL_4_8, removed from ggml",
        38 => "IQ4_NL_8_8, removed from ggml",
        142 => "PQ2_0 of a fork of ggml",
        143 => "PTQ1_0 of a fork of ggml",
        _ => "unknown",
    }
}
