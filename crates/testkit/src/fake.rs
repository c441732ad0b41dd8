//! An executor without a model: the next token depends on every token before it, as the pages hold them, and on nothing else.
//!
//! It is strict. Each step is checked against the contract, so that a page written by two sequences, one that changes while it is
//! shared, a window's page that lacks a position that a row sees, a gap, or a row that asks for a token that was never sampled is an error, not a quietly different answer. The tokens themselves
//! live in the pages.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use device::batch::{PageId, SlotId, SnapshotId};
use device::sampling::{Row, Sampler, SlotState, philox};
use device::{
    Batch, Choice, Executor, ExecutorError, Input, Limits, MemoryReport, Output, Picked, Role, Sampled, Span,
    Ticket, Want,
};

/// What goes wrong, at the step with this number (from 0).
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The device fails as the step is submitted.
    SubmitError(usize),
    /// The device fails as the step is collected.
    CollectError(usize),
    /// The step's ticket is not known when it is collected.
    TicketLost(usize),
    /// It panics as the step is submitted.
    Panic(usize),
    /// Submitting the step never returns.
    Hang(usize),
    /// From this step on the model is not resident.
    NotResident(usize),
    /// All logits of the step are NaN.
    Broken(usize),
}

/// Small sizes: a context of 64, 40 ids.
pub const LIMITS: Limits = Limits {
    page_size: 4,
    n_page: 64,
    window: None,
    n_slot: 4,
    n_row: 16,
    n_ctx: 64,
    n_vocab: 40,
    n_embd: 4,
    n_snapshot: None,
    n_guess: 0,
    n_in_flight: 1,
};

/// The executor.
pub struct Fake {
    limits: Limits,
    fault: Option<Fault>,
    latency: Duration,
    prompt_latency: Duration,
    /// Of how many rows one has other logits; 0 for none.
    salt: u64,
    /// Whether a span may begin before the position that its slot has reached.
    takes_back: bool,
    /// Locked for each step: a test that holds it holds the device.
    pub gate: Arc<Mutex<()>>,
    n_step: usize,
    /// Steps begun, for tests that look from outside.
    pub steps: Arc<AtomicUsize>,
    /// Rows computed.
    pub rows: Arc<AtomicUsize>,
    pages: Vec<Vec<Option<u32>>>,
    /// Those of windows.
    windows: Vec<Vec<Option<u32>>>,
    slots: HashMap<SlotId, Slot>,
    /// Which slot may write to a page.
    owners: HashMap<PageId, SlotId>,
    /// States that are kept: hashes of the tokens before.
    snapshots: HashMap<SnapshotId, u64>,
    results: VecDeque<(Ticket, Vec<Picked>)>,
    sampler: Sampler,
}

#[derive(Default)]
struct Slot {
    n_token: usize,
    n_prompt: usize,
    state: SlotState,
    /// Of its tokens, for an executor with states.
    hash: u64,
}

impl Fake {
    /// One that works.
    #[must_use]
    pub fn new(limits: Limits) -> Fake {
        Fake {
            pages: vec![vec![None; limits.page_size]; limits.n_page],
            windows: vec![vec![None; limits.page_size]; limits.window.map_or(0, |window| window.n_page)],
            limits,
            fault: None,
            latency: Duration::ZERO,
            prompt_latency: Duration::ZERO,
            salt: 0,
            takes_back: false,
            gate: Arc::default(),
            n_step: 0,
            steps: Arc::default(),
            rows: Arc::default(),
            slots: HashMap::new(),
            owners: HashMap::new(),
            snapshots: HashMap::new(),
            results: VecDeque::new(),
            sampler: Sampler::default(),
        }
    }

