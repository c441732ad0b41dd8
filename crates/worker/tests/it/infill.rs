//! Is the prompt that fills a gap the one that the model was trained on? Ids of Qwen2.5-Coder's texts are those of Hugging Face's
//! tokenizers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{Engine, EngineOptions};
use testkit::scripted::Scripted;
use tokenizer::Tokenizer;
use worker::{Before, Extra, Filling, GapInFile, Worker, WorkerError, WorkerOptions};

use crate::says;

const PRE: u32 = 151_659;
const MID: u32 = 151_660;
const SUF: u32 = 151_661;
const REP: u32 = 151_663;
const SEP: u32 = 151_664;

/// `def add(a, b):\n    return `
const PREFIX: [u32; 9] = [750, 912, 2877, 11, 293, 982, 262, 470, 220];
/// `\n\nprint(add(1, 2))\n`
const SUFFIX: [u32; 9] = [271, 1350, 25906, 7, 16, 11, 220, 17, 1171];
/// `myproject\n` and `filename\n`
const REPOSITORY: [u32; 3] = [2408, 4987, 198];
const FILE: [u32; 2] = [8404, 198];

/// A worker with the vocabulary of Qwen2.5, Coder's among them; `None` where it is not fetched.
fn qwen() -> Option<Worker> {
    let folder = std::env::var_os("WORKER_ORCD_FIXTURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures"), PathBuf::from);
    let path = folder.join("tokenizers/qwen2_5/tokenizer.json");
    if !path.exists() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is missing", path.display());
        return None;
    }
    let tokenizer = Arc::new(Tokenizer::from_hf_json(&path).unwrap());
    let engine = Engine::spawn(Box::new(Scripted::new(vec![1])), EngineOptions::default()).unwrap();
    Some(Worker::new(engine, tokenizer, WorkerOptions::default()))
}

fn gap() -> GapInFile {
    GapInFile {
        prefix: "def add(a, b):\n    return ".to_owned(),
        suffix: "\n\nprint(add(1, 2))\n".to_owned(),
        ..GapInFile::default()
    }
}

fn joined(parts: &[&[u32]]) -> Vec<u32> {
    parts.concat()
}

#[test]
fn a_gap_between_two_texts_is_written_with_three_tokens() {
    let Some(worker) = qwen() else { return };
    let GapInFile { prefix, suffix, .. } = gap();
    let text = Before::Text { text: prefix, add_special: true };
    let expected = joined(&[&[PRE], &PREFIX, &[SUF], &SUFFIX, &[MID]]);
    assert_eq!(worker.fill_between(text, &suffix, "suffix").unwrap(), expected);
    assert_eq!(worker.fill_between(Before::Tokens(PREFIX.to_vec()), &suffix, "suffix").unwrap(), expected);
    // Names of control tokens are text in both.
    let named = Before::Text { text: "<|im_end|>".to_owned(), add_special: true };
    let ids = worker.fill_between(named, "<|endoftext|>", "suffix").unwrap();
    assert_eq!(ids.iter().filter(|&&id| id >= 151_643).collect::<Vec<_>>(), [&PRE, &SUF, &MID]);
}

