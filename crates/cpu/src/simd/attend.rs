//! Fast attention: online softmax over the pages of the KV cache, for several queries of one key head at a time.
//!
//! A page holds 32 positions of a head: keys `[head_dim, 32]` (so that 32 scores are one vector operation a value of the head),
//! values `[32, head_dim]`, both in half precision. A query's result is computed page by page from the first it sees, which depends on
//! its position alone: not on the queries beside it, nor on how a prompt was cut (online softmax: arXiv 1805.02867, 2205.14135).

use model::architecture::Attention;

use crate::kernels::{KvShape, Place, Queries};
use crate::simd::isa::Isa;
use crate::simd::math::{exp, mul_add, widen};
use crate::simd::pool::Pool;

/// Positions in a page.
pub(crate) const PAGE: usize = 32;

/// Queries computed together: as many as their running sums fit the registers.
const TOGETHER: usize = 8;

/// The cache that attention reads.
#[derive(Clone, Copy)]
pub(crate) struct Cache<'a> {
    pub(crate) shape: KvShape,
    pub(crate) k: &'a [u16],
    pub(crate) v: &'a [u16],
}

/// Up to [`TOGETHER`] queries of one key head and one sequence.
struct Group<'a> {
    cache: Cache<'a>,
    layer: usize,
    kv_head: usize,
    pages: &'a [u32],
    scale: f32,
    /// First and last position that each query sees.
    seen: [(usize, usize); TOGETHER],
    n_query: usize,
}

/// Scratch of one group, `f32`.
struct Scratch {
    /// `[TOGETHER, head_dim]`.
    q: Vec<f32>,
    /// `[TOGETHER, head_dim]`: running weighted sums of values.
    sums: Vec<f32>,
    /// Page of keys `[head_dim, PAGE]`, then of values `[PAGE, head_dim]`.
    page: Vec<f32>,
    max: [f32; TOGETHER],
    total: [f32; TOGETHER],
}

