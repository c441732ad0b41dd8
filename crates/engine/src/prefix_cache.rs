//! Which pages of earlier prompts are still there?
//!
//! A tree of whole pages of prompt tokens for each scope (after RadixAttention, Zheng et al., arXiv 2312.07104, by pages): a page is found by
//! its scope, the page before it and all of its tokens, so two prompts share a page only where every token up to its end is equal. Pages
//! of answers are never kept: other kernels compute them. What no sequence holds is given up when the pool is short, the least recently used
//! first, and never before the pages that follow it. Sequences hold whole branches from the root, so whatever stands below a page that nobody
//! holds is not held either, and can be given up.
//!
//! Where layers with a window have pages of their own, a page of the tree has one of these beside it, until another sequence needs that more. A
//! prompt goes on after a page only if those before it that its next token sees are there too.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use device::Limits;

use crate::cache_events::{self, Listening, Told};
use crate::pages::{Held, Page};
use crate::snapshots::{Snapshot, SnapshotPool};

/// A page in the tree. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u64);

impl NodeId {
    /// Where no page is before.
    pub(crate) const ROOT: NodeId = NodeId(0);
}

/// The pages that are kept.
#[derive(Debug)]
pub(crate) struct PrefixCache {
    page_size: usize,
    nodes: HashMap<NodeId, Node>,
    by_key: HashMap<Key, NodeId>,
    /// Where a page needs a state to go on from: the snapshots that are free.
    snapshots: Option<SnapshotPool>,
    /// The pages that have one.
    with_snapshot: BTreeSet<NodeId>,
    /// Where windows have pages of their own: how many of them, before a page, whoever goes on after it needs.
    n_behind: Option<usize>,
    /// The pages that have one beside them, by when that was last of use.
    windows: BTreeSet<(u64, NodeId)>,
    /// The pages that none follows, by when they were last used.
    leaves: BTreeSet<(u64, NodeId)>,
    n_made: u64,
    /// Counts uses.
    clock: u64,
    /// Hears which pages come and go.
    told: Told,
}

#[derive(Debug)]
struct Node {
    key: Key,
    /// What a listener knows it by.
    name: u64,
    page: Arc<Page>,
    /// The windows' page with the same positions, and when it was last of use.
    window: Option<(Arc<Page>, u64)>,
    /// The state after it.
    snapshot: Option<Arc<Snapshot>>,
    n_child: usize,
    used: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    scope: u64,
    parent: NodeId,
    tokens: Arc<[u32]>,
}

/// The start of a prompt that is there.
#[derive(Debug)]
pub(crate) struct Prefix {
    pub(crate) pages: Vec<Held>,
    /// The windows' pages that whoever goes on after them needs.
    pub(crate) window: Vec<Held>,
    /// The last of them.
    pub(crate) tip: NodeId,
    /// The state after the last, where one is needed.
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    /// How many pages of the prompt are kept: more than are of use where the state after them is not.
    pub(crate) n_kept: usize,
}

impl Prefix {
    /// Nothing is there.
    pub(crate) fn none() -> Prefix {
        Prefix { pages: Vec::new(), window: Vec::new(), tip: NodeId::ROOT, snapshot: None, n_kept: 0 }
    }
}

impl PrefixCache {
    /// For an executor with these limits.
    pub(crate) fn new(limits: &Limits) -> PrefixCache {
        PrefixCache {
            page_size: limits.page_size,
            nodes: HashMap::new(),
            by_key: HashMap::new(),
            snapshots: limits.n_snapshot.map(SnapshotPool::new),
            with_snapshot: BTreeSet::new(),
            n_behind: limits.window.map(|window| window.n_behind(limits.page_size)),
            windows: BTreeSet::new(),
            leaves: BTreeSet::new(),
            n_made: 0,
            clock: 0,
            told: Told::default(),
        }
    }

    /// Tells this listener from now on which pages come and go.
    pub(crate) fn tell(&mut self, to: Listening) {
        self.told.tell(to);
    }

    /// Sends what has happened since the last time.
    pub(crate) fn send_events(&mut self) {
        self.told.send();
    }

    /// How many pages are kept.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Changes whenever more prompts may be found.
    pub(crate) fn n_made(&self) -> u64 {
        self.n_made
    }

