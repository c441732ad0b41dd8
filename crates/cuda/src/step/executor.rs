//! A model on a GPU: takes batches, queues their work, and hands out what they gave.
//!
//! A step's prompt rows run first, then its generated rows as one captured graph. Rows, spans and sampling parameters go to the device
//! before each, from pinned memory, and sampled tokens come back after it; the host need not know a token for the next step to start.

mod rows;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use device::batch::{Output, Progress, SlotId};
use device::{Batch, Executor, ExecutorError, Limits, MemoryReport, Picked, Role, StageTime, Ticket, Want};
use model::Model;
use model::architecture::Position;
use model::rope::RopeTable;
use model::stage::Stage;
use thiserror::Error;

use self::rows::{StepRows, choices};
use crate::args::{PAGE, Row};
use crate::driver::{Device, DevicePtr, Event, EventKind, GraphExec, PinnedBuffer, Stream};
use crate::error::CudaError;
use crate::launch::kernels::Kernels;
use crate::memory::arena::{Arena, ArenaPlan, Purpose, RESERVE};
use crate::memory::residency::Residency;
use crate::memory::staging::Staging;
use crate::placement::load::{self, LoadStats};
use crate::placement::place::{HeadShape, Unsupported, place};
use crate::sampling::{SampleBegin, SampleKernels, SampleLimits, SampleOut};
use crate::sizes::MAX_SLOTS;
use crate::step::decode::{Decode, Shape};
use crate::step::host_norm::HostNorm;
use crate::step::network::Network;
use crate::step::observe::{Marks, Observer, Rows, Watch, Watcher};
use crate::step::options::{MemoryPlan, Options};
use crate::step::prompt::Prompt;

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

/// Steps that may be submitted before the first is collected.
const N_IN_FLIGHT: usize = 2;

/// What [`Executor::time_stages`] calls the sampler, which is no stage of a model.
const SAMPLE: &str = "sample";

/// Pinned bytes of a step's inputs; what goes beyond is copied while the host waits.
const STAGING_BYTES: usize = 4 << 20;

/// A model on a GPU.
pub struct CudaExecutor {
    network: Network,
    limits: Limits,
    plan: MemoryPlan,
    stream: Stream,
    sampler: SampleKernels,
    /// The norm before the output, for hidden rows.
    output_norm: HostNorm,
    /// None for a shape that could not be captured.
    graphs: HashMap<Shape, Option<GraphExec>>,
    slots: Vec<Slot>,
    next_ticket: u64,
    /// In the order of submission.
    in_flight: VecDeque<Step>,
    finished: VecDeque<(u64, Vec<Picked>)>,
    /// What went wrong on the device: a step may have been queued in part, so nothing is computed from then on.
    failure: Option<CudaError>,
    /// Where a step's inputs and results lie on the host; a step in flight has one of them.
    lanes: Vec<Lane>,
    residency: Residency,
    stats: LoadStats,
    /// Freed last.
    _arena: Arena,
    device: Arc<Device>,
}

/// What the host knows of a slot.
#[derive(Clone, Debug, Default)]
struct Slot {
    /// What the device's page tables hold: that of all positions, then the windows'.
    pages: [Vec<u32>; 2],
    /// How far its sequence is.
    progress: Progress,
}

/// Pinned memory for one step.
struct Lane {
    inputs: Staging,
    /// `[2 n_col]` of [`SampleOut`]: of prompts, then of generated rows.
    results: PinnedBuffer,
    done: Event,
}

/// A submitted step.
struct Step {
    ticket: u64,
    lane: usize,
    /// In the order of the spans that wanted something.
    wants: Vec<(SlotId, Pending)>,
}

/// What a span gives back.
enum Pending {
    /// Sampled: the index of its result.
    Sampled(usize),
    /// Sampled and checked: the index of its first result, and how many it has.
    Checked(usize, usize),
    /// Logits or hidden rows, which were waited for.
    Ready(Output),
}

