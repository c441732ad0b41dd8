//! Does `bench` report what it promises, for every shape of work that it was asked for?
//!
//! No rate is compared with a number: a test machine has other things to do.

use crate::program::{golden, worker};

#[test]
fn every_test_has_a_rate_between_its_bounds() {
    let model = golden("llama-q4_0.gguf");
    let args = ["-p", "8,33", "-n", "4", "--batch", "1,3", "--reps", "2", "--threads", "2", "--json"];
    let report = worker(&[&["bench", "--model", &model][..], &args].concat()).json();
    let tests = report["tests"].as_array().unwrap();
    let shapes: Vec<String> = tests
        .iter()
        .map(|t| format!("{} {} {} {}", t["kind"].as_str().unwrap(), t["n_prompt"], t["n_gen"], t["batch"]))
        .collect();
    assert_eq!(shapes, ["prefill 8 null null", "prefill 33 null null", "decode null 4 1", "decode null 4 3"]);
    for test in tests {
        let rate = |key: &str| test["tokens_per_second"][key].as_f64().unwrap();
        assert!(
            0.0 < rate("min") && rate("min") <= rate("median") && rate("median") <= rate("max"),
            "{test}"
        );
        assert_eq!(test["tokens_per_second"]["samples"].as_array().unwrap().len(), 2);
    }
    let bytes = |key: &str| report[key].as_u64().unwrap();
    assert!(
        0 < bytes("weights_bytes_per_token") && bytes("weights_bytes_per_token") <= bytes("weights_bytes")
    );
    assert!(report["gigabytes_per_second"].as_f64().unwrap() > 0.0);
}
