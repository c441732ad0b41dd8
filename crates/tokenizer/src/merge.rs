//! In which order are neighbouring symbols joined? The loop that BPE and SentencePiece share.
//!
//! Greedy: always join the pair of least key, the leftmost among equals, until no pair can be joined (Sennrich et al., arXiv
//! 1508.07909). Short words take a plain scan; long ones a heap over a linked list, n log n in the number of symbols.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No token, no neighbour.
pub(crate) const NONE: u32 = u32::MAX;

/// A stretch of the word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbol {
    /// Its token, or [`NONE`].
    pub(crate) id: u32,
    /// First byte in the word.
    pub(crate) start: u32,
    /// Bytes; 0 once joined to the symbol on its left.
    pub(crate) len: u32,
}

/// What two neighbours make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Join {
    /// Pairs of lesser key are joined first.
    pub(crate) key: u32,
    /// The token they make.
    pub(crate) id: u32,
}

/// Which pairs may be joined.
pub(crate) trait Rules {
    /// What `left` and `right`, neighbours in `word`, make together.
    fn join(&self, word: &[u8], left: Symbol, right: Symbol) -> Option<Join>;
}

/// Above this many symbols the heap is used: the scan's cost is quadratic.
const LONG: usize = 48;

/// Memory that is used again from word to word.
#[derive(Default)]
pub(crate) struct Scratch {
    /// The symbols of the word: filled by the caller, joined by [`merge`], which leaves only living ones.
    pub(crate) symbols: Vec<Symbol>,
    joins: Vec<Option<Join>>,
    links: Vec<(u32, u32)>,
    heap: BinaryHeap<Reverse<(u64, u32, u32)>>,
}

/// Joins `scratch.symbols`, which must cover `word` from left to right, as far as the rules go.
pub(crate) fn merge(word: &[u8], rules: &impl Rules, scratch: &mut Scratch) {
    if scratch.symbols.len() <= LONG {
        merge_short(word, rules, scratch);
    } else {
        merge_long(word, rules, scratch);
    }
}

fn merge_short(word: &[u8], rules: &impl Rules, scratch: &mut Scratch) {
    let Scratch { symbols, joins, .. } = scratch;
    let pair = |symbols: &[Symbol], left: usize| match (symbols.get(left), symbols.get(left + 1)) {
        (Some(&a), Some(&b)) => rules.join(word, a, b),
        _ => None,
    };
    joins.clear();
    joins.extend((0..symbols.len()).map(|left| pair(symbols, left)));
    loop {
        let mut best: Option<(usize, Join)> = None;
        for (left, join) in joins.iter().enumerate() {
            if let Some(join) = join
                && best.is_none_or(|(_, least)| join.key < least.key)
            {
                best = Some((left, *join));
            }
        }
        let Some((left, join)) = best else { return };
        let right = symbols.remove(left + 1);
        joins.remove(left + 1);
        if let Some(symbol) = symbols.get_mut(left) {
            symbol.id = join.id;
            symbol.len += right.len;
        }
        for changed in left.saturating_sub(1)..=left {
            let join = pair(symbols, changed);
            if let Some(place) = joins.get_mut(changed) {
                *place = join;
            }
        }
    }
}

fn merge_long(word: &[u8], rules: &impl Rules, scratch: &mut Scratch) {
    let Scratch { symbols, links, heap, .. } = scratch;
    let count = symbols.len() as u32;
    links.clear();
    links.extend((0..count).map(|i| (i.wrapping_sub(1), if i + 1 < count { i + 1 } else { NONE })));
    heap.clear();
    let offer = |symbols: &[Symbol], heap: &mut BinaryHeap<_>, left: u32, right: u32| {
        if let (Some(&a), Some(&b)) = (symbols.get(left as usize), symbols.get(right as usize))
            && let Some(join) = rules.join(word, a, b)
        {
            heap.push(Reverse((u64::from(join.key) << 32 | u64::from(left), join.id, a.len + b.len)));
        }
    };
    for left in 0..count.saturating_sub(1) {
        offer(symbols, heap, left, left + 1);
    }
    while let Some(Reverse((key, id, size))) = heap.pop() {
        let left = key as u32;
        let (Some(&(before, right)), Some(&a)) = (links.get(left as usize), symbols.get(left as usize))
        else {
            continue;
        };
        let Some(&b) = symbols.get(right as usize) else { continue };
        // A symbol only ever grows to the right, so an offer whose extent is still that of the pair is this pair.
        if a.len == 0 || a.len + b.len != size {
            continue;
        }
        let after = links.get(right as usize).map_or(NONE, |link| link.1);
        if let Some(symbol) = symbols.get_mut(left as usize) {
            symbol.id = id;
            symbol.len = size;
        }
        if let Some(symbol) = symbols.get_mut(right as usize) {
            symbol.len = 0;
        }
        if let Some(link) = links.get_mut(left as usize) {
            link.1 = after;
        }
        if let Some(link) = links.get_mut(after as usize) {
            link.0 = left;
        }
        offer(symbols, heap, before, left);
        offer(symbols, heap, left, after);
    }
    symbols.retain(|symbol| symbol.len > 0);
}
