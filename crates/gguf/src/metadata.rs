//! What does the file say about its model?
//!
//! Keys and values in file order. The typed accessors give `None` for a key that is not there and an error that names key,
//! byte offset and both types for one of another type. Integers are accepted in any of the eight integer types, because
//! published files differ in which they use.

use crate::array::Array;
use crate::error::GgufError;
use crate::value::{Value, describe};

/// A file's metadata.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    entries: Vec<Entry>,
    /// Indices into `entries`, sorted by key.
    by_key: Vec<u32>,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Of the key's length, in its file.
    pub(crate) offset: u64,
    pub(crate) value: Value,
}

impl Metadata {
    /// Metadata without a file; offsets in errors are the pairs' indices.
    ///
    /// # Errors
    /// [`GgufError::DuplicateKey`].
    pub fn from_pairs<K: Into<String>, V: Into<Value>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Metadata, GgufError> {
        let entry =
            |(offset, (key, value)): (u64, (K, V))| Entry { key: key.into(), offset, value: value.into() };
        Metadata::from_entries((0..).zip(pairs).map(entry).collect())
    }

    pub(crate) fn from_entries(entries: Vec<Entry>) -> Result<Metadata, GgufError> {
        // The reader admits at most 2^16 keys.
        let mut by_key: Vec<u32> = (0..entries.len() as u32).collect();
        by_key.sort_by_key(|&i| &entries[i as usize].key);
        for pair in by_key.windows(2) {
            let (first, second) = (&entries[pair[0] as usize], &entries[pair[1] as usize]);
            if first.key == second.key {
                let key = first.key.clone();
                return Err(GgufError::DuplicateKey { key, first: first.offset, second: second.offset });
            }
        }
        Ok(Metadata { entries, by_key })
    }

    /// How many keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> + '_ {
        self.entries.iter().map(|entry| (entry.key.as_str(), &entry.value))
    }

    /// A key's value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Where a key stands in its file; 0 for one that does not.
    pub(crate) fn offset_of(&self, key: &str) -> u64 {
        self.entry(key).map_or(0, |entry| entry.offset)
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        let found =
            self.by_key.binary_search_by_key(&key, |&i| self.entries[i as usize].key.as_str()).ok()?;
        self.entries.get(self.by_key[found] as usize)
    }

    /// A non-negative integer of any integer type.
    ///
    /// # Errors
    /// [`GgufError::WrongType`]; [`GgufError::WrongValue`] if it is negative or too large.
    pub fn usize_of(&self, key: &str) -> Result<Option<usize>, GgufError> {
        self.integer_of(key, "a non-negative integer")
    }

    /// An integer of any integer type that fits.
    ///
    /// # Errors
    /// [`GgufError::WrongType`]; [`GgufError::WrongValue`] if it does not fit.
    pub fn u32_of(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.integer_of(key, "an integer from 0 to 4294967295")
    }

    /// An integer of any integer type that fits.
    ///
    /// # Errors
    /// [`GgufError::WrongType`]; [`GgufError::WrongValue`] if it does not fit.
    pub fn i64_of(&self, key: &str) -> Result<Option<i64>, GgufError> {
        self.integer_of(key, "an integer of 64 bits with a sign")
    }

    fn integer_of<T: TryFrom<i128>>(
        &self,
        key: &str,
        expected: &'static str,
    ) -> Result<Option<T>, GgufError> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        let value = entry.value.integer().ok_or_else(|| entry.wrong_type(expected))?;
        T::try_from(value).map(Some).map_err(|_| GgufError::WrongValue {
            key: key.to_owned(),
            offset: entry.offset,
            expected: expected.to_owned(),
            found: value.to_string(),
        })
    }

    /// An `f32`, or an `f64` rounded to one.
    ///
    /// # Errors
    /// [`GgufError::WrongType`].
    pub fn f32_of(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.typed(key, "f32 or f64", |value| match *value {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        })
    }

    /// A bool.
    ///
    /// # Errors
    /// [`GgufError::WrongType`].
    pub fn bool_of(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "bool", |value| match *value {
            Value::Bool(v) => Some(v),
            _ => None,
        })
    }

    /// Text.
    ///
    /// # Errors
    /// [`GgufError::WrongType`]; [`GgufError::NotUtf8`].
    pub fn str_of(&self, key: &str) -> Result<Option<&str>, GgufError> {
        let text = self.typed(key, "string", |value| match value {
            Value::String(v) => Some(v),
            _ => None,
        })?;
        let Some(text) = text else { return Ok(None) };
        text.as_str().map(Some).map_err(|error| GgufError::NotUtf8 {
            place: format!("key {key:?}"),
            offset: text.0.offset() as u64,
            valid: error.valid_up_to(),
        })
    }

    /// An array.
    ///
    /// # Errors
    /// [`GgufError::WrongType`].
    pub fn array_of(&self, key: &str) -> Result<Option<&Array>, GgufError> {
        self.typed(key, "array", |value| match value {
            Value::Array(v) => Some(v),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        take: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        take(&entry.value).map(Some).ok_or_else(|| entry.wrong_type(expected))
    }
}

impl Entry {
    fn wrong_type(&self, expected: &'static str) -> GgufError {
        let found = describe(&self.value);
        GgufError::WrongType { key: self.key.clone(), offset: self.offset, expected, found }
    }
}