    /// This goes wrong.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Fake {
        self.fault = Some(fault);
        self
    }

    /// One that is a draft model: a sequence may go back, and the logits of about one in `salt` of its rows are others; of none, where that is 0.
    #[must_use]
    pub fn draft(mut self, salt: u64) -> Fake {
        (self.takes_back, self.salt) = (true, salt);
        self
    }

    /// Each step takes this long.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Fake {
        self.latency = latency;
        self
    }

    /// Each step with prompt rows takes this much longer.
    #[must_use]
    pub fn prompt_latency(mut self, latency: Duration) -> Fake {
        self.prompt_latency = latency;
        self
    }

    fn span(&mut self, span: &Span) -> Result<Option<Picked>, String> {
        let slot = self.slots.entry(span.slot).or_default();
        if let Some(prompt) = &span.begin {
            *slot = Slot { n_prompt: prompt.len(), ..Slot::default() };
            slot.state.begin(Arc::clone(prompt));
            let n_shared = span.start / self.limits.page_size;
            let n_kept = span.start % self.limits.page_size;
            for (i, &page) in span.pages.iter().enumerate() {
                let tokens = self.pages.get_mut(page as usize).ok_or("page out of range")?;
                if i == n_shared && n_kept > 0 {
                    let kept = prompt[..span.start].iter().skip(n_shared * self.limits.page_size);
                    let is_own = self.owners.get(&page) == Some(&span.slot);
                    if !is_own || !tokens[..n_kept].iter().copied().eq(kept.map(|&token| Some(token))) {
                        return Err("a page that is begun with other tokens".to_owned());
                    }
                    tokens[n_kept..].fill(None);
                } else if i >= n_shared {
                    self.owners.insert(page, span.slot);
                    tokens.fill(None);
                } else if !tokens.iter().copied().eq(prompt
                    .chunks(self.limits.page_size)
                    .nth(i)
                    .into_iter()
                    .flatten()
                    .map(|&t| Some(t)))
                {
                    return Err("a shared page with other tokens".to_owned());
                }
            }
            slot.n_token = span.start;
            if let Some(id) = span.load {
                slot.hash = *self.snapshots.get(&id).ok_or("a snapshot that was never saved")?;
            }
        }
        let end = span.start + span.input.len();
        let expected_role = if span.start < slot.n_prompt { Role::Prompt } else { Role::Generated };
        if end > span.pages.len() * self.limits.page_size {
            return Err("too few pages".to_owned());
        }
        for (holds, otherwise) in [
            ((span.slot as usize) < self.limits.n_slot, "slot out of range"),
            (
                span.start == slot.n_token || self.takes_back && span.start < slot.n_token,
                "a gap or an overlap",
            ),
            (!span.input.is_empty(), "an empty span"),
            (end <= self.limits.n_ctx, "past the context"),
            (span.role == expected_role, "the wrong role"),
            (span.role == Role::Generated || end <= slot.n_prompt, "past the prompt"),
            (
                span.pages[span.start / self.limits.page_size..]
                    .iter()
                    .all(|page| self.owners.get(page) == Some(&span.slot)),
                "another sequence's page",
            ),
            (matches!(span.input, Input::Tokens(_)) || slot.state.last().is_some(), "no last token"),
            (
                matches!(span.input, Input::Guess(_)) == matches!(span.want, Want::Check(_)),
                "guesses unchecked",
            ),
            (span.input.n_guess() == 0 || self.limits.n_snapshot.is_none(), "guesses beside a state"),
        ] {
            if !holds {
                return Err(otherwise.to_owned());
            }
        }
        let tokens = match &span.input {
            Input::Tokens(tokens) => tokens.to_vec(),
            Input::Last => slot.state.last().into_iter().collect(),
            Input::Guess(guesses) => slot.state.last().into_iter().chain(guesses.iter().copied()).collect(),
        };
        for (position, token) in (span.start..).zip(tokens) {
            slot.hash = philox::token_bits(slot.hash, u64::from(token));
            let page = span.pages[position / self.limits.page_size];
            self.pages[page as usize][position % self.limits.page_size] = Some(token);
        }
        slot.n_token = end;
        if let Some(id) = span.save {
            self.snapshots.insert(id, slot.hash);
        }
        self.write_window(span, end)?;
        let output = match &span.want {
            Want::Nothing => return Ok(None),
            Want::Logits => {
                let rows = (span.start..end).map(|position| self.logits(span, position + 1));
                Output::Logits(rows.collect::<Result<Vec<Vec<f32>>, _>>()?.concat())
            }
            Want::Hidden(rows) => {
                let n_embd = self.limits.n_embd;
                let row = |i| Ok(self.logits(span, span.start + i + 1)?[..n_embd].to_vec());
                let rows = rows.of(span.input.len()).map(row);
                Output::Hidden(rows.collect::<Result<Vec<Vec<f32>>, String>>()?.concat())
            }
            Want::Sample(choice) => Output::Token(self.sample(span, end, choice)?),
            Want::Check(choices) => Output::Tokens(self.check(span, choices)?),
        };
        Ok(Some(Picked { slot: span.slot, output }))
    }

    /// The token after the first `end` of a span's sequence.
    fn sample(&mut self, span: &Span, end: usize, choice: &Choice) -> Result<Sampled, String> {
        let logits = self.logits(span, end)?;
        let slot = self.slots.entry(span.slot).or_default();
        let Choice { params, mask } = choice;
        let row = Row { logits: &logits, params, mask: mask.as_deref(), position: end };
        Ok(self.sampler.sample(row, &mut slot.state))
    }

    /// The tokens after a span's rows, up to the first wrong guess.
    fn check(&mut self, span: &Span, choices: &[Choice]) -> Result<Vec<Sampled>, String> {
        let Input::Guess(guesses) = &span.input else { return Err("no guesses".to_owned()) };
        let mut tokens = Vec::new();
        for (i, choice) in choices.iter().enumerate() {
            let sampled = self.sample(span, span.start + i + 1, choice)?;
            let is_right = guesses.get(i) == Some(&sampled.token) && sampled.is_choice();
            tokens.push(sampled);
            if !is_right {
                break;
            }
        }
        self.slots.entry(span.slot).or_default().n_token = span.start + tokens.len();
        Ok(tokens)
    }

    /// The logits after the first `end` tokens of a span's sequence, `[n_vocab]`.
    fn logits(&self, span: &Span, end: usize) -> Result<Vec<f32>, String> {
        let mut hash = 0;
        for position in 0..end {
            let page = &self.pages[span.pages[position / self.limits.page_size] as usize];
            let token = page[position % self.limits.page_size].ok_or("a position that was never written")?;
            hash = philox::token_bits(hash, u64::from(token));
        }
        let slot = self.slots.get(&span.slot).filter(|slot| slot.n_token == end);
        if self.limits.n_snapshot.is_some() && slot.is_some_and(|slot| slot.hash != hash) {
            return Err("a state of other tokens".to_owned());
        }
        let broken = matches!(self.fault, Some(Fault::Broken(n)) if n == self.n_step);
        // Every so often the logits are those of another history.
        let hash = if self.salt > 0 && hash.is_multiple_of(self.salt) { hash ^ self.salt } else { hash };
        let logit = |id| if broken { f32::NAN } else { (philox::token_bits(hash, id) >> 61) as f32 };
        Ok((0..self.limits.n_vocab as u64).map(logit).collect())
    }

    /// Writes a span's tokens to its window's pages too, which must hold what its rows see.
    fn write_window(&mut self, span: &Span, end: usize) -> Result<(), String> {
        let Limits { page_size, window: Some(window), .. } = self.limits else { return Ok(()) };
        for position in (span.start + 1).saturating_sub(window.n_position)..end {
            let number = position / page_size;
            let id = number.checked_sub(span.window.first).and_then(|i| span.window.ids.get(i));
            let page = id.and_then(|&id| self.windows.get_mut(id as usize)).ok_or("a window's page lacks")?;
            let token = self.pages[span.pages[number] as usize][position % page_size];
            if position >= span.start {
                if position % page_size == 0 {
                    page.fill(None);
                }
                page[position % page_size] = token;
            } else if page[position % page_size] != token {
                return Err("a window's page with other tokens".to_owned());
            }
        }
        Ok(())
    }
}