/// What a step's spans give back, by span.
type Wants = HashMap<usize, Pending>;

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
        let sizes = options.sizes(model);
        let counts = [sizes.n_ctx, sizes.n_slot, sizes.n_row, sizes.pages.n_page];
        let is_absurd = |n: &usize| *n == 0 || i32::try_from(*n).is_err();
        if counts.iter().any(is_absurd)
            || sizes.n_slot > MAX_SLOTS
            || i32::try_from(sizes.n_snapshot).is_err()
        {
            return Err(LoadError::Options(format!("{options:?}")));
        }
        let placement = place(model)?;
        let plan = options.plan(model)?;
        let device = Device::open(options.ordinal)?;
        let mut arena_plan = ArenaPlan::new();
        let weights = arena_plan.add(Purpose::Weights, plan.weights);
        let kv_cache = arena_plan.add(Purpose::KvCache, plan.kv_cache);
        let state = arena_plan.add(Purpose::State, plan.state);
        let activations = arena_plan.add(Purpose::Activations, plan.activations);
        let arena = Arena::new(&device, &arena_plan, RESERVE + options.staging_bytes())?;
        let residency = arena.watch(options.residency_interval)?;
        let kernels = Kernels::new(&device);
        let at = [weights, kv_cache, state, activations].map(|region| arena.take(region));
        let stream = Stream::new(&device)?;
        // Padding of activations is read, if only to be multiplied by zero weights.
        arena.clear(Purpose::Activations, &stream)?;
        arena.clear(Purpose::KvCache, &stream)?;
        arena.clear(Purpose::State, &stream)?;
        stream.synchronize()?;
        let stats = load::load(
            &placement,
            at[0],
            HeadShape::of(arch),
            (&device, &kernels, options.upload()),
            progress,
        )?;
        let network = Network::new(arch, sizes, &placement, at, kernels);
        if let Position::Rope(ropes) = &arch.position {
            let tables = ropes.kinds.iter().map(|rope| RopeTable::new(rope, sizes.n_ctx));
            let all: Vec<[f32; 2]> = tables.flat_map(|table| turns(&table, sizes.n_ctx)).collect();
            stream.write(network.buffers.shared.turns, &all)?;
        }
        let limits = Limits {
            page_size: PAGE,
            n_page: sizes.pages.n_page,
            window: sizes.pages.window,
            n_slot: sizes.n_slot,
            n_row: sizes.n_row,
            n_ctx: sizes.n_ctx,
            n_vocab: arch.n_vocab,
            n_embd: arch.n_embd,
            n_snapshot: (arch.n_state() > 0).then_some(sizes.n_snapshot),
            n_guess: sizes.n_guess,
            n_in_flight: N_IN_FLIGHT,
        };
        let sample_limits = SampleLimits::of(&sizes, arch.n_vocab);
        let lane = || -> Result<Lane, CudaError> {
            Ok(Lane {
                inputs: Staging::new(&device, STAGING_BYTES)?,
                results: PinnedBuffer::new(&device, 2 * sizes.n_col * size_of::<SampleOut>())?,
                done: Event::new(&device, EventKind::Order)?,
            })
        };
        Ok(CudaExecutor {
            sampler: SampleKernels::new(&device, sample_limits)?,
            output_norm: HostNorm::new(arch.norm, &model.weights.output_norm),
            lanes: (0..=N_IN_FLIGHT).map(|_| lane()).collect::<Result<_, _>>()?,
            network,
            limits,
            plan,
            stream,
            graphs: HashMap::new(),
            slots: vec![Slot::default(); sizes.n_slot],
            next_ticket: 0,
            in_flight: VecDeque::new(),
            finished: VecDeque::new(),
            failure: None,
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

    /// The names of the kernels that have been loaded so far.
    #[must_use]
    pub fn loaded_kernels(&self) -> Vec<String> {
        self.network.kernels.loaded()
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
        let ticket = self.start(batch, Some(Watcher::Values(watch)))?;
        self.collect(ticket)
    }

    fn start(&mut self, batch: &Batch, watch: Option<Watcher<'_>>) -> Result<Ticket, ExecutorError> {
        self.check_health()?;
        batch.check(&self.limits, |slot| self.slots[slot as usize].progress)?;
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let lane = (ticket % self.lanes.len() as u64) as usize;
        while self.in_flight.iter().any(|step| step.lane == lane) {
            self.finish_first()?;
        }
        let wants = self.queue(batch, lane, watch).map_err(|error| self.fail(error))?;
        self.in_flight.push_back(Step { ticket, lane, wants });
        Ok(Ticket(ticket))
    }

    /// The first failure, again and again: the device is not asked any more.
    fn check_health(&self) -> Result<(), ExecutorError> {
        self.failure.as_ref().map_or(Ok(()), |error| Err(ExecutorError::Device(error.to_string())))
    }

    /// Notes that the device failed.
    fn fail(&mut self, error: CudaError) -> ExecutorError {
        ExecutorError::Device(self.failure.get_or_insert(error).to_string())
    }

    /// Queues a step.
    fn queue(
        &mut self,
        batch: &Batch,
        lane: usize,
        watch: Option<Watcher<'_>>,
    ) -> Result<Vec<(SlotId, Pending)>, CudaError> {
        self.lanes[lane].inputs.clear();
        for span in &batch.spans {
            if let Some(prompt) = &span.begin {
                self.begin(lane, span.slot, prompt)?;
            }
            self.set_pages(lane, span.slot, (0, 0), &span.pages)?;
            self.set_pages(lane, span.slot, (1, span.window.first), &span.window.ids)?;
            self.network.states.begin(&self.stream, span)?;
        }
        let mut wants = Wants::new();
        let prompt = StepRows::of(batch, Role::Prompt);
        let generated = StepRows::of(batch, Role::Generated);
        let (of_prompt, of_generated) = if prompt.rows.is_empty() { (None, watch) } else { (watch, None) };
        if !prompt.rows.is_empty() {
            self.queue_prompt(batch, &prompt, (lane, of_prompt), &mut wants)?;
        }
        if !generated.rows.is_empty() {
            self.queue_generated(batch, &generated, (lane, of_generated), &mut wants)?;
        }
        for span in &batch.spans {
            self.network.states.save(&self.stream, span)?;
            let progress = &mut self.slots[span.slot as usize].progress;
            progress.position = span.start + span.input.len();
            progress.has_last |= matches!(span.want, Want::Sample(_) | Want::Check(_));
        }
        self.lanes[lane].done.record(&self.stream)?;
        let spans = batch.spans.iter().enumerate();
        Ok(spans.filter_map(|(index, span)| Some((span.slot, wants.remove(&index)?))).collect())
    }

    /// Forgets what a slot held.
    fn begin(&mut self, lane: usize, slot: SlotId, prompt: &[u32]) -> Result<(), CudaError> {
        let shared = &self.network.buffers.shared;
        let record = SampleBegin { slot, first: 0, n: prompt.len() as u32, reserved: 0 };
        let inputs = &mut self.lanes[lane].inputs;
        inputs.send(&self.stream, shared.begin, &[record])?;
        inputs.send(&self.stream, shared.begin_ids, prompt)?;
        self.slots[slot as usize].progress = Progress::default();
        self.sampler.begin(&self.stream, &shared.sample_generated, (shared.begin, 1), shared.begin_ids)
    }

    /// Brings a slot's pages from number `first` on to one of its page tables, as far as they are not there.
    fn set_pages(
        &mut self,
        lane: usize,
        slot: SlotId,
        (table, first): (usize, usize),
        pages: &[u32],
    ) -> Result<(), CudaError> {
        let max_pages = self.network.max_pages();
        let known = &mut self.slots[slot as usize].pages[table];
        known.resize(max_pages, u32::MAX);
        let known = &mut known[first.min(max_pages)..];
        let pages = &pages[..pages.len().min(known.len())];
        let known = &mut known[..pages.len()];
        if known != pages {
            let n_same = known.iter().zip(pages).take_while(|(known, page)| known == page).count();
            let pages = &pages[n_same..];
            known[n_same..].copy_from_slice(pages);
            let at = slot as usize * max_pages + first + n_same;
            let to = self.network.page_tables(table == 1).offset(4 * at as u64);
            self.lanes[lane].inputs.send(&self.stream, to, pages)?;
        }
        Ok(())
    }

    fn queue_prompt(
        &mut self,
        batch: &Batch,
        step: &StepRows,
        (lane, watch): (usize, Option<Watcher<'_>>),
        wants: &mut Wants,
    ) -> Result<(), CudaError> {
        let (network, stream) = (&self.network, &self.stream);
        let buffers = &network.buffers.prompt;
        let shared = &network.buffers.shared;
        let inputs = &mut self.lanes[lane].inputs;
        inputs.send(stream, buffers.rows, &step.rows)?;
        inputs.send(stream, buffers.spans, &step.spans)?;
        let want = |row: usize| &batch.spans[step.span_of[row]].want;
        let rows_where = |wanted: &dyn Fn(usize) -> bool| -> Vec<i32> {
            (0..step.rows.len()).filter(|&row| wanted(row)).map(|row| row as i32).collect()
        };
        let is_sampled = |row| matches!(want(row), Want::Sample(_)) && step.is_last_of_span(row);
        let sampled = rows_where(&is_sampled);
        let choices = choices(batch, sampled.iter().map(|&row| step.span_of[row as usize]), sampled.len());
        inputs.send(stream, shared.heads, &sampled)?;
        inputs.send(stream, shared.sample_prompt.rows, choices.rows())?;
        inputs.send(stream, shared.sample_prompt.area, choices.area())?;

        let prompt = Prompt { network, stream, n_row: step.rows.len(), spans: &step.spans };
        let mut observer = match watch {
            None => Observer::nobody(),
            Some(Watcher::Values(watch)) => Observer::watching(watch, stream),
            Some(Watcher::Times(marks)) => Observer::timing(marks, stream, false)?,
        };
        prompt.layers(&mut observer)?;
        let n_vocab = self.limits.n_vocab;
        for rows in rows_where(&|row| matches!(want(row), Want::Logits)).chunks(buffers.n_logits) {
            self.lanes[lane].inputs.send(stream, buffers.heads, rows)?;
            prompt.logits(rows.len())?;
            observer.see(Stage::Head, 0, Rows::float(buffers.logits, rows.len(), n_vocab))?;
            let mut values = vec![0f32; rows.len() * n_vocab];
            stream.read(&mut values, buffers.logits)?;
            for (&row, values) in rows.iter().zip(values.chunks_exact(n_vocab)) {
                add_logits(wants, step.span_of[row as usize], values);
            }
        }
        for (span, row0) in step.first_rows() {
            if let Want::Hidden(rows) = batch.spans[span].want {
                let rows = rows.of(batch.spans[span].input.len());
                let n_embd = self.limits.n_embd;
                let mut values = vec![0f32; rows.len() * n_embd];
                stream.read(&mut values, buffers.x.offset(4 * ((row0 + rows.start) * n_embd) as u64))?;
                values.chunks_exact_mut(n_embd).for_each(|row| self.output_norm.apply(row));
                wants.insert(span, Pending::Ready(Output::Hidden(values)));
            }
        }
        if sampled.is_empty() {
            return Ok(());
        }
        network.head(stream, (buffers.x, shared.heads), sampled.len())?;
        observer.mark(Stage::Head.name())?;
        let n = sampled.len() as u32;
        self.sampler.launch(stream, &shared.sample_prompt, shared.logits, n)?;
        observer.mark(SAMPLE)?;
        self.fetch(lane, 0, shared.sample_prompt.out, sampled.len())?;
        for (i, &row) in sampled.iter().enumerate() {
            wants.insert(step.span_of[row as usize], Pending::Sampled(i));
        }
        Ok(())
    }

    fn queue_generated(
        &mut self,
        batch: &Batch,
        step: &StepRows,
        (lane, watch): (usize, Option<Watcher<'_>>),
        wants: &mut Wants,
    ) -> Result<(), CudaError> {
        let (network, stream) = (&self.network, &self.stream);
        let (buffers, shared) = (&network.buffers.decode, &network.buffers.shared);
        let n = step.rows.len();
        let n_position = step.rows.iter().map(|row| row.position as usize + 1).max().unwrap_or(1);
        let may_place = network.attention_can_place_any() && step.spans.iter().all(|span| span.n_row == 1);
        let shape = Shape::bucket(n, n_position, network.sizes.n_ctx, may_place);
        let mut rows = step.rows.clone();
        // The rest of the bucket is computed as well, and must not be taken for rows of an earlier step.
        rows.resize(shape.n_row, Row::PADDING);
        let (choices, is_checked) =
            (choices(batch, step.span_of.iter().copied(), shape.n_row), step.has_checks(batch));
        let inputs = &mut self.lanes[lane].inputs;
        inputs.send(stream, buffers.rows, &rows)?;
        inputs.send(stream, shared.sample_generated.rows, choices.rows())?;
        inputs.send(stream, shared.sample_generated.area, choices.area())?;

        let n_vocab = self.limits.n_vocab;
        let run = |stream: &Stream, observer: &mut Observer<'_>| {
            let decode = Decode::new(network, stream, shape, shared.sample_generated.last);
            decode.run(observer)?;
            observer.see(Stage::Head, 0, Rows::float(shared.logits, n, n_vocab))?;
            if network.kernels.is_rehearsing() {
                return Ok(());
            }
            self.sampler.launch(stream, &shared.sample_generated, shared.logits, shape.n_row as u32)?;
            observer.mark(SAMPLE)
        };
        if let Some(Watcher::Values(watch)) = watch {
            run(stream, &mut Observer::watching(watch, stream))?;
        } else if let Some(Watcher::Times(marks)) = watch {
            network.kernels.rehearse(|| run(stream, &mut Observer::nobody()))?;
            // As steps run otherwise: without a graph the device would wait for launches.
            let graph = stream.capture(|stream| run(stream, &mut Observer::timing(marks, stream, true)?))?;
            graph.launch(stream)?;
            marks.graph = Some(graph);
        } else {
            if let Entry::Vacant(entry) = self.graphs.entry(shape) {
                network.kernels.rehearse(|| run(stream, &mut Observer::nobody()))?;
                let graph = match stream.capture(|stream| run(stream, &mut Observer::nobody())) {
                    Ok(graph) => Some(graph),
                    Err(error) if error.is_sticky() => return Err(error),
                    Err(error) => {
                        // Such as no memory for one more graph: slower without, and the same bits.
                        tracing::warn!("steps of {} rows run without a graph: {error}", shape.n_row);
                        None
                    }
                };
                entry.insert(graph);
            }
            match self.graphs.get(&shape) {
                Some(Some(graph)) => graph.launch(stream)?,
                _ => run(stream, &mut Observer::nobody())?,
            }
        }
        if is_checked {
            self.sampler.check(stream, &shared.sample_generated, n as u32)?;
        }
        let first = network.sizes.n_col;
        self.fetch(lane, first, shared.sample_generated.out, n)?;
        for (row, &span) in step.span_of.iter().enumerate() {
            match &batch.spans[span].want {
                // Hidden rows are prompts'.
                Want::Nothing | Want::Hidden(_) => {}
                Want::Check(choices) => {
                    wants.entry(span).or_insert(Pending::Checked(first + row, choices.len()));
                }
                Want::Sample(_) => {
                    // Only a span's last row is sampled.
                    wants.insert(span, Pending::Sampled(first + row));
                }
                Want::Logits => {
                    let mut values = vec![0f32; n_vocab];
                    self.stream.read(&mut values, shared.logits.offset(4 * (row * n_vocab) as u64))?;
                    add_logits(wants, span, &values);
                }
            }
        }
        Ok(())
    }

    /// Queues the copy of `n` results to a lane, from its result `first` on.
    fn fetch(&self, lane: usize, first: usize, from: DevicePtr, n: usize) -> Result<(), CudaError> {
        let size = size_of::<SampleOut>();
        let results = &self.lanes[lane].results;
        assert!((first + n) * size <= results.bytes(), "results {first} and {n} more");
        // SAFETY: within the lane's pinned memory, which is read only after the lane's event and outlives the stream's work.
        unsafe { self.stream.memcpy_d2h_async(results.as_ptr().add(first * size), from, n * size) }
    }

    /// Waits for the first step in flight.
    fn finish_first(&mut self) -> Result<(), ExecutorError> {
        let Some(step) = self.in_flight.pop_front() else { return Ok(()) };
        self.lanes[step.lane].done.synchronize().map_err(|error| self.fail(error))?;
        let results: &[SampleOut] = self.lanes[step.lane].results.as_slice();
        let output = |pending| match pending {
            Pending::Sampled(index) => Output::Token(results[index].sampled()),
            Pending::Checked(first, n) => {
                let n = results[first].n_kept(n);
                Output::Tokens(results[first..first + n].iter().map(SampleOut::sampled).collect())
            }
            Pending::Ready(output) => output,
        };
        let wants = step.wants.into_iter();
        let picked = wants.map(|(slot, pending)| Picked { slot, output: output(pending) }).collect();
        self.finished.push_back((step.ticket, picked));
        Ok(())
    }
}

fn add_logits(wants: &mut Wants, span: usize, values: &[f32]) {
    match wants.entry(span).or_insert_with(|| Pending::Ready(Output::Logits(Vec::new()))) {
        Pending::Ready(Output::Logits(all)) => all.extend_from_slice(values),
        _ => unreachable!("a span wants tokens or logits"),
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

impl Drop for CudaExecutor {
    /// Waits for steps in flight, which use nearly everything that is freed next. On a lost device this fails at once.
    fn drop(&mut self) {
        if let Err(error) = self.stream.synchronize() {
            tracing::debug!(%error, "waiting for the last steps");
        }
    }
}

impl Executor for CudaExecutor {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn submit(&mut self, batch: &Batch) -> Result<Ticket, ExecutorError> {
        self.start(batch, None)
    }

    fn collect(&mut self, ticket: Ticket) -> Result<Vec<Picked>, ExecutorError> {
        self.check_health()?;
        while self.in_flight.front().is_some_and(|step| step.ticket <= ticket.0) {
            self.finish_first()?;
        }
        let at =
            self.finished.iter().position(|(t, _)| *t == ticket.0).ok_or(ExecutorError::Ticket(ticket.0))?;
        Ok(self.finished.remove(at).map(|(_, picked)| picked).unwrap_or_default())
    }

    fn time_stages(&mut self, batch: &Batch) -> Result<Vec<StageTime>, ExecutorError> {
        let mut marks = Marks::new(&self.device);
        let ticket = self.start(batch, Some(Watcher::Times(&mut marks)))?;
        self.collect(ticket)?;
        marks.times().map_err(|error| self.fail(error))
    }

    fn memory(&self) -> MemoryReport {
        MemoryReport {
            device: format!("cuda:{}", self.device.ordinal()),
            weights: self.plan.weights,
            kv_cache: self.plan.kv_cache,
            state: self.plan.state,
            activations: self.plan.activations,
            resident: self.residency.is_healthy(),
        }
    }
}
