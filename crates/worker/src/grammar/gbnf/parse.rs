//! Reads GBNF. Source: llama.cpp, grammars/README.md; where a rule ends and what an escape may be, `llama_grammar_parser`.

use std::collections::HashMap;

use super::{Class, Expr, Fault, Grammar, MAX_REPEAT, MAX_RULES};
use crate::grammar::MAX_GRAMMAR_DEPTH;

/// The rule that is the answer.
const ROOT: &str = "root";

/// A reader of a text.
struct Parser<'t> {
    text: &'t str,
    /// Bytes.
    at: usize,
    depth: usize,
    ids: HashMap<&'t str, usize>,
    /// By id: the rule, and where it was named first.
    rules: Vec<(Option<Expr>, usize)>,
}

/// Reads a grammar whose rules are all defined.
pub(super) fn parse(text: &str) -> Result<Grammar, Fault> {
    let mut parser = Parser { text, at: 0, depth: 0, ids: HashMap::new(), rules: Vec::new() };
    parser.space(true);
    while parser.peek().is_some() {
        parser.rule()?;
        parser.space(true);
    }
    let Parser { ids, rules, .. } = parser;
    let Some(&root) = ids.get(ROOT) else {
        return Err(Fault::at(text, text.len(), "a rule `root ::= ..`", "none"));
    };
    let mut defined = Vec::with_capacity(rules.len());
    for (rule, named) in rules {
        match rule {
            Some(rule) => defined.push(rule),
            None => return Err(Fault::at(text, named, "the name of a rule that is defined", "another")),
        }
    }
    Ok(Grammar { rules: defined, root })
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Goes over a text that may stand here.
    fn takes(&mut self, text: &str) -> bool {
        let is_there = self.rest().starts_with(text);
        if is_there {
            self.at += text.len();
        }
        is_there
    }

    fn fault<T>(&self, expected: &str) -> Result<T, Fault> {
        let found = self.peek().map_or_else(|| "the end".to_owned(), |c| format!("{c:?}"));
        Err(Fault::at(self.text, self.at, expected, &found))
    }

    /// Goes over blanks and comments, and over line ends where these say nothing.
    fn space(&mut self, with_lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => {}
                '\n' | '\r' if with_lines => {}
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n' && c != '\r') {
                        self.next();
                    }
                    continue;
                }
                _ => return,
            }
            self.next();
        }
    }

    fn name(&mut self) -> Result<&'t str, Fault> {
        let rest = self.rest();
        let end =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').unwrap_or(rest.len());
        if end == 0 {
            return self.fault("the name of a rule");
        }
        self.at += end;
        Ok(&rest[..end])
    }

    fn id(&mut self, name: &'t str, at: usize) -> Result<usize, Fault> {
        if let Some(&id) = self.ids.get(name) {
            return Ok(id);
        }
        if self.rules.len() == MAX_RULES {
            return Err(Fault::at(self.text, at, &format!("at most {MAX_RULES} rules"), "more"));
        }
        self.ids.insert(name, self.rules.len());
        self.rules.push((None, at));
        Ok(self.rules.len() - 1)
    }

    fn rule(&mut self) -> Result<(), Fault> {
        let at = self.at;
        let name = self.name()?;
        let id = self.id(name, at)?;
        self.space(false);
        if !self.takes("::=") {
            return self.fault("`::=`");
        }
        if self.rules[id].0.is_some() {
            return Err(Fault::at(self.text, at, "one rule of a name", "another of the same"));
        }
        self.space(true);
        let rule = self.alternatives(false)?;
        self.rules[id].0 = Some(rule);
        match self.peek() {
            None | Some('\n' | '\r') => Ok(()),
            _ => self.fault("an item or the line's end"),
        }
    }

    fn alternatives(&mut self, is_nested: bool) -> Result<Expr, Fault> {
        let mut all = vec![self.sequence(is_nested)?];
        while self.takes("|") {
            self.space(true);
            all.push(self.sequence(is_nested)?);
        }
        Ok(if all.len() == 1 { all.swap_remove(0) } else { Expr::Any(all) })
    }

    fn sequence(&mut self, is_nested: bool) -> Result<Expr, Fault> {
        let mut all = Vec::new();
        while let Some(c) = self.peek() {
            let at = self.at;
            let item = match c {
                '"' => self.literal()?,
                '[' => Expr::Class(self.class()?),
                '.' => {
                    self.next();
                    Expr::Class(Class { is_negated: true, ranges: Vec::new() })
                }
                '(' => {
                    self.next();
                    self.depth += 1;
                    if self.depth > MAX_GRAMMAR_DEPTH {
                        return Err(Fault::at(
                            self.text,
                            at,
                            &format!("at most {MAX_GRAMMAR_DEPTH} levels of brackets"),
                            "more",
                        ));
                    }
                    self.space(true);
                    let inner = self.alternatives(true)?;
                    if !self.takes(")") {
                        return self.fault("`)`");
                    }
                    self.depth -= 1;
                    inner
                }
                '<' | '!' => {
                    return Err(Fault::at(
                        self.text,
                        at,
                        "a grammar of characters",
                        "a token (`<..>`), which this server does not take",
                    ));
                }
                '*' | '+' | '?' | '{' => return self.fault("an item before its repetition"),
                c if c.is_ascii_alphanumeric() || c == '-' || c == '_' => {
                    let name = self.name()?;
                    Expr::Rule(self.id(name, at)?)
                }
                _ => break,
            };
            self.space(is_nested);
            all.push(self.repeated(item, is_nested)?);
        }
        Ok(if all.len() == 1 { all.swap_remove(0) } else { Expr::All(all) })
    }

    /// An item with the repetitions that stand after it.
    fn repeated(&mut self, mut item: Expr, is_nested: bool) -> Result<Expr, Fault> {
        let mut n = 0;
        loop {
            let at = self.at;
            let (least, most) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => self.counts()?,
                _ => return Ok(item),
            };
            n += 1;
            if n > MAX_GRAMMAR_DEPTH {
                return Err(Fault::at(
                    self.text,
                    at,
                    &format!("at most {MAX_GRAMMAR_DEPTH} repetitions of repetitions"),
                    "more",
                ));
            }
            self.next();
            self.space(is_nested);
            item = Expr::Repeat(Box::new(item), least, most);
        }
    }

    /// `{m}`, `{m,}`, `{,n}` or `{m,n}`, up to the closing bracket.
    fn counts(&mut self) -> Result<(usize, Option<usize>), Fault> {
        let at = self.at;
        self.next();
        self.space(true);
        let least = self.count()?;
        self.space(true);
        let most = if self.takes(",") {
            self.space(true);
            let most = self.count()?;
            self.space(true);
            most
        } else {
            least
        };
        if self.peek() != Some('}') {
            return self.fault("a number or `}`");
        }
        if most.is_some_and(|most| most < least.unwrap_or(0)) || least.is_none() && most.is_none() {
            return Err(Fault::at(self.text, at, "`{m}`, `{m,}` or `{m,n}` with m at most n", "another"));
        }
        Ok((least.unwrap_or(0), most))
    }

    fn count(&mut self) -> Result<Option<usize>, Fault> {
        let (at, rest) = (self.at, self.rest());
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if end == 0 {
            return Ok(None);
        }
        self.at += end;
        match rest[..end].parse() {
            Ok(n) if n <= MAX_REPEAT => Ok(Some(n)),
            _ => Err(Fault::at(self.text, at, &format!("at most {MAX_REPEAT} repetitions"), "more")),
        }
    }

    fn literal(&mut self) -> Result<Expr, Fault> {
        self.next();
        let mut text = String::new();
        loop {
            match self.peek() {
                Some('"') => break,
                None => return self.fault("`\"`"),
                Some(_) => text.push(self.char()?),
            }
        }
        self.next();
        Ok(Expr::Text(text))
    }

    fn class(&mut self) -> Result<Class, Fault> {
        self.next();
        let is_negated = self.takes("^");
        let mut ranges = Vec::new();
        while self.peek() != Some(']') {
            let at = self.at;
            if self.peek().is_none() {
                return self.fault("`]`");
            }
            let first = self.char()?;
            let is_range = self.rest().starts_with('-') && !self.rest().starts_with("-]");
            let last = if is_range {
                self.next();
                self.char()?
            } else {
                first
            };
            if last < first {
                return Err(Fault::at(
                    self.text,
                    at,
                    "a range from a lower to a higher character",
                    "another",
                ));
            }
            ranges.push((first, last));
        }
        if ranges.is_empty() && !is_negated {
            return self.fault("a character");
        }
        self.next();
        Ok(Class { is_negated, ranges })
    }

    /// A character of a text or a class.
    fn char(&mut self) -> Result<char, Fault> {
        let at = self.at;
        match self.next() {
            Some('\\') => {}
            Some(c) => return Ok(c),
            None => return self.fault("a character"),
        }
        let n_digit = match self.next() {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some(c @ ('\\' | '"' | '[' | ']')) => return Ok(c),
            _ => {
                return Err(Fault::at(
                    self.text,
                    at,
                    r#"\n, \r, \t, \\, \", \[, \], \xHH, \uHHHH or \UHHHHHHHH"#,
                    "another escape",
                ));
            }
        };
        let digits = self.rest().get(..n_digit).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let c = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32);
        let Some(c) = c else {
            return Err(Fault::at(
                self.text,
                at,
                &format!("a character's number in {n_digit} hexadecimal digits"),
                "another",
            ));
        };
        self.at += n_digit;
        Ok(c)
    }
}