/// Attention of all rows: `out` is `[n_row, n_head * head_dim]`.
pub(crate) fn attend(
    isa: Isa,
    pool: &Pool,
    cache: Cache<'_>,
    attention: &Attention,
    (queries, out): (&Queries<'_>, &mut [f32]),
) {
    let Attention { n_head, n_kv_head, head_dim, scale, .. } = *attention;
    let per_kv = n_head / n_kv_head;
    let window = attention.window[queries.layer];
    // Runs of rows of one sequence, of a few rows each: [first, end).
    let runs = runs(queries.places, TOGETHER.div_ceil(per_kv) * 4);
    let n_cols = n_head * head_dim;
    let shared = super::shared::SharedRows::new(out, n_cols);
    pool.run(runs.len() * n_kv_head, &|task| {
        let (first, end) = runs[task / n_kv_head];
        let kv_head = task % n_kv_head;
        let mut scratch = Scratch {
            q: vec![0.0; TOGETHER * head_dim],
            sums: vec![0.0; TOGETHER * head_dim],
            page: vec![0.0; 2 * PAGE * head_dim],
            max: [0.0; TOGETHER],
            total: [0.0; TOGETHER],
        };
        // (row, head) pairs in row order, so that neighbours see nearly the same pages.
        let pairs: Vec<(usize, usize)> = (first..end)
            .flat_map(|r| (kv_head * per_kv..(kv_head + 1) * per_kv).map(move |h| (r, h)))
            .collect();
        for pairs in pairs.chunks(TOGETHER) {
            let mut seen = [(0, 0); TOGETHER];
            for (i, &(r, head)) in pairs.iter().enumerate() {
                let position = queries.places[r].position;
                seen[i] = (window.map_or(0, |w| (position + 1).saturating_sub(w)), position);
                scratch.q[i * head_dim..][..head_dim]
                    .copy_from_slice(&queries.q.data[r * n_cols + head * head_dim..][..head_dim]);
                (scratch.max[i], scratch.total[i]) =
                    queries.sinks.map_or((f32::NEG_INFINITY, 0.0), |s| (s[head], 1.0));
            }
            let group = Group {
                cache,
                layer: queries.layer,
                kv_head,
                pages: queries.places[first].pages,
                scale,
                seen,
                n_query: pairs.len(),
            };
            group.run(isa, &mut scratch);
            for (i, &(r, head)) in pairs.iter().enumerate() {
                // SAFETY: the pair (row, head) belongs to this task alone, so no one else writes this part of the row.
                let out = unsafe { shared.part(r, head * head_dim..(head + 1) * head_dim) };
                let total = scratch.total[i];
                for (out, sum) in out.iter_mut().zip(&scratch.sums[i * head_dim..]) {
                    *out = sum / total;
                }
            }
        }
    });
}

/// Cuts rows into runs that share a sequence's pages, of at most `most` rows.
fn runs(places: &[Place<'_>], most: usize) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (r, place) in places.iter().enumerate() {
        match runs.last_mut() {
            Some((first, end)) if r - *first < most && std::ptr::eq(places[*first].pages, place.pages) => {
                *end = r + 1;
            }
            _ => runs.push((r, r + 1)),
        }
    }
    runs
}

impl Group<'_> {
    fn run(&self, isa: Isa, scratch: &mut Scratch) {
        scratch.sums.fill(0.0);
        let head_dim = self.cache.shape.head_dim;
        let seen = &self.seen[..self.n_query];
        let first = seen.iter().map(|s| s.0).min().unwrap_or(0) / PAGE;
        let last = seen.iter().map(|s| s.1).max().unwrap_or(0) / PAGE;
        for index in first..=last {
            let at = self.cache.shape.page_at(self.layer, self.pages[index], self.kv_head);
            let (k, v) = scratch.page.split_at_mut(PAGE * head_dim);
            widen(isa, &self.cache.k[at..at + PAGE * head_dim], k);
            widen(isa, &self.cache.v[at..at + PAGE * head_dim], v);
            self.page_on(isa, index * PAGE, scratch);
        }
    }

    fn page_on(&self, isa: Isa, start: usize, scratch: &mut Scratch) {
        #[cfg(target_arch = "x86_64")]
        match isa {
            // SAFETY: the instruction set was found on this machine.
            Isa::Amx | Isa::Avx512 => return unsafe { page_avx512(self, start, scratch) },
            // SAFETY: as above.
            Isa::Avx2 => return unsafe { page_avx2(self, start, scratch) },
            Isa::Scalar => {}
        }
        let _ = isa;
        page::<false>(self, start, scratch);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn page_avx512(group: &Group<'_>, start: usize, scratch: &mut Scratch) {
    page::<true>(group, start, scratch);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn page_avx2(group: &Group<'_>, start: usize, scratch: &mut Scratch) {
    page::<true>(group, start, scratch);
}

/// One page for all queries of a group.
#[inline(always)]
fn page<const FMA: bool>(group: &Group<'_>, start: usize, scratch: &mut Scratch) {
    let head_dim = group.cache.shape.head_dim;
    let Scratch { q, sums, page, max, total } = scratch;
    let (k, v) = page.split_at(PAGE * head_dim);
    let mut weights = [[0.0f32; PAGE]; TOGETHER];
    let mut at = 0;
    while at < group.n_query {
        if group.n_query - at >= 4 {
            scores::<FMA, 4>(k, q, head_dim, (at, &mut weights));
            at += 4;
        } else {
            scores::<FMA, 1>(k, q, head_dim, (at, &mut weights));
            at += 1;
        }
    }
    for i in 0..group.n_query {
        let (first, last) = group.seen[i];
        let weights = &mut weights[i];
        let whole = first <= start && start + PAGE - 1 <= last;
        let mut top = max[i];
        for (j, w) in weights.iter_mut().enumerate() {
            let position = start + j;
            *w = if whole || (first <= position && position <= last) {
                *w * group.scale
            } else {
                f32::NEG_INFINITY
            };
        }
        top = weights.iter().fold(top, |top, &w| if w > top { w } else { top });
        if top == f32::NEG_INFINITY {
            // Nothing of this page is seen, nor of any before.
            weights.fill(0.0);
            continue;
        }
        let shrink = exp::<FMA>(max[i] - top);
        for w in weights.iter_mut() {
            *w = exp::<FMA>(*w - top);
        }
        let mut lanes = [0.0f32; 8];
        for part in weights.as_chunks::<8>().0 {
            for (lane, w) in lanes.iter_mut().zip(part) {
                *lane += w;
            }
        }
        total[i] = mul_add::<FMA>(total[i], shrink, lanes.iter().sum());
        max[i] = top;
        sums[i * head_dim..][..head_dim].iter_mut().for_each(|s| *s *= shrink);
    }
    // Positions after the last one seen may hold what another sequence left there.
    let last = group.seen[..group.n_query].iter().map(|s| s.1).max().unwrap_or(0);
    let seen = &v[..(last + 1 - start).min(PAGE) * head_dim];
    let mut at = 0;
    while at < group.n_query {
        if group.n_query - at >= 4 {
            values::<FMA, 4>(seen, &weights, head_dim, (at, sums));
            at += 4;
        } else {
            values::<FMA, 1>(seen, &weights, head_dim, (at, sums));
            at += 1;
        }
    }
}

/// `weights[at + i][j] = q[at + i] . k[j]` for N queries.
#[inline(always)]
fn scores<const FMA: bool, const N: usize>(
    k: &[f32],
    q: &[f32],
    head_dim: usize,
    (at, weights): (usize, &mut [[f32; PAGE]; TOGETHER]),
) {
    let mut acc = [[0.0f32; PAGE]; N];
    let q: [&[f32]; N] = std::array::from_fn(|i| &q[(at + i) * head_dim..][..head_dim]);
    for (d, k) in k.as_chunks::<PAGE>().0[..head_dim].iter().enumerate() {
        for i in 0..N {
            let value = q[i][d];
            for j in 0..PAGE {
                acc[i][j] = mul_add::<FMA>(value, k[j], acc[i][j]);
            }
        }
    }
    weights[at..at + N].copy_from_slice(&acc);
}

/// `sums[at + i] += sum_j weights[at + i][j] * v[j]` for N queries, 32 values of the head at a time.
#[inline(always)]
fn values<const FMA: bool, const N: usize>(
    v: &[f32],
    weights: &[[f32; PAGE]; TOGETHER],
    head_dim: usize,
    (at, sums): (usize, &mut [f32]),
) {
    const WIDE: usize = 32;
    let mut d = 0;
    while d + WIDE <= head_dim {
        let mut acc = [[0.0f32; WIDE]; N];
        for (i, acc) in acc.iter_mut().enumerate() {
            acc.copy_from_slice(&sums[(at + i) * head_dim + d..][..WIDE]);
        }
        for j in 0..v.len() / head_dim {
            let Some(row) = v[j * head_dim + d..].first_chunk::<WIDE>() else { return };
            for i in 0..N {
                let weight = weights[at + i][j];
                for x in 0..WIDE {
                    acc[i][x] = mul_add::<FMA>(weight, row[x], acc[i][x]);
                }
            }
        }
        for (i, acc) in acc.iter().enumerate() {
            sums[(at + i) * head_dim + d..][..WIDE].copy_from_slice(acc);
        }
        d += WIDE;
    }
    for d in d..head_dim {
        for i in at..at + N {
            for j in 0..v.len() / head_dim {
                let sum = &mut sums[i * head_dim + d];
                *sum = mul_add::<FMA>(weights[i][j], v[j * head_dim + d], *sum);
            }
        }
    }
}
