//! Reasoning between tags at the start of an answer.

use serde::{Deserialize, Serialize};

use super::hold::{Held, Hold};
use super::{Body, Out};

/// How an answer starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThinkStart {
    /// The prompt has opened the reasoning.
    Inside,
    /// The model may open it.
    Maybe,
    /// There is none.
    None,
}

/// What opens and closes reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThinkTags {
    /// `<think>`, `</think>`.
    #[default]
    Think,
    /// `[THINK]`, `[/THINK]`: Mistral.
    Brackets,
    /// `<|channel>thought`, `<channel|>`: Gemma 4.
    Channel,
}

impl ThinkTags {
    pub(crate) const ALL: [ThinkTags; 3] = [ThinkTags::Brackets, ThinkTags::Channel, ThinkTags::Think];

    /// The opening tag.
    pub(crate) fn open(self) -> &'static [&'static str] {
        match self {
            ThinkTags::Think => &["<think>"],
            ThinkTags::Brackets => &["[THINK]"],
            ThinkTags::Channel => &["<|channel>thought"],
        }
    }

    /// The closing tag.
    pub(crate) fn close(self) -> &'static [&'static str] {
        match self {
            ThinkTags::Think => &["</think>"],
            ThinkTags::Brackets => &["[/THINK]"],
            ThinkTags::Channel => &["<channel|>"],
        }
    }

    /// The tags that a receipt need not name.
    pub(crate) fn is_usual(&self) -> bool {
        *self == ThinkTags::default()
    }
}

/// Tells reasoning from the rest.
#[derive(Clone, Debug)]
pub(crate) struct Think {
    tags: ThinkTags,
    state: State,
    body: Body,
}

#[derive(Clone, Debug)]
enum State {
    /// Before the first character that is not white space.
    Start(Hold),
    /// White space is dropped at both ends.
    Inside {
        hold: Hold,
        empty: bool,
    },
    /// Between reasoning and the rest.
    After,
    Body,
}

impl Think {
    pub(crate) fn new(start: ThinkStart, tags: ThinkTags, body: Body) -> Think {
        let state = match start {
            ThinkStart::Inside => State::inside(tags),
            ThinkStart::Maybe => State::Start(Hold::new(tags.open())),
            ThinkStart::None => State::Body,
        };
        Think { tags, state, body }
    }

    pub(super) fn char(&mut self, c: char, out: &mut Out) {
        match &mut self.state {
            State::Start(hold) => match hold.push(c) {
                Held::Yes => {}
                Held::Marker(text) => {
                    out.markup(text.len());
                    self.state = State::inside(self.tags);
                }
                Held::No(text) => {
                    let text = text + &hold.take();
                    self.state = State::Body;
                    text.chars().for_each(|c| self.body.char(c, out));
                }
            },
            State::Inside { empty: true, .. } if c.is_whitespace() => out.markup(c.len_utf8()),
            State::Inside { hold, empty } => {
                *empty = false;
                match hold.push(c) {
                    Held::Yes => {}
                    Held::Marker(text) => {
                        out.markup(text.len());
                        self.state = State::After;
                    }
                    Held::No(text) => out.reasoning(&text),
                }
            }
            State::After if c.is_whitespace() => out.markup(c.len_utf8()),
            State::After | State::Body => {
                self.state = State::Body;
                self.body.char(c, out);
            }
        }
    }

    pub(super) fn finish(&mut self, out: &mut Out) {
        match &mut self.state {
            State::Start(hold) => {
                let text = hold.take();
                text.chars().for_each(|c| self.body.char(c, out));
            }
            State::Inside { hold, .. } => out.reasoning(&hold.take()),
            State::After | State::Body => {}
        }
        self.body.finish(out);
    }
}

impl State {
    fn inside(tags: ThinkTags) -> State {
        State::Inside { hold: Hold::new(tags.close()), empty: true }
    }
}
