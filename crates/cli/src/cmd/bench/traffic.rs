//! How many bytes must a step of generation read? Weights in the file's own format, and the KV cache.
//!
//! Of the weights everything but tables of which a token needs one row (learned positions; the embedding, unless it is the output too) and
//! experts that it does not use. Of the cache every position that attention sees, on average over the generated tokens. A device that keeps
//! weights in a larger layout, or reads anything twice, reads more: the figure is what the work asks for.

use gguf::Gguf;
use model::architecture::Mixer;
use model::{KvType, Model};

use super::measure::Test;

/// What a model's steps read.
pub(crate) struct Traffic {
    /// Bytes of weights that one token reads.
    pub(crate) weights: u64,
    /// Whether sequences at once read the same weights.
    shares_weights: bool,
    /// By layer that has attention: bytes of a position's keys and values, and the window.
    kv_rows: Vec<(u64, Option<usize>)>,
}

impl Traffic {
    /// Of a model whose keys and values are kept so; `exact` keeps them in float32.
    pub(crate) fn of(gguf: &Gguf, model: &Model, (exact, kv_type): (bool, KvType)) -> Traffic {
        let architecture = &model.architecture;
        let tied = gguf.tensor("output.weight").is_none();
        let mixture = architecture.mixture();
        let is_read = |name: &str| {
            let block = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')?.0.parse().ok());
            block.is_none_or(|block: usize| block < architecture.n_layer)
        };
        let read = |name: &str, bytes: u64| match (name, mixture) {
            ("position_embd.weight" | "per_layer_token_embd.weight", _) => 0,
            ("token_embd.weight", _) if !tied => 0,
            (name, _) if !is_read(name) => 0,
            (name, Some(mixture)) if name.contains("_exps.") => {
                bytes / mixture.n_expert.max(1) as u64 * mixture.n_used as u64
            }
            _ => bytes,
        };
        let kv_row = |n: u64| if exact { 4 * n } else { kv_type.bytes(n) };
        let heads = architecture.mixers.iter().filter_map(Mixer::heads);
        Traffic {
            weights: gguf.tensors().iter().map(|tensor| read(&tensor.name, tensor.n_bytes as u64)).sum(),
            shares_weights: mixture.is_none(),
            kv_rows: heads
                .map(|heads| {
                    let n_plane = 1 + u64::from(heads.has_values());
                    (kv_row(n_plane * heads.n_kv() as u64), heads.window)
                })
                .collect(),
        }
    }

    /// Bytes that attention of one token reads of `n` positions, its own among them.
    fn kv(&self, n: usize) -> u64 {
        let read = |&(bytes, window): &(u64, Option<usize>)| bytes * window.map_or(n, |w| n.min(w)) as u64;
        self.kv_rows.iter().map(read).sum()
    }

    /// Bytes of an average step. `None` of a prompt, which is not bound by them, and where several sequences choose experts of their own.
    pub(crate) fn of_step(&self, test: Test) -> Option<u64> {
        let Test::Decode { n_gen, batch, depth } = test else { return None };
        if batch > 1 && !self.shares_weights {
            return None;
        }
        let first = depth.max(1) + 1;
        let kv: u64 = (first..first + n_gen).map(|n| self.kv(n)).sum();
        Some(self.weights + kv / n_gen.max(1) as u64 * batch as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_bound_what_is_read_and_sequences_share_weights() {
        let mut traffic =
            Traffic { weights: 1000, shares_weights: true, kv_rows: vec![(10, None), (10, Some(4))] };
        let decode = |n_gen, batch, depth| Test::Decode { n_gen, batch, depth };
        assert_eq!(traffic.of_step(decode(1, 1, 0)), Some(1000 + 10 * (2 + 2)));
        assert_eq!(traffic.of_step(decode(2, 1, 9)), Some(1000 + 10 * (10 + 4 + 11 + 4) / 2));
        assert_eq!(traffic.of_step(decode(1, 3, 9)), Some(1000 + 3 * 10 * (10 + 4)));
        assert_eq!(traffic.of_step(Test::Prefill { n_prompt: 8 }), None);
        traffic.shares_weights = false;
        assert_eq!((traffic.of_step(decode(1, 1, 0)), traffic.of_step(decode(1, 2, 0))), (Some(1040), None));
    }
}
