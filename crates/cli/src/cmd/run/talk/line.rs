//! What does a line ask for? A command, or a message to the model.

/// The commands: name, what follows it, and what it does.
pub(super) const COMMANDS: [(&str, &str, &str); 8] = [
    ("/help", "", "this text"),
    ("/set", "NAME VALUE", "change how tokens are chosen; alone it lists the names"),
    ("/show", "", "what is in effect, and how full the context is"),
    ("/system", "TEXT", "start anew with this system message; without TEXT with none"),
    ("/save", "FILE", "write the conversation into a new file, as JSON"),
    ("/load", "FILE", "go on with a conversation from such a file"),
    ("/reset", "", "forget the conversation, keep the system message"),
    ("/exit", "", "leave, as Ctrl-D does"),
];

/// What opens and closes a message of several lines.
const QUOTES: &str = "\"\"\"";

/// What a line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Nothing,
    Help,
    Set(&'a str, &'a str),
    Show,
    System(&'a str),
    Save(&'a str),
    Load(&'a str),
    Reset,
    Exit,
    Unknown(&'a str),
    Message(&'a str),
}

impl Line<'_> {
    pub(super) fn parse(line: &str) -> Line<'_> {
        let line = line.trim();
        if let Some(text) = line.strip_prefix(QUOTES) {
            let text = text.strip_suffix(QUOTES).unwrap_or(text).trim_matches(['\r', '\n']);
            return if text.trim().is_empty() { Line::Nothing } else { Line::Message(text) };
        }
        let Some(command) = line.strip_prefix('/') else {
            return if line.is_empty() { Line::Nothing } else { Line::Message(line) };
        };
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        match (name, rest.trim()) {
            ("help" | "?", "") => Line::Help,
            ("set", rest) => {
                let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                Line::Set(name, value.trim())
            }
            ("show", "") => Line::Show,
            ("system", text) => Line::System(text),
            ("save", path) => Line::Save(path),
            ("load", path) => Line::Load(path),
            ("reset" | "clear", "") => Line::Reset,
            ("exit" | "quit" | "bye", "") => Line::Exit,
            _ => Line::Unknown(line),
        }
    }
}

/// Whether a message of several lines is not yet closed.
pub(super) fn is_open(text: &str) -> bool {
    text.trim_start().strip_prefix(QUOTES).is_some_and(|rest| !rest.trim_end().ends_with(QUOTES))
}

/// The text of /help.
pub(super) fn help() -> String {
    let commands = COMMANDS.map(|(name, value, what)| format!("{:<16} {what}\n", format!("{name} {value}")));
    commands.concat()
        + "Ctrl-C stops an answer. Everything else is a message to the model; \"\"\" begins and ends one of several lines.\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_messages() {
        let cases = [
            ("  ", Line::Nothing),
            (" what is /help? ", Line::Message("what is /help?")),
            ("/help", Line::Help),
            ("/exit", Line::Exit),
            ("/reset", Line::Reset),
            ("/system  Be brief. ", Line::System("Be brief.")),
            ("/system", Line::System("")),
            ("/set", Line::Set("", "")),
            ("/set top_k  40", Line::Set("top_k", "40")),
            ("/show", Line::Show),
            ("/save a b.json", Line::Save("a b.json")),
            ("/load", Line::Load("")),
            ("/help me", Line::Unknown("/help me")),
            ("/etc/passwd is what?", Line::Unknown("/etc/passwd is what?")),
            ("\"\"\"\n a\n/help\n\"\"\"", Line::Message(" a\n/help")),
            ("\"\"\"one line\"\"\"", Line::Message("one line")),
            ("\"\"\"\n\"\"\"", Line::Nothing),
        ];
        for (line, expected) in cases {
            assert_eq!(Line::parse(line), expected, "{line:?}");
        }
        assert_eq!(
            ["\"\"\"", "\"\"\"a\nb", "\"\"\"a\"\"\"", "\"\"\"a\n\"\"\" ", "a\"\"\""].map(is_open),
            [true, true, false, false, false]
        );
    }
}
