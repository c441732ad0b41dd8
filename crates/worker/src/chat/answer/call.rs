//! A call as a JSON object with a name and arguments, read a character at a time.
//!
//! Nothing is said of it before its name and the first character of its arguments (or its end) are known; then the arguments go on as they
//! come. Until then its whole text can be given back.

use super::Out;

/// The object so far.
#[derive(Clone, Debug)]
pub(super) struct CallObject {
    /// All of the text that is not consumed, marker included.
    raw: String,
    state: State,
    /// The value's text, of a key that is not streamed.
    value: String,
    key: String,
    name: Option<String>,
    /// Arguments that came before the name, or as a text.
    arguments: Option<String>,
    called: bool,
    /// Only these names are calls.
    names: Option<Vec<String>>,
}

/// What a character was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Part of the object.
    More,
    /// Its last.
    Done,
    /// No part of it: what was there is a call already.
    After,
    /// It shows that this is no call.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Key { first: bool },
    InKey { escaped: bool },
    Colon,
    Value,
    InValue { extent: Extent, streamed: bool },
    Next,
}

/// How far into a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    depth: usize,
    text: bool,
    escaped: bool,
}

impl CallObject {
    /// `raw` is the text before the object that belongs to it.
    pub(super) fn new(raw: String, names: Option<Vec<String>>) -> CallObject {
        CallObject {
            raw,
            state: State::Open,
            value: String::new(),
            key: String::new(),
            name: None,
            arguments: None,
            called: false,
            names,
        }
    }

    /// The text that is not consumed.
    pub(super) fn take_raw(&mut self) -> String {
        std::mem::take(&mut self.raw)
    }

    pub(super) fn is_called(&self) -> bool {
        self.called
    }

    pub(super) fn char(&mut self, c: char, out: &mut Out) -> Step {
        let step = self.step(c, out);
        match step {
            Step::More | Step::Done if self.called => {
                // Streamed arguments have consumed their character themselves.
                out.markup(self.raw.len());
                self.raw.clear();
            }
            _ => {}
        }
        if step == Step::Done {
            out.call_ends();
        }
        if step == Step::Broken && self.called {
            out.call_ends();
            return Step::After;
        }
        step
    }

    fn step(&mut self, c: char, out: &mut Out) -> Step {
        if let State::InValue { extent, streamed } = &mut self.state {
            let streamed = *streamed;
            return match extent.char(c) {
                // A bare value ends before this character.
                Within::Before => {
                    self.value_ends(out);
                    self.step(c, out)
                }
                Within::Broken => Step::Broken,
                within => {
                    if streamed {
                        out.arguments(c.encode_utf8(&mut [0; 4]), c.len_utf8());
                    } else {
                        self.raw.push(c);
                        self.value.push(c);
                    }
                    let step = if within == Within::Last { self.value_ends(out) } else { Step::More };
                    if step == Step::Broken {
                        // The character is the next reader's.
                        self.raw.pop();
                    }
                    step
                }
            };
        }
        let step = match (self.state, c) {
            (State::InKey { .. }, _) => self.in_key(c),
            (_, c) if c.is_whitespace() => Step::More,
            (State::Open, '{') => self.go(State::Key { first: true }),
            (State::Key { .. }, '"') => {
                self.key.clear();
                self.go(State::InKey { escaped: false })
            }
            (State::Colon, ':') => self.go(State::Value),
            (State::Value, c) => return self.value_starts(c, out),
            (State::Next, ',') => self.go(State::Key { first: false }),
            (State::Next, '}') | (State::Key { first: true }, '}') => return self.object_ends(c, out),
            _ => return Step::Broken,
        };
        self.raw.push(c);
        step
    }

    fn go(&mut self, state: State) -> Step {
        self.state = state;
        Step::More
    }

    fn in_key(&mut self, c: char) -> Step {
        match (self.state, c) {
            (State::InKey { escaped: false }, '"') => return self.go(State::Colon),
            (State::InKey { escaped: false }, '\\') => self.state = State::InKey { escaped: true },
            _ => self.state = State::InKey { escaped: false },
        }
        self.key.push(c);
        Step::More
    }

