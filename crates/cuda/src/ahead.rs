//! Which weights should the second-level cache fetch while a product runs?
//!
//! Between a product's last loads and the next one's first the memory would have nothing to do. So each product asks for what will be read
//! up to a window after its own weights, less what those before it asked for. Where experts are yet to be chosen nothing can be asked for,
//! but they pass through the cache, so they count.

use std::collections::VecDeque;

use crate::place::ALIGN;

/// Weights in the order in which a token reads them.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// Those that no product has come to: bytes, and where they are, if that is known.
    rest: VecDeque<(u64, Option<u64>)>,
    /// Bytes at the beginning of `rest` that were asked for or cannot be.
    done: u64,
    window: u64,
}

/// A range of the region of weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) at: u64,
    pub(crate) n_bytes: u64,
}

impl Ahead {
    pub(crate) fn new(window: u64) -> Ahead {
        Ahead { window, ..Ahead::default() }
    }

    /// The next weights; `at` is none where they depend on what is computed.
    pub(crate) fn push(&mut self, n_bytes: u64, at: Option<u64>) {
        self.rest.push_back((n_bytes, at));
    }

    /// What to ask for as the product of the next weights starts.
    pub(crate) fn step(&mut self) -> Range {
        let own = self.rest.pop_front().map_or(0, |(n_bytes, _)| n_bytes);
        self.done = self.done.saturating_sub(own);
        let (mut range, mut first) = (Range::default(), 0);
        for &(n_bytes, at) in &self.rest {
            let (from, to) = (self.done.max(first), (first + n_bytes).min(self.window));
            if from < to {
                let Some(at) = at.map(|at| at + from - first) else {
                    if range.n_bytes > 0 {
                        break;
                    }
                    self.done = to;
                    first += n_bytes;
                    continue;
                };
                // One range: what does not follow waits for the next product, but for the gaps between matrices.
                if range.n_bytes == 0 {
                    range = Range { at, n_bytes: to - from };
                } else if at.checked_sub(range.at + range.n_bytes).is_some_and(|gap| gap < ALIGN) {
                    range.n_bytes = at + (to - from) - range.at;
                } else {
                    break;
                }
                self.done = to;
            }
            first += n_bytes;
        }
        range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_fetched_once() {
        let mut ahead = Ahead::new(100);
        for (n_bytes, at) in [(50, 0), (80, 50), (300, 130), (40, 430)] {
            ahead.push(n_bytes, Some(at));
        }
        assert_eq!(ahead.step(), Range { at: 50, n_bytes: 100 });
        assert_eq!(ahead.step(), Range { at: 150, n_bytes: 80 });
        assert_eq!(ahead.step(), Range { at: 430, n_bytes: 40 });
        assert_eq!(ahead.step(), Range::default());
    }

    #[test]
    fn what_is_not_known_is_passed_over() {
        let mut ahead = Ahead::new(100);
        for (n_bytes, at) in [(50, Some(0)), (90, None), (30, Some(1000)), (30, Some(5000))] {
            ahead.push(n_bytes, at);
        }
        assert_eq!(ahead.step(), Range { at: 1000, n_bytes: 10 });
        assert_eq!(ahead.step(), Range { at: 1010, n_bytes: 20 });
        assert_eq!(ahead.step(), Range { at: 5000, n_bytes: 30 });
    }
}
