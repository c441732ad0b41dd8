//! A file written by gguf-py: `tests/vectors/python.gguf`, made by `make.py` there.

use std::fmt::Write;
use std::path::Path;

use expect_test::expect;
use gguf::Gguf;

use crate::roundtrip::rewrite;
use crate::walk::walk;

#[test]
fn a_file_by_gguf_py_is_read_and_written() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/python.gguf");
    let gguf = Gguf::open(&path).unwrap();
    walk(&gguf);
    let mut found = format!("version {}, alignment {}\n", gguf.version(), gguf.alignment());
    for (key, value) in gguf.metadata().iter() {
        writeln!(found, "{key}: {} = {value}", value.value_type()).unwrap();
    }
    for key in ["strings", "i32s", "f32s", "bools", "nested"] {
        let array = gguf.metadata().array_of(key).unwrap().unwrap();
        writeln!(found, "{key} = {:?}", array.iter().map(|value| value.to_string()).collect::<Vec<_>>())
            .unwrap();
    }
    for info in gguf.tensors() {
        let tensor = gguf.tensor(&info.name).unwrap();
        let mut weights = vec![0.0; info.n_values()];
        info.format.dequantize(&tensor.bytes, &mut weights).unwrap();
        let at = |i: usize| weights[i];
        let (name, format, shape, offset) = (&info.name, info.format, &info.shape, info.offset);
        writeln!(found, "{name}: {format} {shape:?} at {offset}: {:.4} {:.4} {:.4}", at(1), at(64), at(191))
            .unwrap();
    }
    expect![[r#"
        version 3, alignment 64
        general.architecture: string = "llama"
        general.alignment: u32 = 64
        u8: u8 = 255
        i8: i8 = -128
        u16: u16 = 65535
        i16: i16 = -32768
        u32: u32 = 4294967295
        i32: i32 = -2147483648
        f32: f32 = 0.1
        bool: bool = true
        string: string = "héllo"
        u64: u64 = 18446744073709551615
        i64: i64 = -9223372036854775808
        f64: f64 = 0.1
        strings: array = [3 x string]
        i32s: array = [3 x i32]
        f32s: array = [2 x f32]
        bools: array = [2 x bool]
        nested: array = [2 x array]
        strings = ["\"\"", "\"a\"", "\"中文\""]
        i32s = ["1", "-2", "3"]
        f32s = ["0.5", "-0.5"]
        bools = ["true", "false"]
        nested = ["[2 x i32]", "[1 x i32]"]
        f32.weight: F32 [64, 3] at 896: 0.8415 0.9200 0.5949
        f16.weight: F16 [64, 3] at 1664: 0.8413 0.9199 0.5947
        bf16.weight: BF16 [64, 3] at 2048: 0.8398 0.9219 0.5938
        q8_0.weight: Q8_0 [64, 3] at 2432: 0.8425 0.9212 0.5972
        q4_0.weight: Q4_0 [64, 3] at 2688: 0.8750 0.8746 0.6235
        mxfp4.weight: MXFP4 [64, 3] at 2816: 0.7500 0.7500 0.5000
    "#]]
    .assert_eq(&found);
    // Both writers agree on every byte.
    assert!(rewrite(&gguf) == std::fs::read(&path).unwrap());
}
