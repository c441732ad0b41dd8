//! What memory does a model take, and is it there? Bytes.
//!
//! The model is resident or it is refused: loading compares what it will take with what the device leaves free (on the CPU: the
//! system and the cgroup), before anything is allocated.

use std::fmt;

use cuda::Unsupported;
use device::KvPages;
use model::Model;
use serde::Serialize;

use crate::device::{CpuKernels, Shape};
use crate::exit::Failure;
use crate::units::Bytes;

/// What a model takes at a context length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Needed {
    pub(crate) n_ctx: usize,
    pub(crate) sequences: usize,
    pub(crate) weights: u64,
    pub(crate) kv_cache: u64,
    #[serde(flatten)]
    pub(crate) pages: Pages,
    /// What sequences keep beside it, in models with recurrent layers.
    pub(crate) state: u64,
    /// Copies of that which are kept for later prompts, in all; the sequences have one more each.
    pub(crate) snapshots: usize,
    pub(crate) activations: u64,
    /// What a draft model beside it takes in all; none where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) draft: Option<u64>,
    /// All of these together.
    pub(crate) total: u64,
    /// What must be free beside them: for a GPU's driver, and for copying the weights.
    pub(crate) reserve: u64,
}

/// The KV cache's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Pages {
    /// Positions in one.
    pub(crate) page_size: usize,
    pub(crate) pages: usize,
    /// Those of the layers that keep a window alone; none where all layers have the same pages.
    pub(crate) window: Option<WindowPages>,
}

/// Pages of layers with a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct WindowPages {
    /// Positions that a token sees at most.
    pub(crate) positions: usize,
    pub(crate) pages: usize,
}

impl From<KvPages> for Pages {
    fn from(KvPages { page_size, n_page, window }: KvPages) -> Pages {
        let window = window.map(|window| WindowPages { positions: window.n_position, pages: window.n_page });
        Pages { page_size, pages: n_page, window }
    }
}

impl Needed {
    /// On the CPU, with the fast kernels.
    pub(crate) fn of(model: &Model, shape: Shape) -> Needed {
        let options = shape.cpu_options(model, 1, CpuKernels::default());
        Needed::on_cpu(options.plan(model), &options)
    }

    /// From the CPU executor's own plan.
    pub(crate) fn on_cpu(plan: cpu::MemoryPlan, options: &cpu::Options) -> Needed {
        let cpu::MemoryPlan { weights, kv_cache, pages, state, activations } = plan;
        let pages = pages.into();
        let total = [kv_cache, state, activations].iter().fold(weights, |sum, &n| sum.saturating_add(n));
        let (n_ctx, sequences, snapshots) = (options.n_ctx, options.n_slot, options.n_snapshot);
        Needed {
            n_ctx,
            sequences,
            weights,
            kv_cache,
            pages,
            state,
            snapshots,
            activations,
            draft: None,
            total,
            reserve: 0,
        }
    }

    /// From the plan of a GPU's executor.
    pub(crate) fn on_cuda(model: &Model, options: &cuda::Options) -> Result<Needed, Unsupported> {
        let plan = options.plan(model)?;
        let cuda::MemoryPlan { weights, kv_cache, pages, state, activations } = plan;
        let pages = pages.into();
        let total = plan.total();
        let reserve = options.needed(&plan).saturating_sub(total);
        let (n_ctx, sequences, snapshots) = (options.n_ctx, options.n_slot, options.n_snapshot);
        Ok(Needed {
            n_ctx,
            sequences,
            weights,
            kv_cache,
            pages,
            state,
            snapshots,
            activations,
            draft: None,
            total,
            reserve,
        })
    }

    /// The same with a draft model beside it.
    pub(crate) fn beside(self, draft: &Needed) -> Needed {
        let draft = draft.in_all();
        Needed { draft: Some(draft), total: self.total.saturating_add(draft), ..self }
    }

    /// What is to be said where a server's KV cache is most of what it takes: that follows from defaults that can be changed.
    pub(crate) fn cache_notice(&self) -> Option<String> {
        let times = self.kv_cache / self.weights.max(1);
        (self.sequences > 1 && times >= 2).then(|| {
            format!(
                "the KV cache takes {times} times the memory of the weights: fewer --slots, a smaller --ctx, --kv-cache-size-mb or \
                 --kv-type q8_0 make it smaller"
            )
        })
    }

