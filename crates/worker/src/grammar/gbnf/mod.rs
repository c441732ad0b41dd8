//! llama.cpp's grammars, GBNF, as grammars of the library.
//!
//! GBNF says which characters may follow each other, and the library's grammars are of terminals, the longest of which is taken. So that
//! the same texts are accepted, a grammar without recursion becomes one regular expression, and of any other each character is a terminal of
//! its own.

mod parse;

use std::fmt::Write as _;

/// The most rules of a grammar.
const MAX_RULES: usize = 2_000;

/// The most times that an item is said to be repeated, as in llama.cpp.
const MAX_REPEAT: usize = 2_000;

/// The most bytes that a grammar without recursion may have as one expression, in which a rule stands wherever it is named.
const MAX_EXPRESSION: usize = 64 << 10;

/// The most rules that name each other one after the other, in an expression.
const MAX_CHAIN: usize = 64;

/// What is wrong with a grammar, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What would be accepted, with its line and column.
    pub(super) expected: String,
    pub(super) found: String,
}

impl Fault {
    fn at(text: &str, at: usize, expected: &str, found: &str) -> Fault {
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Fault {
            expected: format!("{expected} at line {line}, column {column} of the GBNF"),
            found: found.to_owned(),
        }
    }
}

/// Rules by their ids.
#[derive(Debug)]
struct Grammar {
    rules: Vec<Expr>,
    root: usize,
}

#[derive(Debug)]
enum Expr {
    Text(String),
    Class(Class),
    Rule(usize),
    /// One after the other; nothing where there is none.
    All(Vec<Expr>),
    /// One of these.
    Any(Vec<Expr>),
    /// At least and at most as often.
    Repeat(Box<Expr>, usize, Option<usize>),
}

/// One character.
#[derive(Debug)]
struct Class {
    is_negated: bool,
    ranges: Vec<(char, char)>,
}

/// Whether a text is GBNF: a rule is `name ::= ..`, outside of texts and classes, which no grammar of the library has.
pub(super) fn is_gbnf(text: &str) -> bool {
    text.lines().any(|line| {
        let name = line.trim_start();
        let end =
            name.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').unwrap_or(name.len());
        end > 0 && name[end..].trim_start_matches([' ', '\t']).starts_with("::=")
    })
}

/// The same grammar for the library.
pub(super) fn to_lark(text: &str) -> Result<String, Fault> {
    let grammar = parse::parse(text)?;
    let mut expression = String::new();
    if grammar.expression(grammar.root, 0, &mut expression).is_some() {
        return Ok(format!("start: /{expression}/\n"));
    }
    let mut lark = format!("start: g{}\n", grammar.root);
    for (id, rule) in grammar.rules.iter().enumerate() {
        let _infallible = write!(lark, "g{id}: ");
        rule.lark(&mut lark);
        lark.push('\n');
    }
    Ok(lark)
}

impl Grammar {
    /// Writes a rule as a regular expression; none where it is recursive or too large for that.
    fn expression(&self, rule: usize, n_chain: usize, out: &mut String) -> Option<()> {
        if n_chain > MAX_CHAIN {
            return None;
        }
        self.write(self.rules.get(rule)?, n_chain, out)
    }

    fn write(&self, expr: &Expr, n_chain: usize, out: &mut String) -> Option<()> {
        if out.len() > MAX_EXPRESSION {
            return None;
        }
        match expr {
            Expr::Text(text) => text.chars().for_each(|c| character(c, out)),
            Expr::Class(class) => class.write(out),
            Expr::Rule(id) => {
                out.push_str("(?:");
                self.expression(*id, n_chain + 1, out)?;
                out.push(')');
            }
            Expr::All(items) => items.iter().try_for_each(|item| self.write(item, n_chain, out))?,
            Expr::Any(items) => {
                out.push_str("(?:");
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push('|');
                    }
                    self.write(item, n_chain, out)?;
                }
                out.push(')');
            }
            Expr::Repeat(item, least, most) => {
                out.push_str("(?:");
                self.write(item, n_chain, out)?;
                out.push(')');
                repetition(*least, *most, out);
            }
        }
        Some(())
    }
}

impl Expr {
    /// Writes it with a terminal a character.
    fn lark(&self, out: &mut String) {
        let list = |items: &[Expr], between: &str, out: &mut String| {
            out.push('(');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push_str(between);
                }
                item.lark(out);
            }
            if items.is_empty() {
                out.push_str("\"\"");
            }
            out.push(')');
        };
        match self {
            Expr::Text(text) if text.is_empty() => out.push_str("\"\""),
            Expr::Text(text) => {
                out.push('(');
                for (i, c) in text.chars().enumerate() {
                    out.push_str(if i > 0 { " /" } else { "/" });
                    character(c, out);
                    out.push('/');
                }
                out.push(')');
            }
            Expr::Class(class) => {
                out.push('/');
                class.write(out);
                out.push('/');
            }
            Expr::Rule(id) => {
                let _infallible = write!(out, "g{id}");
            }
            Expr::All(items) => list(items, " ", out),
            Expr::Any(items) => list(items, " | ", out),
            Expr::Repeat(item, least, most) => {
                out.push('(');
                item.lark(out);
                out.push(')');
                repetition(*least, *most, out);
            }
        }
    }
}

impl Class {
    fn write(&self, out: &mut String) {
        if self.ranges.is_empty() {
            return out.push_str("(?s:.)");
        }
        out.push_str(if self.is_negated { "[^" } else { "[" });
        for &(first, last) in &self.ranges {
            character(first, out);
            if last > first {
                out.push('-');
                character(last, out);
            }
        }
        out.push(']');
    }
}

/// A character of an expression: letters and digits as they are, others by their numbers.
fn character(c: char, out: &mut String) {
    if c.is_ascii_alphanumeric() {
        return out.push(c);
    }
    let _infallible = write!(out, "\\x{{{:x}}}", u32::from(c));
}

fn repetition(least: usize, most: Option<usize>, out: &mut String) {
    let _infallible = match (least, most) {
        (0, None) => write!(out, "*"),
        (1, None) => write!(out, "+"),
        (0, Some(1)) => write!(out, "?"),
        (least, None) => write!(out, "{{{least},}}"),
        (least, Some(most)) => write!(out, "{{{least},{most}}}"),
    };
}