    /// Whether pages are of use only with the state after them.
    pub(crate) fn takes_snapshots(&self) -> bool {
        self.snapshots.is_some()
    }

    /// Whether pages that are there can lack what it takes to go on after them, so that a sequence computes them again.
    pub(crate) fn restores(&self) -> bool {
        self.snapshots.is_some() || self.n_behind.is_some()
    }

    /// Holds as many of a prompt's first pages as are there and of use. The prompt's last token is never among them: its row gives the first token
    /// of the answer.
    pub(crate) fn find(&mut self, scope: u64, prompt: &[u32]) -> Prefix {
        let mut found = Prefix::none();
        let mut at = NodeId::ROOT;
        let mut pages = Vec::new();
        // The latest pages, each of which has a window's beside it.
        let mut n_window = 0;
        let body = &prompt[..prompt.len().saturating_sub(1)];
        for tokens in body.chunks_exact(self.page_size) {
            let Some((id, node)) =
                self.child(scope, at, tokens).and_then(|id| Some((id, self.nodes.get(&id)?)))
            else {
                break;
            };
            at = id;
            pages.push(Held::new(&node.page));
            n_window = if node.window.is_some() { n_window + 1 } else { 0 };
            let n_page = found.pages.len() + pages.len();
            let has_window = self.n_behind.is_none_or(|n_behind| n_window >= n_page.min(n_behind));
            if has_window && (self.snapshots.is_none() || node.snapshot.is_some()) {
                found.pages.append(&mut pages);
                found.tip = id;
                found.snapshot.clone_from(&node.snapshot);
            }
        }
        found.n_kept = found.pages.len() + pages.len();
        self.touch(found.tip);
        let behind = self.behind(found.tip);
        let window = behind.iter().filter_map(|id| Some(Held::new(&self.nodes.get(id)?.window.as_ref()?.0)));
        found.window = window.rev().collect();
        found
    }

    /// The pages whose windows whoever goes on after `tip` needs, from it back.
    fn behind(&self, tip: NodeId) -> Vec<NodeId> {
        let parent = |id: &NodeId| self.nodes.get(id).map(|node| node.key.parent);
        let up = std::iter::successors(Some(tip), parent).take_while(|id| *id != NodeId::ROOT);
        up.take(self.n_behind.unwrap_or(0)).collect()
    }

    /// The page that follows `parent` with these tokens.
    pub(crate) fn child(&self, scope: u64, parent: NodeId, tokens: &[u32]) -> Option<NodeId> {
        self.by_key.get(&Key { scope, parent, tokens: tokens.into() }).copied()
    }

    /// Keeps a page that follows `parent`, which its owner holds. Where another page with these tokens is there already, that
    /// one stays and is the error: nothing of this owner's can follow it, since it does not hold it.
    pub(crate) fn insert(
        &mut self,
        scope: u64,
        parent: NodeId,
        tokens: &[u32],
        page: &Held,
    ) -> Result<NodeId, NodeId> {
        let (key, restores) = (Key { scope, parent, tokens: tokens.into() }, self.restores());
        if let Some((&id, node)) = self.by_key.get(&key).and_then(|id| Some((id, self.nodes.get_mut(id)?))) {
            // Who computes a page again may go on where nobody else does: equal tokens have equal pages.
            if !restores || node.page.is_held() {
                return Err(id);
            }
            node.page = Arc::clone(page.page());
            return Ok(id);
        }
        self.clock += 1;
        self.n_made += 1;
        let id = NodeId(self.n_made);
        let before = self.nodes.get(&parent).map(|node| node.name);
        let name = cache_events::name(scope, before, tokens);
        self.told.stored(before, name, tokens);
        if let Some(node) = self.nodes.get_mut(&parent) {
            node.n_child += 1;
            self.leaves.remove(&(node.used, parent));
        }
        self.leaves.insert((self.clock, id));
        let page = Arc::clone(page.page());
        let used = self.clock;
        self.nodes.insert(
            id,
            Node { key: key.clone(), name, page, window: None, snapshot: None, n_child: 0, used },
        );
        self.by_key.insert(key, id);
        Ok(id)
    }

