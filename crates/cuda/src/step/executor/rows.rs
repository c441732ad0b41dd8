//! Which rows has a step, and how is each of them sampled?

use device::{Batch, Input, Role, Want};

use crate::args::Row;
use crate::launch::attend::PromptSpan;
use crate::sampling::{Choice, StepRows as SampleRows};

/// A batch's rows by role, with the span each came from.
#[derive(Default)]
pub(super) struct StepRows {
    pub(super) rows: Vec<Row>,
    /// By row.
    pub(super) span_of: Vec<usize>,
    /// Of the role's spans, for attention.
    pub(super) spans: Vec<PromptSpan>,
}

impl StepRows {
    pub(super) fn of(batch: &Batch, role: Role) -> StepRows {
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
                    Input::Guess(guesses) if i > 0 => guesses[i - 1] as i32,
                    Input::Last | Input::Guess(_) => -1,
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

    /// Whether any of them is checked.
    pub(super) fn has_checks(&self, batch: &Batch) -> bool {
        self.span_of.iter().any(|&span| matches!(batch.spans[span].want, Want::Check(_)))
    }

    /// Whether the next row is another span's.
    pub(super) fn is_last_of_span(&self, row: usize) -> bool {
        self.span_of.get(row + 1) != Some(&self.span_of[row])
    }

    /// The spans of these rows, each with its first row.
    pub(super) fn first_rows(&self) -> Vec<(usize, usize)> {
        let is_first = |row: &usize| row.checked_sub(1).is_none_or(|before| self.is_last_of_span(before));
        (0..self.rows.len()).filter(is_first).map(|row| (self.span_of[row], row)).collect()
    }
}

/// How the rows of these spans are sampled, with padding up to `n_row`.
pub(super) fn choices(batch: &Batch, spans: impl Iterator<Item = usize>, n_row: usize) -> SampleRows {
    let mut rows = SampleRows::default();
    let mut before = None;
    // Of the row's span, how many rows it has before this one.
    let mut nth = 0;
    for index in spans {
        nth = if before == Some(index) { nth + 1 } else { 0 };
        before = Some(index);
        let span = &batch.spans[index];
        let (wanted, position, guesses) = match (&span.want, &span.input) {
            (Want::Sample(choice), input) => (choice, span.start + input.len(), None),
            (Want::Check(choices), Input::Guess(guesses)) => {
                (&choices[nth], span.start + nth + 1, Some(&guesses[..nth]))
            }
            _ => {
                rows.pad_to(rows.rows().len() + 1);
                continue;
            }
        };
        let (params, mask) = (&wanted.params, wanted.mask.as_deref());
        rows.push(Choice { slot: span.slot, params, mask, position, guesses });
    }
    rows.pad_to(n_row);
    rows
}
