//! The page of tensors in the book, held against the golden models and against the loader.

use std::collections::BTreeMap;

use gguf::TensorInfo;

use super::*;

/// A row of a family's table: a tensor's name (`blk.N.` in layers), its shape as formulas, and when it is there.
struct Row {
    name: String,
    shape: String,
    there: String,
}

/// The tables by family.
fn tables() -> BTreeMap<String, Vec<Row>> {
    let path = testkit::root().join("docs/src/reference/gguf-tensor-mapping.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once("<!-- tensors: begin -->").unwrap();
    let (tables, _) = rest.split_once("<!-- tensors: end -->").unwrap();
    let of = |part: &str| {
        let (family, rows) = part.split_once("`\n").unwrap();
        let rows = rows.lines().filter(|line| line.starts_with("| `")).map(|line| {
            let [_, name, shape, _, there, _] = line.split('|').collect::<Vec<_>>()[..] else {
                panic!("five columns: {line}")
            };
            let plain = |cell: &str| cell.trim().trim_matches('`').to_owned();
            Row { name: plain(name), shape: plain(shape), there: plain(there) }
        });
        (family.to_owned(), rows.collect())
    };
    tables.split("### `").skip(1).map(of).collect()
}

/// A golden model's keys as the sizes in the formulas, for one layer or for what belongs to none.
fn size(file: &Gguf, symbol: &str, layer: Option<usize>) -> usize {
    let family = file.metadata().str_of("general.architecture").unwrap().unwrap();
    let key = |name: &str| match file.metadata().get(&format!("{family}.{name}"))? {
        Value::Array(list) => {
            let numbers: Vec<usize> = list.iter().filter_map(|value| number(&value)).collect();
            match layer {
                Some(layer) => numbers.get(layer).copied(),
                None => numbers.into_iter().max(),
            }
        }
        value => number(value),
    };
    let known = |name: &str| key(name).unwrap_or_else(|| panic!("{family} has {name}"));
    let of = |symbol: &str| size(file, symbol, layer);
    let is_local = layer.is_some() && key("attention.sliding_window_pattern") == Some(1);
    match symbol {
        "E" => known("embedding_length"),
        "V" => file.tensors().iter().find(|tensor| tensor.name == "token_embd.weight").unwrap().shape[1],
        "L" => known("block_count"),
        "C" => known("context_length"),
        "H" => known("attention.head_count"),
        "K" => key("attention.head_count_kv").unwrap_or_else(|| of("H")),
        "D" => is_local
            .then(|| key("attention.key_length_swa"))
            .flatten()
            .or_else(|| key("attention.key_length_mla"))
            .or_else(|| key("attention.key_length"))
            .unwrap_or_else(|| of("E") / of("H")),
        "R" => key("rope.dimension_count").unwrap_or_else(|| of("D")),
        "Rq" => known("attention.q_lora_rank"),
        "Rk" => known("attention.kv_lora_rank"),
        "Dv" => key("attention.value_length_mla").unwrap_or_else(|| known("attention.value_length")),
        "F" => known("feed_forward_length"),
        "X" => known("expert_count"),
        "Fx" => key("expert_feed_forward_length").unwrap_or_else(|| of("F")),
        "Fs" => key("expert_shared_feed_forward_length")
            .unwrap_or_else(|| of("Fx") * key("expert_shared_count").unwrap_or(1)),
        "P" => known("embedding_length_per_layer_input"),
        "S" => known("ssm.state_size"),
        "Nk" => known("ssm.group_count"),
        "Nv" => known("ssm.time_step_rank"),
        "taps" => key("shortconv.l_cache").unwrap_or_else(|| known("ssm.conv_kernel")),
        number => number.parse().unwrap_or_else(|_| panic!("the page explains {number}")),
    }
}

/// A number, or a bool as 0 or 1.
fn number(value: &Value) -> Option<usize> {
    match value {
        Value::Bool(value) => Some(usize::from(*value)),
        Value::U32(value) => Some(*value as usize),
        Value::I32(value) => usize::try_from(*value).ok(),
        _ => None,
    }
}

/// What a formula is worth: sums, differences, products, quotients and brackets.
fn worth(formula: &str, of: &dyn Fn(&str) -> usize) -> usize {
    let formula = formula.trim();
    for operator in ['+', '-', '·', '/'] {
        let mut depth = 0;
        for (at, char) in formula.char_indices() {
            match char {
                '(' => depth += 1,
                ')' => depth -= 1,
                char if char == operator && depth == 0 => {
                    let left = worth(&formula[..at], of);
                    let right = worth(&formula[at + char.len_utf8()..], of);
                    return match operator {
                        '+' => left + right,
                        '-' => left - right,
                        '·' => left * right,
                        _ => left / right,
                    };
                }
                _ => {}
            }
        }
    }
    match formula.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => worth(inner, of),
        None => of(formula),
    }
}

