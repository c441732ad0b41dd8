//! From the mapped file to the device: the vectors, then every part copied and repacked.

use std::sync::Arc;

use crate::args::RepackArgs;
use crate::driver::{Device, DevicePtr, Stream};
use crate::error::CudaError;
use crate::launch::kernels::Kernels;
use crate::launch::repack;
use crate::memory::layout::n_unit;
use crate::memory::table;
use crate::memory::upload::{self, Piece, UploadOptions, upload};
use crate::placement::place::{HeadShape, Order, Part, Placement};
use crate::placement::transpose::columns;

/// What loading took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadStats {
    /// Bytes of the file's weights.
    pub n_bytes: u64,
    /// From the first byte copied to the last one repacked.
    pub seconds: f64,
}

/// Copies a model's weights to `weights`.
pub(crate) fn load(
    placement: &Placement<'_>,
    weights: DevicePtr,
    heads: HeadShape,
    (device, kernels, options): (&Arc<Device>, &Kernels, UploadOptions),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<LoadStats, CudaError> {
    let began = std::time::Instant::now();
    let transposed: Vec<Vec<u8>> = placement
        .parts
        .iter()
        .map(|part| if part.order == Order::Transposed { columns(part.matrix) } else { Vec::new() })
        .collect();
    let pieces: Vec<Piece<'_>> = placement
        .parts
        .iter()
        .zip(&transposed)
        .map(|(part, columns)| match part.order {
            Order::Transposed => Piece { src: columns },
            _ => Piece { src: part.matrix.row_range(part.rows.clone()) },
        })
        .collect();
    let n_bytes = pieces.iter().map(|piece| piece.src.len() as u64).sum();
    let mut repack = Repack { placement, heads, weights, kernels, n_bytes, progress };
    // First the vectors, because repacking looks up the points of grids there.
    let stream = Stream::new(device)?;
    stream.write(weights.offset(placement.vectors_at), &placement.vectors)?;
    upload(device, &pieces, options, &mut repack)?;
    Ok(LoadStats { n_bytes, seconds: began.elapsed().as_secs_f64() })
}

struct Repack<'a, 'm> {
    placement: &'a Placement<'m>,
    heads: HeadShape,
    weights: DevicePtr,
    kernels: &'a Kernels,
    n_bytes: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl upload::Placement for Repack<'_, '_> {
    fn place(&mut self, stream: &Stream, staged: DevicePtr, index: usize) -> Result<(), CudaError> {
        let part = &self.placement.parts[index];
        let (format, _) = part.stored();
        let grid = self.placement.grids.iter().find(|(of, _)| *of == format);
        let points = grid.map_or(DevicePtr(0), |&(_, at)| self.weights.offset(at));
        launch_repack((part, points), self.heads, (self.weights, staged), (self.kernels, stream))
    }

    fn progress(&mut self, bytes: u64) {
        (self.progress)(bytes, self.n_bytes);
    }
}

fn launch_repack(
    (part, points): (&Part<'_>, DevicePtr),
    heads: HeadShape,
    (weights, staging): (DevicePtr, DevicePtr),
    (kernels, stream): (&Kernels, &Stream),
) -> Result<(), CudaError> {
    let (format, n_col) = part.stored();
    let (order, offset) = match part.order {
        Order::Plain | Order::Transposed => (0, 0),
        Order::Interleaved(offset) => (1, offset),
        Order::Heads => (if heads.adjacent { 2 } else { 3 }, 0),
    };
    let n_unit = n_unit(n_col);
    let args = RepackArgs {
        src: staging,
        dst: weights.offset(part.at),
        row_bytes: (n_col / format.block_len() * format.block_bytes()) as u64,
        n_row: part.rows.len() as i32,
        first_row: part.to as i32,
        n_in: n_col as i32,
        n_unit: n_unit as i32,
        order,
        offset: offset as i32,
        head_dim: heads.head_dim as i32,
        half_rot: heads.half_rot as i32,
        points,
        table: table::of(format).unwrap_or_default(),
        scale: part.matrix.scale.unwrap_or(1.0),
        reserved: [0; 3],
    };
    kernels.launch(stream, &repack::launch(format, [part.rows.len(), n_unit]), &args)
}
