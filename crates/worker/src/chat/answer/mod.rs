//! What is each part of an answer? Reasoning, content, calls of tools, and markup that belongs to none of them.
//!
//! A parser is given an answer character by character, so how a stream is cut cannot matter, and writes to an [`Out`]. It consumes the
//! text in order; what it cannot decide about yet it holds. Text that only looks like a call comes out as content, whole; once a
//! call's name and the start of its arguments are there it is a call, and what follows are its arguments, broken or not.

mod bare;
mod block;
mod call;
#[cfg(test)]
mod forms_tests;
mod harmony;
mod hold;
mod literal;
mod out;
mod syntax;
mod tagged;
#[cfg(test)]
mod tests;
mod think;
mod typed;

pub(crate) use harmony::{Harmony, HarmonyIds};
pub(crate) use out::{Out, Part};
pub(crate) use tagged::Tagged;
pub(crate) use think::Think;
pub use think::{ThinkStart, ThinkTags};
pub(crate) use typed::{Tool, kinds_of};

use bare::Bare;
use block::Block;

use super::CallForm;

/// The parser of one answer.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Text with markup in it.
    Marked(Think),
    /// Messages between special tokens.
    Harmony(Harmony),
}

/// What follows the reasoning.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// Content alone.
    Plain,
    /// Calls in `<tool_call>` tags among it.
    Tagged(Tagged),
    /// Calls alone, as JSON, or content alone.
    Bare(Bare),
    /// Calls in another form among it.
    Block(Block),
}

impl Answer {
    /// More text.
    pub(crate) fn text(&mut self, text: &str, out: &mut Out) {
        for c in text.chars() {
            match self {
                Answer::Marked(parser) => parser.char(c, out),
                Answer::Harmony(parser) => parser.char(c, out),
            }
        }
    }

    /// A special token that has no text.
    pub(crate) fn special(&mut self, id: u32, out: &mut Out) {
        match self {
            Answer::Marked(_) => {}
            Answer::Harmony(parser) => parser.special(id, out),
        }
    }

    /// The answer ends here: everything that was held comes out.
    pub(crate) fn finish(&mut self, out: &mut Out) {
        match self {
            Answer::Marked(parser) => parser.finish(out),
            Answer::Harmony(parser) => parser.finish(out),
        }
    }
}

impl Body {
    /// Calls as a bare JSON object, of these tools alone.
    pub(crate) fn bare(names: Vec<String>) -> Body {
        Body::Bare(Bare::new(names))
    }

    /// Calls in one of the forms that are read as a whole; `None` for another.
    pub(crate) fn block(form: CallForm, tools: Vec<Tool>, one_call: bool) -> Option<Body> {
        syntax::of(form).map(|syntax| Body::Block(Block::new(syntax, tools, one_call)))
    }

    fn char(&mut self, c: char, out: &mut Out) {
        match self {
            Body::Plain => out.content(c.encode_utf8(&mut [0; 4])),
            Body::Tagged(parser) => parser.char(c, out),
            Body::Bare(parser) => parser.char(c, out),
            Body::Block(parser) => parser.char(c, out),
        }
    }

    fn finish(&mut self, out: &mut Out) {
        match self {
            Body::Plain => {}
            Body::Tagged(parser) => parser.finish(out),
            Body::Bare(parser) => parser.finish(out),
            Body::Block(parser) => parser.finish(out),
        }
    }
}

/// Names of special tokens that are part of a call in this form: they are read as if they were text.
pub(crate) fn markers(form: CallForm) -> Vec<&'static str> {
    let Some(syntax) = syntax::of(form) else { return Vec::new() };
    let close: &[&str] = match syntax.close {
        syntax::Close::Marker(close) => close,
        syntax::Close::Json => &[],
    };
    [syntax.markers, syntax.within, close].concat()
}