/// A tensor's layer, and its name in the tables.
fn in_table(name: &str) -> (Option<usize>, String) {
    let layer = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    match layer.and_then(|(layer, rest)| Some((layer.parse().ok()?, rest))) {
        Some((layer, rest)) => (Some(layer), format!("blk.N.{rest}")),
        None => (None, name.to_owned()),
    }
}

/// Whether a tensor has a number for each matrix of another one, as the rules for all families say.
fn is_scale(file: &Gguf, tensor: &TensorInfo) -> bool {
    let map = ["input_scale", "scale"].into_iter().find_map(|end| tensor.name.strip_suffix(end));
    let matrices = map.and_then(|map| file.tensor(&format!("{map}weight")));
    matrices.is_some_and(|of| tensor.shape == [of.info.shape.get(2).copied().unwrap_or(1)])
}

#[test]
fn the_page_of_tensors_has_every_tensor_of_every_golden_model() {
    let tables = tables();
    let mut n_file = 0;
    for entry in std::fs::read_dir(testkit::root().join("tests/golden")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "gguf") {
            continue;
        }
        n_file += 1;
        let file = Gguf::open(&path).unwrap();
        let rows = &tables[file.metadata().str_of("general.architecture").unwrap().unwrap()];
        for tensor in file.tensors() {
            let (layer, name) = in_table(&tensor.name);
            let is_so = |row: &Row| {
                let shape: Vec<usize> = (row.shape.split(','))
                    .map(|formula| worth(formula, &|symbol| size(&file, symbol, layer)))
                    .collect();
                shape == tensor.shape
            };
            let mut found = rows.iter().filter(|row| row.name == name);
            let is_there = found.any(is_so) || is_scale(&file, tensor);
            assert!(is_there, "{}: {} {:?}", path.display(), tensor.name, tensor.shape);
        }
    }
    assert!(n_file > 40, "{n_file} golden models");
}

#[test]
fn what_the_page_of_tensors_calls_always_there_is_required() {
    for (family, rows) in tables() {
        let files = std::fs::read_dir(testkit::root().join("tests/golden")).unwrap();
        let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let is_family = |name: &String| {
            name.ends_with(".gguf")
                && Gguf::open(&testkit::root().join("tests/golden").join(name)).is_ok_and(|file| {
                    file.metadata().str_of("general.architecture").unwrap() == Some(family.as_str())
                })
        };
        let golden =
            names.into_iter().find(is_family).unwrap_or_else(|| panic!("a golden model of {family}"));
        let required = rows.iter().filter(|row| row.there == "always");
        let mut n_required = 0;
        for name in required.map(|row| row.name.replace("blk.N.", "blk.0.")) {
            n_required += 1;
            let without = rewritten(&golden, |_, value| Some(value.clone()), |tensor, _| tensor != name);
            let refused = Model::load(&without).expect_err("a refusal").to_string();
            // Without the fused tensor its parts are looked for.
            let missed =
                [name.as_str(), &name.replace("attn_qkv", "attn_q"), &name.replace("ffn_up", "ffn_gate")];
            let is_missed = missed.iter().any(|name| refused.contains(*name));
            let is_missed = is_missed && !refused.contains("is no part of");
            assert!(is_missed, "{golden} without {name}: {refused}");
        }
        assert!(n_required >= 4, "{family}: {n_required} tensors are always there");
    }
}
