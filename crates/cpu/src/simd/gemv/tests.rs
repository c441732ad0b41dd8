//! Every format's kernels against products in f64, on every instruction set of this machine; and what must not change a bit.

use half::{bf16, f16};
use quant::Format;

use super::{Activations, Columns, Weights, gemv, wants_floats};
use crate::simd::gemm::sample::{Digest, set_scales};
use crate::simd::isa::{Isa, Vectors};
use crate::simd::quantize::QuantizedRows;

/// The instruction sets that this machine has.
pub(crate) fn available() -> Vec<Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
}

/// A generator of numbers that look random: splitmix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// From -1 to 1.
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// `n` values of different magnitudes.
pub(crate) fn values(seed: u64, n: usize) -> Vec<f32> {
    let mut numbers = Numbers(seed);
    (0..n).map(|_| numbers.float() * (numbers.float() * 3.0).exp()).collect()
}

/// Random blocks: every bit is random, but scales are of a usual size.
fn weights(format: Format, seed: u64, n: usize) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let mut bytes: Vec<u8> = (0..format.bytes_for(n).unwrap()).map(|_| numbers.next() as u8).collect();
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        match format {
            Format::F32 => block.copy_from_slice(&numbers.float().to_le_bytes()),
            Format::BF16 => block.copy_from_slice(&bf16::from_f32(numbers.float()).to_le_bytes()),
            Format::MXFP4 => block[0] = 120 + (numbers.next() % 8) as u8,
            _ => {}
        }
        set_scales(format, block, || f16::from_f32(0.02 * numbers.float()));
    }
    bytes
}

/// Activation rows in the form that the format asks for, and the values they stand for.
struct Rows {
    floats: Vec<f32>,
    quantized: QuantizedRows,
    n_cols: usize,
}

impl Rows {
    fn new(isa: Isa, n_rows: usize, n_cols: usize) -> Rows {
        let floats = values(3, n_rows * n_cols);
        let mut quantized = QuantizedRows::new();
        if n_cols.is_multiple_of(32) {
            quantized.fill(isa, &floats, n_cols);
        }
        Rows { floats, quantized, n_cols }
    }

    fn of(&self, format: Format) -> Activations<'_> {
        if wants_floats(format) {
            Activations::Float(&self.floats)
        } else {
            Activations::Quantized(&self.quantized)
        }
    }

    fn values(&self, format: Format, row: usize) -> Vec<f32> {
        if wants_floats(format) {
            self.floats[row * self.n_cols..(row + 1) * self.n_cols].to_vec()
        } else {
            self.quantized.dequantized(row)
        }
    }
}

/// The product, `[n_x][n_w]`.
fn product(isa: Isa, weights: Weights<'_>, x: Activations<'_>, n_x: usize) -> Vec<f32> {
    let n_w = weights.bytes.len() / weights.format.bytes_for(weights.n_cols).unwrap();
    let mut out = vec![f32::NAN; n_x * n_w];
    gemv(isa, weights, x, &mut Columns::new(&mut out, n_w));
    out
}

/// Row lengths with and without whole tiles of 256, and tails of every kind.
fn row_lengths(format: Format) -> Vec<usize> {
    let blocks: &[usize] = match format.block_len() {
        1 => &[1, 31, 33, 100, 576],
        32 | 64 => &[1, 2, 3, 7, 8, 9, 13, 18, 28],
        _ => &[1, 2, 3, 7],
    };
    blocks.iter().map(|n| n * format.block_len()).collect()
}