    /// A place for one more state: a free one, or that of the page that was not used for longest. `None` where all are about to be used.
    pub(crate) fn take_snapshot(&mut self) -> Option<Arc<Snapshot>> {
        let pool = self.snapshots.clone()?;
        if let Some(snapshot) = pool.take() {
            return Some(snapshot);
        }
        let node = |id: &NodeId| self.nodes.get(id).map(|node| (node.used, node.snapshot.as_ref()));
        let idle = self.with_snapshot.iter().copied().filter_map(|id| {
            let (used, snapshot) = node(&id)?;
            (Arc::strong_count(snapshot?) == 1).then_some((used, id))
        });
        let (_, oldest) = idle.min()?;
        self.with_snapshot.remove(&oldest);
        self.nodes.get_mut(&oldest)?.snapshot = None;
        pool.take()
    }

    /// Keeps the state after a page.
    pub(crate) fn keep(&mut self, id: NodeId, snapshot: Arc<Snapshot>) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.snapshot = Some(snapshot);
            self.with_snapshot.insert(id);
            // More prompts may be found.
            self.n_made += 1;
        }
    }

    /// Keeps the windows' page beside a page, unless there is one.
    pub(crate) fn keep_window(&mut self, id: NodeId, window: &Held) {
        self.clock += 1;
        if let Some(node) = self.nodes.get_mut(&id).filter(|node| node.window.is_none()) {
            node.window = Some((Arc::clone(window.page()), self.clock));
            self.windows.insert((self.clock, id));
            // More prompts may be found.
            self.n_made += 1;
        }
    }

    /// Gives up `n` pages of windows that no sequence holds, or all of them: those that were of no use for longest.
    pub(crate) fn evict_windows(&mut self, n: usize) {
        let page = |id: &NodeId| self.nodes.get(id)?.window.as_ref();
        let unheld = |(_, id): &&(u64, NodeId)| page(id).is_some_and(|(page, _)| !page.is_held());
        let oldest: Vec<(u64, NodeId)> = self.windows.iter().filter(unheld).take(n).copied().collect();
        for entry in oldest {
            self.windows.remove(&entry);
            if let Some(node) = self.nodes.get_mut(&entry.1) {
                node.window = None;
            }
        }
    }

    /// A page and those before it are in use now, and the windows' pages that whoever goes on after it needs.
    pub(crate) fn touch(&mut self, tip: NodeId) {
        self.clock += 1;
        for id in self.behind(tip) {
            if let Some((_, used)) = self.nodes.get_mut(&id).and_then(|node| node.window.as_mut()) {
                self.windows.remove(&(*used, id));
                *used = self.clock;
                self.windows.insert((self.clock, id));
            }
        }
        let mut at = tip;
        while let Some(node) = self.nodes.get_mut(&at) {
            if self.leaves.remove(&(node.used, at)) {
                self.leaves.insert((self.clock, at));
            }
            node.used = self.clock;
            at = node.key.parent;
        }
    }

    /// Gives up `n` pages that nobody holds, or all of them.
    pub(crate) fn evict(&mut self, n: usize) {
        for _ in 0..n {
            // Each running sequence can hold one leaf, so this looks at few.
            let unheld = |(_, id): &&(u64, NodeId)| self.nodes.get(id).is_some_and(|n| !n.page.is_held());
            let Some(&(_, id)) = self.leaves.iter().find(unheld) else { return };
            self.remove(id);
        }
    }

    fn remove(&mut self, id: NodeId) {
        let Some(Node { key, name, used, window, .. }) = self.nodes.remove(&id) else { return };
        self.told.removed(name);
        self.leaves.remove(&(used, id));
        if let Some((_, used)) = window {
            self.windows.remove(&(used, id));
        }
        self.with_snapshot.remove(&id);
        self.by_key.remove(&key);
        if let Some(parent) = self.nodes.get_mut(&key.parent) {
            parent.n_child -= 1;
            if parent.n_child == 0 {
                self.leaves.insert((parent.used, key.parent));
            }
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.told.cleared();
        self.nodes.clear();
        self.by_key.clear();
        self.leaves.clear();
        self.with_snapshot.clear();
        self.windows.clear();
    }
}

#[cfg(test)]
mod tests {
    use device::Window;
    use expect_test::{Expect, expect};
    use testkit::fake::LIMITS;

