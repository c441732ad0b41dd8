//! Which pieces share a chunk, and what is one thread's share of the copying?

use std::ops::Range;

use crate::error::CudaError;

/// Pieces start at multiples of this in their chunk.
pub(super) const ALIGNMENT: usize = 16;

/// What one thread copies at a time: small enough that all threads share a chunk, large enough that asking for more costs nothing.
const TASK_BYTES: usize = 1 << 20;

/// Consecutive pieces that go to the device in one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Which pieces.
    pub(super) pieces: Range<usize>,
    /// With the gaps between them.
    pub(super) bytes: usize,
}

/// A list of pieces, cut into chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packing {
    pub(super) chunks: Vec<Chunk>,
    /// Where each piece starts in its chunk.
    pub(super) offsets: Vec<usize>,
}

/// Packs pieces of these sizes, in their order, into as few chunks as that order allows.
pub(super) fn pack(sizes: impl Iterator<Item = usize>, chunk_bytes: usize) -> Result<Packing, CudaError> {
    let mut packing = Packing::default();
    for (index, bytes) in sizes.enumerate() {
        if bytes > chunk_bytes {
            return Err(CudaError::PieceTooLarge { index, bytes, limit: chunk_bytes });
        }
        let next = packing.chunks.last().map_or(chunk_bytes, |last| last.bytes.next_multiple_of(ALIGNMENT));
        let offset = match packing.chunks.last_mut() {
            Some(last) if next <= chunk_bytes - bytes => {
                last.pieces.end = index + 1;
                last.bytes = next + bytes;
                next
            }
            _ => {
                packing.chunks.push(Chunk { pieces: index..index + 1, bytes });
                0
            }
        };
        packing.offsets.push(offset);
    }
    Ok(packing)
}

/// A part of a piece for one thread to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) piece: usize,
    /// Of the piece's bytes.
    pub(super) range: Range<usize>,
}

/// Parts of one chunk, about a megabyte of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) chunk: usize,
    pub(super) parts: Vec<Part>,
}

/// Every byte of every piece, once, in order. Every chunk has a task, even one of empty pieces.
pub(super) fn tasks(packing: &Packing, sizes: &[usize]) -> Vec<Task> {
    let mut tasks = Vec::new();
    for (chunk, Chunk { pieces, .. }) in packing.chunks.iter().enumerate() {
        let mut task = Task { chunk, parts: Vec::new() };
        let mut room = TASK_BYTES;
        for piece in pieces.clone() {
            let mut at = 0;
            while at < sizes[piece] {
                let end = sizes[piece].min(at + room);
                task.parts.push(Part { piece, range: at..end });
                room -= end - at;
                at = end;
                if room == 0 {
                    tasks.push(std::mem::replace(&mut task, Task { chunk, parts: Vec::new() }));
                    room = TASK_BYTES;
                }
            }
        }
        if !task.parts.is_empty() || tasks.last().is_none_or(|last: &Task| last.chunk != chunk) {
            tasks.push(task);
        }
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(sizes: &[usize], chunk_bytes: usize) -> Vec<(Range<usize>, usize)> {
        let packing = pack(sizes.iter().copied(), chunk_bytes).unwrap();
        packing.chunks.into_iter().map(|chunk| (chunk.pieces, chunk.bytes)).collect()
    }

    #[test]
    fn pieces_share_a_chunk_while_they_fit() {
        assert_eq!(packed(&[10, 16, 32], 64), [(0..3, 64)]);
        assert_eq!(packed(&[10, 17, 32], 64), [(0..2, 33), (2..3, 32)]);
        assert_eq!(packed(&[64, 1, 0, 64], 64), [(0..1, 64), (1..3, 16), (3..4, 64)]);
        assert_eq!(packed(&[], 64), []);
        assert_eq!(pack([10, 17, 32].into_iter(), 64).unwrap().offsets, [0, 16, 0]);
    }

    #[test]
    fn a_piece_larger_than_a_chunk_is_refused() {
        let error = CudaError::PieceTooLarge { index: 1, bytes: 65, limit: 64 };
        assert_eq!(pack([64, 65].into_iter(), 64), Err(error));
    }

    #[test]
    fn tasks_cover_every_byte_once_in_order() {
        let mb = 1 << 20;
        let sizes = [0, 3 * mb + 5, 100, mb, 2 * mb, 0];
        let packing = pack(sizes.iter().copied(), 4 * mb).unwrap();
        let tasks = tasks(&packing, &sizes);
        let mut seen = vec![0; sizes.len()];
        for task in &tasks {
            assert!(task.parts.iter().map(|part| part.range.len()).sum::<usize>() <= mb);
            for part in &task.parts {
                assert!(packing.chunks[task.chunk].pieces.contains(&part.piece));
                assert_eq!(part.range.start, seen[part.piece]);
                seen[part.piece] = part.range.end;
            }
        }
        assert_eq!(seen, sizes);
        assert!(tasks.is_sorted_by_key(|task| task.chunk));
        assert!((0..packing.chunks.len()).all(|chunk| tasks.iter().any(|task| task.chunk == chunk)));
        assert_eq!(super::tasks(&pack([0].into_iter(), 4).unwrap(), &[0]).len(), 1);
    }
}
