//! Any template on one conversation: text, or a typed error. Never a panic, a long wait, or much memory.

use tokenizer::{ChatInput, ChatTemplate};

pub(crate) const WORDS: &[&str] = &[
    "{%",
    "%}",
    "{{",
    "}}",
    "{%-",
    "for m in messages",
    "endfor",
    "if ",
    "elif ",
    "else",
    "endif",
    "set ",
    "macro f()",
    "endmacro",
    "loop.index",
    "namespace(",
    "raise_exception(",
    "range(",
    "|join",
    "|tojson",
    "|int",
    "|sort",
    "|reverse",
    "is defined",
    "[::-1]",
    ".split(",
    ".strip()",
    "tools",
    "m['content']",
    "strftime_now(",
    "not in",
    "~",
];

pub(crate) fn run(source: &[u8]) {
    let Ok(source) = std::str::from_utf8(source) else { return };
    let Ok(template) = ChatTemplate::new(source, "<s>", "</s>") else { return };
    let messages = [
        serde_json::json!({"role": "system", "content": "Be brief."}),
        serde_json::json!({"role": "user", "content": " Hi é ", "n": [1, 2.5, null, true], "map": {"a": "b"}}),
    ];
    let tools = [serde_json::json!({"type": "function", "function": {"name": "f", "parameters": {}}})];
    let input = ChatInput {
        stop: tokenizer::Stop::default(),
        messages: &messages,
        add_generation_prompt: true,
        tools: Some(&tools),
        extra: &[],
        now: Some(1_700_000_000),
    };
    let _ = template.render(&input);
}
