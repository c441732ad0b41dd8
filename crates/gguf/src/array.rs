//! What does an array value hold?
//!
//! An element type, a number of elements, and their bytes as the file has them. Elements are decoded when asked for, so
//! that a vocabulary of 150,000 strings costs nothing to open. The reader has walked the bytes once: decoding an array
//! from a file cannot fail. Layout: numbers little-endian; a string is a length and bytes; an array is a type and a length.

use crate::codec::{encode_value, read_value};
use crate::cursor::{Cursor, Place, STRING, Width};
use crate::error::GgufError;
use crate::mapping::TensorBytes;
use crate::value::{Value, ValueType};

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $variant:ident;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(&self) -> Option<impl ExactSizeIterator<Item = $type> + '_> {
            let (elements, _) = self.bytes.as_chunks::<{ size_of::<$type>() }>();
            (self.element_type == ValueType::$variant)
                .then(|| elements.iter().map(|&bytes| <$type>::from_le_bytes(bytes)))
        }
    )*};
}

macro_rules! from_numbers {
    ($($type:ty => $variant:ident),* $(,)?) => {$(
        impl From<&[$type]> for Array {
            fn from(values: &[$type]) -> Array {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                Array::from_encoded(ValueType::$variant, values.len(), Width::Wide, bytes.into())
            }
        }

        impl From<Vec<$type>> for Array {
            fn from(values: Vec<$type>) -> Array {
                Array::from(values.as_slice())
            }
        }

        impl From<Vec<$type>> for Value {
            fn from(values: Vec<$type>) -> Value {
                Value::Array(values.into())
            }
        }
    )*};
}

from_numbers! {
    u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, u64 => U64, i64 => I64, f64 => F64,
}

/// An array value.
#[derive(Clone, Debug)]
pub struct Array {
    element_type: ValueType,
    len: usize,
    width: Width,
    bytes: TensorBytes,
}

impl Array {
    /// `bytes` must be `len` encoded elements.
    pub(crate) fn from_encoded(
        element_type: ValueType,
        len: usize,
        width: Width,
        bytes: TensorBytes,
    ) -> Array {
        Array { element_type, len, width, bytes }
    }

    /// An array of arrays.
    #[must_use]
    pub fn nested(arrays: &[Array]) -> Array {
        let mut bytes = Vec::new();
        for array in arrays {
            array.encode(&mut bytes);
        }
        Array::from_encoded(ValueType::Array, arrays.len(), Width::Wide, bytes.into())
    }

    /// An array of bools.
    #[must_use]
    pub fn bool_array(values: &[bool]) -> Array {
        let bytes: Vec<u8> = values.iter().map(|&value| u8::from(value)).collect();
        Array::from_encoded(ValueType::Bool, values.len(), Width::Wide, bytes.into())
    }

    /// An array of strings, which need not be UTF-8.
    pub fn string_array<T: AsRef<[u8]>>(strings: impl IntoIterator<Item = T>) -> Array {
        let (mut bytes, mut len) = (Vec::new(), 0);
        for string in strings {
            let string = string.as_ref();
            bytes.extend((string.len() as u64).to_le_bytes());
            bytes.extend_from_slice(string);
            len += 1;
        }
        Array::from_encoded(ValueType::String, len, Width::Wide, bytes.into())
    }

    /// The type of its elements.
    #[must_use]
    pub fn element_type(&self) -> ValueType {
        self.element_type
    }