    fn value_starts(&mut self, c: char, out: &mut Out) -> Step {
        let Some(extent) = Extent::start(c) else { return Step::Broken };
        self.value.clear();
        let is_arguments = self.key == "arguments" || self.key == "parameters";
        let streamed = is_arguments && c == '{' && self.name.is_some() && !self.called;
        self.state = State::InValue { extent, streamed };
        if streamed {
            self.begin(out);
            out.arguments("{", 1);
        } else {
            self.raw.push(c);
            self.value.push(c);
        }
        Step::More
    }

    /// The call is one: its text up to here is markup.
    fn begin(&mut self, out: &mut Out) {
        out.markup(self.raw.len());
        self.raw.clear();
        out.call(self.name.as_deref().unwrap_or_default());
        self.called = true;
    }

    fn value_ends(&mut self, out: &mut Out) -> Step {
        let streamed = matches!(self.state, State::InValue { streamed: true, .. });
        self.state = State::Next;
        if streamed || self.called {
            return Step::More;
        }
        match self.key.as_str() {
            "name" => {
                let Ok(name) = serde_json::from_str::<String>(&self.value) else { return Step::Broken };
                let known = self.names.as_ref().is_none_or(|names| names.contains(&name));
                if name.is_empty() || !known {
                    return Step::Broken;
                }
                self.name = Some(name);
            }
            // Some models write the arguments' JSON into a text.
            "arguments" | "parameters" => {
                let text = serde_json::from_str::<String>(&self.value);
                self.arguments = Some(match text {
                    Ok(text) => text,
                    Err(_) if self.value == "null" => "{}".to_owned(),
                    Err(_) => self.value.clone(),
                });
            }
            _ => {}
        }
        if self.name.is_some() && self.arguments.is_some() {
            self.call_whole(out);
        }
        Step::More
    }

    fn call_whole(&mut self, out: &mut Out) {
        self.begin(out);
        out.arguments(&self.arguments.take().unwrap_or_else(|| "{}".to_owned()), 0);
    }

    fn object_ends(&mut self, c: char, out: &mut Out) -> Step {
        if !self.called {
            // Without arguments it is a call only where a marker says so.
            if self.name.is_none() || self.names.is_some() {
                return Step::Broken;
            }
            self.call_whole(out);
        }
        self.raw.push(c);
        Step::Done
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    More,
    Last,
    /// The value has ended before this character.
    Before,
    Broken,
}

impl Extent {
    /// `None` where no value starts so.
    pub(super) fn start(c: char) -> Option<Extent> {
        match c {
            '{' | '[' => Some(Extent { depth: 1, text: false, escaped: false }),
            '"' => Some(Extent { depth: 0, text: true, escaped: false }),
            '-' | '0'..='9' | 'a'..='z' => Some(Extent { depth: 0, text: false, escaped: false }),
            _ => None,
        }
    }

    pub(super) fn char(&mut self, c: char) -> Within {
        if self.text {
            match c {
                _ if self.escaped => self.escaped = false,
                '\\' => self.escaped = true,
                '"' => {
                    self.text = false;
                    return if self.depth == 0 { Within::Last } else { Within::More };
                }
                _ => {}
            }
            return Within::More;
        }
        match c {
            '+' | '-' | '.' | '0'..='9' | 'a'..='z' | 'A'..='Z' => Within::More,
            _ if self.depth == 0 => Within::Before,
            '"' => {
                self.text = true;
                Within::More
            }
            '{' | '[' => {
                self.depth += 1;
                Within::More
            }
            '}' | ']' => {
                self.depth -= 1;
                if self.depth == 0 { Within::Last } else { Within::More }
            }
            ',' | ':' => Within::More,
            c if c.is_whitespace() => Within::More,
            _ => Within::Broken,
        }
    }
}
