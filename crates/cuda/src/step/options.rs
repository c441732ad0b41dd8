//! How is a model put on a GPU, and what memory does that take?

use std::time::Duration;

use device::{KvPages, KvSizes};
use model::architecture::{Architecture, Position};
use model::weights::{Ffn, Gated, Linear, Weights};
use model::{KvType, Model};

use crate::args::PAGE;
use crate::driver::DevicePtr;
use crate::memory::arena::{ArenaPlan, Purpose, RESERVE};
use crate::memory::layout::prompt_terms;
use crate::memory::state::States;
use crate::memory::taker::Taker;
use crate::memory::upload::UploadOptions;
use crate::placement::apart;
use crate::placement::cache;
use crate::placement::place::{Unsupported, place};
use crate::sizes::{
    ABSURD, Attending, Columns, DEFAULT_ROWS, MANY_ROWS, MAX_GUESSES, MAX_SLOTS, Sizes, Unpacking,
};
use crate::step::buffers::Buffers;

/// How a model is put on a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which GPU.
    pub ordinal: u32,
    /// Tokens a sequence may have.
    pub n_ctx: usize,
    /// Sequences at once, at most [`MAX_SLOTS`].
    pub n_slot: usize,
    /// Rows (tokens) a step, of prompts and generated together; at least `n_slot`.
    pub n_row: usize,
    /// How keys and values are kept.
    pub kv_type: KvType,
    /// KV pages in all; by default enough for `n_slot` sequences of `n_ctx` tokens.
    pub n_page: Option<usize>,
    /// Copies of a sequence's state that can be kept, where layers are recurrent.
    pub n_snapshot: usize,
    /// Where prompts' weights are unpacked.
    pub unpacking: Unpacking,
    /// In which blocks Hopper attends to prompts.
    pub attending: Attending,
    /// How many columns Hopper's products of generated rows compute at once.
    pub columns: Columns,
    /// Bytes of each pinned buffer through which weights are copied.
    pub load_chunk: usize,
    /// Threads that fill those buffers.
    pub load_threads: usize,
    /// How often it is checked that everything stays in the device's own memory.
    pub residency_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Options {
            ordinal: 0,
            n_ctx: 4096,
            n_slot: 1,
            n_row: DEFAULT_ROWS,
            kv_type: KvType::F16,
            n_page: None,
            n_snapshot: 0,
            unpacking: Unpacking::Fastest,
            attending: Attending::Fastest,
            columns: Columns::Fastest,
            load_chunk: 16 << 20,
            load_threads: threads.min(8),
            residency_interval: Duration::from_secs(60),
        }
    }
}

/// Bytes that an executor will take from the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights, repacked.
    pub weights: u64,
    /// The KV cache.
    pub kv_cache: u64,
    /// Its pages.
    pub pages: KvPages,
    /// What sequences keep beside it, and its copies.
    pub state: u64,
    /// Everything else a step needs.
    pub activations: u64,
}

impl MemoryPlan {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        let parts = [self.kv_cache, self.state, self.activations];
        parts.iter().fold(self.weights, |sum, &bytes| sum.saturating_add(bytes))
    }
}

impl Options {
    /// The same with more rows a step, so that long prompts are faster, where that takes at most a sixteenth of the weights' memory more, or
    /// 256 MiB.
    #[must_use]
    pub fn with_many_rows(self, model: &Model) -> Options {
        let bytes = |options: &Options| {
            let sizes = options.sizes(model);
            let kv = cache::kv_bytes(&model.architecture, &sizes);
            kv.saturating_add(activation_bytes(&model.architecture, &sizes))
        };
        // No more than all sequences have.
        let n_row = MANY_ROWS.min(self.n_ctx.saturating_mul(self.n_slot)).max(self.n_row);
        let many = Options { n_row, ..self.clone() };
        let most = (model.weights.n_bytes() / 16).max(256 << 20);
        if bytes(&many).saturating_sub(bytes(&self)) <= most { many } else { self }
    }

