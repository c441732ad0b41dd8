//! How is a conversation kept? As JSON of the form that a chat request has, in a file that the user names.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Value, json};
use tokenizer::limits::MAX_TEXT_BYTES;

use crate::whole;

/// Writes a conversation into a file that is not there yet.
pub(super) fn save(path: &Path, messages: &[Value]) -> io::Result<()> {
    let text = serde_json::to_string_pretty(&json!({"messages": messages}))? + "\n";
    whole::write_new(path, text.as_bytes())
}

/// Reads a conversation: the messages of an object, or a list of them. Whether they are messages is for the chat template to say.
pub(super) fn load(path: &Path) -> Result<Vec<Value>, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_TEXT_BYTES as u64 + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() > MAX_TEXT_BYTES {
        return Err(format!("expected at most {MAX_TEXT_BYTES} bytes"));
    }
    let value: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    match value.get("messages").unwrap_or(&value) {
        Value::Array(messages) if !messages.is_empty() => Ok(messages.clone()),
        _ => Err("expected messages, as /save writes them".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use worker::chat::message;

    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.json");
        let talk = vec![message("user", "hi"), message("assistant", "Hello.")];
        save(&path, &talk).unwrap();
        assert_eq!(load(&path).unwrap(), talk);
        assert_eq!(save(&path, &talk).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        std::fs::write(&path, "{\"messages\": []}").unwrap();
        assert_eq!(load(&path).unwrap_err(), "expected messages, as /save writes them");
    }
}
