//! How much memory the sampler needs, and how it is spread over a device.

use device::sampling::MAX_LOGIT_BIAS;

use super::args::{SampleOut, SampleRow};
use crate::driver::LaunchShape;
use crate::sizes::Sizes;

/// `SAMPLE_THREADS` of sample_team.cuh, and the warps they are.
const THREADS: u32 = 512;
const WARPS: u32 = THREADS / 32;

/// Ids of a warp are a multiple of this.
const LANES: u32 = 128;

/// `SAMPLE_LOCAL_BYTES`, `SAMPLE_MAIL_BYTES` and the bytes of two histograms, as in sample_team.cuh.
const LOCAL_BYTES: u32 = 9_728;
const MAIL_BYTES: u32 = 21_504;
const HISTOGRAMS_BYTES: u32 = 1024 * 16;

/// Where the counters of barriers end and the mailboxes begin.
const COUNTER_BYTES: u32 = 1024;

/// Up to this many rows a row is given 16 blocks even where 8 use the device better.
const FEW_ROWS: u32 = 8;

/// Teams that work at the same time where they are no clusters.
const MAX_TEAMS: u32 = 16;

/// The sizes on which the sampler's memory depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleLimits {
    /// Sequences on the device at once.
    pub n_slot: usize,
    /// Ids of the vocabulary.
    pub n_vocab: usize,
    /// Rows sampled in one step, padding included.
    pub n_row: usize,
    /// Guesses of a step.
    pub n_guess: usize,
}

/// Bytes of each buffer of [`SampleBuffers`](super::SampleBuffers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleBytes {
    /// `[n_row]` of [`SampleRow`].
    pub rows: u64,
    /// Masks and biases of one step.
    pub area: u64,
    /// `[n_slot]` u32.
    pub last: u64,
    /// `[n_slot, n_vocab]` u32.
    pub counts: u64,
    /// `[n_row]` of [`SampleOut`].
    pub out: u64,
    /// Zero before the first use.
    pub scratch: u64,
}

impl SampleLimits {
    /// Those of an executor.
    pub(crate) fn of(sizes: &Sizes, n_vocab: usize) -> SampleLimits {
        SampleLimits { n_slot: sizes.n_slot, n_vocab, n_row: sizes.n_col, n_guess: sizes.n_guess }
    }

    /// What the buffers need at most.
    #[must_use]
    pub fn bytes(&self) -> SampleBytes {
        let [n_slot, n_vocab, n_row, n_guess] =
            [self.n_slot, self.n_vocab, self.n_row, self.n_guess].map(|n| n as u64);
        let area_words = n_row * (n_vocab.div_ceil(32) + 2 * MAX_LOGIT_BIAS as u64 + 1 + n_guess);
        SampleBytes {
            rows: n_row * size_of::<SampleRow>() as u64,
            area: 4 * area_words,
            last: 4 * n_slot,
            counts: 4 * n_slot * n_vocab,
            out: n_row * size_of::<SampleOut>() as u64,
            scratch: u64::from(COUNTER_BYTES + MAX_TEAMS * 16 * MAIL_BYTES),
        }
    }
}

/// What of a device decides how the sampler is spread over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hardware {
    /// Whether a team is a cluster, of which there may be any number; else all must run at once.
    pub(super) clusters: bool,
    /// Whether there is room for clusters of 16.
    pub(super) large_clusters: bool,
    pub(super) n_sm: u32,
    pub(super) max_shared_bytes: u32,
}

/// How many blocks work on a row, and on how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spread {
    /// Blocks a row: 8 or 16.
    pub(super) team: u32,
    /// Ids a warp.
    pub(super) segment: u32,
    pub(super) shape: LaunchShape,
}

/// How `n_row` rows are sampled; `None` if the device has no room for the vocabulary. The spread decides the time alone, never a result.
pub(super) fn spread(hardware: Hardware, n_vocab: usize, n_row: u32) -> Option<Spread> {
    let n_vocab = u32::try_from(n_vocab).ok().filter(|&n| n > 0 && n <= 1 << 24)?;
    let with_team = |team: u32| {
        let segment = n_vocab.div_ceil(team * WARPS * LANES) * LANES;
        let mailbox = if hardware.clusters { MAIL_BYTES } else { HISTOGRAMS_BYTES };
        let shared_bytes = LOCAL_BYTES + mailbox + segment * WARPS * 4;
        let n_team = if hardware.clusters { n_row } else { n_row.min(hardware.n_sm / team).min(MAX_TEAMS) };
        let fits = shared_bytes <= hardware.max_shared_bytes && n_team > 0;
        let shape = LaunchShape {
            grid: [team, n_team, 1],
            block: [THREADS, 1, 1],
            shared_bytes,
            pdl: hardware.clusters,
            cluster: 1,
        };
        fits.then_some(Spread { team, segment, shape })
    };
    let large = !hardware.clusters || hardware.large_clusters;
    let prefers_large = !hardware.clusters || n_row <= FEW_ROWS;
    let large = || if large { with_team(16) } else { None };
    if prefers_large { large().or_else(|| with_team(8)) } else { with_team(8).or_else(large) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H200: Hardware =
        Hardware { clusters: true, large_clusters: true, n_sm: 132, max_shared_bytes: 232_448 };
    const RTX_4090: Hardware =
        Hardware { clusters: false, large_clusters: false, n_sm: 128, max_shared_bytes: 101_376 };

    #[test]
    fn a_row_is_spread_over_blocks_whose_memory_holds_it() {
        for hardware in [H200, RTX_4090, Hardware { large_clusters: false, ..H200 }] {
            for n_vocab in [1, 31, 2048, 49_152, 152_064, 201_088, 262_144] {
                for n_row in [1, 8, 9, 256] {
                    let Some(s) = spread(hardware, n_vocab, n_row) else {
                        panic!("no spread of {n_vocab} over {hardware:?}");
                    };
                    assert!(s.team * WARPS * s.segment >= n_vocab as u32 && s.segment.is_multiple_of(LANES));
                    assert!(s.shape.shared_bytes <= hardware.max_shared_bytes);
                    assert_eq!(s.shape.grid[0], s.team);
                    assert!(hardware.clusters || s.team * s.shape.grid[1] <= hardware.n_sm);
                }
            }
        }
        let teams = |n_row| spread(H200, 152_064, n_row).map(|s| (s.team, s.shape.grid[1]));
        assert_eq!((teams(1), teams(64)), (Some((16, 1)), Some((8, 64))));
    }

    #[test]
    fn what_has_no_room_is_refused() {
        assert_eq!(spread(RTX_4090, 1_000_000, 1), None);
        assert_eq!(spread(Hardware { n_sm: 4, ..RTX_4090 }, 320, 1), None);
        assert_eq!(spread(H200, 0, 1), None);
    }

    #[test]
    fn buffers_grow_with_what_they_hold() {
        let bytes = SampleLimits { n_slot: 3, n_vocab: 320, n_row: 2, n_guess: 4 }.bytes();
        assert_eq!((bytes.rows, bytes.area, bytes.last), (160, 2 * 4 * (10 + 2048 + 5), 12));
        assert_eq!((bytes.counts, bytes.out), (3840, 384));
    }
}
