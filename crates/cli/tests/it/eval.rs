//! Are the logits in the NumPy file those of the reference implementation, whatever the architecture and the weight format?
//!
//! The executors have tests of their own; here it is about the way through the binary: reading ids, the context, the order of rows, the file.
//! Limits, as NMSE: float32 activations (`--exact`) 1e-8; the fast kernels, which may round activations to 8 bits, twice what the
//! same rounding costs in other implementations.

use std::collections::HashMap;

use testkit::{Golden, nmse};

use crate::program::worker;

/// The values of a float32 `.npy` file, and its shape.
fn read_npy(path: &str) -> (Vec<f32>, [usize; 2]) {
    let file = std::fs::read(path).unwrap();
    assert_eq!(&file[..8], b"\x93NUMPY\x01\x00");
    let start = 10 + usize::from(u16::from_le_bytes([file[8], file[9]]));
    let header = std::str::from_utf8(&file[10..start]).unwrap();
    assert!(header.contains("'descr': '<f4'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split(['(', ')']).nth(1).unwrap();
    let shape: Vec<usize> = shape.split(", ").map(|n| n.parse().unwrap()).collect();
    let values = file[start..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    (values.collect(), shape.try_into().unwrap())
}

/// How far the logits that the binary writes are from the reference's, NMSE.
pub(crate) fn error_of(golden: &Golden, key: &str, flags: &[&str]) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("x.npy").to_str().unwrap().to_owned();
    let (ids, reference) = &golden.cases[if key == "tokens.text" { 0 } else { 1 }];
    let (model, json) = (golden.path.to_str().unwrap(), golden.path.with_extension("json"));
    let tokens = json.to_str().unwrap();
    let mut args = vec!["eval", "logits", "--model", model, "--tokens", tokens, "--key", key, "--out", &out];
    args.extend(["--threads", "2"].iter().chain(flags));
    assert_eq!(worker(&args).ok(), "");
    let (ours, shape) = read_npy(&out);
    assert_eq!(shape, [ids.len(), reference.len() / ids.len()]);
    nmse(&ours, reference)
}

/// All golden models by name.
pub(crate) fn golden() -> HashMap<String, Golden> {
    testkit::golden().into_iter().map(|golden| (golden.name.clone(), golden)).collect()
}

#[test]
fn exact_logits_are_the_references() {
    let golden = golden();
    for case in ["llama3-rope-q4_0", "phi3-longrope-q8_0", "gpt2-q4_k_m", "qwen2-q4_k_m", "gpt-oss-mxfp4_moe"]
    {
        for key in ["tokens.text", "tokens.random"] {
            let error = error_of(&golden[case], key, &["--exact"]);
            assert!(error < 1e-8, "{case} {key}: {error:e}");
        }
    }
}

#[test]
fn fast_logits_are_within_the_rounding_of_activations() {
    let golden = golden();
    for (case, limit) in [
        ("llama-f16", 1e-5),
        ("llama-q4_1", 1.5e-3),
        ("llama-q8_0", 1.5e-3),
        ("llama-iq4_xs", 3e-3),
        ("qwen2-q4_k_m", 3e-3),
        ("phi3-longrope-q8_0", 1.5e-3),
        ("gpt-oss-mxfp4_moe", 3e-3),
    ] {
        let error = error_of(&golden[case], "tokens.random", &[]);
        assert!(error < limit, "{case}: {error:e}");
    }
}