    /// How many elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements in order, of any type.
    pub fn iter(&self) -> impl Iterator<Item = Value> + '_ {
        let mut cursor = Cursor::new(&self.bytes, 0, self.width);
        (0..self.len)
            .map_while(move |_| read_value(&mut cursor, self.element_type, &self.bytes, Place::Header).ok())
    }

    /// The strings, if it is an array of strings.
    #[must_use]
    pub fn strings(&self) -> Option<StrArray> {
        if self.element_type != ValueType::String {
            return None;
        }
        let mut cursor = Cursor::new(&self.bytes, 0, self.width);
        // As many as the bytes were found to hold: at most one for each four bytes of the file.
        let mut ends = Vec::with_capacity(self.len);
        for _ in 0..self.len {
            ends.push(cursor.string(STRING, Place::Header).ok()?.end);
        }
        Some(StrArray { bytes: self.bytes.clone(), ends, width: self.width })
    }

    /// The values of an array of any integer type.
    #[must_use]
    pub fn integers(&self) -> Option<impl Iterator<Item = i128> + '_> {
        self.element_is_integer().then(|| self.iter().filter_map(|value| value.integer()))
    }

    fn element_is_integer(&self) -> bool {
        use ValueType::{Array, Bool, F32, F64, String};
        !matches!(self.element_type, F32 | Bool | String | Array | F64)
    }

    numbers! {
        /// The values of an array of `u8`.
        u8s: u8 = U8;
        /// The values of an array of `i8`.
        i8s: i8 = I8;
        /// The values of an array of `u16`.
        u16s: u16 = U16;
        /// The values of an array of `i16`.
        i16s: i16 = I16;
        /// The values of an array of `u32`.
        u32s: u32 = U32;
        /// The values of an array of `i32`.
        i32s: i32 = I32;
        /// The values of an array of `f32`.
        f32s: f32 = F32;
        /// The values of an array of `u64`.
        u64s: u64 = U64;
        /// The values of an array of `i64`.
        i64s: i64 = I64;
        /// The values of an array of `f64`.
        f64s: f64 = F64;
    }

    /// The values of an array of `bool`; any byte but 0 is true.
    #[must_use]
    pub fn bools(&self) -> Option<impl ExactSizeIterator<Item = bool> + '_> {
        (self.element_type == ValueType::Bool).then(|| self.bytes.iter().map(|&byte| byte != 0))
    }

    /// Appends it as version 3 writes an array value: element type, length, elements.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.element_type.id().to_le_bytes());
        out.extend((self.len as u64).to_le_bytes());
        if self.width == Width::Wide || self.element_type.size().is_some() {
            out.extend_from_slice(&self.bytes);
        } else {
            for value in self.iter() {
                encode_value(&value, out);
            }
        }
    }
}

impl From<Vec<&str>> for Value {
    fn from(strings: Vec<&str>) -> Value {
        Value::Array(Array::string_array(strings))
    }
}

impl From<Vec<String>> for Value {
    fn from(strings: Vec<String>) -> Value {
        Value::Array(Array::string_array(strings))
    }
}

impl From<Vec<bool>> for Value {
    fn from(values: Vec<bool>) -> Value {
        Value::Array(Array::bool_array(&values))
    }
}

impl PartialEq for Array {
    fn eq(&self, other: &Array) -> bool {
        self.element_type == other.element_type
            && self.len == other.len
            && if self.width == other.width {
                self.bytes == other.bytes
            } else {
                self.iter().eq(other.iter())
            }
    }
}

/// The strings of an array with their places, so that each is found in one step.
#[derive(Clone, Debug)]
pub struct StrArray {
    bytes: TensorBytes,
    /// By string: where it ends in `bytes`. The next one's length starts there.
    ends: Vec<usize>,
    width: Width,
}

impl StrArray {
    /// How many strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of string `i`; `None` past the end.
    #[must_use]
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let end = *self.ends.get(i)?;
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before]) + self.width.bytes();
        self.bytes.get(start..end)
    }

    /// The text of string `i`; `None` past the end.
    ///
    /// # Errors
    /// [`GgufError::NotUtf8`] with the byte offset in the file.
    pub fn get_str(&self, i: usize) -> Option<Result<&str, GgufError>> {
        let bytes = self.get(i)?;
        Some(std::str::from_utf8(bytes).map_err(|error| GgufError::NotUtf8 {
            place: format!("string {i} of an array"),
            offset: (self.bytes.offset() + self.ends[i] - bytes.len()) as u64,
            valid: error.valid_up_to(),
        }))
    }

    /// The strings' bytes in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + '_ {
        (0..self.len()).map(|i| self.get(i).unwrap_or_default())
    }
}
