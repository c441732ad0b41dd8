//! Any bytes as a model file: everything in it is read, and the first block of every tensor decoded.
//!
//! Properties: no panic; every tensor lies in the file; what can be read can be written and read again, the same.

use gguf::{Array, Gguf, Value, Writer};

pub(crate) const WORDS: &[&str] = &["GGUF", "general.architecture", "general.alignment"];

pub(crate) fn run(bytes: &[u8]) {
    let Ok(gguf) = Gguf::from_bytes(bytes.to_vec()) else { return };
    let mut writer = Writer::new();
    for (key, value) in gguf.metadata().iter() {
        walk(value);
        assert!(gguf.metadata().get(key).is_some());
        writer.set(key, value.clone());
    }
    for info in gguf.tensors() {
        let tensor = gguf.tensor(&info.name).expect("a listed tensor is found");
        assert_eq!(tensor.bytes.len(), info.n_bytes);
        let mut weights = [0.0; 256];
        let weights = &mut weights[..info.format.block_len()];
        let block = &tensor.bytes[..info.format.block_bytes()];
        info.format.dequantize(block, weights).expect("a block decodes");
        writer.tensor(info.name.as_str(), info.format, &info.shape, tensor.bytes);
    }
    // The largest alignment would make files of megabytes.
    if gguf.alignment() <= 4096 {
        let written = writer.to_bytes().expect("what was read can be written");
        let again = Gguf::from_bytes(written).expect("what was written can be read");
        assert_eq!(again.tensors().len(), gguf.tensors().len());
        assert_eq!(again.metadata().len(), gguf.metadata().len());
    }
}

fn walk(value: &Value) {
    if let Value::Array(array) = value {
        walk_array(array);
    }
    std::hint::black_box(value.to_string());
}

fn walk_array(array: &Array) {
    assert_eq!(array.iter().count(), array.len());
    for value in array.iter() {
        walk(&value);
    }
    if let Some(strings) = array.strings() {
        assert_eq!(strings.iter().count(), array.len());
    }
}
