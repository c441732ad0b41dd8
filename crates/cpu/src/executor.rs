//! The CPU as a device: checks a batch, runs it through the stages, samples.
//!
//! A step is computed within `submit`: the processor that would run ahead is the one that computes, so `n_in_flight` is 1.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use device::batch::{Progress, SlotId};
use device::sampling::{Row, Sampler, SlotState};
use device::{
    Batch, Choice, Executor, ExecutorError, Input, Limits, MemoryReport, Output, Picked, Role, Sampled, Span,
    StageTime, Ticket, Want,
};
use model::Model;
use model::architecture::Position;
use model::rope::RopeTable;

use crate::exact::Exact;
use crate::forward::{Buffers, Forward, Observer, StepRows};
use crate::kernels::{Kernels, Place};
use crate::options::{MemoryPlan, Options};
use crate::recurrence::Run;
use crate::simd::fast::Fast;
use crate::state::States;
use crate::threads::Threads;

/// A model on the CPU.
pub struct CpuExecutor {
    model: Arc<Model>,
    limits: Limits,
    plan: MemoryPlan,
    kernels: Box<dyn Kernels>,
    threads: Threads,
    /// One for each kind of rotation.
    ropes: Vec<RopeTable>,
    sampler: Sampler,
    slots: Vec<Slot>,
    states: States,
    next_ticket: u64,
    finished: VecDeque<(u64, Vec<Picked>)>,
    buffers: Buffers,
}

/// What a slot remembers between steps.
#[derive(Default)]
struct Slot {
    sampling: SlotState,
    /// The position after the last that was computed.
    position: usize,
}

/// A row of a step before it is placed: which span, which of its tokens.
struct RowSource {
    span: usize,
    position: usize,
    token: u32,
}

impl CpuExecutor {
    /// Puts a model on the CPU. Weights stay where they are mapped; the KV cache is reserved and becomes resident as it fills.
    ///
    /// # Errors
    /// [`ExecutorError::InsufficientMemory`] if the KV cache cannot be had, [`ExecutorError::Device`] for options that make no sense.
    pub fn new(model: Arc<Model>, options: &Options) -> Result<CpuExecutor, ExecutorError> {
        CpuExecutor::on_threads(model, options, Threads::new(options.threads))
    }

    /// The same on threads that other executors have too; those that the options name are not started.
    ///
    /// # Errors
    /// Those of [`CpuExecutor::new`].
    pub fn on_threads(
        model: Arc<Model>,
        options: &Options,
        threads: Threads,
    ) -> Result<CpuExecutor, ExecutorError> {
        let arch = &model.architecture;
        let n_ctx = match arch.position {
            Position::Learned => options.n_ctx.min(arch.n_ctx_train),
            Position::Rope(_) => options.n_ctx,
        };
        let sizes = [options.threads, n_ctx, options.n_slot, options.n_row];
        if sizes.contains(&0) || u32::try_from(options.n_slot).is_err() {
            return Err(ExecutorError::Device(format!("options with a zero or absurd size: {options:?}")));
        }
        let plan = options.plan(&model);
        let (shape, pages) = (options.kv_shape(&model), plan.pages);
        if let Some(heads) = arch.kv_layers().find(|heads| !options.kv_type.takes(heads.head_dim)) {
            return Err(ExecutorError::Device(format!(
                "a KV cache of type {}: expected heads of a multiple of 32 values, found {}",
                options.kv_type, heads.head_dim
            )));
        }
        // Vec's own limit; what the machine really has is for the caller to compare with the plan.
        let (needed, free) = (plan.kv_cache.max(plan.state), isize::MAX as u64);
        if needed > free || u32::try_from(pages.n_page).is_err() || u32::try_from(options.n_snapshot).is_err()
        {
            return Err(ExecutorError::InsufficientMemory { device: "cpu".to_owned(), needed, free });
        }
        let kernels: Box<dyn Kernels> = if options.exact {
            Box::new(Exact::new(shape, options.kv_type))
        } else {
            Box::new(Fast::new(
                shape,
                options.kv_type,
                options.isa.unwrap_or_else(crate::simd::isa::Isa::detect),
            ))
        };
        let passes = crate::simd::sample::passes(kernels.isa());
        let ropes = match &arch.position {
            Position::Rope(ropes) => ropes.kinds.iter().map(|rope| RopeTable::new(rope, n_ctx)).collect(),
            Position::Learned => Vec::new(),
        };
        let limits = Limits {
            page_size: pages.page_size,
            n_page: pages.n_page,
            window: pages.window,
            n_slot: options.n_slot,
            n_row: options.n_row,
            n_ctx,
            n_vocab: arch.n_vocab,
            n_embd: arch.n_embd,
            n_snapshot: (arch.n_state() > 0).then_some(options.n_snapshot),
            n_guess: options.n_guess(&model),
            n_in_flight: 1,
        };
        Ok(CpuExecutor {
            limits,
            plan,
            kernels,
            threads,
            ropes,
            sampler: Sampler::with(passes),
            slots: (0..options.n_slot).map(|_| Slot::default()).collect(),
            states: States::new(arch, options),
            next_ticket: 0,
            finished: VecDeque::new(),
            buffers: Buffers::default(),
            model,
        })
    }

