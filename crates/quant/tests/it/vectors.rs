//! Every format against gguf-py: `tests/vectors/*.bin`, made by `make.py` there.

use std::path::Path;

use quant::Format;

/// Equal bits, or both not a number: the payload of a NaN depends on the processor that made it.
fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

#[test]
fn every_format_decodes_as_gguf_py_does() {
    for format in Format::ALL.into_iter().filter(|&format| format != Format::F32) {
        let name = format!("tests/vectors/{}.bin", format.name().to_lowercase());
        let file = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(&name)).unwrap();
        let n_blocks = file.len() / (format.block_bytes() + 4 * format.block_len());
        assert!(n_blocks >= 10, "{name} is too short");
        let (blocks, expected) = file.split_at(n_blocks * format.block_bytes());
        let mut found = vec![0.0; n_blocks * format.block_len()];
        format.dequantize(blocks, &mut found).unwrap();

        let (expected, rest) = expected.as_chunks::<4>();
        assert!(rest.is_empty() && expected.len() == found.len(), "{name} has a wrong length");
        for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
            let expected = f32::from_le_bytes(expected);
            let (block, weight) = (i / format.block_len(), i % format.block_len());
            assert!(
                same(found, expected),
                "{format}, block {block}, weight {weight}: expected {expected}, found {found}"
            );
        }
    }
}

#[test]
fn f32_is_copied() {
    let values = [0.0, -0.0, 1.5, f32::MIN_POSITIVE / 8.0, f32::NEG_INFINITY, f32::NAN];
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut found = [0.0; 6];
    Format::F32.dequantize(&bytes, &mut found).unwrap();
    assert_eq!(found.map(f32::to_bits), values.map(f32::to_bits));
}
