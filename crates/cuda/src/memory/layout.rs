//! How many bytes do weights take in the device's layout? The sizes of kernels/weights/format.cuh as pure functions.
//!
//! A matrix is cut into tiles of 16 rows, a tile into units of 64 columns; see format.cuh for the planes of a unit.

use std::fmt::{self, Write as _};

use quant::Format;

use crate::memory::table;

/// Rows in a tile.
pub(crate) const TILE: usize = 16;

/// Columns in a unit.
pub(crate) const UNIT: usize = 64;

/// Which layout a format's weights have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Layout {
    /// The format's own.
    Own(Format),
    /// Indices into a table of 16 values, which several formats share.
    Table16,
}

impl Layout {
    pub(crate) fn of(format: Format) -> Layout {
        match format {
            _ if table::of(format).is_some() => Layout::Table16,
            // Their integers are among those of Q4_0, whose scales are float16 as well.
            Format::Q1_0 | Format::Q2_0 => Layout::Own(Format::Q4_0),
            _ => Layout::Own(format),
        }
    }
}

impl fmt::Display for Layout {
    /// As in the names of kernels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layout::Own(format) => {
                format.name().chars().try_for_each(|letter| f.write_char(letter.to_ascii_lowercase()))
            }
            Layout::Table16 => f.write_str("table16"),
        }
    }
}

/// Units that a row of `n_in` columns takes.
pub(crate) fn n_unit(n_in: usize) -> usize {
    n_in.div_ceil(UNIT)
}

/// Bytes of a unit, and of the plane of block scales after each four of them.
pub(crate) fn unit_bytes(format: Format) -> (usize, usize) {
    match format {
        Format::F32 => (4096, 0),
        Format::F16 | Format::BF16 => (2048, 0),
        // Why Q1_0 and Q2_0: see `Layout::of`.
        Format::Q4_0 | Format::IQ4_NL | Format::Q1_0 | Format::Q2_0 => (512 + 64, 0),
        Format::Q4_1 => (512 + 128, 0),
        Format::Q5_0 => (512 + 128 + 64, 0),
        Format::Q5_1 => (512 + 128 + 128, 0),
        Format::Q8_0 => (1024 + 64, 0),
        Format::MXFP4 => (512 + 32, 0),
        Format::Q2_K => (256 + 64, 64),
        Format::Q3_K => (256 + 128 + 64, 32),
        Format::Q4_K => (512 + 64, 64),
        Format::Q5_K => (512 + 128 + 64, 64),
        Format::Q6_K => (512 + 256 + 64, 32),
        Format::IQ4_XS => (512 + 32, 32),
        Format::NVFP4 => (512 + 64, 0),
        // Those of `table::of`.
        Format::IQ1_S
        | Format::IQ1_M
        | Format::IQ2_XXS
        | Format::IQ2_XS
        | Format::IQ2_S
        | Format::IQ3_XXS
        | Format::IQ3_S
        | Format::TQ1_0
        | Format::TQ2_0 => (512 + 64 + 16, 32),
    }
}

/// Bytes after a tile's units: its matrix's scale, which no other formats than this one can have.
pub(crate) fn tile_scale_bytes(format: Format) -> usize {
    if format == Format::NVFP4 { 32 } else { 0 }
}

/// Whether matrices of both formats can share tiles.
pub(crate) fn is_shared(a: Format, b: Format) -> bool {
    Layout::of(a) == Layout::of(b)
}

/// Bytes of a tile of rows of `n_in` columns.
pub(crate) fn tile_bytes(format: Format, n_in: usize) -> usize {
    let (unit, tail) = unit_bytes(format);
    n_unit(n_in) * unit + n_unit(n_in) / 4 * tail + tile_scale_bytes(format)
}

/// Bytes of a matrix.
pub(crate) fn matrix_bytes(format: Format, n_row: usize, n_in: usize) -> usize {
    n_row.div_ceil(TILE) * tile_bytes(format, n_in)
}

/// Whether weights are floats, which no scale multiplies.
pub(crate) fn is_float(format: Format) -> bool {
    matches!(format, Format::F32 | Format::F16 | Format::BF16)
}

/// Float16 terms of a prompt's activations that weights of a format are multiplied with. One keeps more than such a weight but of float32.
pub(crate) fn prompt_terms(format: Format) -> usize {
    if format == Format::F32 { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_takes_about_as_many_bytes_as_the_file() {
        for format in Format::ALL {
            let (rows, columns) = (4096, 4096);
            let file = format.bytes_for(rows * columns).expect("whole blocks");
            let device = matrix_bytes(format, rows, columns);
            let growth = device as f64 / file as f64;
            let of_fewer_bits = match format {
                Format::Q1_0 | Format::Q2_0 => Some(4.5),
                _ => table::of(format).map(|_| 4.6875),
            };
            if let Some(bits) = of_fewer_bits {
                assert_eq!(8.0 * device as f64 / (rows * columns) as f64, bits, "{format}");
                continue;
            }
            // The K formats keep 6-bit group scales as bytes: up to 3.7 % more.
            assert!((1.0..1.04).contains(&growth), "{format}: {growth}");
        }
    }

    #[test]
    fn rows_and_columns_are_rounded_up() {
        assert_eq!(matrix_bytes(Format::Q8_0, 17, 96), 2 * 2 * 1088);
        assert_eq!(matrix_bytes(Format::Q2_0, 17, 192), 2 * 3 * 576);
        // A scale beside each tile.
        assert_eq!(matrix_bytes(Format::NVFP4, 17, 96), 2 * (2 * 576 + 32));
    }
}
