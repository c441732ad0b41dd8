//! How are logits written for other tools? As a NumPy array file.
//!
//! Source: NumPy's NEP 1, "A simple file format for NumPy arrays", version 1.0. Only what is needed here: a C-ordered matrix
//! of little-endian float32, `[n_row, n_col]`, written row by row, so that the whole of it is never in memory.

use std::io::{self, Write};

/// Writes the header of a `[n_row, n_col]` float32 matrix; the values follow with [`write_values`].
pub(crate) fn write_header(out: &mut impl Write, n_row: usize, n_col: usize) -> io::Result<()> {
    const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
    let dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({n_row}, {n_col}), }}");
    // Magic, two bytes of length, the dictionary and a line feed fill a multiple of 64 bytes.
    let bare = MAGIC.len() + 2 + dict.len() + 1;
    let padding = bare.next_multiple_of(64) - bare;
    // Two 20-digit sizes keep the dictionary far below 64 KiB.
    let length = (dict.len() + padding + 1) as u16;
    out.write_all(MAGIC)?;
    out.write_all(&length.to_le_bytes())?;
    writeln!(out, "{dict}{:padding$}", "")
}

/// Writes values, row after row.
pub(crate) fn write_values(out: &mut impl Write, values: &[f32]) -> io::Result<()> {
    for value in values {
        out.write_all(&value.to_le_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_aligned_and_states_the_shape() {
        for n_row in [1, 12, 99_999_999] {
            let mut file = Vec::new();
            write_header(&mut file, n_row, 320).unwrap();
            assert_eq!(file.len() % 64, 0);
            let length = u16::from_le_bytes([file[8], file[9]]);
            assert_eq!(usize::from(length) + 10, file.len());
            let text = std::str::from_utf8(&file[10..]).unwrap();
            assert!(text.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': ("), "{text}");
            assert!(text.contains(&format!("({n_row}, 320)")) && text.ends_with('\n'));
        }
    }
}
