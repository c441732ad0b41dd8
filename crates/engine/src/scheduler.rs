//! How are a step's rows shared out?
//!
//! The schedule is plain data, {sequence: number of tokens}, from a pure function: there is no prefill phase and no decode
//! phase. Generated rows come first, one a sequence, because someone reads along; prompts share the rest evenly, so that a short one
//! is not held up by a long one (max-min fairness), and an eighth of the rows is theirs even when many sequences generate.

/// What a sequence could use in the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    /// The sequence; lower ids came first.
    pub(crate) id: u64,
    /// Its kind of row.
    pub(crate) need: Need,
    /// The last step in which it got a row.
    pub(crate) served: u64,
}

/// The rows that a sequence could use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// One row.
    Generated,
    /// The tokens of the prompt that are left, at least one.
    Prompt(usize),
}

/// Rows for a sequence, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The sequence.
    pub(crate) id: u64,
    /// How many of its next tokens.
    pub(crate) n_token: usize,
}

/// Shares `n_row` rows out, at most `max_prompt` of them to prompts: all of them, as long as there is demand. Where there are fewer rows than sequences, those longest
/// without a row go first.
pub(crate) fn schedule(demands: &[Demand], n_row: usize, max_prompt: usize) -> Vec<Grant> {
    let mut generated: Vec<&Demand> = demands.iter().filter(|d| d.need == Need::Generated).collect();
    let mut prompts: Vec<(&Demand, usize)> = demands
        .iter()
        .filter_map(|d| match d.need {
            Need::Prompt(left) => Some((d, left)),
            Need::Generated => None,
        })
        .collect();
    let wanted = prompts.iter().fold(0usize, |sum, &(_, left)| sum.saturating_add(left));
    let reserved = wanted.min((n_row / 8).max(1)).min(max_prompt);
    keep_longest_waiting(&mut generated, n_row.saturating_sub(reserved), |d| d);
    let mut rows = (n_row - generated.len().min(n_row)).min(max_prompt);
    keep_longest_waiting(&mut prompts, rows, |&(d, _)| d);

    let mut grants: Vec<Grant> = generated.iter().map(|d| Grant { id: d.id, n_token: 1 }).collect();
    // From the smallest need up, each gets its even share of what is left, or less if it needs less.
    prompts.sort_by_key(|&(d, left)| (left, d.id));
    let n_prompt = prompts.len();
    for (i, (demand, left)) in prompts.into_iter().enumerate() {
        let n_token = left.min(rows / (n_prompt - i));
        rows -= n_token;
        grants.push(Grant { id: demand.id, n_token });
    }
    grants
}

fn keep_longest_waiting<T>(list: &mut Vec<T>, n: usize, demand: impl Fn(&T) -> &Demand) {
    if list.len() > n {
        list.sort_by_key(|d| (demand(d).served, demand(d).id));
        list.truncate(n);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(demands: &[(u64, Need, u64)], (n_row, max_prompt): (usize, usize), expected: &Expect) {
        let demands: Vec<Demand> =
            demands.iter().map(|&(id, need, served)| Demand { id, need, served }).collect();
        let grants = schedule(&demands, n_row, max_prompt);
        expected.assert_eq(
            &grants.iter().map(|g| format!("{}:{}", g.id, g.n_token)).collect::<Vec<_>>().join(" "),
        );
    }

    #[test]
    fn rows_are_shared_out() {
        use Need::{Generated as G, Prompt as P};
        check(&[], (8, 8), &expect![""]);
        // Generated rows first; a short prompt is not held up by a long one.
        check(&[(1, P(1000), 0), (2, G, 0), (3, P(5), 0), (4, G, 0)], (32, 32), &expect!["2:1 4:1 3:5 1:25"]);
        // Even shares, nothing left over.
        check(&[(1, P(100), 0), (2, P(100), 0), (3, P(100), 0)], (32, 32), &expect!["1:10 2:11 3:11"]);
        // No more to prompts than a step should have of them.
        check(&[(1, P(100), 0), (2, G, 0), (3, P(3), 0), (4, G, 0)], (32, 8), &expect!["2:1 4:1 3:3 1:5"]);
        // More sequences than rows: those longest without one.
        check(&[(1, G, 9), (2, G, 7), (3, G, 8), (4, G, 9)], (2, 2), &expect!["2:1 3:1"]);
        // Prompts are not starved by generated rows, nor the other way round.
        check(&[(1, G, 1), (2, G, 1), (3, P(9), 0), (4, P(9), 5)], (2, 2), &expect!["1:1 3:1"]);
        check(&[(1, G, 1), (2, P(9), 0)], (1, 1), &expect!["2:1"]);
    }
}