    use super::*;
    use crate::pages::PagePool;

    /// A cache of pages of two tokens.
    struct Fixture {
        pool: PagePool,
        cache: PrefixCache,
    }

    fn cache(n_snapshot: Option<usize>) -> PrefixCache {
        PrefixCache::new(&Limits { page_size: 2, n_snapshot, ..LIMITS })
    }

    impl Fixture {
        fn new() -> Fixture {
            Fixture { pool: PagePool::new(8), cache: cache(None) }
        }

        /// What a sequence with this prompt does: finds, computes, keeps.
        fn run(&mut self, scope: u64, prompt: &[u32]) -> Vec<Held> {
            let Prefix { mut pages, mut tip, .. } = self.cache.find(scope, prompt);
            let n_more = prompt.len().div_ceil(2) - pages.len();
            self.cache.evict(n_more.saturating_sub(self.pool.n_unowned()));
            for (i, tokens) in prompt.chunks_exact(2).enumerate().skip(pages.len()) {
                pages.extend(self.pool.take(1).unwrap());
                tip = self.cache.insert(scope, tip, tokens, &pages[i]).unwrap();
            }
            pages
        }

        /// How many tokens of each prompt are there, and how many pages are free, kept and unowned.
        fn check(&mut self, prompts: &[(u64, &[u32])], expected: &Expect) {
            let found: Vec<usize> = prompts
                .iter()
                .map(|(scope, prompt)| 2 * self.cache.find(*scope, prompt).pages.len())
                .collect();
            let counts = (self.pool.n_free(), self.cache.len(), self.pool.n_unowned());
            expected.assert_eq(&format!("{found:?} {counts:?}"));
        }
    }

    #[test]
    fn a_prefix_is_found_by_all_of_its_tokens_and_its_scope() {
        let mut f = Fixture::new();
        let held = f.run(1, &[1, 2, 3, 4, 5, 6]);
        let prompts: [(u64, &[u32]); 7] = [
            (1, &[1, 2, 3, 4, 5, 6, 7]),
            (1, &[1, 2, 3, 4, 5, 6]),
            (1, &[1, 2, 3, 9, 5, 6, 7]),
            (1, &[3, 4, 5, 6, 7]),
            (2, &[1, 2, 3, 4, 5, 6, 7]),
            (1, &[1]),
            (1, &[]),
        ];
        f.check(&prompts, &expect!["[6, 4, 2, 0, 0, 0, 0] (5, 3, 5)"]);
        drop(held);
        f.check(&prompts, &expect!["[6, 4, 2, 0, 0, 0, 0] (8, 3, 5)"]);
        f.cache.clear();
        f.check(&prompts, &expect!["[0, 0, 0, 0, 0, 0, 0] (8, 0, 8)"]);
    }

    #[test]
    fn the_least_recently_used_goes_first_from_its_end_and_nothing_that_is_held() {
        let mut f = Fixture::new();
        let (a, b, c): ([u32; 5], [u32; 5], [u32; 5]) = ([1, 2, 3, 4, 0], [1, 2, 5, 6, 0], [7, 8, 9, 9, 0]);
        let asked: [(u64, &[u32]); 3] = [(0, &a), (0, &b), (0, &c)];
        drop(f.run(0, &a[..4]));
        drop(f.run(0, &b[..4]));
        let held = f.run(0, &c[..4]);
        drop(f.cache.find(0, &a));
        assert_eq!((f.cache.len(), f.pool.n_free()), (5, 6));
        f.cache.evict(1);
        f.check(&asked, &expect!["[4, 2, 4] (6, 4, 4)"]);
        f.cache.evict(1);
        f.check(&asked, &expect!["[2, 2, 4] (6, 3, 5)"]);
        f.cache.evict(9);
        f.check(&asked, &expect!["[0, 0, 4] (6, 2, 6)"]);
        drop(held);
        f.cache.evict(9);
        f.check(&asked, &expect!["[0, 0, 0] (8, 0, 8)"]);
    }

