//! How is a metadata value laid out?
//!
//! Numbers little-endian, a bool in one byte, a string as length and bytes, an array as element type, length and
//! elements. Reading checks everything, down to the last element of nested arrays, and copies nothing.

use crate::array::Array;
use crate::cursor::{ARRAY, Cursor, Place, STRING};
use crate::error::GgufError;
use crate::limits::MAX_ARRAY_DEPTH;
use crate::mapping::TensorBytes;
use crate::value::{Text, Value, ValueType};

/// Reads one value that starts at the cursor; strings and arrays become ranges of `source`, the cursor's bytes.
pub(crate) fn read_value(
    cursor: &mut Cursor<'_>,
    value_type: ValueType,
    source: &TensorBytes,
    place: Place<'_>,
) -> Result<Value, GgufError> {
    Ok(match value_type {
        ValueType::U8 => Value::U8(u8::from_le_bytes(cursor.array(place)?)),
        ValueType::I8 => Value::I8(i8::from_le_bytes(cursor.array(place)?)),
        ValueType::U16 => Value::U16(u16::from_le_bytes(cursor.array(place)?)),
        ValueType::I16 => Value::I16(i16::from_le_bytes(cursor.array(place)?)),
        ValueType::U32 => Value::U32(u32::from_le_bytes(cursor.array(place)?)),
        ValueType::I32 => Value::I32(i32::from_le_bytes(cursor.array(place)?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(cursor.array(place)?)),
        ValueType::Bool => Value::Bool(cursor.array::<1>(place)? != [0]),
        ValueType::U64 => Value::U64(u64::from_le_bytes(cursor.array(place)?)),
        ValueType::I64 => Value::I64(i64::from_le_bytes(cursor.array(place)?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(cursor.array(place)?)),
        ValueType::String => Value::String(Text(source.slice(cursor.string(STRING, place)?)?)),
        ValueType::Array => {
            let (element_type, len) = array_head(cursor, place)?;
            let start = cursor.pos();
            skip_elements(cursor, (element_type, len), 1, place)?;
            let bytes = source.slice(start..cursor.pos())?;
            Value::Array(Array::from_encoded(element_type, len, cursor.width(), bytes))
        }
    })
}

/// A value type's id.
pub(crate) fn read_type(cursor: &mut Cursor<'_>, place: Place<'_>) -> Result<ValueType, GgufError> {
    let offset = cursor.pos() as u64;
    let found = cursor.u32(place)?;
    ValueType::from_id(found).ok_or_else(|| GgufError::UnknownValueType {
        place: place.to_string(),
        offset,
        found,
    })
}

/// An array's element type and length.
fn array_head(cursor: &mut Cursor<'_>, place: Place<'_>) -> Result<(ValueType, usize), GgufError> {
    let element_type = read_type(cursor, place)?;
    let len = cursor.count(ARRAY, place)?;
    // The bound on an array's length fits in 32 bits.
    Ok((element_type, len as usize))
}

/// Passes over an array's elements; its work is bounded by the bytes passed over, since every element has at least one.
fn skip_elements(
    cursor: &mut Cursor<'_>,
    (element_type, len): (ValueType, usize),
    depth: usize,
    place: Place<'_>,
) -> Result<(), GgufError> {
    if depth > MAX_ARRAY_DEPTH {
        return Err(GgufError::Limit {
            place: place.to_string(),
            offset: cursor.pos() as u64,
            what: "a depth of nested arrays",
            max: MAX_ARRAY_DEPTH as u64,
            found: depth as u64,
        });
    }
    if let Some(size) = element_type.size() {
        // At most 2^26 elements of 8 bytes.
        cursor.take(len as u64 * size as u64, place)?;
        return Ok(());
    }
    for _ in 0..len {
        if element_type == ValueType::String {
            cursor.string(STRING, place)?;
        } else {
            let head = array_head(cursor, place)?;
            skip_elements(cursor, head, depth + 1, place)?;
        }
    }
    Ok(())
}

/// Appends a value as version 3 of the format has it, without its type.
pub(crate) fn encode_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::U8(v) => out.extend(v.to_le_bytes()),
        Value::I8(v) => out.extend(v.to_le_bytes()),
        Value::U16(v) => out.extend(v.to_le_bytes()),
        Value::I16(v) => out.extend(v.to_le_bytes()),
        Value::U32(v) => out.extend(v.to_le_bytes()),
        Value::I32(v) => out.extend(v.to_le_bytes()),
        Value::F32(v) => out.extend(v.to_le_bytes()),
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::String(v) => encode_string(v.as_bytes(), out),
        Value::Array(v) => v.encode(out),
        Value::U64(v) => out.extend(v.to_le_bytes()),
        Value::I64(v) => out.extend(v.to_le_bytes()),
        Value::F64(v) => out.extend(v.to_le_bytes()),
    }
}

/// Appends a length of 64 bits and the bytes.
pub(crate) fn encode_string(text: &[u8], out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend_from_slice(text);
}
