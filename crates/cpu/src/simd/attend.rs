//! Fast attention: online softmax over the pages of the KV cache, for several queries of one key head at a time.
//!
//! A page holds 32 positions of a head: keys `[head_dim, 32]` (so that 32 scores are one vector operation a value of the head),
//! values `[32, head_dim]`, in half precision or, decoded page by page, in Q8_0. A query's result is computed page by page from the first it sees, which depends on
//! its position alone: not on the queries beside it, nor on how a prompt was cut (online softmax: arXiv 1805.02867, 2205.14135).

use model::architecture::{Attention, Heads};

use super::cache::{Cache, Kept, decode_keys, decode_values, turn_round};
use crate::kernels::{Place, Queries};
use crate::simd::isa::{Isa, Vectors};
use crate::simd::lanes::{Lanes, Portable, exp, prefetch};
use crate::simd::pool::Pool;

/// Positions in a page.
pub(crate) const PAGE: usize = 32;

/// Queries computed together: as many as their running sums fit the registers.
const TOGETHER: usize = 8;

/// Up to [`TOGETHER`] queries of one key head and one sequence.
struct Group<'a> {
    cache: &'a Cache,
    layer: usize,
    kv_head: usize,
    /// Of one of the rows: their sequence's pages.
    place: Place<'a>,
    scale: f32,
    score_cap: Option<f32>,
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
    max: [f32; TOGETHER],
    total: [f32; TOGETHER],
    /// A page's keys and values, where they must be decoded.
    decoded: [Vec<f32>; 2],
}

/// Attention of all rows: `out` is `[n_row, n_head * head_dim]`.
pub(crate) fn attend(
    (isa, pool): (Isa, &Pool),
    cache: &Cache,
    attention: &Attention,
    (queries, out): (&Queries<'_>, &mut [f32]),
) {
    let Attention { scale, score_cap, .. } = *attention;
    let Heads { n_head, n_kv_head, head_dim, window, .. } = queries.heads;
    let per_kv = n_head / n_kv_head;
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
            max: [0.0; TOGETHER],
            total: [0.0; TOGETHER],
            decoded: Default::default(),
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
                layer: queries.cache,
                kv_head,
                place: queries.places[first],
                scale,
                score_cap,
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
        let head_dim = self.cache.shape.layers[self.layer].head_dim;
        // The loops below go by pointers: these are the bounds that they rely on.
        assert!(self.n_query <= TOGETHER);
        assert!(scratch.q.len() == TOGETHER * head_dim && scratch.sums.len() == TOGETHER * head_dim);
        scratch.sums.fill(0.0);
        let seen = &self.seen[..self.n_query];
        let first = seen.iter().map(|s| s.0).min().unwrap_or(0) / PAGE;
        let last = seen.iter().map(|s| s.1).max().unwrap_or(0) / PAGE;
        let kept = |index: usize| {
            let page = self.cache.shape.page_of(self.layer, self.place, index);
            self.cache.page(self.layer, page, self.kv_head)
        };
        let mut next = kept(first);
        for index in first..=last {
            let page = next;
            next = kept(last.min(index + 1));
            self.page_on(isa, &Page { kept: page, next, start: index * PAGE }, scratch);
        }
    }

    fn page_on(&self, isa: Isa, page: &Page<'_>, scratch: &mut Scratch) {
        match isa.vectors() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the instruction set was found on this machine.
            Vectors::Bits512 => unsafe { page_avx512(self, page, scratch) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Vectors::Bits256 => unsafe { page_avx2(self, page, scratch) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: arm64 has NEON.
            Vectors::Neon => unsafe { compute_page::<super::lanes::Neon>(self, page, scratch) },
            // SAFETY: portable lanes run anywhere.
            _ => unsafe { compute_page::<Portable>(self, page, scratch) },
        }
    }
}

/// A head's keys and values of the positions from `start`.
struct Page<'a> {
    kept: Kept<'a>,
    /// Of the positions after those. It is prefetched, since the processor by itself fetches ahead within a page of memory only.
    next: Kept<'a>,
    start: usize,
}

/// Keys `[head_dim, PAGE]` and values `[PAGE, head_dim]` of a page, and those of the next one.
struct Held<'a, E> {
    kv: (&'a [E], &'a [E]),
    next: (&'a [E], &'a [E]),
}

