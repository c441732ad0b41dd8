//! Any template on one conversation: text, or a typed error. Never a panic, a long wait, or much memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokenizer::{ChatInput, ChatTemplate};

fuzz_target!(|source: &str| {
    let Ok(template) = ChatTemplate::new(source, "<s>", "</s>") else { return };
    let messages = [
        serde_json::json!({"role": "system", "content": "Be brief."}),
        serde_json::json!({"role": "user", "content": " Hi é ", "n": [1, 2.5, null, true], "map": {"a": "b"}}),
    ];
    let tools = [serde_json::json!({"type": "function", "function": {"name": "f", "parameters": {}}})];
    let input = ChatInput {
        messages: &messages,
        add_generation_prompt: true,
        tools: Some(&tools),
        extra: &[],
        now: Some(1_700_000_000),
    };
    let _ = template.render(&input);
});
