//! How many pages does a KV cache have, and which of them does a sequence need?
//!
//! A layer that sees all positions keeps all of them. One with a window needs the latest alone: such layers share a second, smaller pool of
//! pages of the same number of positions, from which a sequence takes a page as it comes to it and to which that goes back once the window has
//! left it behind. All windows count as the widest.

use std::ops::Range;

use crate::batch::{PageId, WindowPages};
use crate::executor::Limits;

/// The most pages beside which windows have their own. More are a mistake, which is to show in the bytes that a plan asks for, and not in what an
/// engine sets aside to count them.
const MAX_PAGES: usize = 1 << 22;

/// The pages of a KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvPages {
    /// Positions in a page.
    pub page_size: usize,
    /// Pages of the layers that keep all positions.
    pub n_page: usize,
    /// Those of the layers that keep a window; `None` where all layers have the same pages.
    pub window: Option<Window>,
}

/// What a KV cache is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvSizes {
    /// Positions in a page.
    pub page_size: usize,
    /// Tokens of a sequence.
    pub n_ctx: usize,
    /// Sequences at once.
    pub n_slot: usize,
    /// Rows of a step.
    pub n_row: usize,
    /// Pages in all; `None` for a full context for each sequence.
    pub n_page: Option<usize>,
    /// The widest window of those layers that have one.
    pub window: Option<usize>,
}

impl KvPages {
    /// As many as these sizes need; saturating. Windows have pages for what every sequence may hold and, beside that, for the end of each
    /// sequence's prompt, after which its next turn goes on, and for one more place at which prompts part. Where these are no fewer than the others,
    /// there is nothing to save.
    #[must_use]
    pub fn plan(sizes: &KvSizes) -> KvPages {
        let KvSizes { page_size, n_ctx, n_slot, n_row, .. } = *sizes;
        let n_page = sizes.n_page.unwrap_or(n_ctx.div_ceil(page_size).saturating_mul(n_slot));
        let window = sizes.window.map(|n_position| {
            let window = Window { n_page: 0, n_position };
            let n_behind = window.n_behind(page_size);
            let kept = n_slot.saturating_add(1).saturating_mul(n_behind);
            Window { n_page: window.least(page_size, [n_slot, n_row]).saturating_add(kept), n_position }
        });
        let pays = |window: &Window| window.n_page < n_page && n_page <= MAX_PAGES;
        KvPages { page_size, n_page, window: window.filter(pays) }
    }
}

/// The pages of layers that see the latest positions alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Pages in all. At least [`Window::least`], so that who has a slot always gets the pages that it needs.
    pub n_page: usize,
    /// How many positions a token sees at most, itself included; at least 1.
    pub n_position: usize,
}

impl Window {
    /// How many pages before its own the first token of a page sees something of.
    #[must_use]
    pub fn n_behind(&self, page_size: usize) -> usize {
        self.n_position.saturating_sub(1).div_ceil(page_size)
    }

    /// The first page of which the token at a position sees something.
    #[must_use]
    pub fn first_page(&self, position: usize, page_size: usize) -> usize {
        position.saturating_add(1).saturating_sub(self.n_position) / page_size
    }

    /// How many pages are enough for `n_slot` sequences and steps of `n_row` rows: between steps a sequence holds what its next token sees, at most
    /// one page more than [`Window::n_behind`]; in a step it takes the pages that its rows begin.
    #[must_use]
    pub fn least(&self, page_size: usize, [n_slot, n_row]: [usize; 2]) -> usize {
        self.n_behind(page_size).saturating_add(2).saturating_mul(n_slot).saturating_add(n_row / page_size)
    }
}

impl Limits {
    /// The pages of windows for a span at these positions, for a caller that gives each slot an equal part of them, to be used in turn.
    #[must_use]
    pub fn own_window(&self, slot: usize, positions: Range<usize>) -> WindowPages {
        let Some(window) = self.window else { return WindowPages::default() };
        let n = self.own_window_pages(&window);
        let first = window.first_page(positions.start, self.page_size);
        let pages = first..positions.end.div_ceil(self.page_size);
        WindowPages { first, ids: pages.map(|page| (slot * n + page % n) as PageId).collect() }
    }