    /// The threads that it computes on.
    #[must_use]
    pub fn threads(&self) -> Threads {
        self.threads.clone()
    }

    /// The kernels in use, for people: an instruction set, or `exact float32`.
    #[must_use]
    pub fn kernels(&self) -> String {
        self.kernels.name()
    }

    /// Runs a step and shows what each stage leaves behind, for comparing executors.
    ///
    /// # Errors
    /// As [`Executor::submit`].
    pub fn run_observed(
        &mut self,
        batch: &Batch,
        observe: Observer<'_>,
    ) -> Result<Vec<Picked>, ExecutorError> {
        batch.check(&self.limits, |slot| Progress {
            position: self.slots[slot as usize].position,
            has_last: self.last(slot).is_some(),
        })?;
        if batch.spans.is_empty() {
            return Ok(Vec::new());
        }
        for span in &batch.spans {
            let slot = &mut self.slots[span.slot as usize];
            if let Some(prompt) = &span.begin {
                slot.sampling.begin(Arc::clone(prompt));
            }
            slot.position = span.start + span.input.len();
            self.states.begin(span);
        }
        let (rows, n_prompt) = self.order(batch);
        let tokens: Vec<u32> = rows.iter().map(|r| r.token).collect();
        let place = |r: &RowSource| {
            let Span { pages, window, .. } = &batch.spans[r.span];
            Place { position: r.position, pages, window }
        };
        let places: Vec<Place<'_>> = rows.iter().map(place).collect();
        let runs = runs(batch, &rows);
        let threads = self.threads.clone();
        let pool = threads.lock();
        let mut forward = Forward {
            model: &self.model,
            pool: &pool,
            kernels: &mut *self.kernels,
            ropes: &self.ropes,
            states: &mut self.states,
        };
        let step = StepRows { tokens: &tokens, places: &places, runs: &runs, n_prompt };
        forward.layers(&mut self.buffers, &step, observe);
        batch.spans.iter().for_each(|span| forward.states.save(span));

        let n_embd = self.model.architecture.n_embd;
        let mut picked = Vec::new();
        let (heads, n_head_prompt) = wanted(batch, &rows, n_prompt);
        let x = self.buffers.x.get(rows.len() * n_embd);
        let mut hidden: VecDeque<Vec<f32>> = batch
            .spans
            .iter()
            .enumerate()
            .filter_map(|(index, span)| {
                let Want::Hidden(wanted) = span.want else { return None };
                let first = rows.iter().position(|row| row.span == index)?;
                let range = wanted.of(span.input.len());
                Some(forward.hidden(&x[(first + range.start) * n_embd..(first + range.end) * n_embd]))
            })
            .collect();
        let mut logits = Vec::new();
        if !heads.is_empty() {
            let gathered: Vec<f32> =
                heads.iter().flat_map(|&r| &x[r * n_embd..][..n_embd]).copied().collect();
            logits = forward.head(&gathered, n_head_prompt);
            observe(model::stage::Stage::Head, 0, &logits);
        }
        let n_vocab = self.limits.n_vocab;
        for (index, span) in batch.spans.iter().enumerate() {
            let mine = heads.iter().enumerate().filter(|&(_, &r)| rows[r].span == index);
            let mut mine = mine.map(|(at, _)| &logits[at * n_vocab..][..n_vocab]);
            let output = match &span.want {
                Want::Nothing => continue,
                Want::Logits => Output::Logits(mine.flatten().copied().collect()),
                Want::Hidden(_) => Output::Hidden(hidden.pop_front().unwrap_or_default()),
                Want::Sample(choice) => {
                    let Some(logits) = mine.next() else { continue };
                    Output::Token(self.sample(span, span.input.len(), (choice, logits)))
                }
                Want::Check(choices) => Output::Tokens(self.check(span, choices.iter().zip(mine))),
            };
            picked.push(Picked { slot: span.slot, output });
        }
        Ok(picked)
    }

    /// The token after the first `n` rows of a span, from the logits of the last of them.
    fn sample(&mut self, span: &Span, n: usize, (choice, logits): (&Choice, &[f32])) -> Sampled {
        let Choice { params, mask } = choice;
        let row = Row { logits, params, mask: mask.as_deref(), position: span.start + n };
        self.sampler.sample(row, &mut self.slots[span.slot as usize].sampling)
    }

