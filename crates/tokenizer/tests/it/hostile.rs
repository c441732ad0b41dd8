//! Do hostile vocabularies, special tokens and templates end in a typed error or a notice, never in a panic?

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use expect_test::{Expect, expect};
use gguf::{Metadata, Value};
use tokenizer::{ChatInput, ChatTemplate, EncodeOptions, Stop, Stopped, Tokenizer, TokenizerError};

fn bpe(changes: Vec<(&'static str, Option<Value>)>) -> Result<Tokenizer, String> {
    let mut pairs: Vec<(&str, Value)> = vec![
        ("tokenizer.ggml.model", "gpt2".into()),
        ("tokenizer.ggml.pre", "gpt-2".into()),
        ("tokenizer.ggml.tokens", vec!["a", "b", "ab", "Ġ", "<|im_end|>", "<tool>"].into()),
        ("tokenizer.ggml.token_type", vec![1i32, 1, 1, 1, 3, 4].into()),
        ("tokenizer.ggml.merges", vec!["a b"].into()),
        ("tokenizer.ggml.eos_token_id", 4u32.into()),
    ];
    for (key, value) in changes {
        pairs.retain(|(found, _)| *found != key);
        pairs.extend(value.map(|value| (key, value)));
    }
    let metadata = Metadata::from_pairs(pairs).unwrap();
    Tokenizer::from_gguf(&metadata, None).map_err(|error| error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "expect! makes a value")]
fn check(changes: Vec<(&'static str, Option<Value>)>, expected: Expect) {
    match bpe(changes) {
        Ok(tokenizer) => expected.assert_eq(&format!("{:?}", tokenizer.notices())),
        Err(error) => expected.assert_eq(&error),
    }
}

#[test]
fn special_tokens_are_parsed_only_where_asked() {
    let tokenizer = bpe(vec![]).unwrap();
    let encode = |parse_special| {
        tokenizer.encode("ab<|im_end|><tool>a", EncodeOptions { add_special: false, parse_special }).unwrap()
    };
    assert_eq!(encode(true), [2, 4, 5, 0]);
    assert_eq!(encode(false), [2, 5, 0]);
    assert!(tokenizer.is_end(4) && !tokenizer.is_end(5));
    assert_eq!(tokenizer.decode(&[2, 4, 99, 3, 0], false), "ab a");
    assert_eq!(tokenizer.decode(&[2, 4, 99, 3, 0], true), "ab<|im_end|> a");
}

#[test]
fn unused_tokens_have_no_text_and_no_text_has_them() {
    let tokens = vec!["a", "b", "ab", "Ġ", "<|im_end|>", "<tool>", "aa", "<unk>"];
    let tokenizer = bpe(vec![
        ("tokenizer.ggml.tokens", Some(tokens.into())),
        ("tokenizer.ggml.token_type", Some(vec![1i32, 1, 5, 1, 3, 4, 5, 2].into())),
        ("tokenizer.ggml.merges", Some(vec!["a b", "a a"].into())),
    ])
    .unwrap();
    for parse_special in [false, true] {
        let options = EncodeOptions { add_special: false, parse_special };
        assert_eq!(tokenizer.encode("abaa", options).unwrap(), [0, 1, 0, 0]);
    }
    assert_eq!(tokenizer.decode(&[0, 6, 1, 2, 0], false), "aba");
    assert_eq!(tokenizer.decode(&[0, 6, 1, 2, 0], true), "aba");
    assert_eq!(tokenizer.decoder(true).push(6), "");
    assert_eq!([6, 2, 0, 4, 7].map(|id| tokenizer.is_unused(id)), [true, true, false, false, false]);
    // The unknown token is about text, as control tokens are: shown by name where these are.
    assert_eq!(tokenizer.decode(&[0, 7, 4], false), "a");
    assert_eq!(tokenizer.decode(&[0, 7, 4], true), "a<unk><|im_end|>");
}

#[test]
fn a_generation_ends_where_a_turn_does() {
    let ends = |tokens: Vec<&str>| {
        let kinds = vec![1i32; tokens.len()];
        let tokenizer = bpe(vec![
            ("tokenizer.ggml.tokens", Some(tokens.clone().into())),
            ("tokenizer.ggml.token_type", Some(kinds.into())),
            ("tokenizer.ggml.merges", Some(vec!["a b"].into())),
            ("tokenizer.ggml.eos_token_id", Some(0u32.into())),
        ])
        .unwrap();
        tokenizer.ends().iter().map(|&id| tokens[id as usize].to_owned()).collect::<Vec<String>>()
    };
    assert_eq!(ends(vec!["</s>", "a", "<|eot|>", "<|eom|>"]), ["</s>", "<|eot|>", "<|eom|>"]);
    assert_eq!(ends(vec!["<eos>", "<|turn>", "<turn|>"]), ["<eos>", "<turn|>"]);
    // Only a vocabulary with GLM's roles ends a turn with the token that begins the next.
    assert_eq!(ends(vec!["<|endoftext|>", "<|user|>", "<|assistant|>"]), ["<|endoftext|>"]);
}

#[test]
fn the_next_role_ends_a_generation_of_glm() {
    let tokenizer = bpe(vec![
        (
            "tokenizer.ggml.tokens",
            Some(vec!["a", "b", "<|endoftext|>", "<|user|>", "<|observation|>"].into()),
        ),
        ("tokenizer.ggml.token_type", Some(vec![1i32, 1, 3, 3, 3].into())),
        ("tokenizer.ggml.merges", Some(vec!["a b"].into())),
        ("tokenizer.ggml.eos_token_id", Some(2u32.into())),
    ])
    .unwrap();
    assert_eq!(tokenizer.ends(), [2, 3, 4]);
    assert_eq!(tokenizer.special().eom, Some(4));
}

#[test]
fn no_merge_makes_a_control_token_of_a_text() {
    let tokenizer = bpe(vec![
        ("tokenizer.ggml.tokens", Some(vec!["a", "b", "ab", "c", "d", "e"].into())),
        ("tokenizer.ggml.token_type", Some(vec![1i32, 1, 3, 1, 1, 1].into())),
        ("tokenizer.ggml.merges", Some(vec!["a b"].into())),
    ])
    .unwrap();
    let options = EncodeOptions { add_special: false, parse_special: false };
    assert_eq!(tokenizer.encode("ab", options).unwrap(), [0, 1]);
}

#[test]
fn vocabularies() {
    let key = "tokenizer.ggml.tokens";
    check(vec![(key, None)], expect!["tokenizer.ggml.tokens: missing; it is the vocabulary"]);
    check(
        vec![(key, Some(Vec::<&str>::new().into()))],
        expect!["tokenizer.ggml.tokens: expected at least one token, found none"],
    );
    check(
        vec![(key, Some(vec![1u32].into()))],
        expect!["tokenizer.ggml.tokens: expected strings, found u32"],
    );
    check(
        vec![(key, Some(vec!["a", "b", "a", "c", "d", "e"].into()))],
        expect![[
            r#"tokenizer.ggml.tokens[2]: expected a token of its own, found "a" again, which is also token 0"#
        ]],
    );
    check(
        vec![("tokenizer.ggml.token_type", Some(vec![1i32].into()))],
        expect!["tokenizer.ggml.token_type: expected 6 entries, one a token, found 1 entries"],
    );
    check(
        vec![("tokenizer.ggml.token_type", Some(vec!["x"].into()))],
        expect!["tokenizer.ggml.token_type: expected 6 entries, one a token, found 1 entries"],
    );
    check(
        vec![("tokenizer.ggml.merges", Some(vec!["a b", "ab"].into()))],
        expect![[r#"tokenizer.ggml.merges[1]: expected two tokens with a space between, found "ab ""#]],
    );
    check(
        vec![("tokenizer.ggml.merges", Some(vec!["a b", ""].into()))],
        expect![[r#"tokenizer.ggml.merges[1]: expected two tokens with a space between, found " ""#]],
    );
    check(
        vec![("tokenizer.ggml.merges", Some(vec!["a b", "a x"].into()))],
        expect![[
            r#"["1 merges name tokens that are not in the vocabulary", "240 bytes of UTF-8 have no token: text with them loses them"]"#
        ]],
    );
    check(
        vec![("tokenizer.ggml.eos_token_id", Some(77u32.into()))],
        expect![[
            r#"["tokenizer.ggml.eos_token_id is 77, past the 6 tokens: ignored", "240 bytes of UTF-8 have no token: text with them loses them"]"#
        ]],
    );
    check(
        vec![("tokenizer.ggml.eos_token_id", Some("x".into()))],
        expect![[
            r#"key "tokenizer.ggml.eos_token_id", byte 5: expected an integer of 64 bits with a sign, found string"#
        ]],
    );
    check(
        vec![("tokenizer.ggml.pre", None)],
        expect![[
            r#"["the file has no tokenizer.ggml.pre: text is split as for \"gpt-2\", so tokenisation may be wrong", "240 bytes of UTF-8 have no token: text with them loses them"]"#
        ]],
    );
    check(
        vec![("tokenizer.ggml.pre", Some("default".into()))],
        expect![[
            r#"["tokenizer.ggml.pre is \"default\", which names no recipe: text is split as for \"gpt-2\", so tokenisation may be wrong", "240 bytes of UTF-8 have no token: text with them loses them"]"#
        ]],
    );
    check(
        vec![("tokenizer.ggml.pre", Some("new".into()))],
        expect![[
            r#"no usable vocabulary: tokenizer.ggml.pre is "new" (a name that is not known); expected a recipe that is supported, or a tokenizer.json beside the model"#
        ]],
    );
    check(
        vec![("tokenizer.ggml.pre", Some("afmoe".into()))],
        expect![[
            r#"no usable vocabulary: tokenizer.ggml.pre is "afmoe" (digits in groups of three counted from the end, then East Asian scripts, then words as in deepseek-v3); expected a recipe that is supported, or a tokenizer.json beside the model"#
        ]],
    );
    check(
        vec![("tokenizer.ggml.normalizer.lowercase", Some(true.into()))],
        expect!["tokenizer.ggml.normalizer.lowercase: expected false: text is encoded as it is, found true"],
    );
    check(
        vec![
            ("tokenizer.ggml.normalizer.strip_accents", Some(false.into())),
            ("tokenizer.ggml.add_sep_token", Some(true.into())),
            ("tokenizer.ggml.add_space_prefix", Some(true.into())),
            ("tokenizer.ggml.suppress_tokens", Some(vec![1i32].into())),
            ("tokenizer.ggml.mask_token_id", Some(1u32.into())),
            ("tokenizer.huggingface.json", Some("{}".into())),
        ],
        expect![[
            r#"["tokenizer.ggml.add_sep_token is true and has no effect: no two texts are encoded together", "tokenizer.ggml.add_space_prefix is true and has no effect: it belongs to SentencePiece", "tokenizer.ggml.suppress_tokens is not read and has no effect", "tokenizer.huggingface.json is not read and has no effect", "240 bytes of UTF-8 have no token: text with them loses them"]"#
        ]],
    );
    check(
        vec![
            ("tokenizer.ggml.model", Some("gemma4".into())),
            ("tokenizer.ggml.pre", None),
            ("tokenizer.ggml.add_bos_token", Some(false.into())),
        ],
        expect![[
            r#"["tokenizer.ggml.add_bos_token is false: BOS is added all the same, as Gemma 4 needs it", "241 bytes of UTF-8 have no token: text with them loses them"]"#
        ]],
    );
    check(
        vec![("tokenizer.ggml.model", Some("bert".into()))],
        expect![[
            r#"no usable vocabulary: tokenizer.ggml.model is "bert"; expected "gpt2", "llama" or "gemma4", or a tokenizer.json beside the model"#
        ]],
    );
    check(
        vec![("tokenizer.chat_template", Some("{% if %}".into()))],
        expect![[
            r#"["240 bytes of UTF-8 have no token: text with them loses them", "tokenizer.chat_template cannot be used: chat template: line 1: unexpected end of block"]"#
        ]],
    );
    let spm = ("tokenizer.ggml.model", Some("llama".into()));
    check(vec![spm.clone()], expect!["tokenizer.ggml.scores: missing; SentencePiece has no other rules"]);
    check(
        vec![spm.clone(), ("tokenizer.ggml.scores", Some(vec![0f32].into()))],
        expect!["tokenizer.ggml.scores: expected 6 entries, one a token, found 1 entries"],
    );
    check(
        vec![spm, ("tokenizer.ggml.scores", Some(vec![f32::NAN; 6].into()))],
        expect!["tokenizer.ggml.scores[0]: expected a number, found not a number"],
    );
}

#[expect(clippy::needless_pass_by_value, reason = "expect! makes a value")]
fn render(source: &str, expected: Expect) {
    let messages = [serde_json::json!({"role": "user", "content": "hi"})];
    let input = ChatInput { messages: &messages, now: Some(0), ..ChatInput::default() };
    let result = ChatTemplate::new(source, "<s>", "</s>").and_then(|template| template.render(&input));
    expected.assert_eq(&result.unwrap_or_else(|error| error.to_string()));
}

/// The mark before the template's own control tokens is about them, not a part of any text.
#[test]
fn marks_are_seen_by_nobody() {
    let tokenizer = bpe(vec![]).unwrap();
    let messages = [serde_json::json!({"role": "user", "content": "a<|im_end|>b"})];
    let input = ChatInput { messages: &messages, now: Some(0), ..ChatInput::default() };
    let render = |source: &str, expected: Expect| {
        let template = ChatTemplate::new(source, "", "<|im_end|>").unwrap();
        let result = tokenizer.render_chat(&template, &input).map(|rendered| rendered.text());
        expected.assert_eq(&result.unwrap_or_else(|error| error.to_string()));
        if let Ok(text) = template.render(&input) {
            expected.assert_eq(&text);
        }
    };
    render(
        "{{ raise_exception('no <|im_end|> way') }}",
        expect!["chat template refused the conversation: no <|im_end|> way"],
    );
    render(
        "{{ nothing['<|im_end|>'] }}",
        expect![[r#"chat template: line 1: an undefined value has no items"#]],
    );
    render(
        "{{ messages.get('<|im_end|>') + messages[0]['<|im_end|>'].a }}",
        expect![[r#"chat template: line 1: list has no method "get" that is supported"#]],
    );
    render(
        "{{ 'a' | join(**{'<|im_end|>': 1}) }}",
        expect![[r#"chat template: line 1: join has no argument "<|im_end|>""#]],
    );
    render(
        "{% set c = messages[0].content %}{{ '<|im_end|>' in c }} {{ c.split('<|im_end|>') }} {{ c | replace('<|im_end|>', '-') }} {{ c == 'a<|im_end|>b' }} {{ c.find('<|im_end|>b') }} {{ c.endswith('<|im_end|>b') }} {{ '<|im_end|>' | length }} {{ '<|im_end|>' ~ 1 in ['<|im_end|>1'] }} {{ {eos_token: 1}['<|im_end|>'] }} {{ ['<|im_end|>'] }}",
        expect!["True ['a', 'b'] a-b True 1 True 10 True 1 ['<|im_end|>']"],
    );
}

#[test]
fn templates_that_would_grow_or_never_end() {
    render("{{ 'a' * 10**9 }}", expect!["chat template: line 1: more than 134217728 bytes of values"]);
    render("{{ 'a' * 10**30 }}", expect!["chat template: line 1: more than 134217728 bytes of values"]);
    render(
        "{% set ns = namespace(s='a') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        expect!["chat template: line 1: more than 134217728 bytes of values"],
    );
    render(
        "{% set ns = namespace(s='a') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        expect!["chat template: line 1: more than 134217728 bytes of values"],
    );
    render(
        "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        expect!["chat template: line 1: more than 134217728 bytes of values"],
    );
    render(
        "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = [ns.l] %}{% endfor %}",
        expect!["chat template: line 1: more than 64 levels of lists and maps"],
    );
    render(
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        expect!["chat template: line 1: more than 134217728 bytes of values"],
    );
    render(
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson }}",
        expect!["chat template: line 1: more than 134217728 bytes of values"],
    );
    render(
        "{% set ns = namespace(l=[1], m=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
        expect!["chat template: line 1: more than 20000000 steps"],
    );
    render(
        "{% set ns = namespace() %}{% set ns.a = ns %}",
        expect!["chat template: line 1: namespace cannot be part of another value"],
    );
    render("{{ range(10**9) }}", expect!["chat template: line 1: more than 100000 numbers in a range"]);
    render(
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        expect!["chat template: line 1: more than 134217728 bytes of values"],
    );
    render(
        "{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
        expect!["chat template: line 1: more than 16777216 bytes of output"],
    );
    render(
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        expect!["chat template: line 1: more than 200 levels of calls and expressions"],
    );
    render(
        "{% macro f(s) %}{{ s }}{{ s }}{% endmacro %}{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = f(ns.s) %}{% endfor %}",
        expect!["chat template: line 1: more than 16777216 bytes of output"],
    );
    render(
        "{{ ('a' * 9999) | replace('a', 'b' * 9999) | replace('b', 'c' * 9999) }}",
        expect!["chat template: line 1: more than 134217728 bytes of values"],
    );
    render(
        "{{ 'x' | indent(10**9, true) | length }}",
        expect!["chat template: line 1: more than 134217728 bytes of values"],
    );
    render("{{ 9223372036854775807 + 1 }}", expect!["9223372036854775808"]);
    render("{{ 2 ** 2 ** 9 }}", expect!["262144"]);
    render(
        "{{ -9223372036854775807 - 1 }} {{ (-9223372036854775807 - 1) // -1 }}",
        expect!["-9223372036854775808 9223372036854775808"],
    );
}

/// Comparing, searching, hashing and formatting read no long text for nothing.
#[test]
fn what_is_done_for_one_step_is_bounded() {
    for action in [
        "s == 'y'",
        "'y' < s",
        "'y' in s",
        "s in 'y'",
        "'y'.startswith(s)",
        "'y'.startswith((s, s, s))",
        "'y'.count(s)",
        "'y'.replace(s, '')",
        "'y'.split(s)",
        "'y'.partition(s)",
        "'y'.removeprefix(s)",
        "{}[s]",
        "{}.get(s)",
        "s in {}",
        "s.isalnum()",
    ] {
        let source = format!(
            "{{% set s = 'x' * 9000000 %}}{{% for a in range(99999) %}}{{% if {action} %}}{{% endif %}}{{% endfor %}}"
        );
        let result =
            ChatTemplate::new(&source, "", "").and_then(|template| template.render(&ChatInput::default()));
        let error = result.unwrap_err().to_string();
        assert!(error.contains("more than"), "{action}: {error}");
    }
    for source in [
        "{{ '{a}' * 1000000 | int }}",
        "{% macro m() %}{% for x in [1] %}{{ varargs[0] }}{% endfor %}{% endmacro %}{% for a in range(99999) %}{% for b in range(99) %}{{ m('') }}{% endfor %}{% endfor %}",
        "{% for x in [[[]]] recursive %}{{ loop([x]) }}{% endfor %}",
        "{{ range(9) | batch(10**12, 1) | list }}",
        "{{ range(9) | slice(10**12) | list }}",
        "{{ 'a'.zfill(10**12) }}",
        "{{ 'a'.center(10**18) }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ ('\\t' * 9999).expandtabs(10**6) }}",
        "{% for a in range(9999) %}{{ ('{a}' * 9999).format(a='') }}{% endfor %}",
        "{% for a in range(999) %}{{ range(99999) | sort }}{% endfor %}",
    ] {
        let result =
            ChatTemplate::new(source, "", "").and_then(|template| template.render(&ChatInput::default()));
        match result {
            Err(error) => assert!(error.to_string().contains("more than"), "{source}: {error}"),
            Ok(text) => assert!(text.len() < 4_000_000, "{source}"),
        }
    }
}

/// Neither a deadline nor a client that left waits for a rendering to go past its bounds.
#[test]
fn a_rendering_ends_with_its_deadline_and_with_its_client() {
    let template = ChatTemplate::new("\n{% for a in range(9) %}{{ a }}{% endfor %}", "", "").unwrap();
    let why = |stop: Stop<'_>| match template.render(&ChatInput { stop, ..ChatInput::default() }) {
        Err(TokenizerError::TemplateStopped { why, .. }) => Some(why),
        other => {
            assert_eq!(other.unwrap(), "\n012345678");
            None
        }
    };
    let (past, future) = (Instant::now(), Instant::now() + std::time::Duration::from_secs(3600));
    let flags = [AtomicBool::new(false), AtomicBool::new(true)];
    let [waits, left] = flags.each_ref().map(Some);
    assert_eq!(why(Stop::default()), None);
    assert_eq!(why(Stop { deadline: Some(future), cancelled: waits }), None);
    assert_eq!(why(Stop { deadline: Some(past), cancelled: waits }), Some(Stopped::Deadline));
    assert_eq!(why(Stop { deadline: Some(future), cancelled: left }), Some(Stopped::Cancelled));
}

/// The flag is read again and again, not only at the start.
#[test]
fn a_client_that_leaves_ends_what_is_being_rendered() {
    let left = AtomicBool::new(false);
    let source =
        "{% set s = 'x' * 9000000 %}{% for a in range(99999) %}{% if s == 'y' %}{% endif %}{% endfor %}";
    let template = ChatTemplate::new(source, "", "").unwrap();
    let stop = Stop { deadline: None, cancelled: Some(&left) };
    std::thread::scope(|scope| {
        let rendering =
            scope.spawn(|| template.render(&ChatInput { stop, ..ChatInput::default() }).unwrap_err());
        left.store(true, std::sync::atomic::Ordering::Relaxed);
        let error = rendering.join().unwrap();
        assert!(matches!(error, TokenizerError::TemplateStopped { why: Stopped::Cancelled, .. }), "{error}");
    });
}

#[test]
fn templates_that_are_wrong() {
    render(
        &format!("{{{{ {} }}}}", "a".repeat(257)),
        expect!["chat template: line 1: more than 256 bytes in a name"],
    );
    render("{% include '/etc/passwd' %}", expect!["chat template: line 1: unknown statement include"]);
    render(
        "{{ messages.append(1) }}",
        expect![[r#"chat template: line 1: list has no method "append" that is supported"#]],
    );
    render("{{ ''.__class__.__mro__ }}", expect!["chat template: line 1: __class__ is private"]);
    render(
        "{{ nothing.at.all }}",
        expect![[r#"chat template: line 1: an undefined value has no attribute "at""#]],
    );
    render(
        "{{ raise_exception('no ' ~ messages[0].role) }}",
        expect!["chat template refused the conversation: no user"],
    );
    render(
        "{% for m in messages %}{{ m.content",
        expect!["chat template: line 1: unexpected end of input, expected end of variable block"],
    );
    render(&"{".repeat(200_000), expect!["chat template: line 1: more than 2048 words in one tag"]);
    // The template engine counts columns in 16 bits.
    render(
        &format!("{}{{{{ ? }}}}", "a".repeat(70_000)),
        expect!["chat template: line 1: unexpected character"],
    );
    render(&"a".repeat(300_000), expect!["bytes of a chat template: at most 262144, found 300000"]);
    render(
        &format!("{{{{ {}1 }}}}", "1+".repeat(900)),
        expect!["chat template: line 1: more than 200 levels of calls and expressions"],
    );
    render(
        &format!("{{{{ {}1 }}}}", "1+".repeat(50_000)),
        expect!["chat template: line 1: more than 2048 words in one tag"],
    );
    render(
        &format!("{{{{ {}1{} }}}}", "[".repeat(900), "]".repeat(900)),
        expect!["chat template: line 1: template exceeds maximum recursion limits"],
    );
    render(
        &format!("{{{{ {}1 }}}}", "not ".repeat(900)),
        expect!["chat template: line 1: more than 200 levels of calls and expressions"],
    );
    render(
        &format!("{{{{ 1{} }}}}", "|abs".repeat(900)),
        expect!["chat template: line 1: more than 200 levels of calls and expressions"],
    );
    render(
        &format!("{{{{ a{} }}}}", ".b".repeat(900)),
        expect!["chat template: line 1: more than 200 levels of calls and expressions"],
    );
    render(
        &format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(15_000)),
        expect!["chat template: line 1: more than 200 elif branches"],
    );
    render(
        &"{% if 1 %}".repeat(20_000),
        expect!["chat template: line 1: template exceeds maximum recursion limits"],
    );
}

#[test]
fn python_forms() {
    render(
        "{{ [true, none, 1.0, 'a\\'b', (1,), {'k': 1e16}] }}",
        expect![[r#"[True, None, 1.0, "a'b", (1,), {'k': 1e+16}]"#]],
    );
    render(
        "{{ {'b': [1, {}], 'a': 'é<'} | tojson }} {{ [1, [], 'x'] | tojson(indent=2) }}",
        expect![[r#"
        {"b": [1, {}], "a": "é<"} [
          1,
          [],
          "x"
        ]"#]],
    );
    render(
        "{{ 7 // -2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 'abcdef'[1:-1:2] }} {{ [1,2,3][::-1] }}",
        expect!["-4 2 3.5 bd [3, 2, 1]"],
    );
    render("{%- generation %}x{% endgeneration -%} {{ strftime_now('%Y-%m-%d') }}", expect!["x1970-01-01"]);
    render(
        "{% for m in [1,2,3] if m != 2 %}{{ loop.index }}{{ loop.last }}{% else %}none{% endfor %}",
        expect!["1False2True"],
    );
    // A loop that does not name `loop` leaves an iterator at the next item; one that does has looked ahead.
    render(
        "{% set l = [1, 2, 3, 4] | map('string') %}{% for i in l %}{% if i == '2' %}{% break %}{% endif %}{% endfor %}{{ l | list }}",
        expect!["['3', '4']"],
    );
    render(
        "{% set l = [1, 2, 3] | map('string') %}{% for i in l %}{{ loop.index }}{% break %}{% endfor %}{{ l | list }}",
        expect!["chat template: line 1: an iterator is used again that was left half-way"],
    );
    render(
        "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
        expect!["02"],
    );
    render(
        "{{ ' a b '.strip().split(' ') | map('upper') | join('-') }} {{ 'x{}y{n}'.format(1, n=2) }} {{ '%s-%d' % ('a', 3) }}",
        expect!["A-B x1y2 a-3"],
    );
}
