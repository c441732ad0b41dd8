//! Everything that can be read of a file, read: what a hostile file gets to touch.

use gguf::{Array, Gguf, GgufError, Value, limits};

/// Reads all metadata through every accessor and all tensors, decoding each one's first block. Gives a checksum of sorts, so
/// that nothing is optimised away.
pub(crate) fn walk(gguf: &Gguf) -> u64 {
    let mut sum = u64::from(gguf.version()) + gguf.alignment() as u64 + gguf.file_len();
    let metadata = gguf.metadata();
    for (key, value) in metadata.iter() {
        assert!(metadata.get(key).is_some_and(|found| found.value_type() == value.value_type()));
        sum += u64::from(metadata.usize_of(key).is_ok()) + u64::from(metadata.u32_of(key).is_ok());
        sum += u64::from(metadata.i64_of(key).is_ok()) + u64::from(metadata.f32_of(key).is_ok());
        sum += u64::from(metadata.bool_of(key).is_ok()) + u64::from(metadata.str_of(key).is_ok());
        sum += walk_value(value);
    }
    let mut total = 0;
    for info in gguf.tensors() {
        let tensor = gguf.tensor(&info.name).unwrap();
        assert_eq!(tensor.bytes.len(), info.n_bytes);
        assert_eq!(info.format.bytes_for(info.n_values()), Some(info.n_bytes));
        assert_eq!(info.row_len() % info.format.block_len(), 0);
        let mut weights = [0.0; 256];
        let weights = &mut weights[..info.format.block_len()];
        info.format.dequantize(&tensor.bytes[..info.format.block_bytes()], weights).unwrap();
        sum += u64::from(tensor.bytes[info.n_bytes - 1]) + u64::from(weights[0].to_bits());
        total += info.n_bytes as u64;
    }
    assert!(total <= gguf.file_len(), "tensors of {total} bytes in a file of {}", gguf.file_len());
    sum
}

fn walk_value(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.as_bytes().len() as u64 + u64::from(text.as_str().is_ok()),
        Value::Array(array) => walk_array(array),
        other => other.integer().map_or(0, |v| v as u64 & 0xff),
    }
}

fn walk_array(array: &Array) -> u64 {
    assert_eq!(array.iter().count(), array.len());
    let mut sum: u64 = array.iter().map(|value| walk_value(&value)).sum();
    if let Some(strings) = array.strings() {
        assert_eq!(strings.len(), array.len());
        sum += strings.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        sum += (0..strings.len()).filter(|&i| strings.get_str(i).unwrap().is_ok()).count() as u64;
    }
    sum += array.integers().map_or(0, Iterator::count) as u64;
    sum + array.bools().map_or(0, |v| v.len()) as u64 + array.f32s().map_or(0, |v| v.len()) as u64
}

/// Opens bytes, holding the reader to its stated memory, and reads everything.
pub(crate) fn open_and_walk(bytes: Vec<u8>) -> Result<Gguf, GgufError> {
    let bound = limits::ALLOCATION_BASE + limits::ALLOCATION_FACTOR * bytes.len();
    let mut result = None;
    let memory = allocation_counter::measure(|| result = Some(Gguf::from_bytes(bytes)));
    assert!(
        memory.bytes_max <= bound as u64,
        "opening took {} bytes, the bound is {bound}",
        memory.bytes_max
    );
    let result = result.unwrap();
    match &result {
        Ok(gguf) => std::hint::black_box(walk(gguf)),
        Err(error) => error.to_string().len() as u64,
    };
    result
}