/// A number as a page holds it.
trait Element: Copy {
    /// # Safety
    /// As the methods of [`Lanes`].
    unsafe fn load<L: Lanes>(from: *const Self) -> L;

    fn value(self) -> f32;
}

/// Half precision.
impl Element for u16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u16) -> L {
        // SAFETY: the caller's.
        unsafe { L::load_half(from) }
    }

    #[inline(always)]
    fn value(self) -> f32 {
        half::f16::from_bits(self).to_f32()
    }
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const f32) -> L {
        // SAFETY: the caller's.
        unsafe { L::load(from) }
    }

    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn page_avx512(group: &Group<'_>, page: &Page<'_>, scratch: &mut Scratch) {
    // SAFETY: this function's own instruction set.
    unsafe { compute_page::<super::lanes::Avx512>(group, page, scratch) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn page_avx2(group: &Group<'_>, page: &Page<'_>, scratch: &mut Scratch) {
    // SAFETY: this function's own instruction set.
    unsafe { compute_page::<super::lanes::Avx2>(group, page, scratch) }
}

/// Calls `$what::<L, E, N>(at, ..)` for all queries, N at a time.
macro_rules! by_queries {
    ($n:expr, |$at:ident| $what:ident($($arg:expr),*)) => {
        let mut $at = 0;
        while $at < $n {
            match $n - $at {
                8.. if L::PAIRS >= 8 => { $what::<L, E, 8>($($arg),*); $at += 8; }
                7 if L::PAIRS >= 8 => { $what::<L, E, 7>($($arg),*); $at += 7; }
                6.. if L::PAIRS >= 6 => { $what::<L, E, 6>($($arg),*); $at += 6; }
                5 if L::PAIRS >= 6 => { $what::<L, E, 5>($($arg),*); $at += 5; }
                4.. => { $what::<L, E, 4>($($arg),*); $at += 4; }
                3 => { $what::<L, E, 3>($($arg),*); $at += 3; }
                2 => { $what::<L, E, 2>($($arg),*); $at += 2; }
                _ => { $what::<L, E, 1>($($arg),*); $at += 1; }
            }
        }
    };
}

/// One page for all queries of a group.
///
/// # Safety
/// The machine has the instruction set of `L`; the bounds are those that [`Group::run`] asserts.
#[inline(always)]
unsafe fn compute_page<L: Lanes>(group: &Group<'_>, page: &Page<'_>, scratch: &mut Scratch) {
    match page.kept {
        Kept::Half([k, v]) => {
            let next = if let Kept::Half([k, v]) = page.next { (k, v) } else { (k, v) };
            // SAFETY: the caller's, here and below.
            unsafe { attend_page::<L, u16>(group, page.start, &Held { kv: (k, v), next }, scratch) }
        }
        kept => {
            let head_dim = group.cache.shape.layers[group.layer].head_dim;
            let [mut k, mut v] = std::mem::take(&mut scratch.decoded);
            k.resize(PAGE * head_dim, 0.0);
            v.resize(PAGE * head_dim, 0.0);
            match kept {
                Kept::Q8([of_keys, of_values]) => {
                    decode_keys(of_keys, &mut k);
                    decode_values(of_values, head_dim, &mut v);
                }
                Kept::Q8Row(row) => {
                    decode_keys(row, &mut k);
                    turn_round(&k, head_dim, &mut v);
                }
                Kept::Half([row, _]) | Kept::HalfRow(row) => {
                    for (to, from) in k.chunks_exact_mut(L::LEN).zip(row.chunks_exact(L::LEN)) {
                        // SAFETY: the caller's instruction set; both are LEN values.
                        unsafe { L::load_half(from.as_ptr()).store(to.as_mut_ptr()) };
                    }
                    turn_round(&k, head_dim, &mut v);
                }
            }
            // SAFETY: as above.
            unsafe {
                attend_page::<L, f32>(group, page.start, &Held { kv: (&k, &v), next: (&k, &v) }, scratch);
            }
            scratch.decoded = [k, v];
        }
    }
}

/// The same with keys and values of the positions from `start`.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn attend_page<L: Lanes, E: Element>(
    group: &Group<'_>,
    start: usize,
    held: &Held<'_, E>,
    scratch: &mut Scratch,
) {
    let head_dim = group.cache.shape.layers[group.layer].head_dim;
    let (k, v) = held.kv;
    assert!(k.len() == PAGE * head_dim && v.len() == k.len());
    // Only the pass of the first queries prefetches.
    let (next_k, next_v) = held.next;
    let next_k = |at: usize| if at == 0 { next_k } else { k }.as_ptr();
    let next_v = |at: usize| if at == 0 { next_v } else { v }.as_ptr();
    let mut weights = [[0.0f32; PAGE]; TOGETHER];
    // Positions after the last one seen may hold what another sequence left there.
    let last = group.seen[..group.n_query].iter().map(|s| s.1).max().unwrap_or(0);
    let n_seen = (last + 1 - start).min(PAGE);
    // SAFETY: the caller has the instruction set; k and v are whole pages, q and sums TOGETHER rows of head_dim, and at + N is at
    // most n_query, which is at most TOGETHER.
    unsafe {
        by_queries!(group.n_query, |at| scores(
            (k.as_ptr(), next_k(at)),
            scratch.q.as_ptr().add(at * head_dim),
            head_dim,
            weights.as_mut_ptr().add(at)
        ));
        for (i, weights) in weights.iter_mut().enumerate().take(group.n_query) {
            let shrink = soften::<L>(group, start, weights, (i, scratch));
            for sum in &mut scratch.sums[i * head_dim..][..head_dim] {
                *sum *= shrink;
            }
        }
        let v = &v[..n_seen * head_dim];
        by_queries!(group.n_query, |at| values(
            (v, next_v(at)),
            weights.as_ptr().add(at),
            head_dim,
            scratch.sums.as_mut_ptr().add(at * head_dim)
        ));
    }
}

/// `weights[i][j] = q[i] . k[j]` for N queries.
///
/// # Safety
/// The machine has the instruction set of `L`; `k` reaches `[head_dim, PAGE]`, `q` `[N, head_dim]`, `weights` N rows.
#[inline(always)]
unsafe fn scores<L: Lanes, E: Element, const N: usize>(
    (k, next): (*const E, *const E),
    q: *const f32,
    head_dim: usize,
    weights: *mut [f32; PAGE],
) {
    let mut part = 0;
    while part < PAGE {
        // SAFETY: part + 2 * LEN is at most PAGE, d below head_dim, i below N.
        unsafe {
            let mut acc = [[L::splat(0.0); 2]; N];
            for d in 0..head_dim {
                let row = k.add(d * PAGE + part);
                prefetch(next.wrapping_add(d * PAGE + part).cast());
                let (k0, k1) = (E::load::<L>(row), E::load::<L>(row.add(L::LEN)));
                let mut i = 0;
                while i < N {
                    let value = L::splat(*q.add(i * head_dim + d));
                    acc[i][0] = value.mul_add(k0, acc[i][0]);
                    acc[i][1] = value.mul_add(k1, acc[i][1]);
                    i += 1;
                }
            }
            let mut i = 0;
            while i < N {
                let to = weights.add(i).cast::<f32>().add(part);
                acc[i][0].store(to);
                acc[i][1].store(to.add(L::LEN));
                i += 1;
            }
        }
        part += 2 * L::LEN;
    }
}

/// Scores to weights `exp(scale * score - max)` of query `i`, with its running maximum and total; what the sums so far must be
/// multiplied by.
///
/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
unsafe fn soften<L: Lanes>(
    group: &Group<'_>,
    start: usize,
    weights: &mut [f32; PAGE],
    (i, scratch): (usize, &mut Scratch),
) -> f32 {
    let (first, last) = group.seen[i];
    if let Some(cap) = group.score_cap {
        // `tanh(y) = 1 - 2 / (exp(2y) + 1)`; the scale is multiplied in below.
        let inner = 2.0 * group.scale / cap;
        for w in weights.iter_mut() {
            *w = cap / group.scale * (1.0 - 2.0 / (super::math::exp::<false>(inner * *w) + 1.0));
        }
    }
    let whole = first <= start && start + PAGE - 1 <= last;
    if !whole {
        for (j, w) in weights.iter_mut().enumerate() {
            if start + j < first || last < start + j {
                *w = f32::NEG_INFINITY;
            }
        }
    }
    // SAFETY: the caller has the instruction set; every vector lies within the page's weights.
    unsafe {
        let at = weights.as_mut_ptr();
        let scale = L::splat(group.scale);
        let mut top = L::splat(f32::NEG_INFINITY);
        let mut part = 0;
        while part < PAGE {
            let scaled = L::load(at.add(part)).mul(scale);
            scaled.store(at.add(part));
            top = scaled.max(top);
            part += L::LEN;
        }
        let top =
            lanes_of(top).into_iter().take(L::LEN).fold(scratch.max[i], |a, b| if b > a { b } else { a });
        if top == f32::NEG_INFINITY {
            // Nothing of this page is seen, nor of any before.
            weights.fill(0.0);
            return 1.0;
        }
        let mut total = L::splat(0.0);
        let mut part = 0;
        while part < PAGE {
            let weight = exp(L::load(at.add(part)).sub(L::splat(top)));
            weight.store(at.add(part));
            total = total.add(weight);
            part += L::LEN;
        }
        let shrink = super::math::exp::<false>(scratch.max[i] - top);
        scratch.total[i] = scratch.total[i] * shrink + lanes_of(total).into_iter().take(L::LEN).sum::<f32>();
        scratch.max[i] = top;
        shrink
    }
}

/// The values of a vector, in order.
///
/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
unsafe fn lanes_of<L: Lanes>(vector: L) -> [f32; 16] {
    let mut values = [0.0; 16];
    const { assert!(L::LEN <= 16) };
    // SAFETY: LEN is at most 16.
    unsafe { vector.store(values.as_mut_ptr()) };
    values
}

/// `sums[i] += sum_j weights[i][j] * v[j]` for N queries.
///
/// # Safety
/// The machine has the instruction set of `L`; `weights` reaches N rows, `sums` `[N, head_dim]`.
#[inline(always)]
unsafe fn values<L: Lanes, E: Element, const N: usize>(
    (v, next): (&[E], *const E),
    weights: *const [f32; PAGE],
    head_dim: usize,
    sums: *mut f32,
) {
    let n_seen = v.len() / head_dim;
    let v = v.as_ptr();
    let mut d = 0;
    // SAFETY: d + LEN (or d + 2 * LEN) is at most head_dim, j below n_seen, which is at most PAGE, i below N.
    unsafe {
        while d + 2 * L::LEN <= head_dim {
            let mut acc = [[L::splat(0.0); 2]; N];
            let mut i = 0;
            while i < N {
                let from = sums.add(i * head_dim + d);
                acc[i] = [L::load(from), L::load(from.add(L::LEN))];
                i += 1;
            }
            for j in 0..n_seen {
                let row = v.add(j * head_dim + d);
                prefetch(next.wrapping_add(j * head_dim + d).cast());
                let (v0, v1) = (E::load::<L>(row), E::load::<L>(row.add(L::LEN)));
                let mut i = 0;
                while i < N {
                    let weight = L::splat(*weights.add(i).cast::<f32>().add(j));
                    acc[i][0] = weight.mul_add(v0, acc[i][0]);
                    acc[i][1] = weight.mul_add(v1, acc[i][1]);
                    i += 1;
                }
            }
            let mut i = 0;
            while i < N {
                let to = sums.add(i * head_dim + d);
                acc[i][0].store(to);
                acc[i][1].store(to.add(L::LEN));
                i += 1;
            }
            d += 2 * L::LEN;
        }
        while d + L::LEN <= head_dim {
            for i in 0..N {
                let at = sums.add(i * head_dim + d);
                let mut acc = L::load(at);
                for j in 0..n_seen {
                    let weight = L::splat(*weights.add(i).cast::<f32>().add(j));
                    acc = weight.mul_add(E::load::<L>(v.add(j * head_dim + d)), acc);
                }
                acc.store(at);
            }
            d += L::LEN;
        }
        for d in d..head_dim {
            for i in 0..N {
                let sum = &mut *sums.add(i * head_dim + d);
                for j in 0..n_seen {
                    let value = (*v.add(j * head_dim + d)).value();
                    *sum += *weights.add(i).cast::<f32>().add(j) * value;
                }
            }
        }
    }
}
