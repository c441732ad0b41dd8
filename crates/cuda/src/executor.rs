//! A model on a GPU: takes batches, queues their work, and hands out what they gave.
//!
//! A step's prompt rows run first, then its generated rows as one captured graph. Rows, spans and sampling parameters go to the device in
//! one copy before them, sampled tokens come back in one after them; the host need not know a token for the next step to start.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use model::architecture::Position;
use model::batch::{Output, SlotId};
use model::rope::RopeTable;
use model::sampling::{Row as LogitsRow, Sampler, SlotState};
use model::stage::Stage;
use model::{Batch, Executor, ExecutorError, Input, Limits, MemoryReport, Model, Picked, Role, Ticket, Want};
use thiserror::Error;

use crate::arena::{Arena, ArenaPlan, Purpose};
use crate::args::{PAGE, Row};
use crate::decode::{Decode, Shape};
use crate::driver::{Device, DevicePtr, GraphExec, Stream};
use crate::error::CudaError;
use crate::kernels::Kernels;
use crate::launch::attend::PromptSpan;
use crate::load::{self, LoadStats};
use crate::network::Network;
use crate::observe::{Observer, Rows, Watch};
use crate::options::{MAX_SLOTS, MemoryPlan, Options};
use crate::place::{HeadShape, Unsupported, place};
use crate::prompt::Prompt;
use crate::residency::Residency;

/// Bytes of the device that stay free for what the driver takes later: graphs, kernels, their local memory.
const RESERVE: u64 = 256 << 20;

/// Why a model could not be put on a GPU.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The device or its driver.
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// The model.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The options.
    #[error("options with a zero or absurd size: {0}")]
    Options(String),
}

/// A model on a GPU.
pub struct CudaExecutor {
    network: Network,
    limits: Limits,
    plan: MemoryPlan,
    stream: Stream,
    graphs: HashMap<Shape, GraphExec>,
    /// What the device's page tables hold, `[n_slot]`.
    page_tables: Vec<Vec<u32>>,
    sampler: Sampler,
    slots: Vec<SlotState>,
    last: DevicePtr,
    next_ticket: u64,
    finished: VecDeque<(u64, Vec<Picked>)>,
    residency: Residency,
    stats: LoadStats,
    /// Freed last.
    _arena: Arena,
    device: Arc<Device>,
}

/// A batch's rows by role, with the span each came from.
#[derive(Default)]
struct StepRows {
    rows: Vec<Row>,
    /// By row.
    span_of: Vec<usize>,
    /// Of the role's spans, for attention.
    spans: Vec<PromptSpan>,
}

impl StepRows {
    fn of(batch: &Batch, role: Role) -> StepRows {
        let mut step = StepRows::default();
        for (index, span) in batch.spans.iter().enumerate().filter(|(_, span)| span.role == role) {
            step.spans.push(PromptSpan {
                row0: step.rows.len() as i32,
                n_row: span.input.len() as i32,
                slot: span.slot as i32,
                start: span.start as i32,
            });
            for i in 0..span.input.len() {
                let token = match &span.input {
                    Input::Tokens(ids) => ids[i] as i32,
                    Input::Last => -1,
                };
                step.rows.push(Row {
                    slot: span.slot as i32,
                    position: (span.start + i) as i32,
                    token,
                    reserved: 0,
                });
                step.span_of.push(index);
            }
        }
        step
    }

    fn is_last_of_span(&self, row: usize) -> bool {
        self.span_of.get(row + 1) != Some(&self.span_of[row])
    }
}

