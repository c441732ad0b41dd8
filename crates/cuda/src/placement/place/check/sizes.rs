//! Has a tensor the sizes that the kernels take for granted?

use model::Matrix;
use model::weights::{Linear, NormWeights};

use crate::memory::layout;
use crate::placement::place::unsupported::{Unsupported, unsupported};

pub(super) fn linear(linear: &Linear, sizes: [usize; 2]) -> Result<(), Unsupported> {
    shape(&linear.weight, sizes)?;
    vector("values of a bias", linear.bias.as_deref(), sizes[0])
}

pub(super) fn norm(norm: &NormWeights, n: usize) -> Result<(), Unsupported> {
    vector("values of a norm", Some(&norm.weight), n)?;
    vector("values of a norm's bias", norm.bias.as_deref(), n)
}

/// A matrix whose rows are read one by one, which no scale multiplies.
pub(super) fn table(matrix: &Matrix, sizes: [usize; 2]) -> Result<(), Unsupported> {
    match matrix.scale {
        None => shape(matrix, sizes),
        Some(_) => unsupported("scale of an embedding", "none", format!("{matrix:?}")),
    }
}

fn shape(matrix: &Matrix, [n_row, n_column]: [usize; 2]) -> Result<(), Unsupported> {
    if matrix.scale.is_some() && layout::tile_scale_bytes(matrix.format) == 0 {
        let expected = "none but in NVFP4 (this one runs with --device cpu)";
        return unsupported("scale of a matrix", expected, format!("{matrix:?}"));
    }
    if [matrix.n_rows, matrix.n_cols] != [n_row, n_column] {
        return unsupported("shape of a matrix", format!("[{n_row}, {n_column}]"), format!("{matrix:?}"));
    }
    Ok(())
}

pub(super) fn vector(what: &'static str, values: Option<&[f32]>, n: usize) -> Result<(), Unsupported> {
    match values {
        Some(values) if values.len() != n => unsupported(what, n, values.len()),
        _ => Ok(()),
    }
}
