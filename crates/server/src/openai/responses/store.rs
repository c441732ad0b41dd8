//! Conversations that a client may go on with by the id of their last response.
//!
//! They are in memory alone, and bounded: beyond a bound the oldest are forgotten, first the client's own. A client finds nobody's but its own.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// The most conversations of a client.
const MAX_EACH: usize = 256;
/// The most bytes of a client's conversations.
const MAX_BYTES_EACH: usize = 16 << 20;
/// The most bytes of all.
const MAX_BYTES: usize = 64 << 20;
/// What keeping a conversation takes beside its text.
const OVERHEAD: usize = 256;

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct Store(Mutex<VecDeque<Kept>>);

#[derive(Debug)]
struct Kept {
    client: u64,
    id: String,
    /// The response without its output, and the items of the conversation, of which the last are its output: as JSON, since as values they would
    /// take many times the bytes.
    response: String,
    items: String,
    n_input: usize,
}

impl Kept {
    fn n_byte(&self) -> usize {
        self.id.len() + self.response.len() + self.items.len() + OVERHEAD
    }
}

impl Store {
    /// Keeps a response to these items; false if both are larger than a client's may be together.
    pub(super) fn keep(&self, client: u64, id: &str, mut response: Value, input: Vec<Value>) -> bool {
        let (n_input, mut items) = (input.len(), input);
        if let Value::Array(output) = response["output"].take() {
            items.extend(output);
        }
        let (response, items) = (response.to_string(), Value::Array(items).to_string());
        let new = Kept { client, id: id.to_owned(), response, items, n_input };
        if new.n_byte() > MAX_BYTES_EACH {
            return false;
        }
        let mut kept = self.lock();
        kept.push_back(new);
        forget(&mut kept, |kept| kept.client == client, MAX_EACH, MAX_BYTES_EACH);
        forget(&mut kept, |_| true, usize::MAX, MAX_BYTES);
        true
    }

    /// The items of a client's conversation.
    pub(super) fn find(&self, client: u64, id: &str) -> Option<Vec<Value>> {
        let items = self.read(client, id, |kept| kept.items.clone())?;
        serde_json::from_str(&items).ok()
    }

    /// The items that a client's response answers.
    pub(super) fn input(&self, client: u64, id: &str) -> Option<Vec<Value>> {
        let (items, n_input) = self.read(client, id, |kept| (kept.items.clone(), kept.n_input))?;
        let mut items: Vec<Value> = serde_json::from_str(&items).ok()?;
        items.truncate(n_input);
        Some(items)
    }

    /// A client's response.
    pub(super) fn response(&self, client: u64, id: &str) -> Option<Value> {
        let (response, items, n_input) =
            self.read(client, id, |kept| (kept.response.clone(), kept.items.clone(), kept.n_input))?;
        let mut response: Value = serde_json::from_str(&response).ok()?;
        let mut items: Vec<Value> = serde_json::from_str(&items).ok()?;
        response["output"] = items.split_off(n_input.min(items.len())).into();
        Some(response)
    }

    /// Forgets a client's response; false if there is none.
    pub(super) fn forget(&self, client: u64, id: &str) -> bool {
        let mut kept = self.lock();
        let n = kept.len();
        kept.retain(|kept| kept.client != client || kept.id != id);
        kept.len() < n
    }

    /// What there is of a client's response; it is parsed by others while it is not locked.
    fn read<T>(&self, client: u64, id: &str, what: impl FnOnce(&Kept) -> T) -> Option<T> {
        self.lock().iter().find(|kept| kept.client == client && kept.id == id).map(what)
    }

    /// The item with this id, of a client's conversations.
    pub(super) fn item(&self, client: u64, id: &str) -> Option<Value> {
        let named = format!("\"id\":{}", Value::from(id));
        let kept = self.lock();
        let text = kept.iter().rev().find(|kept| kept.client == client && kept.items.contains(&named))?;
        let text = text.items.clone();
        drop(kept);
        let items: Vec<Value> = serde_json::from_str(&text).ok()?;
        items.into_iter().find(|item| item["id"] == id)
    }

