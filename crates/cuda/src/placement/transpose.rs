//! A matrix turned round on the host, for products that go through it the other way: blocks of integers run along its rows, so that its
//! columns become floats.

use model::Matrix;
use quant::{Format, Half};

/// How the values of a matrix of this format are stored then: as float16, unless that would round floats.
pub(crate) fn format(of: Format) -> Format {
    match of {
        Format::F32 | Format::BF16 => Format::F32,
        _ => Format::F16,
    }
}

/// The columns of a matrix, one after the other, in that format.
pub(crate) fn columns(matrix: &Matrix) -> Vec<u8> {
    let (n_row, n_col) = (matrix.n_rows, matrix.n_cols);
    let mut values = vec![0.0; n_row * n_col];
    if matrix.format.dequantize(matrix.bytes(), &mut values).is_err() {
        unreachable!("a matrix is a whole number of blocks");
    }
    values.iter_mut().for_each(|value| *value *= matrix.scale.unwrap_or(1.0));
    let turned = (0..n_col).flat_map(|column| values.iter().skip(column).step_by(n_col));
    match format(matrix.format) {
        Format::F32 => turned.flat_map(|value| value.to_le_bytes()).collect(),
        _ => turned.flat_map(|&value| Half::from_f32(value).0).collect(),
    }
}

#[cfg(test)]
mod tests {
    use gguf::Gguf;
    use model::Model;
    use model::weights::{KeyMaps, MixerWeights};

    use super::*;

    #[test]
    fn columns_become_rows() {
        let golden = testkit::golden().into_iter().find(|golden| golden.name == "deepseek2-plain-q4_0");
        let file = Gguf::open(&golden.expect("a golden model").path).expect("a golden model");
        let model = Model::load(&file).expect("a golden model");
        let MixerWeights::Latent(weights) = &model.weights.layers[1].mixer else {
            panic!("latent attention")
        };
        let KeyMaps::OfKeys(maps) = &weights.k else { panic!("the form of earlier files") };
        let matrix = &maps[2].weight;
        let mut values = vec![0.0; matrix.n_rows * matrix.n_cols];
        matrix.format.dequantize(matrix.bytes(), &mut values).expect("whole blocks");
        let columns = columns(matrix);
        assert_eq!(columns.len(), 2 * values.len());
        for (i, bytes) in columns.chunks_exact(2).enumerate() {
            let (column, row) = (i / matrix.n_rows, i % matrix.n_rows);
            let expected = Half::from_f32(values[row * matrix.n_cols + column]);
            assert_eq!(bytes, expected.0, "{row} {column}");
        }
        let mut scaled = matrix.clone();
        scaled.scale = Some(2.0);
        let twice = |bytes: &[u8]| Half::from_f32(2.0 * Half([bytes[0], bytes[1]]).to_f32()).0;
        assert_eq!(super::columns(&scaled), columns.chunks_exact(2).flat_map(twice).collect::<Vec<_>>());
    }

    #[test]
    fn floats_are_not_rounded() {
        assert_eq!([Format::F32, Format::BF16].map(format), [Format::F32; 2]);
        assert_eq!([Format::F16, Format::Q8_0].map(format), [Format::F16; 2]);
    }
}
