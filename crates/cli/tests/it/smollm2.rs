//! Does a published model say what the reference implementation says? SmolLM2-135M-Instruct, greedy, `--exact`.
//!
//! `tests/golden/smollm2.json` holds prompts (plain and chat), the ids they become through tokenizer and template, and the greedy
//! continuations in float32.

use crate::program::{fixture, golden_json, worker_reading};

#[test]
fn the_six_greedy_continuations_are_the_references() {
    let Some(model) = fixture("smollm2.gguf") else { return };
    for case in golden_json("smollm2.json")["greedy"].as_array().unwrap() {
        let mut args =
            vec!["run", "--model", &model, "--prompt", "-", "--exact", "--temperature", "0", "--json"];
        args.extend(["--max-tokens", "48"]);
        if case["kind"] == "raw" {
            args.push("--raw");
        }
        let answer = worker_reading(&args, case["prompt"].as_str().unwrap().as_bytes()).json();
        assert_eq!(answer["prompt_tokens"], case["ids"].as_array().unwrap().len(), "{}", case["prompt"]);
        let mut ids = answer["tokens"].as_array().unwrap().clone();
        ids.extend(answer.get("stop_token").filter(|id| !id.is_null()).cloned());
        assert_eq!(&ids, case["greedy"].as_array().unwrap(), "{}", case["prompt"]);
    }
}