    /// The tokens after a span's rows, up to and with the first that is not the guess after its row. Rows beyond it leave keys and values
    /// that later rows overwrite before any reads them.
    fn check<'a>(
        &mut self,
        span: &Span,
        rows: impl Iterator<Item = (&'a Choice, &'a [f32])>,
    ) -> Vec<Sampled> {
        let Input::Guess(guesses) = &span.input else { unreachable!("a checked batch") };
        let mut tokens = Vec::with_capacity(span.input.len());
        for (i, row) in rows.enumerate() {
            let sampled = self.sample(span, i + 1, row);
            let is_right = guesses.get(i) == Some(&sampled.token) && sampled.is_choice();
            tokens.push(sampled);
            if !is_right {
                break;
            }
        }
        self.slots[span.slot as usize].position = span.start + tokens.len();
        tokens
    }

    /// The rows in the order of computation, prompts first, and how many those are.
    fn order(&self, batch: &Batch) -> (Vec<RowSource>, usize) {
        let mut rows = Vec::with_capacity(batch.n_row());
        let mut n_prompt = 0;
        for role in [Role::Prompt, Role::Generated] {
            for (index, span) in batch.spans.iter().enumerate().filter(|(_, s)| s.role == role) {
                let source = |i: usize, token| RowSource { span: index, position: span.start + i, token };
                match &span.input {
                    Input::Tokens(ids) => rows.extend(ids.iter().enumerate().map(|(i, &id)| source(i, id))),
                    Input::Last => rows.extend(self.last(span.slot).map(|id| source(0, id))),
                    Input::Guess(guesses) => {
                        let ids = self.last(span.slot).into_iter().chain(guesses.iter().copied());
                        rows.extend(ids.enumerate().map(|(i, id)| source(i, id)));
                    }
                }
            }
            if role == Role::Prompt {
                n_prompt = rows.len();
            }
        }
        (rows, n_prompt)
    }

    fn last(&self, slot: SlotId) -> Option<u32> {
        self.slots[slot as usize].sampling.last()
    }
}

/// The rows of each span, in the order of computation.
fn runs(batch: &Batch, rows: &[RowSource]) -> Vec<Run> {
    let mut start = 0;
    let spans = rows.chunk_by(|a, b| a.span == b.span);
    spans
        .map(|rows| {
            let run = start..start + rows.len();
            start = run.end;
            Run { slot: batch.spans[rows[0].span].slot as usize, rows: run }
        })
        .collect()
}

/// The rows whose logits are wanted, in the order of computation, and how many of them use the prompt's kernels.
///
/// A sampled row always uses the kernels of generated rows, also the last of a prompt: one row of a large matrix is what they are
/// for, and a row's kernels still depend on nothing but what is asked of it.
fn wanted(batch: &Batch, rows: &[RowSource], n_prompt: usize) -> (Vec<usize>, usize) {
    let want = |r: usize| &batch.spans[rows[r].span].want;
    let is_last = |r: usize| rows.get(r + 1).is_none_or(|next| next.span != rows[r].span);
    let logits = |range: std::ops::Range<usize>| range.filter(|&r| matches!(want(r), Want::Logits));
    let sampled = (0..rows.len()).filter(|&r| match want(r) {
        Want::Sample(_) => is_last(r),
        Want::Check(_) => true,
        Want::Nothing | Want::Logits | Want::Hidden(_) => false,
    });
    let mut heads: Vec<usize> = logits(0..n_prompt).collect();
    let n_head_prompt = heads.len();
    heads.extend(logits(n_prompt..rows.len()));
    heads.extend(sampled);
    (heads, n_head_prompt)
}

impl Executor for CpuExecutor {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn submit(&mut self, batch: &Batch) -> Result<Ticket, ExecutorError> {
        let picked = self.run_observed(batch, &mut |_, _, _| {})?;
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.finished.push_back((ticket, picked));
        Ok(Ticket(ticket))
    }

    fn collect(&mut self, ticket: Ticket) -> Result<Vec<Picked>, ExecutorError> {
        let at =
            self.finished.iter().position(|(t, _)| *t == ticket.0).ok_or(ExecutorError::Ticket(ticket.0))?;
        Ok(self.finished.remove(at).map(|(_, picked)| picked).unwrap_or_default())
    }

    fn time_stages(&mut self, batch: &Batch) -> Result<Vec<StageTime>, ExecutorError> {
        let mut times = Vec::new();
        let mut last = Instant::now();
        let mut add = |name| {
            let now = Instant::now();
            StageTime::add(&mut times, name, now.duration_since(last));
            last = now;
        };
        self.run_observed(batch, &mut |stage, _, _| add(stage.name()))?;
        add("sample");
        Ok(times)
    }

    fn memory(&self) -> MemoryReport {
        MemoryReport {
            device: "cpu".to_owned(),
            weights: self.plan.weights,
            kv_cache: self.kernels.kv_bytes(),
            state: self.plan.state,
            activations: self.plan.activations,
            resident: true,
        }
    }
}