    #[test]
    fn a_page_with_the_same_tokens_stays_the_first_where_it_must() {
        for n_snapshot in [None, Some(1)] {
            let mut f = Fixture { cache: cache(n_snapshot), ..Fixture::new() };
            let mut pages = f.pool.take(2).unwrap();
            let id = f.cache.insert(0, NodeId::ROOT, &[1, 2], &pages[0]).unwrap();
            assert_eq!(f.cache.insert(0, NodeId::ROOT, &[1, 2], &pages[1]), Err(id));
            pages.remove(0);
            let again = f.cache.insert(0, NodeId::ROOT, &[1, 2], &pages[0]);
            assert_eq!(again, if n_snapshot.is_some() { Ok(id) } else { Err(id) });
            pages.clear();
            f.check(&[], &expect!["[] (8, 1, 7)"]);
        }
    }

    #[test]
    fn a_page_is_of_use_with_the_state_after_it_and_the_oldest_state_makes_room() {
        let mut f = Fixture { cache: cache(Some(2)), ..Fixture::new() };
        let prompt = [1, 2, 3, 4, 5, 6, 7];
        drop(f.run(0, &prompt[..6]));
        let found = |f: &mut Fixture| {
            let found = f.cache.find(0, &prompt);
            (found.pages.len(), found.n_kept, found.snapshot.map(|snapshot| snapshot.id))
        };
        assert_eq!(found(&mut f), (0, 3, None));
        let first = f.cache.child(0, NodeId::ROOT, &[1, 2]).unwrap();
        let second = f.cache.child(0, first, &[3, 4]).unwrap();
        for (node, id) in [(second, 0), (first, 1)] {
            let snapshot = f.cache.take_snapshot().unwrap();
            assert_eq!(snapshot.id, id);
            f.cache.keep(node, snapshot);
        }
        assert_eq!(found(&mut f), (2, 3, Some(0)));
        // What is held stays.
        let held = f.cache.find(0, &prompt);
        let third = f.cache.take_snapshot().unwrap();
        assert_eq!((third.id, f.cache.take_snapshot().map(|snapshot| snapshot.id)), (1, None));
        drop((held, third));
        f.cache.evict(9);
        let ids = [f.cache.take_snapshot(), f.cache.take_snapshot(), f.cache.take_snapshot()];
        assert_eq!(ids.iter().flatten().count(), 2);
    }
    #[test]
    fn a_page_is_of_use_with_the_windows_before_it_and_the_oldest_make_room() {
        // Positions of two pages of 2, and the token's own.
        let window = Some(Window { n_page: 8, n_position: 5 });
        let mut f =
            Fixture { cache: PrefixCache::new(&Limits { page_size: 2, window, ..LIMITS }), ..Fixture::new() };
        let windows = PagePool::new(8);
        let prompt = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        drop(f.run(0, &prompt[..8]));
        let found = |f: &mut Fixture| {
            let found = f.cache.find(0, &prompt);
            (found.pages.len(), found.window.len())
        };
        assert_eq!(found(&mut f), (0, 0));
        let mut nodes = Vec::new();
        for tokens in prompt.chunks_exact(2) {
            let tip = nodes.last().copied().unwrap_or(NodeId::ROOT);
            nodes.push(f.cache.child(0, tip, tokens).unwrap());
        }
        let keep = |f: &mut Fixture, i: usize| f.cache.keep_window(nodes[i], &windows.take(1).unwrap()[0]);
        // The third page lacks: the second has both before it, and the fourth one of two.
        [0, 1, 3].iter().for_each(|&i| keep(&mut f, i));
        assert_eq!(found(&mut f), (2, 2));
        keep(&mut f, 2);
        assert_eq!(found(&mut f), (4, 2));
        // The first two were of no use for longest, since they were found before the others.
        f.cache.evict_windows(1);
        assert_eq!((found(&mut f), windows.n_unowned()), ((4, 2), 5));
        f.cache.evict_windows(1);
        assert_eq!((found(&mut f), windows.n_unowned()), ((4, 2), 6));
        // What is held stays.
        let held = f.cache.find(0, &prompt);
        f.cache.evict_windows(9);
        assert_eq!((found(&mut f), windows.n_unowned()), ((4, 2), 6));
        drop(held);
        f.cache.evict_windows(1);
        assert_eq!((found(&mut f), windows.n_unowned()), ((0, 0), 7));
        f.cache.evict(9);
        assert_eq!(windows.n_unowned(), 8);
    }
}
