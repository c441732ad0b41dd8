//! Attention's keys: heads, windows, the temperature of queries.

use std::ops::RangeInclusive;

use gguf::Value;

use super::{Keys, N_CONTEXT, N_LAYER};
use crate::architecture::{
    Architecture, Attention, Heads, KvSource, Mixer, Position, Rope, Ropes, Temperature,
};
use crate::error::ModelError;

pub(super) const N_HEAD: RangeInclusive<usize> = 1..=4096;
pub(super) const HEAD_DIM: RangeInclusive<usize> = 1..=4096;

impl Keys<'_> {
    /// Key and value heads by layer: a list or one number, by default as many as there are query heads.
    ///
    /// # Errors
    /// Out of range, or a list of another length.
    pub fn n_kv_heads(&self, n_layer: usize) -> Result<Vec<usize>, ModelError> {
        let key = "attention.head_count_kv";
        if !matches!(self.gguf.metadata().get(&self.name(key)), Some(Value::Array(_))) {
            let n_head = self.size("attention.head_count", N_HEAD, None)?;
            return Ok(vec![self.size(key, N_HEAD, Some(n_head))?; n_layer]);
        }
        self.listed(key, N_HEAD, n_layer)
    }

    /// The heads of each layer, with these key heads: no window.
    ///
    /// # Errors
    /// Counts absent or out of range, heads that do not share key heads evenly, keys and values of different sizes.
    pub fn heads(&self, n_embd: usize, n_kv_heads: &[usize]) -> Result<Vec<Heads>, ModelError> {
        let n_head = self.size("attention.head_count", N_HEAD, None)?;
        if let Some(n_kv_head) = n_kv_heads.iter().find(|&&n| !n_head.is_multiple_of(n)) {
            let expected = format!("a divisor of head_count = {n_head}");
            return Err(self.wrong("attention.head_count_kv", expected, n_kv_head));
        }
        let default = n_embd.is_multiple_of(n_head).then_some(n_embd / n_head);
        let head_dim = match (self.head_dim(["attention.key_length", "attention.value_length"])?, default) {
            (Some(head_dim), _) | (None, Some(head_dim)) => head_dim,
            (None, None) => {
                let expected = format!("a divisor of embedding_length = {n_embd}");
                return Err(self.wrong("attention.head_count", expected, n_head));
            }
        };
        let heads =
            |&n_kv_head| Heads { n_head, n_kv_head, head_dim, window: None, source: KvSource::Projections };
        Ok(n_kv_heads.iter().map(heads).collect())
    }

    /// Values in a head of keys and in one of values, by the keys of these names.
    ///
    /// # Errors
    /// Out of range, or two sizes.
    pub fn head_dim(&self, [of_keys, of_values]: [&str; 2]) -> Result<Option<usize>, ModelError> {
        let Some(_) = self.usize_of(of_keys)? else { return Ok(None) };
        let head_dim = self.size(of_keys, HEAD_DIM, None)?;
        match self.size(of_values, HEAD_DIM, Some(head_dim))? {
            n if n == head_dim => Ok(Some(head_dim)),
            n => Err(self.wrong(of_values, format!("{of_keys} = {head_dim}"), n)),
        }
    }

    /// Attention with heads of this size: neither sinks nor norms nor a cap.
    #[must_use]
    pub fn attention(head_dim: usize) -> Attention {
        Attention {
            scale: 1.0 / (head_dim as f32).sqrt(),
            sinks: false,
            score_cap: None,
            qk_norm: None,
            v_norm: false,
            temperature: None,
            gated: false,
        }
    }

    /// `attention.temperature_scale`; absent and 0 mean none.
    ///
    /// # Errors
    /// A scale that is negative or not finite, or no context that it counts in.
    pub fn temperature(&self) -> Result<Option<Temperature>, ModelError> {
        let Some(scale) = self.cap("attention.temperature_scale")? else { return Ok(None) };
        let context = self.size("rope.scaling.original_context_length", N_CONTEXT, None)?;
        Ok(Some(Temperature { scale, context }))
    }

    /// `attention.shared_kv_layers`: how many layers, the last, have no keys and values of their own; by default none.
    ///
    /// # Errors
    /// All or more.
    pub fn shared_kv_layers(&self, n_layer: usize) -> Result<usize, ModelError> {
        self.size("attention.shared_kv_layers", 0..=n_layer.saturating_sub(1), Some(0))
    }

    /// The layer whose keys and values layer `n` reads: the last of the `n_own` first that is, like it, local or not.
    ///
    /// # Errors
    /// None is, or it has other heads.
    pub fn shared_kv(
        &self,
        (all, local): (&[Heads], &[bool]),
        n_own: usize,
        n: usize,
    ) -> Result<KvSource, ModelError> {
        let source = local[..n_own].iter().rposition(|&other| other == local[n]);
        let same = |source: &usize| {
            (all[*source].n_kv_head, all[*source].head_dim) == (all[n].n_kv_head, all[n].head_dim)
        };
        source.filter(same).map(KvSource::Layer).ok_or_else(|| {
            let expected = format!("a layer before with the heads of layer {n}");
            self.wrong("attention.shared_kv_layers", expected, "none")
        })
    }

    /// `attention.sliding_window`: absent and 0 mean none.
    ///
    /// # Errors
    /// Of another type.
    pub fn window(&self) -> Result<Option<usize>, ModelError> {
        Ok(self.usize_of("attention.sliding_window")?.filter(|&w| w > 0))
    }

    /// `attention.sliding_window` in all layers.
    ///
    /// # Errors
    /// As [`Keys::window`].
    pub fn window_everywhere(&self, architecture: &mut Architecture) -> Result<(), ModelError> {
        let window = self.window()?;
        for mixer in &mut architecture.mixers {
            if let Mixer::Attention(heads) = mixer {
                heads.window = window;
            }
        }
        Ok(())
    }

    /// `attention.sliding_window`, in the layers that [`Keys::window_layers`] says; a rotation for these alone, of another kind, where one is
    /// given. Returns which layers these are.
    ///
    /// # Errors
    /// As [`Keys::window_layers`].
    pub fn windows(
        &self,
        architecture: &mut Architecture,
        period: Option<usize>,
        rope: Option<Rope>,
    ) -> Result<Vec<bool>, ModelError> {
        let window = self.window()?;
        let local = self.window_layers(period)?;
        for (mixer, &is_local) in architecture.mixers.iter_mut().zip(&local) {
            if let Mixer::Attention(heads) = mixer {
                heads.window = window.filter(|_| is_local);
            }
        }
        if let (Position::Rope(Ropes { kinds, layers }), Some(rope)) = (&mut architecture.position, rope) {
            kinds.push(rope);
            for (layer, &is_local) in layers.iter_mut().zip(&local) {
                *layer = Some(usize::from(is_local));
            }
        }
        Ok(local)
    }

    /// Which layers see a window: as `attention.sliding_window_pattern` says by layer or by period, else all but the last of each `period`.
    ///
    /// # Errors
    /// Absent without a period, a list of another length, a period of 0, a value of another type.
    pub fn window_layers(&self, period: Option<usize>) -> Result<Vec<bool>, ModelError> {
        let key = "attention.sliding_window_pattern";
        let n_block = self.n_block()?;
        let all_but_last = |period: usize| (0..n_block).map(|n| (n + 1) % period != 0).collect();
        let listed = match self.gguf.metadata().get(&self.name(key)) {
            Some(Value::Array(list)) => list.bools().map(Iterator::collect::<Vec<_>>).or(Some(Vec::new())),
            Some(_) => return Ok(all_but_last(self.size(key, N_LAYER, None)?)),
            None => return Ok(all_but_last(self.size(key, N_LAYER, period)?)),
        };
        listed.filter(|layers| layers.len() == n_block).ok_or_else(|| {
            self.wrong(
                key,
                format!("a period, or true or false for each of {n_block} layers"),
                "another list",
            )
        })
    }
}