    pub(crate) fn sizes(&self, model: &Model) -> Sizes {
        let arch = &model.architecture;
        let [n_ctx, n_slot, n_row] = [self.n_ctx, self.n_slot, self.n_row].map(|n| n.min(ABSURD));
        let n_ctx = match arch.position {
            Position::Learned => n_ctx.min(arch.n_ctx_train),
            Position::Rope(_) => n_ctx,
        };
        let n_row = n_row.max(n_slot);
        let n_guess = match takes_guesses(arch, self.kv_type) {
            true => MAX_GUESSES.min(MAX_SLOTS.saturating_sub(n_slot)).min(n_row.saturating_sub(1)),
            false => 0,
        };
        let pages = KvPages::plan(&KvSizes {
            page_size: PAGE,
            n_ctx,
            n_slot,
            n_row,
            n_page: self.n_page,
            window: arch.widest_window(),
        });
        Sizes {
            n_ctx,
            n_slot,
            n_col: n_slot.saturating_add(n_guess).next_multiple_of(8),
            n_guess,
            n_row,
            pages,
            n_snapshot: self.n_snapshot.min(ABSURD),
            kv_type: self.kv_type,
            n_term: most_terms(&model.weights),
            unpacking: self.unpacking,
            attending: self.attending,
            columns: self.columns,
        }
    }

    /// How weights are copied.
    pub(crate) fn upload(&self) -> UploadOptions {
        UploadOptions {
            chunk_bytes: self.load_chunk,
            n_thread: self.load_threads,
            ..UploadOptions::default()
        }
    }

    /// Bytes of the device that copying takes while it runs.
    pub(crate) fn staging_bytes(&self) -> u64 {
        self.upload().staging_bytes()
    }

    /// Bytes that must be free on the device for a plan to be carried out: whole pages of its memory, what copying takes, and what stays
    /// free for the driver.
    #[must_use]
    pub fn needed(&self, plan: &MemoryPlan) -> u64 {
        let mut arena = ArenaPlan::new();
        arena.add(Purpose::Weights, plan.weights);
        arena.add(Purpose::KvCache, plan.kv_cache);
        arena.add(Purpose::State, plan.state);
        arena.add(Purpose::Activations, plan.activations);
        arena.needed().saturating_add(RESERVE).saturating_add(self.staging_bytes())
    }

    /// What the executor will take; saturating, so that absurd sizes read as absurd and not as small.
    ///
    /// # Errors
    /// What the kernels cannot compute.
    pub fn plan(&self, model: &Model) -> Result<MemoryPlan, Unsupported> {
        let sizes = self.sizes(model);
        let mut cached = model.architecture.kv_layers();
        if let Some(heads) = cached.find(|heads| !self.kv_type.takes(heads.head_dim)) {
            return Err(Unsupported {
                what: "head size",
                expected: format!("a multiple of 32 for a KV cache of type {}", self.kv_type),
                found: heads.head_dim.to_string(),
            });
        }
        Ok(MemoryPlan {
            weights: place(model)?.n_bytes,
            pages: sizes.pages,
            kv_cache: cache::kv_bytes(&model.architecture, &sizes),
            state: States::bytes(&model.architecture, &sizes),
            activations: activation_bytes(&model.architecture, &sizes),
        })
    }
}

fn activation_bytes(arch: &Architecture, sizes: &Sizes) -> u64 {
    let mut taker = Taker::new(DevicePtr(0));
    Buffers::take(&mut taker, arch, sizes);
    taker.n_bytes()
}

/// Whether rows of one sequence may share a step. A state would have to be taken back with a wrong guess. Where attention quantises a row's keys and
/// values as it reads them, they are in the cache for later steps alone.
fn takes_guesses(arch: &Architecture, kv_type: KvType) -> bool {
    arch.n_state() == 0 && (kv_type == KvType::F16 || apart::attention(arch))
}