    /// Whether it is more than a sum can say, which stays at the largest number then.
    pub(crate) fn is_beyond_counting(&self) -> bool {
        self.total == u64::MAX
    }

    /// Bytes that must be free.
    pub(crate) fn in_all(&self) -> u64 {
        self.total.saturating_add(self.reserve)
    }

    /// Whether it fits; unknown where free memory is.
    pub(crate) fn fits(&self, free: Option<u64>) -> Option<bool> {
        free.map(|free| self.in_all() <= free)
    }

    /// Refuses what does not fit; where free memory is unknown, nothing is refused.
    pub(crate) fn check(&self, device: &str, free: Option<u64>) -> Result<(), Failure> {
        match free {
            Some(free) if free < self.in_all() => Err(self.refusal(device, free)),
            _ => Ok(()),
        }
    }

    /// That it does not fit.
    pub(crate) fn refusal(&self, device: &str, free: u64) -> Failure {
        Failure::Memory { device: device.to_owned(), needed: Box::new(*self), free }
    }
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [total, weights, kv_cache, activations] =
            [self.total, self.weights, self.kv_cache, self.activations].map(Bytes);
        let state = if self.state > 0 { format!("state {}, ", Bytes(self.state)) } else { String::new() };
        let draft = self.draft.map(|n| format!(", draft model {}", Bytes(n))).unwrap_or_default();
        let parts =
            format!("weights {weights}, KV cache {kv_cache}, {state}activations {activations}{draft}");
        match self.sequences {
            1 => write!(f, "{total} at a context of {} tokens: {parts}", self.n_ctx),
            n => write!(f, "{total} for {n} sequences of up to {} tokens: {parts}", self.n_ctx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: KvPages = KvPages { page_size: 32, n_page: 1, window: None };

    #[test]
    fn a_model_is_refused_one_byte_short_and_absurd_sizes_do_not_wrap() {
        let plan = cpu::MemoryPlan { weights: 100, kv_cache: 20, pages: PAGES, state: 0, activations: 3 };
        let options = cpu::Options { n_ctx: 8, ..cpu::Options::default() };
        let needed = Needed::on_cpu(plan, &options);
        assert!(needed.check("cpu", Some(123)).is_ok() && needed.check("cpu", None).is_ok());
        let refusal = needed.check("cpu", Some(122)).unwrap_err().to_string();
        assert!(refusal.contains("123 bytes needed") && refusal.contains("122 bytes free"), "{refusal}");
        let absurd = Needed::on_cpu(cpu::MemoryPlan { kv_cache: u64::MAX, ..plan }, &options);
        assert!(absurd.check("cpu", Some(1 << 40)).is_err());
        assert_eq!([needed, absurd].map(|needed| needed.is_beyond_counting()), [false, true]);
    }

    #[test]
    fn a_draft_model_counts_in_full() {
        let plan = cpu::MemoryPlan { weights: 100, kv_cache: 20, pages: PAGES, state: 0, activations: 3 };
        let alone = Needed::on_cpu(plan, &cpu::Options { n_ctx: 8, ..cpu::Options::default() });
        let both = alone.beside(&Needed { total: 40, reserve: 2, ..alone });
        assert_eq!((both.total, both.fits(Some(165)), both.fits(Some(164))), (165, Some(true), Some(false)));
        let refusal = both.check("cpu", Some(164)).unwrap_err().to_string();
        assert!(
            refusal.contains("165 bytes needed") && refusal.contains("3 activations, 42 draft model)"),
            "{refusal}"
        );
        assert!(both.to_string().ends_with("draft model 42 B"), "{both}");
    }

    #[test]
    fn what_a_gpu_keeps_free_counts() {
        let plan = cpu::MemoryPlan { weights: 100, kv_cache: 20, pages: PAGES, state: 0, activations: 3 };
        let needed = Needed { reserve: 1000, ..Needed::on_cpu(plan, &cpu::Options::default()) };
        assert_eq!(
            (needed.fits(Some(1123)), needed.fits(Some(1122)), needed.fits(None)),
            (Some(true), Some(false), None)
        );
        let refusal = needed.check("cuda:0", Some(1122)).unwrap_err().to_string();
        assert_eq!(
            refusal,
            "INSUFFICIENT_VRAM: insufficient memory on cuda:0: 1123 bytes needed (100 weights, 20 KV cache, 3 activations, \
             1000 kept free), 1122 bytes free; a smaller --ctx needs less"
        );
    }
}
