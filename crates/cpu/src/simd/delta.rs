//! The gated delta rule of one head, vectorised: a block of the matrix's columns stays in the nearest cache for several tokens.
//!
//! Columns do not depend on each other, and a column's sums go through the rows in one order: so a token's bits depend on no other token of a
//! step, nor on how a prompt is cut.

use super::columns::Columns;
use super::isa::{Isa, Vectors};
use super::lanes::Lanes;
#[cfg(target_arch = "aarch64")]
use super::lanes::Neon;
#[cfg(target_arch = "x86_64")]
use super::lanes::{Avx2, Avx512};

/// What a head's matrix meets at a token: `[head_dim]` each.
#[derive(Clone, Copy)]
pub struct Token<'a> {
    /// The query.
    pub q: &'a [f32],
    /// The key.
    pub k: &'a [f32],
    /// The value.
    pub v: &'a [f32],
    /// What the matrix is multiplied by first.
    pub forget: f32,
    /// How much of a value is written.
    pub write: f32,
}

/// Each token in turn: `M *= forget; d = (v - k^T M) * write; M += k d^T; out = q^T M`. The matrix is `[head_dim of keys, head_dim of values]`, and
/// a token's result goes to the row of `out` with its number from `first` on.
///
/// # Panics
/// If sizes differ.
pub fn delta_rule(
    isa: Isa,
    matrix: &mut [f32],
    tokens: &[Token<'_>],
    (out, first): (&mut Columns<'_>, usize),
) {
    let n = out.n_cols();
    assert_eq!(matrix.len(), n * n);
    for Token { q, k, v, .. } in tokens {
        assert_eq!([q.len(), k.len(), v.len()], [n; 3]);
    }
    match isa.vectors() {
        #[cfg(target_arch = "x86_64")]
        Vectors::Bits512 if n.is_multiple_of(WIDTH) => {
            // SAFETY: the instruction set was found on this machine, and sizes are as said.
            return unsafe { by_avx512(matrix, tokens, (out, first)) };
        }
        #[cfg(target_arch = "x86_64")]
        Vectors::Bits256 if n.is_multiple_of(WIDTH) => {
            // SAFETY: as above.
            return unsafe { by_avx2(matrix, tokens, (out, first)) };
        }
        #[cfg(target_arch = "aarch64")]
        Vectors::Neon if n.is_multiple_of(WIDTH) => {
            // SAFETY: as above.
            return unsafe { by_blocks::<Neon, { WIDTH / 8 }, 2>(matrix, tokens, (out, first)) };
        }
        _ => {}
    }
    let mut d = vec![0.0; n];
    for (t, token) in tokens.iter().enumerate() {
        step(matrix, token, (&mut d, out.row(first + t, 0..n)));
    }
}

/// The definition.
fn step(matrix: &mut [f32], token: &Token<'_>, (d, out): (&mut [f32], &mut [f32])) {
    let Token { q, k, v, forget, write } = *token;
    let n = v.len();
    d.fill(0.0);
    for (row, k) in matrix.chunks_exact_mut(n).zip(k) {
        for (m, d) in row.iter_mut().zip(&mut *d) {
            *m *= forget;
            *d += k * *m;
        }
    }
    d.iter_mut().zip(v).for_each(|(d, v)| *d = (v - *d) * write);
    out.fill(0.0);
    for ((row, k), q) in matrix.chunks_exact_mut(n).zip(k).zip(q) {
        for ((m, d), out) in row.iter_mut().zip(&*d).zip(&mut *out) {
            *m += k * d;
            *out += q * *m;
        }
    }
}

/// Columns of a block.
const WIDTH: usize = 32;

/// From so many tokens on, a block is copied to where its rows follow each other, and back: in the matrix they are so far apart that they share
/// few sets of the nearest cache.
const COPIED: usize = 4;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn by_avx512(matrix: &mut [f32], tokens: &[Token<'_>], out: (&mut Columns<'_>, usize)) {
    // SAFETY: the caller's.
    unsafe { by_blocks::<Avx512, { WIDTH / 16 }, 4>(matrix, tokens, out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn by_avx2(matrix: &mut [f32], tokens: &[Token<'_>], out: (&mut Columns<'_>, usize)) {
    // SAFETY: the caller's.
    unsafe { by_blocks::<Avx2, { WIDTH / 8 }, 2>(matrix, tokens, out) }
}

/// # Safety
/// The machine has the instruction set; sizes are those of [`delta_rule`], a whole number of blocks, which are `V` vectors.
#[inline(always)]
unsafe fn by_blocks<L: Lanes, const V: usize, const P: usize>(
    matrix: &mut [f32],
    tokens: &[Token<'_>],
    (out, first): (&mut Columns<'_>, usize),
) {
    let n = out.n_cols();
    let mut near = vec![0.0; if tokens.len() < COPIED { 0 } else { n * WIDTH }];
    for at in (0..n).step_by(WIDTH) {
        for (near, row) in near.chunks_exact_mut(WIDTH).zip(matrix.chunks_exact(n)) {
            near.copy_from_slice(&row[at..at + WIDTH]);
        }
        let (rows, stride) = match near.is_empty() {
            true => (matrix[at..].as_mut_ptr(), n),
            false => (near.as_mut_ptr(), WIDTH),
        };
        for (t, token) in tokens.iter().enumerate() {
            let out = out.row(first + t, at..at + WIDTH);
            let (v, out) = (token.v[at..at + WIDTH].as_ptr(), out.as_mut_ptr());
            // SAFETY: the block's columns are within each row of either, and within `v`; a whole number of `P` rows.
            unsafe { block::<L, V, P>((rows, stride), token, (v, out)) };
        }
        for (near, row) in near.chunks_exact(WIDTH).zip(matrix.chunks_exact_mut(n)) {
            row[at..at + WIDTH].copy_from_slice(near);
        }
    }
}

/// One token of a block of columns: `M` is read twice and written once, as `k^T (forget M) = forget (k^T M)`. A sum is one of every `P`-th row
/// from each of the first `P` on, so that no addition waits for the one before it.
///
/// # Safety
/// As [`by_blocks`]: pointers reach a block's columns, `m` those of every row, `stride` values apart.
#[inline(always)]
unsafe fn block<L: Lanes, const V: usize, const P: usize>(
    (m, stride): (*mut f32, usize),
    token: &Token<'_>,
    (v, out): (*const f32, *mut f32),
) {
    let Token { q, k, forget, write, .. } = *token;
    // SAFETY: the caller's.
    unsafe {
        let zero = L::splat(0.0);
        let mut sums = [[zero; V]; P];
        for (group, k) in k.as_chunks::<P>().0.iter().enumerate() {
            for (i, sums) in sums.iter_mut().enumerate() {
                let (row, k) = (m.add((P * group + i) * stride), L::splat(k[i]));
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum = k.mul_add(L::load(row.add(j * L::LEN)), *sum);
                }
            }
        }
        let (forget, write) = (L::splat(forget), L::splat(write));
        let mut d = [zero; V];
        for (j, d) in d.iter_mut().enumerate() {
            let known = forget.mul(total(&sums, j));
            *d = L::load(v.add(j * L::LEN)).sub(known).mul(write);
        }
        let mut outs = [[zero; V]; P];
        let groups = q.as_chunks::<P>().0.iter().zip(k.as_chunks::<P>().0);
        for (group, (q, k)) in groups.enumerate() {
            for (i, outs) in outs.iter_mut().enumerate() {
                let row = m.add((P * group + i) * stride);
                let (q, k) = (L::splat(q[i]), L::splat(k[i]));
                for (j, out) in outs.iter_mut().enumerate() {
                    let at = row.add(j * L::LEN);
                    let new = k.mul_add(d[j], L::load(at).mul(forget));
                    new.store(at);
                    *out = q.mul_add(new, *out);
                }
            }
        }
        for j in 0..V {
            total(&outs, j).store(out.add(j * L::LEN));
        }
    }
}

/// Vector `j` of all sums, added in order.
///
/// # Safety
/// As the methods of [`Lanes`].
#[inline(always)]
unsafe fn total<L: Lanes, const V: usize, const P: usize>(sums: &[[L; V]; P], j: usize) -> L {
    let mut all = sums[0][j];
    for sums in &sums[1..] {
        // SAFETY: the caller's.
        all = unsafe { all.add(sums[j]) };
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values between -1 and 1.
    fn values(n: usize, seed: u32) -> Vec<f32> {
        let each = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32;
        (0..n as u32).map(|i| each(i * 7 + seed) / (1 << 23) as f32 - 1.0).collect()
    }

    fn computed(isa: Isa, (n, n_token): (usize, usize), size: usize) -> (Vec<f32>, Vec<f32>) {
        let unit = 1.0 / (n as f32).sqrt();
        let scaled = |seed: u32| values(n * n_token, seed).into_iter().map(|x| x * unit).collect::<Vec<_>>();
        let (q, k, v) = (scaled(1), scaled(2), values(n * n_token, 3));
        let tokens: Vec<Token<'_>> = (0..n_token)
            .map(|t| {
                let row = t * n..(t + 1) * n;
                let (forget, write) = (1.0 / (1.0 + t as f32 / 50.0), 0.3 + t as f32 / 100.0);
                Token { q: &q[row.clone()], k: &k[row.clone()], v: &v[row], forget, write }
            })
            .collect();
        let (mut matrix, mut out) = (values(n * n, 4), vec![0.0; n * n_token]);
        let mut columns = Columns::new(&mut out, n);
        for (i, tokens) in tokens.chunks(size).enumerate() {
            delta_rule(isa, &mut matrix, tokens, (&mut columns, i * size));
        }
        (matrix, out)
    }

    #[test]
    fn every_instruction_set_is_near_the_definition() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for n in [32, 48, 64, 128] {
                let (matrix, out) = computed(isa, (n, 20), 20);
                let (expected, of_out) = computed(Isa::Scalar, (n, 20), 20);
                for (a, b) in matrix.iter().zip(&expected).chain(out.iter().zip(&of_out)) {
                    assert!((a - b).abs() < 1e-5, "{isa} {n}: {a} {b}");
                }
            }
        }
    }

    #[test]
    fn tokens_together_have_the_bits_of_tokens_one_by_one() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let bits = |size| {
                let (matrix, out) = computed(isa, (64, 37), size);
                matrix.into_iter().chain(out).map(f32::to_bits).collect::<Vec<_>>()
            };
            let whole = bits(37);
            assert!([1, 7, 16].into_iter().all(|size| bits(size) == whole), "{isa}");
        }
    }
}