#[test]
fn products_are_near_those_in_f64() {
    for format in Format::ALL {
        for (n_cols, isa) in
            row_lengths(format).into_iter().flat_map(|n| available().into_iter().map(move |isa| (n, isa)))
        {
            // One byte more in front: an odd address.
            let bytes = [vec![0], weights(format, n_cols as u64, 3 * n_cols)].concat();
            let weights = Weights { format, n_cols, bytes: &bytes[1..] };
            let mut dense = vec![0.0; 3 * n_cols];
            format.dequantize(weights.bytes, &mut dense).unwrap();
            for n_x in 1..10 {
                let rows = Rows::new(isa, n_x, n_cols);
                let got = product(isa, weights, rows.of(format), n_x);
                for (i, got) in got.iter().enumerate() {
                    let (x, w) = (rows.values(format, i / 3), &dense[i % 3 * n_cols..][..n_cols]);
                    let terms = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w));
                    let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
                    let error = (f64::from(*got) - sum).abs() / size;
                    assert!(
                        error < 2e-6,
                        "{format} {isa} {n_cols} columns, {n_x} rows, {i}: {got} for {sum}, {error:.1e}"
                    );
                }
            }
        }
    }
}

#[test]
fn neighbours_and_threads_change_no_bit() {
    const N_W: usize = 11;
    const N_X: usize = 9;
    for format in Format::ALL {
        for isa in available() {
            let n_cols =
                if format.block_len() == 256 { 768 } else { 352usize.next_multiple_of(format.block_len()) };
            let bytes = weights(format, 5, N_W * n_cols);
            let weights = |first: usize, last: usize| {
                let row = bytes.len() / N_W;
                Weights { format, n_cols, bytes: &bytes[first * row..last * row] }
            };
            let rows = Rows::new(isa, N_X, n_cols);
            let whole = product(isa, weights(0, N_W), rows.of(format), N_X);
            for (x_row, want) in whole.chunks(N_W).enumerate() {
                let mut alone = Rows {
                    floats: rows.floats[x_row * n_cols..][..n_cols].to_vec(),
                    ..Rows::new(isa, 1, n_cols)
                };
                alone.quantized.fill(isa, &alone.floats, n_cols);
                let got = product(isa, weights(0, N_W), alone.of(format), 1);
                assert_eq!(bits(want), bits(&got), "{format} {isa}: row {x_row} alone");
            }
            for cut in 0..=N_W {
                let mut out = vec![f32::NAN; N_X * N_W];
                let (mut left, mut right) = Columns::new(&mut out, N_W).split_at(cut);
                std::thread::scope(|s| {
                    s.spawn(|| gemv(isa, weights(0, cut), rows.of(format), &mut left));
                    gemv(isa, weights(cut, N_W), rows.of(format), &mut right);
                });
                assert_eq!(bits(&whole), bits(&out), "{format} {isa}: divided at {cut}");
            }
        }
    }
}

