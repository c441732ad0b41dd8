//! How the copy engine of compute capability 9.0 finds boxes of a matrix.

use bytemuck::{Pod, Zeroable};
use cudarc::driver::sys;

use super::{Device, DevicePtr, call};
use crate::error::CudaError;

/// A `CUtensorMap`, which kernels take by value.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct TensorMap {
    words: [u64; 16],
}

/// A row-major matrix of float16 without gaps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HalfMatrix {
    /// A multiple of 16.
    pub(crate) address: DevicePtr,
    pub(crate) n_row: usize,
    /// A multiple of 8.
    pub(crate) n_column: usize,
}

/// Columns of a box: 128 bytes, the span of the swizzle.
const BOX_COLUMNS: u32 = 64;

impl Device {
    /// The map of a matrix in boxes of `box_rows` rows (up to 256) by 64 columns, which shared memory gets with the 128-byte swizzle.
    /// Places outside of the matrix read as zeros. Nothing is queued, and the matrix is not read.
    ///
    /// # Errors
    /// If the driver refuses the shape.
    pub(crate) fn tensor_map(&self, matrix: HalfMatrix, box_rows: u32) -> Result<TensorMap, CudaError> {
        self.bind()?;
        let mut map = sys::CUtensorMap { opaque: [0; 16] };
        let sizes = [matrix.n_column as u64, matrix.n_row as u64];
        let row_bytes = [2 * matrix.n_column as u64];
        let (boxes, steps) = ([BOX_COLUMNS, box_rows], [1, 1]);
        // SAFETY: the driver writes the map and reads two sizes, one stride, two box sizes and two steps, all of them live; the
        // address becomes part of the map only.
        unsafe {
            call!(cuTensorMapEncodeTiled(
                &raw mut map,
                sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
                2,
                matrix.address.0 as *mut std::ffi::c_void,
                sizes.as_ptr(),
                row_bytes.as_ptr(),
                boxes.as_ptr(),
                steps.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            ))
        }?;
        Ok(TensorMap { words: map.opaque })
    }
}
