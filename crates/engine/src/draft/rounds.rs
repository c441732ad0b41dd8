//! Which rows does a draft model compute between two steps of the model?

use std::time::Duration;

use device::{Output, Sampled, Span, Want};

use super::{Ask, Draft, Failure, MAX_LAG, Terms};
use crate::speculate::{Calibration, MARGIN, Proposal};

/// A sequence that is drafted for.
struct Active {
    id: u64,
    tokens: Vec<u32>,
    /// The most proposals.
    most: usize,
    /// Rows that its next span has.
    n_row: usize,
    calibration: Calibration,
    proposals: Vec<Proposal>,
    /// How likely all of them are right.
    reach: f64,
    is_over: bool,
}

impl Active {
    /// What one proposal more is likely to give, in tokens.
    fn gain(&self) -> f64 {
        self.reach * self.calibration.expected()
    }

    fn is_open(&self) -> bool {
        !self.is_over && self.proposals.len() < self.most
    }
}

impl Draft {
    /// Drafts for those that ask and are far enough, and brings one of the others nearer. What is proposed, by sequence: nothing, where it did not come to that.
    pub(crate) fn draft(
        &mut self,
        asks: &[Ask<'_>],
        terms: &Terms<'_>,
    ) -> Result<Vec<(u64, Vec<Proposal>)>, Failure> {
        let mut active: Vec<Active> = Vec::new();
        let mut feed: Option<(Ask<'_>, Vec<u32>, usize)> = None;
        // Pages of windows are there for as many positions behind those that a sequence may go back.
        let most = terms.room.min(self.limits.window.map_or(usize::MAX, |_| self.limits.page_size));
        let mut room = self.limits.n_row;
        for ask in asks {
            let (tokens, n_vocab) = (ask.tokens(), self.limits.n_vocab);
            let Some(followed) = self.follow(ask, &tokens) else { continue };
            let n_row = followed.settle(&tokens);
            let most = most.min(ask.most).min(followed.room(tokens.len()));
            if most == 0 || tokens[tokens.len() - n_row..].iter().any(|&id| id as usize >= n_vocab) {
                self.give_up(ask.id);
            } else if n_row > MAX_LAG.min(self.pace.n_row(true)) {
                feed.get_or_insert((*ask, tokens, n_row));
            } else if n_row <= room {
                room -= n_row;
                let (id, calibration) = (ask.id, ask.calibration);
                let proposals = Vec::new();
                active.push(Active {
                    id,
                    tokens,
                    most,
                    n_row,
                    calibration,
                    proposals,
                    reach: 1.0,
                    is_over: false,
                });
            }
        }
        if let Some((ask, tokens, n_row)) = feed {
            self.feed(&ask, (&tokens, n_row), terms)?;
        }
        self.propose(&mut active, terms)?;
        let drafted: Vec<(u64, Vec<Proposal>)> = active
            .into_iter()
            .map(|one| (one.id, one.proposals))
            .filter(|(_, made)| !made.is_empty())
            .collect();
        self.n_last = drafted.iter().map(|(_, made)| made.len()).max().unwrap_or(self.n_last);
        Ok(drafted)
    }

    /// Computes a piece of what a sequence lacks, if that may be worth it.
    fn feed(
        &mut self,
        ask: &Ask<'_>,
        (tokens, n_row): (&[u32], usize),
        terms: &Terms<'_>,
    ) -> Result<(), Failure> {
        let rows = self.pace.n_row(true).min(self.limits.own_window_rows()).min(n_row - 1);
        if let Some(cost) = terms.cost {
            let all = self.of_prompt_row.unwrap_or_default() * n_row as f64;
            let pays = self.pays(ask.calibration.expected(), cost, terms.n_generated);
            // A quarter of what the rest of the answer takes is about what guesses save of it.
            let is_short = all > cost.of(terms.n_generated) * ask.n_left as f64 / 4.0;
            if is_short || !self.account.allows(all, pays) {
                return Ok(());
            }
        }
        let context = (&self.limits, &self.greedy);
        let Some(Some(followed)) = self.followed.get_mut(&ask.id) else { return Ok(()) };
        let span = followed.catch_up(tokens, (rows, false), context);
        let (_, took) = self.step(vec![span])?;
        self.fed(rows, took);
        Ok(())
    }

    fn fed(&mut self, n_row: usize, took: Duration) {
        self.pace.measured(n_row, took);
        let seconds = took.as_secs_f64() / n_row.max(1) as f64;
        self.of_prompt_row =
            Some(self.of_prompt_row.map_or(seconds, |before| before + (seconds - before) / 4.0));
    }

    /// Drafts token by token, each for as many sequences as it pays for.
    fn propose(&mut self, active: &mut [Active], terms: &Terms<'_>) -> Result<(), Failure> {
        let (mut tokens, mut seconds) = (terms.n_generated as f64, 0.0);
        let mut n_proposal = 0;
        loop {
            let mut open: Vec<usize> = (0..active.len()).filter(|&i| active[i].is_open()).collect();
            open.sort_by(|&a, &b| active[b].gain().total_cmp(&active[a].gain()).then(a.cmp(&b)));
            open.truncate(terms.room.saturating_sub(n_proposal));
            let n = self.n_worth(&open, active, (tokens, seconds), terms);
            open.truncate(n);
            if open.is_empty() {
                return Ok(());
            }
            let gain: f64 = open.iter().map(|&i| active[i].gain()).sum();
            seconds += self.round(&open, active)?;
            seconds += terms.cost.map_or(0.0, |cost| cost.of_row() * open.len() as f64);
            tokens += gain;
            n_proposal += open.len();
            // Those that are left out once are left out: their rows would come a step later.
            (0..active.len()).filter(|i| !open.contains(i)).for_each(|i| active[i].is_over = true);
        }
    }

    /// For how many of these, the likeliest first, one token more is worth its time, where a step has so many tokens already and takes so many seconds more.
    fn n_worth(
        &self,
        open: &[usize],
        active: &[Active],
        (tokens, spent): (f64, f64),
        terms: &Terms<'_>,
    ) -> usize {
        let Some(cost) = terms.cost else { return open.len() };
        let seconds = cost.of(terms.n_generated) + spent;
        let (mut gain, mut n_row, mut best) = (0.0, 0, (0.0, 0));
        for (i, &at) in open.iter().enumerate() {
            gain += active[at].gain();
            n_row += if active[at].proposals.is_empty() { active[at].n_row } else { 1 };
            let step = if self.cost.is_known() { self.cost.of(n_row) } else { 0.0 };
            let extra = step + cost.of_row() * (i + 1) as f64;
            let pays = gain * seconds > MARGIN * tokens * extra;
            let rate = (tokens + gain) / (seconds + extra);
            let is_trial = i == 0 && active[at].proposals.is_empty() && self.account.allows(step, false);
            if rate > best.0 && (pays && self.account.allows(step, true) || is_trial) {
                best = (rate, i + 1);
            }
        }
        best.1
    }

    /// Drafts one token more for each of these; the seconds that it took.
    fn round(&mut self, open: &[usize], active: &mut [Active]) -> Result<f64, Failure> {
        let context = (&self.limits, &self.greedy);
        let mut spans: Vec<(usize, Span)> = Vec::with_capacity(open.len());
        let mut n_guess = 0;
        for &i in open {
            let one = &active[i];
            let Some(Some(followed)) = self.followed.get_mut(&one.id) else { continue };
            let span = match one.proposals.is_empty() {
                true => {
                    let rows = (one.n_row, n_guess < self.limits.n_guess);
                    Some(followed.catch_up(&one.tokens, rows, context))
                }
                false => followed.go_on(context),
            };
            let Some(span) = span else {
                active[i].is_over = true;
                continue;
            };
            n_guess += span.input.n_guess();
            spans.push((i, span));
        }
        let (which, spans): (Vec<usize>, Vec<Span>) = spans.into_iter().unzip();
        if spans.is_empty() {
            return Ok(0.0);
        }
        let n_row: usize = spans.iter().map(|span| span.input.len()).sum();
        let is_generated = spans.iter().all(|span| span.role == device::Role::Generated);
        let forced: Vec<bool> = spans.iter().map(|span| matches!(span.want, Want::Check(_))).collect();
        let (outputs, took) = self.step(spans)?;
        if is_generated {
            self.cost.measured(n_row, took);
        }
        for ((i, is_forced), output) in which.into_iter().zip(forced).zip(outputs) {
            let one = &mut active[i];
            match sampled(output, is_forced) {
                Some(sampled) if sampled.is_choice() => {
                    let probability = f64::from(sampled.logprob).exp();
                    if let Some(Some(followed)) = self.followed.get_mut(&one.id) {
                        followed.sampled(sampled.token);
                    }
                    one.reach *= one.calibration.chance(probability);
                    one.proposals.push(Proposal { token: sampled.token, probability });
                }
                _ => {
                    one.is_over = true;
                    self.count_unsound(one.id);
                }
            }
        }
        Ok(took.as_secs_f64())
    }
}

/// The token that a span is there for: the one after its last row.
fn sampled(output: Output, is_forced: bool) -> Option<Sampled> {
    match output {
        Output::Token(sampled) => Some(sampled),
        Output::Tokens(mut tokens) if is_forced && tokens.len() == 2 => tokens.pop(),
        _ => None,
    }
}
