//! Does `inspect` say what is in a file, whether or not it can run?
//!
//! Snapshots of the text for each kind of position and attention; the JSON is checked by its sums.

use expect_test::{Expect, expect};

use crate::program::{golden, worker};

/// The text for a golden file, without the lines that depend on the folder or on the device's needs.
fn check(name: &str, flags: &[&str], expected: &Expect) {
    let said = worker(&[&["inspect", &golden(name)][..], flags].concat()).ok();
    let said: Vec<&str> =
        said.lines().filter(|line| !line.starts_with("file ") && !line.starts_with("memory ")).collect();
    expected.assert_eq(&(said.join("\n") + "\n"));
}

#[test]
fn every_kind_of_attention_and_position_is_described() {
    check(
        "gpt-oss-mxfp4_moe.gguf",
        &[],
        &expect![[r#"
        size           2.1 MiB (GGUF version 3)
        name           tiny random gpt-oss
        architecture   gpt-oss
        parameters     3.2 M, 2.1 MiB in 41 tensors
        formats        MXFP4     6 tensors    1.2 MiB
                       Q8_0     10 tensors  850.0 KiB
                       F32      25 tensors   61.1 KiB
        layers         2, width 256, feed-forward 256
        attention      heads 8, KV heads 2, values a head 64
        window         16 tokens on 1 of 2 layers
        experts        6, 4 used by a token
        RoPE           base 150000, yarn, factor 32 from 4096 tokens
        context        1024 tokens
        vocabulary     320 tokens, BOS 295, EOS 297
        tokenizer      gpt2, pre-tokenizer gpt-2
        chat template  no
        notice         no chat template: `run` needs --raw
    "#]],
    );
    check(
        "phi3-longrope-q8_0.gguf",
        &["--ctx", "128"],
        &expect![[r#"
        size           1.5 MiB (GGUF version 3)
        name           tiny random p3-longrope
        architecture   phi3
        parameters     1.5 M, 1.5 MiB in 17 tensors
        formats        Q8_0     10 tensors    1.5 MiB
                       F32       7 tensors    5.2 KiB
        layers         2, width 256, feed-forward 512
        attention      heads 4, KV heads 4, values a head 64
        RoPE           base 10000, longrope from 32 tokens
        context        256 tokens
        vocabulary     320 tokens, BOS 295, EOS 297
        tokenizer      gpt2, pre-tokenizer gpt-2
        chat template  no
        notice         no chat template: `run` needs --raw
    "#]],
    );
    check(
        "gpt2-q4_k_m.gguf",
        &["--tensors"],
        &expect![[r#"
        size           1.2 MiB (GGUF version 3)
        name           tiny random gpt2
        architecture   gpt2
        parameters     1.7 M, 1.2 MiB in 28 tensors
        formats        Q4_K      6 tensors  612.0 KiB
                       Q6_K      3 tensors  433.1 KiB
                       F32      19 tensors  156.0 KiB
        layers         2, width 256, feed-forward 1024
        attention      heads 4, KV heads 4, values a head 64
        context        128 tokens
        vocabulary     320 tokens, BOS 295, EOS 297
        tokenizer      gpt2, pre-tokenizer gpt-2
        chat template  no
        notice         no chat template: `run` needs --raw
          output_norm.bias                         F32     [256] 1.0 KiB
          output_norm.weight                       F32     [256] 1.0 KiB
          position_embd.weight                     F32     [256, 128] 128.0 KiB
          token_embd.weight                        Q6_K    [256, 320] 65.6 KiB
          blk.0.attn_norm.bias                     F32     [256] 1.0 KiB
          blk.0.attn_norm.weight                   F32     [256] 1.0 KiB
          blk.0.attn_output.bias                   F32     [256] 1.0 KiB
          blk.0.attn_output.weight                 Q4_K    [256, 256] 36.0 KiB
          blk.0.attn_qkv.bias                      F32     [768] 3.0 KiB
          blk.0.attn_qkv.weight                    Q4_K    [256, 768] 108.0 KiB
          blk.0.ffn_down.bias                      F32     [256] 1.0 KiB
          blk.0.ffn_down.weight                    Q4_K    [1024, 256] 144.0 KiB
          blk.0.ffn_norm.bias                      F32     [256] 1.0 KiB
          blk.0.ffn_norm.weight                    F32     [256] 1.0 KiB
          blk.0.ffn_up.bias                        F32     [1024] 4.0 KiB
          blk.0.ffn_up.weight                      Q4_K    [256, 1024] 144.0 KiB
          blk.1.attn_norm.bias                     F32     [256] 1.0 KiB
          blk.1.attn_norm.weight                   F32     [256] 1.0 KiB
          blk.1.attn_output.bias                   F32     [256] 1.0 KiB
          blk.1.attn_output.weight                 Q4_K    [256, 256] 36.0 KiB
          blk.1.attn_qkv.bias                      F32     [768] 3.0 KiB
          blk.1.attn_qkv.weight                    Q6_K    [256, 768] 157.5 KiB
          blk.1.ffn_down.bias                      F32     [256] 1.0 KiB
          blk.1.ffn_down.weight                    Q6_K    [1024, 256] 210.0 KiB
          blk.1.ffn_norm.bias                      F32     [256] 1.0 KiB
          blk.1.ffn_norm.weight                    F32     [256] 1.0 KiB
          blk.1.ffn_up.bias                        F32     [1024] 4.0 KiB
          blk.1.ffn_up.weight                      Q4_K    [256, 1024] 144.0 KiB
    "#]],
    );
}

#[test]
fn json_says_the_same_in_numbers() {
    let facts = worker(&["inspect", &golden("qwen2-q4_k_m.gguf"), "--json", "--ctx", "64"]).json();
    let sum = |key: &str| -> u64 {
        facts["formats"].as_array().unwrap().iter().map(|share| share[key].as_u64().unwrap()).sum()
    };
    assert_eq!(
        (facts["weights_bytes"].as_u64(), facts["tensor_count"].as_u64()),
        (Some(sum("bytes")), Some(sum("tensors")))
    );
    assert_eq!((&facts["supported"], &facts["memory"]["n_ctx"]), (&true.into(), &64.into()));
    let memory = |key: &str| facts["memory"][key].as_u64().unwrap();
    assert_eq!(memory("total"), memory("weights") + memory("kv_cache") + memory("activations"));
    assert!(facts.get("tensors").is_none());
}

#[test]
fn every_key_is_listed_with_its_type_and_value() {
    let golden = golden("gemma3-q4_0.gguf");
    let said = worker(&["inspect", &golden, "--metadata"]).ok();
    let listed = said.lines().filter_map(|line| line.strip_prefix("  "));
    let keys: Vec<&str> = listed.filter(|line| !line.starts_with(' ')).collect();
    expect![[r#"
        general.architecture                         string         "gemma3"
        general.type                                 string         "model"
        general.name                                 string         "tiny random gemma3"
        general.size_label                           string         "679K"
        gemma3.block_count                           u32            7
        gemma3.context_length                        u32            512
        gemma3.embedding_length                      u32            96
        gemma3.feed_forward_length                   u32            128
        gemma3.attention.head_count                  u32            4
        gemma3.attention.head_count_kv               u32            2
        gemma3.rope.freq_base                        f32            1000000
        gemma3.rope.freq_base_swa                    f32            10000
        gemma3.attention.layer_norm_rms_epsilon      f32            0.000001
        gemma3.attention.key_length                  u32            48
        gemma3.attention.value_length                u32            48
        general.file_type                            u32            2
        gemma3.attention.sliding_window              u32            16
        general.quantization_version                 u32            2
        tokenizer.ggml.model                         string         "gpt2"
        tokenizer.ggml.pre                           string         "gpt-2"
        tokenizer.ggml.tokens                        string[320]    ["Ā", "ā", "Ă", "ă", "Ą", "ą", "Ć", "ć", …]
        tokenizer.ggml.token_type                    i32[320]       [1, 1, 1, 1, 1, 1, 1, 1, …]
        tokenizer.ggml.merges                        string[39]     ["Ġ t", "h e", "i n", "Ġt he", "e r", "o n", "Ġ a", "r e", …]
        tokenizer.ggml.bos_token_id                  u32            295
        tokenizer.ggml.eos_token_id                  u32            297
        tokenizer.ggml.add_bos_token                 bool           false
    "#]]
    .assert_eq(&(keys.join("\n") + "\n"));
    let facts = worker(&["inspect", &golden, "--metadata", "--json"]).json();
    let metadata = facts["metadata"].as_array().unwrap();
    assert_eq!(metadata.len(), keys.len());
    let entry = |key: &str| metadata.iter().find(|entry| entry["key"] == key).unwrap();
    let tokens = entry("tokenizer.ggml.tokens");
    assert_eq!((&tokens["type"], &tokens["element_type"]), (&"array".into(), &"string".into()));
    assert_eq!(tokens["length"].as_u64().unwrap() as usize, tokens["value"].as_array().unwrap().len());
    let whole = &entry("general.architecture")["value"];
    assert_eq!((whole, &facts["architecture"]), (&"gemma3".into(), &"gemma3".into()));
}

#[test]
fn an_unknown_architecture_is_described_and_refused_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.gguf");
    // The same length, so that nothing else in the file moves.
    let mut file = std::fs::read(golden("llama-q4_0.gguf")).unwrap();
    while let Some(at) = file.windows(5).position(|bytes| bytes == b"llama") {
        file[at..at + 5].copy_from_slice(b"lemur");
    }
    std::fs::write(&path, file).unwrap();
    let path = path.to_str().unwrap();
    let facts = worker(&["inspect", path, "--json"]).json();
    assert_eq!((&facts["architecture"], &facts["supported"]), (&"lemur".into(), &false.into()));
    assert_eq!((&facts["sizes"]["n_layer"], &facts["memory"]), (&2.into(), &serde_json::Value::Null));
    let refused = worker(&["run", "--model", path, "--raw", "--prompt", "x", "-q"]);
    assert_eq!(refused.code, 5);
    let known = model::architectures::FAMILIES.map(|family| family.name).join(", ");
    assert_eq!(refused.stderr, format!("error: unknown architecture \"lemur\"; known are {known}\n"));
}

/// The text of a plan, with the numbers of the machine and of a GPU's own layout left out, and the exit code.
fn plan(flags: &[&str]) -> String {
    let done = worker(&[&["inspect", &golden("llama-q4_k_m.gguf"), "--plan", "-q"][..], flags].concat());
    let on_gpu = done.stdout.starts_with("device         cuda");
    let varies = |line: &str| {
        line.starts_with("free")
            || (on_gpu
                && ["weights", "activations", "kept free", "needed"]
                    .iter()
                    .any(|name| line.starts_with(name)))
    };
    let lines = done.stdout.lines().map(|line| if varies(line) { &line[..11] } else { line }.trim_end());
    format!("{}\nexit code {}\n", lines.collect::<Vec<_>>().join("\n"), done.code)
}

#[test]
fn a_plan_is_a_sum_and_its_exit_code_says_whether_it_fits() {
    expect![[r#"
        device         cpu
        context        2 sequences of 128 tokens
        weights                 824192 bytes  804.9 KiB
        KV cache                262144 bytes  256.0 KiB
          pages                      8 of 32 positions
        activations           13677568 bytes   13.0 MiB
        needed                14763904 bytes   14.1 MiB
        free
        fits           yes
        exit code 0
    "#]]
    .assert_eq(&plan(&["--device", "cpu", "--ctx", "128", "--slots", "2"]));
    expect![[r#"
        device         cpu
        context        1 sequence of 1000000000000 tokens
        weights                 824192 bytes  804.9 KiB
        KV cache       2048000000000000 bytes    1.8 PiB
          pages            31250000000 of 32 positions
        activations           13675008 bytes   13.0 MiB
        needed         2048000014499200 bytes    1.8 PiB
        free
        fits           no
        exit code 6
    "#]]
    .assert_eq(&plan(&["--device", "cpu", "--exact", "--ctx", "1000000000000"]));
}

#[test]
fn a_draft_model_is_planned_with_the_model() {
    let model = golden("llama-q4_0.gguf");
    let plan = |more: &[&str]| {
        worker(&[&["inspect", &model, "--plan", "--json", "--device", "cpu", "--slots", "2"], more].concat())
            .json()
    };
    let (alone, both) = (plan(&[]), plan(&["--draft-model", &model]));
    // It is planned as the model is.
    assert_eq!(both["draft"], alone["total"]);
    assert_eq!(both["needed"].as_u64(), alone["needed"].as_u64().map(|needed| 2 * needed));
    let text =
        worker(&["inspect", &model, "--plan", "--device", "cpu", "--slots", "2", "--draft-model", &model])
            .ok();
    assert!(
        text.contains(&format!("draft model    {:>15} bytes", both["draft"].as_u64().unwrap())),
        "{text}"
    );
}

#[test]
fn a_plan_for_a_gpu_that_is_not_there_has_its_sum_and_is_7() {
    expect![[r#"
        device         cuda:63
        context        4 sequences of 256 tokens
        weights
        KV cache               1048576 bytes    1.0 MiB
          pages                     16 of 64 positions
        activations
        kept free
        needed
        free
        fits           not known
        exit code 7
    "#]]
    .assert_eq(&plan(&["--gpu-device", "63", "--slots", "4"]));
    let done = worker(&["inspect", &golden("llama-f16.gguf"), "--plan", "--device", "cuda:63", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let bytes = |key: &str| plan[key].as_u64().unwrap();
    assert_eq!(bytes("total"), bytes("weights") + bytes("kv_cache") + bytes("activations"));
    assert_eq!(bytes("needed"), bytes("total") + bytes("reserve"));
    assert_eq!(
        (done.code, &plan["free"], &plan["fits"]),
        (7, &serde_json::Value::Null, &serde_json::Value::Null)
    );
}

#[test]
fn a_kv_cache_of_eight_bits_is_planned_and_bench_says_which_it_was() {
    let model = golden("llama-q4_k_m.gguf");
    let plan = |kv_type: &str| {
        let args =
            ["inspect", &model, "--plan", "--device", "cpu", "--ctx", "64", "--json", "--kv-type", kv_type];
        worker(&args).json()["kv_cache"].as_u64().unwrap()
    };
    assert_eq!(plan("q8_0") * 32, plan("f16") * 17);
    let report = worker(&[
        "bench",
        "--model",
        &model,
        "--device",
        "cpu",
        "-p",
        "8",
        "-n",
        "2",
        "--reps",
        "1",
        "--json",
        "--kv-type",
        "q8_0",
    ]);
    assert_eq!(report.json()["kv_type"], "q8_0");
    let refused = worker(&["inspect", &model, "--plan", "--kv-type", "q4_0"]);
    assert!(refused.code == 2 && refused.stderr.contains("expected f16 or q8_0"), "{}", refused.stderr);
    let unplanned = worker(&["inspect", &model, "--kv-type", "q8_0"]);
    assert!(unplanned.code == 2 && unplanned.stderr.contains("need --plan"), "{}", unplanned.stderr);
}
