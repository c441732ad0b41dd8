//! Which pages of earlier prompts are still there?
//!
//! A tree of whole pages of prompt tokens for each scope (after RadixAttention, Zheng et al., arXiv 2312.07104, by pages): a page is found by
//! its scope, the page before it and all of its tokens, so two prompts share a page only where every token up to its end is equal. Pages
//! of answers are never kept: other kernels compute them. What no sequence holds is given up when the pool is short, the least recently used
//! first, and never before the pages that follow it. Sequences hold whole branches from the root, so whatever stands below a page that nobody
//! holds is not held either, and can be given up.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::pages::{Held, Page};

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
    /// The pages that none follows, by when they were last used.
    leaves: BTreeSet<(u64, NodeId)>,
    n_made: u64,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Node {
    key: Key,
    page: Arc<Page>,
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
    /// The last of them.
    pub(crate) tip: NodeId,
}

impl PrefixCache {
    pub(crate) fn new(page_size: usize) -> PrefixCache {
        PrefixCache {
            page_size,
            nodes: HashMap::new(),
            by_key: HashMap::new(),
            leaves: BTreeSet::new(),
            n_made: 0,
            clock: 0,
        }
    }

    /// How many pages are kept.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Changes whenever more prompts may be found.
    pub(crate) fn n_made(&self) -> u64 {
        self.n_made
    }

    /// Holds as many of a prompt's first pages as are there. The prompt's last token is never among them: its row gives the first token
    /// of the answer.
    pub(crate) fn find(&mut self, scope: u64, prompt: &[u32]) -> Prefix {
        let mut found = Prefix { pages: Vec::new(), tip: NodeId::ROOT };
        let body = &prompt[..prompt.len().saturating_sub(1)];
        for tokens in body.chunks_exact(self.page_size) {
            let key = Key { scope, parent: found.tip, tokens: tokens.into() };
            let Some((&id, node)) = self.by_key.get(&key).and_then(|id| Some((id, self.nodes.get(id)?)))
            else {
                break;
            };
            found.pages.push(Held::new(&node.page));
            found.tip = id;
        }
        self.touch(found.tip);
        found
    }

    /// Keeps a page that follows `parent`, which its owner holds. Where another page with these tokens is there already, that one stays, and
    /// nothing of this owner's can follow it, since it does not hold it.
    pub(crate) fn insert(
        &mut self,
        scope: u64,
        parent: NodeId,
        tokens: &[u32],
        page: &Held,
    ) -> Option<NodeId> {
        let key = Key { scope, parent, tokens: tokens.into() };
        if self.by_key.contains_key(&key) {
            return None;
        }
        self.clock += 1;
        self.n_made += 1;
        let id = NodeId(self.n_made);
        if let Some(node) = self.nodes.get_mut(&parent) {
            node.n_child += 1;
            self.leaves.remove(&(node.used, parent));
        }
        self.leaves.insert((self.clock, id));
        let page = Arc::clone(page.page());
        self.nodes.insert(id, Node { key: key.clone(), page, n_child: 0, used: self.clock });
        self.by_key.insert(key, id);
        Some(id)
    }

    /// A page and those before it are in use now.
    pub(crate) fn touch(&mut self, tip: NodeId) {
        self.clock += 1;
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
        let Some(Node { key, used, .. }) = self.nodes.remove(&id) else { return };
        self.leaves.remove(&(used, id));
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
        self.nodes.clear();
        self.by_key.clear();
        self.leaves.clear();
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::pages::PagePool;

    /// A cache of pages of two tokens.
    struct Fixture {
        pool: PagePool,
        cache: PrefixCache,
    }

    impl Fixture {
        fn new() -> Fixture {
            Fixture { pool: PagePool::new(8), cache: PrefixCache::new(2) }
        }

        /// What a sequence with this prompt does: finds, computes, keeps.
        fn run(&mut self, scope: u64, prompt: &[u32]) -> Vec<Held> {
            let Prefix { mut pages, mut tip } = self.cache.find(scope, prompt);
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
    fn a_page_with_the_same_tokens_stays_the_first() {
        let mut f = Fixture::new();
        let mut pages = f.pool.take(2).unwrap();
        assert!(f.cache.insert(0, NodeId::ROOT, &[1, 2], &pages[0]).is_some());
        assert_eq!(f.cache.insert(0, NodeId::ROOT, &[1, 2], &pages[1]), None);
        pages.clear();
        f.check(&[(0, &[1, 2, 3])], &expect!["[2] (8, 1, 7)"]);
    }
}
