//! What can be a key of a map? What Python can hash: equal numbers are one key, whatever their type.

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use indexmap::Equivalent;

use super::value::Value;

/// A map's key.
#[derive(Clone, Debug)]
pub(super) enum Key {
    Undefined,
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Rc<str>),
    Tuple(Rc<[Key]>),
}

/// The steps that reading all of a value as a key takes, parts of a tuple too.
pub(super) fn size_of_key(value: &Value) -> usize {
    match value {
        Value::Str(text) | Value::Markup(text) => 1 + text.len() / 64,
        Value::List(list) if list.is_tuple() => {
            list.items.iter().fold(1, |sum, part| sum + size_of_key(part))
        }
        _ => 1,
    }
}

impl Key {
    /// The steps that hashing or comparing it takes.
    pub(super) fn size(&self) -> usize {
        match self {
            Key::Str(text) => 1 + text.len() / 64,
            Key::Tuple(keys) => keys.iter().fold(1, |sum, key| sum + key.size()),
            _ => 1,
        }
    }

    /// How many values it is as one.
    pub(super) fn parts(&self) -> usize {
        match self {
            Key::Tuple(keys) => keys.iter().fold(1, |sum, key| sum + key.parts()),
            _ => 1,
        }
    }

    /// The key that a value is; none if it cannot be one. Python takes each NaN for a key of its own: there is none here.
    pub(super) fn of(value: &Value) -> Option<Key> {
        Some(match value {
            Value::Undefined => Key::Undefined,
            Value::None => Key::None,
            Value::Bool(value) => Key::Bool(*value),
            Value::Int(value) => Key::Int(*value),
            Value::Float(value) if !value.is_nan() => Key::Float(*value),
            Value::Str(text) | Value::Markup(text) => Key::Str(Rc::clone(text)),
            Value::List(list) if list.is_tuple() => {
                Key::Tuple(list.items.iter().map(Key::of).collect::<Option<Rc<[Key]>>>()?)
            }
            _ => return None,
        })
    }

    /// Can this value be a key?
    pub(super) fn is_one(value: &Value) -> bool {
        match value {
            Value::List(list) => list.is_tuple() && list.items.iter().all(Key::is_one),
            _ => Key::of(value).is_some(),
        }
    }

    pub(super) fn value(&self) -> Value {
        match self {
            Key::Undefined => Value::Undefined,
            Key::None => Value::None,
            Key::Bool(value) => Value::Bool(*value),
            Key::Int(value) => Value::Int(*value),
            Key::Float(value) => Value::Float(*value),
            Key::Str(text) => Value::Str(Rc::clone(text)),
            Key::Tuple(keys) => Value::tuple(keys.iter().map(Key::value).collect()),
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Key::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number it equals.
    fn whole(&self) -> Option<i128> {
        match self {
            Key::Bool(value) => Some(i128::from(*value)),
            Key::Int(value) => Some(*value),
            // Every float in this range that has no fraction is exact as a whole number.
            Key::Float(value) if value.fract() == 0.0 && value.abs() < 1e38 => Some(*value as i128),
            _ => None,
        }
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Key {
        Key::Str(text.into())
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        match (self, other) {
            (Key::Undefined, Key::Undefined) | (Key::None, Key::None) => true,
            (Key::Str(a), Key::Str(b)) => a == b,
            (Key::Tuple(a), Key::Tuple(b)) => a == b,
            (Key::Float(a), Key::Float(b)) => a == b,
            _ => self.whole().is_some_and(|whole| other.whole() == Some(whole)),
        }
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            // As `str` hashes, so that a map can be asked by one.
            Key::Str(text) => text.as_ref().hash(state),
            Key::Undefined => 1u8.hash(state),
            Key::None => 2u8.hash(state),
            Key::Tuple(keys) => keys.hash(state),
            Key::Bool(_) | Key::Int(_) | Key::Float(_) => match (self.whole(), self) {
                (Some(whole), _) => whole.hash(state),
                (None, Key::Float(value)) => value.to_bits().hash(state),
                (None, _) => {}
            },
        }
    }
}

impl Equivalent<Key> for str {
    fn equivalent(&self, key: &Key) -> bool {
        key.as_str() == Some(self)
    }
}

#[cfg(test)]
mod tests {
    use indexmap::IndexSet;

    use super::Key;

    #[test]
    fn equal_numbers_are_one_key() {
        let one: IndexSet<Key> = [Key::Int(1), Key::Bool(true), Key::Float(1.0)].into();
        assert_eq!(one.len(), 1);
        let zero: IndexSet<Key> = [Key::Float(0.0), Key::Float(-0.0), Key::Bool(false)].into();
        assert_eq!(zero.len(), 1);
        let names: IndexSet<Key> = [Key::from("a"), Key::None, Key::Float(0.5), Key::Int(i128::MAX)].into();
        assert!(names.contains("a") && !names.contains("None"));
    }
}