/// Float16 terms that a prompt's activations have room for: as many as any matrix is multiplied with.
fn most_terms(weights: &Weights) -> usize {
    let terms = |linear: &Linear| prompt_terms(linear.weight.format);
    let most = |linears: &mut dyn Iterator<Item = &Linear>| linears.map(terms).max().unwrap_or(1);
    let gated = |Gated { gate, up, down }: &Gated| most(&mut [gate, up, down].into_iter());
    let of_ffn = |ffn: &Ffn| match ffn {
        Ffn::Gated(weights) => gated(weights),
        Ffn::Plain { up, down } => terms(up).max(terms(down)),
        Ffn::Experts(experts) => {
            let all = most(&mut experts.gate.iter().chain(&experts.up).chain(&experts.down));
            experts.shared.as_ref().map_or(all, |shared| all.max(gated(&shared.ffn)))
        }
    };
    let of_layers = weights.layers.iter().map(|layer| {
        let (linears, _) = layer.mixer.parts();
        let of_input = layer.per_layer.iter().flat_map(|place| [&place.gate, &place.output]);
        most(&mut linears.into_iter().chain(of_input)).max(of_ffn(&layer.ffn))
    });
    let of_inputs = weights.per_layer.as_ref().map(|inputs| terms(&inputs.model));
    of_layers.chain(of_inputs).chain([terms(&weights.output)]).max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bits_take_a_little_more_than_half() {
        let golden =
            testkit::golden().into_iter().find(|golden| golden.name == "llama-q4_0").expect("a golden model");
        let file = gguf::Gguf::open(&golden.path).expect("a golden model");
        let model = Model::load(&file).expect("a golden model");
        let [half, eight] = KvType::ALL.map(|kv_type| {
            let options = Options { kv_type, n_ctx: 1 << 16, ..Options::default() };
            options.plan(&model).expect("a plan")
        });
        // One layer stands there in float16 besides.
        let layer = half.kv_cache / model.architecture.n_layer as u64;
        assert_eq!((eight.kv_cache - layer) * 32, half.kv_cache * 17);
    }

    #[test]
    fn a_row_that_is_key_and_value_is_kept_once() {
        let name = "deepseek2-v3-yarn-q8_0";
        let golden = testkit::golden().into_iter().find(|golden| golden.name == name);
        let file = gguf::Gguf::open(&golden.expect("a golden model").path).expect("a golden model");
        let model = Model::load(&file).expect("a golden model");
        for kv_type in KvType::ALL {
            let options = Options { kv_type, n_ctx: 64, n_slot: 3, ..Options::default() };
            let plan = options.plan(&model).expect("a plan");
            // 32 values that are rotated, 64 that keys and values are made of.
            let n_value = plan.pages.n_page * PAGE * 96 * model.architecture.n_layer;
            assert_eq!(plan.kv_cache, kv_type.bytes(n_value as u64), "{kv_type}");
        }
    }

    #[test]
    fn steps_have_many_rows_where_that_takes_little_memory() {
        let golden = testkit::golden()
            .into_iter()
            .find(|golden| golden.name == "gemma3-q4_0")
            .expect("a golden model");
        let file = gguf::Gguf::open(&golden.path).expect("a golden model");
        let mut model = Model::load(&file).expect("a golden model");
        let n_row = |model: &Model, [n_ctx, n_slot, n_row]: [usize; 3]| {
            let options = Options { n_ctx, n_slot, n_row, ..Options::default() };
            options.with_many_rows(model).n_row
        };
        assert_eq!(n_row(&model, [1 << 15, 1, 2048]), 4096);
        // As many as there are positions, and never fewer than before.
        assert_eq!(n_row(&model, [512, 6, 2048]), 3072);
        assert_eq!(n_row(&model, [512, 1, 2048]), 2048);
        assert_eq!(n_row(&model, [1 << 15, 1, 8192]), 8192);
        // 2,048 hidden rows of so many values in float16 are 512 MiB.
        model.architecture.feed_forward.iter_mut().for_each(|layer| layer.n_ff = 1 << 17);
        assert_eq!(n_row(&model, [1 << 15, 1, 2048]), 2048);
    }

    #[test]
    fn absurd_sizes_read_as_absurd() {
        let golden = testkit::golden();
        for golden in &golden {
            let file = gguf::Gguf::open(&golden.path).expect("a golden model");
            let model = Model::load(&file).expect("a golden model");
            let n = usize::MAX;
            for options in [
                Options { n_ctx: n, ..Options::default() },
                Options { n_slot: n, ..Options::default() },
                Options { n_row: n, ..Options::default() },
                Options { n_page: Some(n), ..Options::default() },
                Options { n_ctx: n, n_slot: n, n_row: n, ..Options::default() },
            ] {
                let total = options.plan(&model).expect("a plan").total();
                // Learned positions bound the context by themselves.
                let is_bounded = model.architecture.position == Position::Learned && options.n_slot == 1;
                assert!(total > 1 << 34 || (is_bounded && options.n_row < n), "{}: {total}", golden.name);
            }
        }
    }
}