    /// It is whole after every operation, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the oldest of these until the others are within the bounds.
fn forget(kept: &mut VecDeque<Kept>, is_one: impl Fn(&Kept) -> bool, max_entries: usize, max_bytes: usize) {
    let (mut n, mut n_byte) = kept
        .iter()
        .filter(|kept| is_one(kept))
        .fold((0, 0), |(n, n_byte), kept| (n + 1, n_byte + kept.n_byte()));
    kept.retain(|kept| {
        let keeps = !is_one(kept) || (n <= max_entries && n_byte <= max_bytes);
        if !keeps {
            n -= 1;
            n_byte -= kept.n_byte();
        }
        keeps
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_client_finds_its_own_until_there_are_too_many() {
        let store = Store::default();
        let keep = |client, id: &str, input| store.keep(client, id, json!({"output": []}), input);
        assert!(keep(1, "a", vec![json!({"n": 1})]));
        assert_eq!(store.find(1, "a"), Some(vec![json!({"n": 1})]));
        assert_eq!((store.find(2, "a"), store.find(1, "b")), (None, None));
        let named = json!({"id": "msg_1", "n": {"id": "inner"}});
        keep(1, "named", vec![json!({"n": 1}), named.clone()]);
        assert_eq!((store.item(1, "msg_1"), store.item(2, "msg_1")), (Some(named), None));
        assert_eq!((store.item(1, "inner"), store.item(1, "\"")), (None, None));
        for i in 0..MAX_EACH {
            keep(2, &format!("b{i}"), vec![]);
        }
        assert!(store.find(1, "a").is_some() && store.find(2, "b0").is_some());
        keep(2, "c", vec![]);
        assert_eq!(store.find(2, "b0"), None);
        assert!(
            store.find(1, "a").is_some() && store.find(2, "b1").is_some() && store.find(2, "c").is_some()
        );
    }

    #[test]
    fn a_response_comes_back_as_it_was_until_it_is_forgotten() {
        let store = Store::default();
        let (input, output) = (json!({"n": 1}), json!({"n": 2}));
        let response = json!({"id": "a", "output": [output], "usage": null});
        store.keep(1, "a", response.clone(), vec![input.clone()]);
        assert_eq!(store.response(1, "a").map(|r| r.to_string()), Some(response.to_string()));
        assert_eq!(
            (store.input(1, "a"), store.find(1, "a")),
            (Some(vec![input.clone()]), Some(vec![input, output]))
        );
        assert_eq!((store.response(2, "a"), store.input(2, "a"), store.forget(2, "a")), (None, None, false));
        assert!(store.forget(1, "a") && !store.forget(1, "a"));
        assert_eq!(store.find(1, "a"), None);
    }

    #[test]
    fn bytes_are_bounded_for_each_and_for_all() {
        let store = Store::default();
        let keep = |client, id: &str, n_byte: usize| {
            // What is kept of a response counts as its items do.
            let half = "x".repeat(n_byte / 2);
            store.keep(client, id, json!({"output": [], "instructions": half}), vec![json!(half)])
        };
        assert!(!keep(0, "too large", MAX_BYTES_EACH));
        for client in 0..6 {
            assert!(keep(client, "first", MAX_BYTES_EACH / 2));
            assert!(keep(client, "second", MAX_BYTES_EACH / 2));
            // Both together are a little more than a client may have.
            assert!(store.find(client, "first").is_none() && store.find(client, "second").is_some());
            assert!(keep(client, "third", MAX_BYTES_EACH / 2 - 2048));
            assert!(store.find(client, "second").is_some());
        }
        let n_byte: usize = store.lock().iter().map(Kept::n_byte).sum();
        assert!(n_byte <= MAX_BYTES);
        assert!(store.find(0, "third").is_none() && store.find(5, "third").is_some());
    }
}