#[test]
fn a_gap_in_a_file_has_the_other_files_before_it() {
    let Some(worker) = qwen() else { return };
    let fill = |gap: &GapInFile| worker.fill_in_file(gap, 4096, "input_suffix").unwrap();
    let around = joined(&[&[REP], &REPOSITORY, &[SEP], &FILE, &[PRE], &PREFIX, &[SUF], &SUFFIX, &[MID]]);
    let expected =
        Filling { ids: around, n_prefix_cut: 0, n_suffix_cut: 0, n_extra_cut: 0, has_filenames: true };
    assert_eq!(fill(&gap()), expected);

    // `util.py\n`, `def sub(a, b):\n    return a - b\n`, `tmp\n`, `x = 1\n`, and `    return a` after the prefix.
    let extra = |filename: &str, text: &str| Extra { filename: filename.to_owned(), text: text.to_owned() };
    let extra = vec![extra("util.py", "def sub(a, b):\n    return a - b\n"), extra("tmp", "x = 1\n")];
    let with = GapInFile { extra, prompt: "    return a".to_owned(), ..gap() };
    let expected = joined(&[
        &[REP],
        &REPOSITORY,
        &[SEP],
        &[1314, 7197, 198],
        &[750, 1186, 2877, 11, 293, 982, 262, 470, 264, 481, 293, 198],
        &[SEP],
        &[5173, 198],
        &[87, 284, 220, 16, 198],
        &[SEP],
        &FILE,
        &[PRE],
        &PREFIX,
        &[262, 470, 264],
        &[SUF],
        &SUFFIX,
        &[MID],
    ]);
    assert_eq!(fill(&with).ids, expected);
}

/// Each ` a` is a token.
fn long(n: usize) -> String {
    " a".repeat(n)
}

#[test]
fn what_is_too_long_is_cut_as_llama_server_cuts_it() {
    let Some(worker) = qwen() else { return };
    let extra = vec![Extra { filename: "tmp".to_owned(), text: long(9000) }];
    let gap = GapInFile {
        prefix: "x".to_owned() + &long(5000),
        prompt: long(10),
        suffix: long(5000) + " x",
        extra,
    };
    for (longest, prefix, suffix, extra) in [
        // 1,536 and 512 - 2 - 10 of a window of 2,048; the rest but two.
        (4096, 1536, 500, 4096 - 2 - 2048),
        (20_000, 1536, 500, 1 + 3 + 1 + 2 + 9000 + 1 + 2),
        // A window of three quarters of 998.
        (1000, 3 * (749 / 4), 749 / 4 - 12, 998 - 749),
        (40, 3 * (29 / 4), 0, 9),
        (3, 0, 0, 0),
        (0, 0, 0, 0),
    ] {
        let filling = worker.fill_in_file(&gap, longest, "input_suffix").unwrap();
        let place = |wanted| filling.ids.iter().position(|&id| id == wanted).unwrap();
        let found = (place(PRE), place(SUF) - place(PRE) - 1 - 10, place(MID) - place(SUF) - 1);
        assert_eq!(found, (extra, prefix, suffix), "{longest}");
        assert_eq!((filling.n_prefix_cut, filling.n_suffix_cut), (5001 - prefix, 5001 - suffix));
        assert_eq!(filling.n_extra_cut, 9010 - extra);
        assert!(filling.ids.len() <= longest || longest < 60, "{} of {longest}", filling.ids.len());
        // The end of the prefix, the start of the suffix, the end of what stands beside the file.
        assert_eq!(filling.ids.iter().filter(|&&id| id == 87).count(), 0);
        assert!(extra == 0 || filling.ids[..extra].ends_with(&[SEP, FILE[0], FILE[1]]));
    }
    // Nobody gave what is left out here.
    let alone = GapInFile { extra: Vec::new(), ..gap };
    assert_eq!(worker.fill_in_file(&alone, 3, "input_suffix").unwrap().n_extra_cut, 0);
}

#[test]
fn a_vocabulary_without_the_tokens_is_told_which_are_missing() {
    let worker = says("x");
    let error = worker.fill_between(Before::Tokens(vec![1]), "b", "suffix").unwrap_err();
    assert!(matches!(error, WorkerError::Invalid { field: "suffix", .. }));
    assert_eq!(
        error.to_string(),
        "suffix: expected a model whose vocabulary has tokens to fill in the middle, found one without \
         tokenizer.ggml.fim_pre_token_id, tokenizer.ggml.fim_suf_token_id, tokenizer.ggml.fim_mid_token_id, by key or by name"
    );
    let error = worker.fill_in_file(&gap(), 100, "input_suffix").unwrap_err();
    assert!(matches!(error, WorkerError::Invalid { field: "input_suffix", .. }));
}
