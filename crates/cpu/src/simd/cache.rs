//! The KV cache of the fast kernels: pages of 32 positions of a head, in float16 or in Q8_0.
//!
//! A page's keys are `[head_dim, PAGE]`, so that the scores of 32 positions are one vector operation a value of the head; its values are
//! `[PAGE, head_dim]`; where keys are values too, they are turned round as they are read. The scales of Q8_0 are `[head_dim / 32, PAGE]` for both, in float16.

use device::batch::PageId;
use model::KvType;
use model::kv::{KV_BLOCK, kv_block};
use quant::Half;

use super::attend::PAGE;
use super::isa::Isa;
use super::math::narrow;
use super::pool::Pool;
use crate::kernels::{KvLayer, KvShape, Place};

/// All layers' keys and values.
pub(crate) struct Cache {
    pub(crate) shape: KvShape,
    planes: Planes,
}

enum Planes {
    /// Float16 bits of keys and values, and of a step's before they go to their pages.
    Half {
        kv: [Vec<u16>; 2],
        narrow: [Vec<u16>; 2],
    },
    Q8 {
        kv: [Vec<i8>; 2],
        scales: [Vec<Half>; 2],
    },
}

/// A page of a head as it is kept: keys, then values, or keys that are values too.
#[derive(Clone, Copy)]
pub(crate) enum Kept<'a> {
    Half([&'a [u16]; 2]),
    HalfRow(&'a [u16]),
    Q8([Q8<'a>; 2]),
    Q8Row(Q8<'a>),
}

/// Integers and their scales.
#[derive(Clone, Copy)]
pub(crate) struct Q8<'a> {
    integers: &'a [i8],
    scales: &'a [Half],
}

impl Cache {
    /// Empty.
    pub(crate) fn new(shape: KvShape, kv_type: KvType) -> Cache {
        let n = shape.planes();
        let planes = match kv_type {
            KvType::F16 => Planes::Half { kv: n.map(|n| vec![0; n]), narrow: Default::default() },
            KvType::Q8_0 => Planes::Q8 {
                kv: n.map(|n| vec![0; n]),
                scales: n.map(|n| vec![Half::default(); n / KV_BLOCK]),
            },
        };
        Cache { shape, planes }
    }

    /// Its bytes.
    pub(crate) fn n_bytes(&self) -> u64 {
        let n = self.shape.n_kept();
        match self.planes {
            Planes::Half { .. } => KvType::F16.bytes(n),
            Planes::Q8 { .. } => KvType::Q8_0.bytes(n),
        }
    }

    /// A page of a head.
    pub(crate) fn page(&self, layer: usize, page: PageId, head: usize) -> Kept<'_> {
        let (at, n) = (self.shape.page_at(layer, page, head), PAGE * self.shape.layers[layer].head_dim);
        match &self.planes {
            Planes::Half { kv: [k, v], .. } if self.shape.has_values => {
                Kept::Half([&k[at..at + n], &v[at..at + n]])
            }
            Planes::Half { kv: [k, _], .. } => Kept::HalfRow(&k[at..at + n]),
            Planes::Q8 { kv, scales } => {
                let (first, n_scale) = (at / KV_BLOCK, n / KV_BLOCK);
                let plane = |i: usize| Q8 {
                    integers: &kv[i][at..at + n],
                    scales: &scales[i][first..first + n_scale],
                };
                match self.shape.has_values {
                    true => Kept::Q8([plane(0), plane(1)]),
                    false => Kept::Q8Row(plane(0)),
                }
            }
        }
    }

    /// Writes a step's keys and values, `[n_row, n_kv_head * head_dim]`.
    pub(crate) fn write(
        &mut self,
        (isa, pool): (Isa, &Pool),
        layer: usize,
        places: &[Place<'_>],
        rows: [&[f32]; 2],
    ) {
        let KvLayer { n_kv_head, head_dim, .. } = self.shape.layers[layer];
        let has_values = self.shape.has_values;
        if let Planes::Half { narrow: narrowed, .. } = &mut self.planes {
            for (to, from) in narrowed.iter_mut().zip(rows).take(1 + usize::from(has_values)) {
                to.resize(from.len(), 0);
                narrow(isa, pool, from, to);
            }
        }
        for (r, place) in places.iter().enumerate() {
            let (number, at) = (place.position / PAGE, place.position % PAGE);
            let page = self.shape.page_of(layer, *place, number);
            for head in 0..n_kv_head {
                let from = (r * n_kv_head + head) * head_dim..(r * n_kv_head + head + 1) * head_dim;
                let start = self.shape.page_at(layer, page, head);
                match &mut self.planes {
                    Planes::Half { kv: [k, v], narrow: [new_k, new_v] } => {
                        let keys = k[start..start + PAGE * head_dim].chunks_exact_mut(PAGE);
                        keys.zip(&new_k[from.clone()]).for_each(|(keys, &new)| keys[at] = new);
                        if has_values {
                            v[start + at * head_dim..][..head_dim].copy_from_slice(&new_v[from]);
                        }
                    }
                    Planes::Q8 { kv: [k, v], scales } => {
                        let blocks =
                            |i: usize| rows[i][from.clone()].as_chunks::<KV_BLOCK>().0.iter().enumerate();
                        let scale_at = |b: usize| start / KV_BLOCK + b * PAGE + at;
                        for (b, block) in blocks(0) {
                            let block = kv_block(block);
                            scales[0][scale_at(b)] = block.d;
                            let keys = k[start + b * KV_BLOCK * PAGE..].chunks_exact_mut(PAGE);
                            keys.zip(block.qs).for_each(|(keys, q)| keys[at] = q);
                        }
                        for (b, block) in blocks(1).filter(|_| has_values) {
                            let block = kv_block(block);
                            scales[1][scale_at(b)] = block.d;
                            v[start + at * head_dim + b * KV_BLOCK..][..KV_BLOCK].copy_from_slice(&block.qs);
                        }
                    }
                }
            }
        }
    }
}

/// Values `[PAGE, head_dim]` from keys `[head_dim, PAGE]` that are values too.
#[inline(always)]
pub(crate) fn turn_round(keys: &[f32], head_dim: usize, values: &mut [f32]) {
    for (d, keys) in keys.as_chunks::<PAGE>().0.iter().enumerate() {
        for (values, &key) in values.chunks_exact_mut(head_dim).zip(keys) {
            values[d] = key;
        }
    }
}

/// Keys `[head_dim, PAGE]` as float32. Compiled for the instruction set of its caller.
#[inline(always)]
pub(crate) fn decode_keys(k: Q8<'_>, keys: &mut [f32]) {
    let mut scales = [0.0f32; PAGE];
    for (b, halves) in k.scales.as_chunks::<PAGE>().0.iter().enumerate() {
        scales.iter_mut().zip(halves).for_each(|(scale, half)| *scale = half.to_f32());
        let of_block = b * KV_BLOCK * PAGE..(b + 1) * KV_BLOCK * PAGE;
        let rows = keys[of_block.clone()].as_chunks_mut::<PAGE>().0;
        for (out, q) in rows.iter_mut().zip(k.integers[of_block].as_chunks::<PAGE>().0) {
            for ((out, &q), scale) in out.iter_mut().zip(q).zip(&scales) {
                *out = f32::from(q) * scale;
            }
        }
    }
}

/// Values `[PAGE, head_dim]` as float32. Compiled for the instruction set of its caller.
#[inline(always)]
pub(crate) fn decode_values(v: Q8<'_>, head_dim: usize, values: &mut [f32]) {
    for (b, halves) in v.scales.as_chunks::<PAGE>().0.iter().enumerate() {
        for (j, half) in halves.iter().enumerate() {
            let (scale, at) = (half.to_f32(), j * head_dim + b * KV_BLOCK);
            let (out, q) = (&mut values[at..at + KV_BLOCK], &v.integers[at..at + KV_BLOCK]);
            out.iter_mut().zip(q).for_each(|(out, &q)| *out = f32::from(q) * scale);
        }
    }
}