    /// Rows of a span for which these are always enough.
    #[must_use]
    pub fn own_window_rows(&self) -> usize {
        let Some(window) = self.window else { return self.n_row };
        let n_new = self.own_window_pages(&window).saturating_sub(window.n_behind(self.page_size) + 1);
        (n_new * self.page_size).clamp(1, self.n_row.max(1))
    }

    fn own_window_pages(&self, window: &Window) -> usize {
        (window.n_page / self.n_slot.max(1)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: KvSizes =
        KvSizes { page_size: 64, n_ctx: 32_768, n_slot: 1, n_row: 2048, n_page: None, window: None };

    /// Pages of all positions, and of windows.
    fn pages(sizes: KvSizes) -> (usize, Option<usize>) {
        let pages = KvPages::plan(&sizes);
        (pages.n_page, pages.window.map(|window| window.n_page))
    }

    #[test]
    fn windows_take_pages_for_what_they_see_and_a_step() {
        assert_eq!(pages(SIZES), (512, None));
        // 2 + 2 of the sequence, 32 of a step, 2 and 2 that are kept.
        let narrow = KvSizes { window: Some(128), ..SIZES };
        assert_eq!(pages(narrow), (512, Some(40)));
        assert_eq!(pages(KvSizes { n_slot: 8, ..narrow }), (4096, Some(8 * 4 + 32 + 9 * 2)));
        assert_eq!(pages(KvSizes { window: Some(1), ..SIZES }), (512, Some(34)));
    }

    #[test]
    fn where_nothing_is_saved_all_layers_have_the_same_pages() {
        let narrow = KvSizes { window: Some(128), ..SIZES };
        assert_eq!(pages(KvSizes { n_ctx: 2048, ..narrow }), (32, None));
        assert_eq!(pages(KvSizes { n_page: Some(40), ..narrow }), (40, None));
        assert_eq!(pages(KvSizes { n_page: Some(41), ..narrow }), (41, Some(40)));
        for window in [32_768, usize::MAX] {
            assert_eq!(pages(KvSizes { window: Some(window), ..SIZES }), (512, None));
        }
        assert_eq!(pages(KvSizes { n_ctx: 64 << 22, ..narrow }), (1 << 22, Some(40)));
        assert_eq!(pages(KvSizes { n_ctx: (64 << 22) + 1, ..narrow }), ((1 << 22) + 1, None));
        let absurd = KvSizes { n_ctx: usize::MAX, n_slot: usize::MAX, n_row: usize::MAX, ..narrow };
        assert_eq!(pages(absurd), (usize::MAX, None));
    }

    /// Whoever goes on step by step through these pages has what it needs and holds no more than was said.
    #[test]
    fn the_least_is_enough() {
        for (page_size, n_position) in [(4, 1), (4, 2), (4, 5), (4, 6), (4, 7), (1, 3), (3, 3)] {
            let window = Window { n_page: 0, n_position };
            for start in 0..40 {
                let held = start_of(start, page_size) - window.first_page(start, page_size);
                assert!(held <= window.n_behind(page_size) + 1, "{page_size} {n_position} {start}");
                for n in 1..20 {
                    let taken = start_of(start + n, page_size) - start_of(start, page_size);
                    assert!(taken <= n.div_ceil(page_size));
                }
            }
        }
    }

    /// The first page that a sequence of so many positions has nothing in.
    fn start_of(n_position: usize, page_size: usize) -> usize {
        n_position.div_ceil(page_size)
    }

    #[test]
    fn pages_used_in_turn_are_enough_for_the_rows_that_it_says() {
        let window = Some(Window { n_page: 13, n_position: 6 });
        let limits = Limits {
            page_size: 4,
            n_page: 64,
            window,
            n_slot: 2,
            n_row: 64,
            n_ctx: 64,
            n_vocab: 1,
            n_embd: 0,
            n_snapshot: None,
            n_guess: 0,
            n_in_flight: 1,
        };
        // 6 pages each, of which 3 are held.
        assert_eq!(limits.own_window_rows(), 12);
        let span = limits.own_window(1, 18..30);
        assert_eq!((span.first, &*span.ids), (3, &[9, 10, 11, 6, 7][..]));
        assert_eq!(Limits { window: None, ..limits }.own_window_rows(), 64);
    }
}
