//! Is a conversation with SmolLM2 the prompt that transformers makes?
//!
//! The template is the model file's own; the expected texts are transformers' `apply_chat_template`.

use tokenizer::{ChatInput, ChatTemplate};

#[test]
fn prompts() {
    let cases: serde_json::Value = serde_json::from_str(include_str!("../data/chat_cases.json")).unwrap();
    let source = cases["templates"]["SmolLM2-135M-Instruct"]["source"].as_str().unwrap();
    let template = ChatTemplate::new(source, "<|im_start|>", "<|im_end|>").unwrap();
    for content in ["Write a haiku about GPU computing", "What is 2+2?", "你好，请介绍一下你自己 🚀"]
    {
        let messages = [serde_json::json!({"role": "user", "content": content})];
        let input = ChatInput { messages: &messages, add_generation_prompt: true, ..ChatInput::default() };
        let expected = format!(
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
             <|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
        );
        assert_eq!(template.render(&input).unwrap(), expected);
    }
}
