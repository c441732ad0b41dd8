//! Weights of formats that no golden model has.

use model::weights::Matrix;
use quant::Format;

/// A matrix of another's name and shape in random blocks of Q1_0 or Q2_0, whose scales are of a usual size.
///
/// # Panics
/// If its rows are not whole blocks.
#[must_use]
pub fn few_bits(old: &Matrix, format: Format) -> Matrix {
    let mut bytes = vec![0; old.n_rows * format.bytes_for(old.n_cols).expect("whole blocks")];
    let mut state = old.name.bytes().fold(1u64, |state, byte| state.wrapping_mul(31) + u64::from(byte));
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        block.fill_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        // A float16 from 0.0156 to 0.031.
        block[1] = 0x24 | block[1] & 3;
    }
    Matrix::new(&old.name, format, [old.n_rows, old.n_cols], bytes.into()).expect("as many bytes")
}