impl Executor for Fake {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn submit(&mut self, batch: &Batch) -> Result<Ticket, ExecutorError> {
        let error = |span, found: &str| ExecutorError::Batch {
            span,
            expected: "what the contract says".to_owned(),
            found: found.to_owned(),
        };
        self.steps.fetch_add(1, Ordering::Relaxed);
        drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
        let has_prompt = batch.spans.iter().any(|span| span.role == Role::Prompt);
        thread::sleep(self.latency + if has_prompt { self.prompt_latency } else { Duration::ZERO });
        match self.fault {
            Some(Fault::SubmitError(n)) if n == self.n_step => {
                return Err(ExecutorError::Device("lost at submit".to_owned()));
            }
            Some(Fault::Hang(n)) if n == self.n_step => loop {
                thread::park();
            },
            Some(Fault::Panic(n)) if n == self.n_step => panic!("the fake was told to"),
            _ => {}
        }
        let begins_inside = |s: &&Span| s.begin.is_some() && s.start > 0 && s.load.is_none();
        if self.limits.n_snapshot.is_some() && batch.spans.iter().any(|span| begins_inside(&span)) {
            return Err(error(0, "no state to begin with"));
        }
        let mut snapshots: HashSet<SnapshotId> = batch.spans.iter().filter_map(|span| span.load).collect();
        let is_new = batch.spans.iter().filter_map(|span| span.save).all(|id| snapshots.insert(id));
        let n_snapshot = self.limits.n_snapshot.unwrap_or(0);
        if !is_new || snapshots.iter().any(|&id| id as usize >= n_snapshot) {
            return Err(error(0, "a snapshot out of range, or saved where another span uses it"));
        }
        let slots: HashSet<SlotId> = batch.spans.iter().map(|s| s.slot).collect();
        if slots.len() != batch.spans.len() {
            return Err(error(0, "a slot twice"));
        }
        // Who else reads a page that a span may write to? Pages before a span's start are only read.
        let written = |s: &Span| s.pages.get(s.start / self.limits.page_size..).unwrap_or_default().to_vec();
        let mut n_use: HashMap<PageId, usize> = HashMap::new();
        batch
            .spans
            .iter()
            .flat_map(|s| s.pages.iter())
            .for_each(|&page| *n_use.entry(page).or_default() += 1);
        if batch.spans.iter().flat_map(written).any(|page| n_use.get(&page) != Some(&1)) {
            return Err(error(0, "a page twice"));
        }
        let windows = |s: &Span, from: usize| {
            s.window.ids.iter().skip(from.saturating_sub(s.window.first)).copied().collect::<Vec<PageId>>()
        };
        let mut n_use: HashMap<PageId, usize> = HashMap::new();
        for page in batch.spans.iter().flat_map(|s| windows(s, 0)) {
            *n_use.entry(page).or_default() += 1;
        }
        let written = |s: &Span| windows(s, s.start / self.limits.page_size);
        if batch.spans.iter().flat_map(written).any(|page| n_use.get(&page) != Some(&1)) {
            return Err(error(0, "a window's page twice"));
        }
        if batch.spans.iter().map(|span| span.input.n_guess()).sum::<usize>() > self.limits.n_guess {
            return Err(error(0, "too many guesses"));
        }
        if batch.n_row() > self.limits.n_row || batch.n_row() == 0 {
            return Err(error(0, "a number of rows outside the limits"));
        }
        if self.results.len() >= self.limits.n_in_flight {
            return Err(error(0, "too many steps in flight"));
        }
        self.rows.fetch_add(batch.n_row(), Ordering::Relaxed);
        let mut picked = Vec::new();
        for (i, span) in batch.spans.iter().enumerate() {
            picked.extend(self.span(span).map_err(|found| error(i, &found))?);
        }
        let ticket = Ticket(self.n_step as u64);
        self.n_step += 1;
        self.results.push_back((ticket, picked));
        Ok(ticket)
    }

    fn collect(&mut self, ticket: Ticket) -> Result<Vec<Picked>, ExecutorError> {
        if matches!(self.fault, Some(Fault::CollectError(n)) if n as u64 == ticket.0) {
            return Err(ExecutorError::Device("lost at collect".to_owned()));
        }
        if matches!(self.fault, Some(Fault::TicketLost(n)) if n as u64 == ticket.0) {
            return Err(ExecutorError::Ticket(ticket.0));
        }
        match self.results.pop_front() {
            Some((first, picked)) if first == ticket => Ok(picked),
            _ => Err(ExecutorError::Ticket(ticket.0)),
        }
    }

    fn memory(&self) -> MemoryReport {
        let resident = !matches!(self.fault, Some(Fault::NotResident(n)) if n <= self.n_step);
        let device = "fake".to_owned();
        MemoryReport { device, weights: 0, kv_cache: 0, state: 0, activations: 0, resident }
    }
}