impl CudaExecutor {
    /// Puts a model on a GPU, all of it or nothing. `progress` is told bytes copied and bytes in all.
    ///
    /// # Errors
    /// What the device, the model or the options lack; [`CudaError::InsufficientMemory`] before anything is allocated.
    pub fn new(
        model: &Model,
        options: &Options,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<CudaExecutor, LoadError> {
        let arch = &model.architecture;
        let sizes = options.sizes(arch);
        let counts = [sizes.n_ctx, sizes.n_slot, sizes.n_row, sizes.n_page];
        let is_absurd = |n: &usize| *n == 0 || i32::try_from(*n).is_err();
        if counts.iter().any(is_absurd) || sizes.n_slot > MAX_SLOTS {
            return Err(LoadError::Options(format!("{options:?}")));
        }
        let placement = place(model)?;
        let plan = options.plan(model)?;
        let device = Device::open(options.ordinal)?;
        let mut arena_plan = ArenaPlan::new();
        let weights = arena_plan.add(Purpose::Weights, plan.weights);
        let kv_cache = arena_plan.add(Purpose::KvCache, plan.kv_cache);
        let activations = arena_plan.add(Purpose::Activations, plan.activations);
        let arena = Arena::new(&device, &arena_plan, RESERVE + options.staging_bytes())?;
        let residency = arena.watch(options.residency_interval)?;
        let kernels = Kernels::new(&device);
        let at = (arena.take(weights), arena.take(kv_cache), arena.take(activations));
        let stream = Stream::new(&device)?;
        // Padding of activations is read, if only to be multiplied by zero weights.
        arena.clear(Purpose::Activations, &stream)?;
        arena.clear(Purpose::KvCache, &stream)?;
        stream.synchronize()?;
        let stats =
            load::load(&placement, at.0, HeadShape::of(arch), (&device, &kernels, options), progress)?;
        let network = Network::new(arch, sizes, &placement, at, kernels);
        if let Position::Rope(rope) = &arch.position {
            stream.write(
                network.buffers.shared.turns,
                &turns(&RopeTable::new(rope, sizes.n_ctx), sizes.n_ctx),
            )?;
        }
        let limits = Limits {
            page_size: PAGE,
            n_page: sizes.n_page,
            n_slot: sizes.n_slot,
            n_row: sizes.n_row.max(sizes.n_slot),
            n_ctx: sizes.n_ctx,
            n_vocab: arch.n_vocab,
            n_in_flight: 1,
        };
        Ok(CudaExecutor {
            last: network.buffers.shared.last,
            network,
            limits,
            plan,
            stream,
            graphs: HashMap::new(),
            page_tables: vec![Vec::new(); sizes.n_slot],
            sampler: Sampler::default(),
            slots: (0..sizes.n_slot).map(|_| SlotState::default()).collect(),
            next_ticket: 0,
            finished: VecDeque::new(),
            residency,
            stats,
            _arena: arena,
            device,
        })
    }

    /// The device's name, for people.
    #[must_use]
    pub fn device_name(&self) -> &str {
        self.device.name()
    }

    /// What loading took.
    #[must_use]
    pub fn load_stats(&self) -> LoadStats {
        self.stats
    }

    /// Watches that all of it stays in the device's own memory.
    #[must_use]
    pub fn residency(&self) -> &Residency {
        &self.residency
    }

    /// Runs a step of one role and shows what each stage leaves behind, for comparing executors.
    ///
    /// # Errors
    /// As [`Executor::submit`].
    pub fn run_observed(&mut self, batch: &Batch, watch: Watch<'_>) -> Result<Vec<Picked>, ExecutorError> {
        self.check(batch)?;
        self.run(batch, Some(watch)).map_err(device_error)
    }

    fn check(&self, batch: &Batch) -> Result<(), ExecutorError> {
        batch.check(&self.limits, |slot| self.slots[slot as usize].last().is_some())
    }

    fn run(&mut self, batch: &Batch, watch: Option<Watch<'_>>) -> Result<Vec<Picked>, CudaError> {
        let sizes = self.network.sizes;
        for span in &batch.spans {
            if let Some(prompt) = &span.begin {
                self.slots[span.slot as usize].begin(Arc::clone(prompt));
            }
            self.set_pages(span.slot, &span.pages)?;
        }
        let mut outputs: HashMap<usize, Output> = HashMap::new();
        let prompt = StepRows::of(batch, Role::Prompt);
        let generated = StepRows::of(batch, Role::Generated);
        let (of_prompt, mut of_generated) =
            if prompt.rows.is_empty() { (None, watch) } else { (watch, None) };
        if !prompt.rows.is_empty() {
            self.run_prompt(batch, &prompt, of_prompt, &mut outputs)?;
        }
        for first in (0..generated.rows.len()).step_by(sizes.n_col) {
            let n = (generated.rows.len() - first).min(sizes.n_col);
            self.run_generated(batch, &generated, (first, n), of_generated.take(), &mut outputs)?;
        }
        let spans = batch.spans.iter().enumerate();
        Ok(spans
            .filter_map(|(index, span)| Some(Picked { slot: span.slot, output: outputs.remove(&index)? }))
            .collect())
    }

    fn set_pages(&mut self, slot: SlotId, pages: &[u32]) -> Result<(), CudaError> {
        let max_pages = self.network.max_pages();
        let pages = &pages[..pages.len().min(max_pages)];
        let known = &mut self.page_tables[slot as usize];
        if known != pages {
            *known = pages.to_vec();
            let at = self.network.buffers.shared.page_tables.offset(4 * (slot as usize * max_pages) as u64);
            self.stream.write(at, pages)?;
        }
        Ok(())
    }

    fn run_prompt(
        &mut self,
        batch: &Batch,
        step: &StepRows,
        watch: Option<Watch<'_>>,
        outputs: &mut HashMap<usize, Output>,
    ) -> Result<(), CudaError> {
        let network = &self.network;
        let buffers = &network.buffers.prompt;
        self.stream.write(buffers.rows, &step.rows)?;
        self.stream.write(buffers.spans, &step.spans)?;
        let prompt = Prompt { network, stream: &self.stream, n_row: step.rows.len(), spans: &step.spans };
        let mut observer =
            watch.map_or_else(Observer::nobody, |watch| Observer::watching(watch, &self.stream));
        prompt.layers(&mut observer)?;
        let want = |row: usize| &batch.spans[step.span_of[row]].want;
        let rows = 0..step.rows.len();
        let logits: Vec<i32> =
            rows.clone().filter(|&r| matches!(want(r), Want::Logits)).map(|r| r as i32).collect();
        for (at, rows) in logits.chunks(buffers.n_logits).enumerate() {
            let first = at * buffers.n_logits;
            self.stream.write(buffers.heads.offset(4 * first as u64), rows)?;
            prompt.logits(first, rows.len())?;
            let found = Rows::float(buffers.logits, rows.len(), self.limits.n_vocab);
            observer.see(Stage::Head, 0, found)?;
            let mut values = vec![0f32; rows.len() * self.limits.n_vocab];
            self.stream.read(&mut values, buffers.logits)?;
            for (&row, values) in rows.iter().zip(values.chunks_exact(self.limits.n_vocab)) {
                let span = step.span_of[row as usize];
                match outputs.entry(span).or_insert_with(|| Output::Logits(Vec::new())) {
                    Output::Logits(all) => all.extend_from_slice(values),
                    Output::Token(_) => {}
                }
            }
        }
        let sampled: Vec<i32> = rows
            .filter(|&r| matches!(want(r), Want::Sample { .. }) && step.is_last_of_span(r))
            .map(|r| r as i32)
            .collect();
        let x = buffers.x;
        for rows in sampled.chunks(network.sizes.n_col) {
            let network = &self.network;
            let heads = network.buffers.shared.heads;
            self.stream.write(heads, rows)?;
            network.head(&self.stream, (x, heads), rows.len())?;
            let spans: Vec<usize> = rows.iter().map(|&r| step.span_of[r as usize]).collect();
            self.sample(batch, &spans, outputs)?;
        }
        Ok(())
    }

    fn run_generated(
        &mut self,
        batch: &Batch,
        step: &StepRows,
        (first, n): (usize, usize),
        watch: Option<Watch<'_>>,
        outputs: &mut HashMap<usize, Output>,
    ) -> Result<(), CudaError> {
        let network = &self.network;
        let mut rows = step.rows[first..first + n].to_vec();
        let n_position = rows.iter().map(|row| row.position as usize + 1).max().unwrap_or(1);
        let shape = Shape::bucket(n, n_position, network.sizes.n_ctx);
        rows.resize(shape.n_row, Row::PADDING);
        self.stream.write(network.buffers.decode.rows, &rows)?;
        let (stream, last) = (&self.stream, self.last);
        let decode = Decode { network, stream, shape, last };
        if let Some(watch) = watch {
            let mut observer = Observer::watching(watch, stream);
            decode.layers(&mut observer)?;
            network.head(stream, (network.buffers.decode.x, DevicePtr(0)), shape.n_row)?;
            observer.see(
                Stage::Head,
                0,
                Rows::float(network.buffers.shared.logits, n, self.limits.n_vocab),
            )?;
        } else {
            let queue = |stream: &Stream| {
                Decode { stream, ..decode }.layers(&mut Observer::nobody())?;
                network.head(stream, (network.buffers.decode.x, DevicePtr(0)), shape.n_row)
            };
            if !self.graphs.contains_key(&shape) {
                network.kernels.rehearse(|| queue(stream))?;
                self.graphs.insert(shape, stream.capture(queue)?);
            }
            if let Some(graph) = self.graphs.get(&shape) {
                graph.launch(stream)?;
            }
        }
        let spans: Vec<usize> = step.span_of[first..first + n].to_vec();
        self.sample(batch, &spans, outputs)
    }

    /// Takes what the spans want from the shared logits, one row a span.
    fn sample(
        &mut self,
        batch: &Batch,
        spans: &[usize],
        outputs: &mut HashMap<usize, Output>,
    ) -> Result<(), CudaError> {
        let n_vocab = self.limits.n_vocab;
        let mut values = vec![0f32; spans.len() * n_vocab];
        self.stream.read(&mut values, self.network.buffers.shared.logits)?;
        for (&index, logits) in spans.iter().zip(values.chunks_exact(n_vocab)) {
            let span = &batch.spans[index];
            let slot = span.slot as usize;
            match &span.want {
                Want::Nothing => {}
                Want::Logits => {
                    outputs.insert(index, Output::Logits(logits.to_vec()));
                }
                Want::Sample { params, mask } => {
                    let position = span.start + span.input.len();
                    let row = LogitsRow { logits, params, mask: mask.as_deref(), position };
                    let sampled = self.sampler.sample(row, &mut self.slots[slot]);
                    self.stream.write(self.last.offset(4 * slot as u64), &[sampled.token])?;
                    outputs.insert(index, Output::Token(sampled));
                }
            }
        }
        Ok(())
    }
}

/// Cosines and sines of all positions, `[n_ctx, half_rot, 2]`.
fn turns(table: &RopeTable, n_ctx: usize) -> Vec<[f32; 2]> {
    let half = table.inv_freq.len();
    let (mut cos, mut sin) = (vec![0.0; half], vec![0.0; half]);
    let mut turns = Vec::with_capacity(n_ctx * half);
    for position in 0..n_ctx {
        table.angles(position, &mut cos, &mut sin);
        turns.extend(cos.iter().zip(&sin).map(|(&c, &s)| [c, s]));
    }
    turns
}

fn device_error(error: CudaError) -> ExecutorError {
    ExecutorError::Device(error.to_string())
}

impl Executor for CudaExecutor {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn submit(&mut self, batch: &Batch) -> Result<Ticket, ExecutorError> {
        self.check(batch)?;
        let picked = self.run(batch, None).map_err(device_error)?;
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

    fn memory(&self) -> MemoryReport {
        MemoryReport {
            device: format!("cuda:{}", self.device.ordinal()),
            weights: self.plan.weights,
            kv_cache: self.plan.kv_cache,
            activations: self.plan.activations,
            resident: self.residency.is_healthy(),
        }
    }
}