/// Long rows and many activations are multiplied part by part.
#[test]
fn parts_change_no_bit() {
    const N_W: usize = 18;
    for format in [Format::Q4_1, Format::Q8_0, Format::Q4_K, Format::NVFP4] {
        let n_cols = 12_640usize.next_multiple_of(format.block_len());
        let bytes = weights(format, 5, N_W * n_cols);
        let weights = Weights { format, n_cols, bytes: &bytes };
        for isa in available().into_iter().filter(|isa| *isa != Isa::Scalar) {
            let rows = Rows::new(isa, 33, n_cols);
            let mut alone = Rows::new(isa, 1, n_cols);
            let want: Vec<_> = (rows.floats.chunks(n_cols))
                .map(|row| {
                    alone.quantized.fill(isa, row, n_cols);
                    bits(&product(isa, weights, alone.of(format), 1))
                })
                .collect();
            for n_x in [2, 3, 4, 5, 6, 7, 8, 13, 33] {
                let floats = rows.floats[..n_x * n_cols].to_vec();
                let mut some = Rows { floats, ..Rows::new(isa, 1, n_cols) };
                some.quantized.fill(isa, &some.floats, n_cols);
                let got = bits(&product(isa, weights, some.of(format), n_x));
                assert!(got.chunks(N_W).eq(&want[..n_x]), "{format} {isa}: {n_x} rows");
            }
        }
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn instruction_sets_agree() {
    for format in Format::ALL {
        let n_cols = 1504usize.next_multiple_of(format.block_len());
        let bytes = weights(format, 6, 4 * n_cols);
        let weights = Weights { format, n_cols, bytes: &bytes };
        let rows = Rows::new(Isa::Scalar, 5, n_cols);
        let want = product(Isa::Scalar, weights, rows.of(format), 5);
        let largest = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for isa in available() {
            for (want, got) in want.iter().zip(product(isa, weights, rows.of(format), 5)) {
                assert!((want - got).abs() < 3e-6 * largest, "{format} {isa}: {got} for {want}");
            }
        }
        // Sums of 8-bit products are exact, by whichever instruction.
        let of_256 = |isa: &Isa| *isa != Isa::Scalar && *isa < Isa::Avx512Vbmi && !wants_floats(format);
        let bits: Vec<_> = (available().into_iter().filter(of_256))
            .map(|isa| bits(&product(isa, weights, rows.of(format), 5)))
            .collect();
        assert!(bits.windows(2).all(|pair| pair[0] == pair[1]), "{format}");
    }
}

/// NEON computes in the order of AVX2. What is expected was computed by either.
#[test]
fn avx2_and_neon_give_the_same_bits() {
    let (n_cols, n_x) = (1536, 5);
    let mut numbers = Numbers(9);
    let floats: Vec<f32> = (0..n_x * n_cols).map(|_| numbers.float()).collect();
    let mut quantized = QuantizedRows::new();
    quantized.fill(Isa::Scalar, &floats, n_cols);
    let rows = Rows { floats, quantized, n_cols };
    for isa in available().into_iter().filter(|isa| matches!(isa.vectors(), Vectors::Bits256 | Vectors::Neon))
    {
        let mut found = Digest::default();
        for format in Format::ALL {
            let bytes = weights(format, 6, 4 * n_cols);
            found.add(&product(isa, Weights { format, n_cols, bytes: &bytes }, rows.of(format), n_x));
            if format == Format::NVFP4 {
                assert_eq!(format!("{found:x?}"), "Digest(71e26f55b261d77)", "{isa}");
            }
        }
        assert_eq!(format!("{found:x?}"), "Digest(ffa2b9769e3bb518)", "{isa}");
    }
}

/// Weights that end where readable memory ends.
#[cfg(target_os = "linux")]
#[test]
fn nothing_past_the_weights_is_read() {
    let page = 4096;
    for format in Format::ALL {
        for n_cols in row_lengths(format) {
            let bytes = weights(format, 4, 2 * n_cols);
            let room = bytes.len().next_multiple_of(page);
            // SAFETY: a new private mapping, of which the last page is made unreadable and the rest is used below alone.
            let end = unsafe {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                let map = libc::mmap(
                    std::ptr::null_mut(),
                    room + page,
                    libc::PROT_READ | libc::PROT_WRITE,
                    flags,
                    -1,
                    0,
                );
                assert!(map != libc::MAP_FAILED);
                let end = map.cast::<u8>().add(room);
                assert_eq!(libc::mprotect(end.cast(), page, libc::PROT_NONE), 0);
                end
            };
            // SAFETY: as many bytes before `end` are in the mapping, and nothing else refers to them.
            let guarded = unsafe { std::slice::from_raw_parts_mut(end.sub(bytes.len()), bytes.len()) };
            guarded.copy_from_slice(&bytes);
            for isa in available() {
                let rows = Rows::new(isa, 2, n_cols);
                let got = product(isa, Weights { format, n_cols, bytes: guarded }, rows.of(format), 2);
                let want = product(isa, Weights { format, n_cols, bytes: &bytes }, rows.of(format), 2);
                assert_eq!(bits(&want), bits(&got), "{format} {isa} {n_cols} columns");
            }
            // SAFETY: the mapping made above, no longer used.
            assert_eq!(unsafe { libc::munmap(end.sub(room).cast(), room + page) }, 0);
        }
    }
}
