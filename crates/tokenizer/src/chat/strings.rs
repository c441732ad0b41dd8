//! What do the methods of strings do? Python's.

use super::args::{Args, given, size};
use super::budget::Result;
use super::characters::{self, is_space};
use super::eval::Renderer;
use super::filters::escaped;
use super::operators::plain;
use super::value::Value;

impl Renderer<'_, '_> {
    /// Methods of text that counts as escaped: those that only look, and those that change it without adding to it.
    pub(super) fn markup_method(&mut self, text: &str, name: &str, args: &Args) -> Result<Value> {
        const SAME: [&str; 17] = [
            "capitalize",
            "title",
            "lower",
            "upper",
            "swapcase",
            "zfill",
            "expandtabs",
            "strip",
            "lstrip",
            "rstrip",
            "ljust",
            "rjust",
            "center",
            "replace",
            "removeprefix",
            "removesuffix",
            "casefold",
        ];
        let looks = name.starts_with("is")
            || matches!(name, "startswith" | "endswith" | "find" | "rfind" | "index" | "rindex" | "count");
        if looks {
            return self.string_method(text, name, args);
        }
        if !SAME.contains(&name) {
            return self.no_method(&Value::Markup("".into()), name);
        }
        // Which arguments are escaped depends on the library's version: where that would matter, nothing is made.
        for value in &args.positional {
            if matches!(value, Value::Str(text) if escaped(text) != **text) {
                return self.budget.fail(format!("{name} of escaped text with other text is not supported"));
            }
        }
        Ok(match self.string_method(text, name, args)? {
            Value::Str(text) => Value::Markup(text),
            other => other,
        })
    }

    pub(super) fn string_method(&mut self, text: &str, name: &str, args: &Args) -> Result<Value> {
        self.budget.scan(text.len())?;
        match name {
            "strip" | "lstrip" | "rstrip" => self.strip(text, name, args),
            "upper" | "lower" | "casefold" | "capitalize" | "title" | "swapcase" => {
                let [] = self.bind(name, args, [])?;
                self.with_case(text, name)
            }
            "isalpha" | "isalnum" | "isdigit" | "isdecimal" | "isnumeric" | "isspace" | "isupper"
            | "islower" | "istitle" | "isascii" | "isprintable" => {
                let [] = self.bind(name, args, [])?;
                // Unicode's tables are slower than a comparison.
                self.budget.scan(text.len().saturating_mul(16))?;
                Ok(Value::Bool(is_all(&plain(text), name)))
            }
            "startswith" | "endswith" => self.starts_or_ends(text, name, args),
            "removeprefix" | "removesuffix" => {
                let [part] = self.bind(name, args, [""])?;
                let part = self.text(name, part)?;
                self.budget.scan(part.len())?;
                let part = needle(text, part);
                let kept = if name == "removeprefix" {
                    text.strip_prefix(&*part)
                } else {
                    text.strip_suffix(&*part)
                };
                self.budget.string(kept.unwrap_or(text))
            }
            "find" | "rfind" | "index" | "rindex" | "count" => self.search(text, name, args),
            "replace" => {
                let [old, new, count] = self.bind(name, args, ["", "", ""])?;
                let (old, new) = (self.text(name, old)?, self.text(name, new)?);
                let count = self.whole(name, count, -1)?;
                self.replaced(text, old, new, count)
            }
            "split" | "rsplit" => self.split(text, name == "rsplit", args),
            "splitlines" => {
                let [keep_ends] = self.bind(name, args, ["keepends"])?;
                self.budget.take(text.len().saturating_mul(40))?;
                let found = lines(text, self.whole(name, keep_ends, 0)? != 0);
                self.budget.list(found.into_iter().map(Value::str).collect())
            }
            "partition" | "rpartition" => {
                let [part] = self.bind(name, args, [""])?;
                let part = self.text(name, part)?;
                if part.is_empty() {
                    return self.budget.fail(format!("{name} needs a string that is not empty"));
                }
                self.budget.take(text.len().saturating_add(part.len()) + 128)?;
                let found = needle(text, part);
                let cut =
                    if name == "partition" { text.split_once(&*found) } else { text.rsplit_once(&*found) };
                let pieces = match cut {
                    Some((before, after)) => [before, part, after],
                    None if name == "partition" => [text, "", ""],
                    None => ["", "", text],
                };
                self.budget.admit(Value::tuple(pieces.map(Value::str).into()))
            }
            "join" => {
                let [Some(items)] = self.bind(name, args, [""])? else {
                    return self.budget.fail("join needs several strings");
                };
                let items = self.iterate(items)?;
                if let Some(other) = items.iter().find(|item| item.as_str().is_none()) {
                    return self.budget.fail(format!("join: {} is not a string", other.kind()));
                }
                self.join(&items, text)
            }
            "center" | "ljust" | "rjust" => self.justify(text, name, args),
            "zfill" => {
                let [width] = self.bind(name, args, [""])?;
                let (Some(width), length) = (width, text.chars().count()) else {
                    return self.budget.fail("zfill needs a width");
                };
                let missing = size(self.whole(name, Some(width), 0)?).saturating_sub(length);
                self.budget.take(text.len().saturating_add(missing))?;
                let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
                self.budget.string(&[sign, &"0".repeat(missing), digits].concat())
            }
            "expandtabs" => {
                let [tab] = self.bind(name, args, ["tabsize"])?;
                let tab = self.whole(name, tab, 8)?;
                if i32::try_from(tab).is_err() {
                    return self.budget.fail("expandtabs: the size does not fit 32 bits");
                }
                let tab = size(tab);
                let tabs = text.bytes().filter(|&byte| byte == b'\t').count();
                self.budget.take(text.len().saturating_add(tabs.saturating_mul(tab)))?;
                self.budget.string(&expanded(text, tab))
            }
            "format" => self.brace_format(text, args),
            _ => self.no_method(&Value::str(""), name),
        }
    }

    fn strip(&mut self, text: &str, name: &str, args: &Args) -> Result<Value> {
        let [chars] = self.bind(name, args, [""])?;
        let chars = given(chars).map(|chars| self.text(name, Some(chars))).transpose()?;
        self.budget.scan(text.len().saturating_mul(chars.map_or(1, str::len)))?;
        let stripped = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
        let mut kept = text;
        if name != "rstrip" {
            kept = kept.trim_start_matches(stripped);
        }
        if name != "lstrip" {
            kept = kept.trim_end_matches(stripped);
        }
        self.budget.string(kept)
    }

    fn with_case(&mut self, text: &str, name: &str) -> Result<Value> {
        if !text.is_ascii() {
            // A character becomes three at most.
            self.budget.take(text.len().saturating_mul(3))?;
        }
        let changed = match name {
            "upper" => Some(text.to_uppercase()),
            "lower" => Some(text.to_lowercase()),
            "casefold" => plain(text).is_ascii().then(|| text.to_lowercase()),
            "swapcase" => characters::swapped(text),
            _ => characters::capitalised(text, name == "title"),
        };
        match changed {
            Some(changed) => self.budget.string(&changed),
            None => self.budget.fail(format!("{name} of this text is not supported")),
        }
    }

    fn starts_or_ends(&mut self, text: &str, name: &str, args: &Args) -> Result<Value> {
        let [part, start, end] = self.bind(name, args, ["", "", ""])?;
        let text = plain(text);
        let text = self.window(&text, name, [start, end])?.map(|(_, text)| text);
        let fits = |part: &str| {
            text.is_some_and(|text| match name {
                "startswith" => text.starts_with(&*plain(part)),
                _ => text.ends_with(&*plain(part)),
            })
        };
        match part {
            Some(Value::List(parts)) if parts.is_tuple() => {
                self.budget.step(parts.items.len())?;
                for part in &parts.items {
                    self.budget.scan(part.as_str().map_or(0, str::len))?;
                    if fits(self.text(name, Some(part))?) {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            _ => {
                let part = self.text(name, part)?;
                self.budget.scan(part.len())?;
                Ok(Value::Bool(fits(part)))
            }
        }
    }

    /// `text[start:end]` and how many characters are before it; none if it starts behind its end.
    fn window<'a>(
        &self,
        text: &'a str,
        what: &str,
        bounds: [Option<&Value>; 2],
    ) -> Result<Option<(usize, &'a str)>> {
        if bounds.iter().all(Option::is_none) {
            return Ok(Some((0, text)));
        }
        let len = text.chars().count() as i128;
        let mut places = [0, len];
        for (place, bound) in places.iter_mut().zip(bounds) {
            let found = self.whole(what, given(bound), *place)?;
            *place = if found < 0 { found.saturating_add(len).max(0) } else { found };
        }
        let [start, end] = places;
        if start > len || start > end.min(len) {
            return Ok(None);
        }
        let rest = tail(text, size(start));
        Ok(Some((size(start), head(rest, size(end - start)))))
    }

    fn search(&mut self, text: &str, name: &str, args: &Args) -> Result<Value> {
        let [part, start, end] = self.bind(name, args, ["", "", ""])?;
        let part = self.text(name, part)?;
        self.budget.scan(part.len())?;
        let (text, part) = (plain(text), plain(part));
        let window = self.window(&text, name, [start, end])?;
        if name == "count" {
            let count = window.map_or(0, |(_, text)| text.matches(&*part).count());
            return Ok(Value::Int(count as i128));
        }
        let found = window.and_then(|(skipped, text)| {
            let place = if name.starts_with('r') { text.rfind(&*part) } else { text.find(&*part) }?;
            Some(skipped + text.get(..place)?.chars().count())
        });
        match found {
            Some(place) => Ok(Value::Int(place as i128)),
            None if name.ends_with("index") => self.budget.fail(format!("{name}: not found")),
            None => Ok(Value::Int(-1)),
        }
    }

    /// Python's `text.replace(old, new, count)`; below 0 all are replaced.
    pub(super) fn replaced(&mut self, text: &str, old: &str, new: &str, count: i128) -> Result<Value> {
        self.budget.scan(text.len().saturating_add(old.len()))?;
        let old = needle(text, old);
        let limit = if count < 0 { usize::MAX } else { size(count) };
        let count = text.matches(&*old).take(limit).count();
        self.budget.take(text.len().saturating_add(count.saturating_mul(new.len())))?;
        Ok(Value::Str(text.replacen(&*old, new, count).into()))
    }

    fn split(&mut self, text: &str, from_right: bool, args: &Args) -> Result<Value> {
        let [separator, limit] = self.bind("split", args, ["sep", "maxsplit"])?;
        self.budget.take(text.len().saturating_mul(40))?;
        let limit = self.whole("split", limit, -1)?;
        let pieces = if limit < 0 { usize::MAX } else { size(limit).saturating_add(1) };
        let Some(separator) = given(separator) else {
            let items = split_space(text, pieces, from_right);
            return self.budget.list(items.into_iter().map(Value::str).collect());
        };
        let separator = self.text("split", Some(separator))?;
        self.budget.scan(separator.len())?;
        let separator = needle(text, separator);
        if separator.is_empty() {
            return self.budget.fail("split needs a string that is not empty");
        }
        let mut items: Vec<Value> = if from_right {
            text.rsplitn(pieces, &*separator).map(Value::str).collect()
        } else {
            text.splitn(pieces, &*separator).map(Value::str).collect()
        };
        if from_right {
            items.reverse();
        }
        self.budget.list(items)
    }

    fn justify(&mut self, text: &str, name: &str, args: &Args) -> Result<Value> {
        let [width, fill] = self.bind(name, args, ["", ""])?;
        let fill = fill.map_or(Ok(" "), |fill| self.text(name, Some(fill)))?;
        let Some(width) = width else { return self.budget.fail(format!("{name} needs a width")) };
        if fill.chars().count() != 1 {
            return self.budget.fail(format!("{name} fills with one character"));
        }
        let width = size(self.whole(name, Some(width), 0)?);
        let missing = width.saturating_sub(text.chars().count());
        self.budget.take(text.len().saturating_add(missing.saturating_mul(fill.len())))?;
        let left = match name {
            "ljust" => 0,
            "rjust" => missing,
            // Python puts the odd one to the left if the width is odd.
            _ => missing / 2 + (missing & width & 1),
        };
        self.budget.string(&[&fill.repeat(left), text, &fill.repeat(missing - left)].concat())
    }
}

/// What to look for in a text to cut it: the template's own text is found in a text that is not the template's.
fn needle<'a>(text: &str, part: &'a str) -> std::borrow::Cow<'a, str> {
    if text.contains(crate::special::MARK) { part.into() } else { plain(part) }
}

/// The first characters of a text.
pub(super) fn head(text: &str, count: usize) -> &str {
    text.char_indices().nth(count).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// A text without its first characters.
fn tail(text: &str, count: usize) -> &str {
    match text.char_indices().nth(count) {
        Some((start, _)) => text.get(start..).unwrap_or_default(),
        None => "",
    }
}

/// Python's `str.splitlines()`.
pub(super) fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(characters::is_line_end) {
        let (line, after) = rest.split_at(end);
        let skip = if after.starts_with("\r\n") { 2 } else { after.chars().next().map_or(0, char::len_utf8) };
        found.push(if keep_ends { rest.get(..end + skip).unwrap_or_default() } else { line });
        rest = after.get(skip..).unwrap_or_default();
    }
    if !rest.is_empty() {
        found.push(rest);
    }
    found
}

/// Words between white space, with the rest as the last (or, from the right, the first) of `pieces`.
fn split_space(text: &str, pieces: usize, from_right: bool) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = if from_right { rest.trim_end_matches(is_space) } else { rest.trim_start_matches(is_space) };
        if rest.is_empty() {
            break;
        }
        let cut = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(cut) = cut.filter(|_| found.len() + 1 < pieces) else {
            // What is left keeps the white space within it.
            let left =
                if from_right { rest.trim_start_matches(is_space) } else { rest.trim_end_matches(is_space) };
            found.push(if found.len() + 1 < pieces { left } else { rest });
            break;
        };
        let width = rest.get(cut..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
        if from_right {
            found.push(rest.get(cut + width..).unwrap_or_default());
            rest = rest.get(..cut).unwrap_or_default();
        } else {
            found.push(rest.get(..cut).unwrap_or_default());
            rest = rest.get(cut..).unwrap_or_default();
        }
    }
    if from_right {
        found.reverse();
    }
    found
}

fn expanded(text: &str, tab: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' if tab > 0 => {
                let spaces = tab - column % tab;
                out.push_str(&" ".repeat(spaces));
                column += spaces;
            }
            '\t' => {}
            _ => {
                out.push(c);
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    out
}

/// `str.isalpha()` and the like.
fn is_all(text: &str, name: &str) -> bool {
    let each: fn(char) -> bool = match name {
        "isalpha" => characters::is_alpha,
        "isalnum" => characters::is_alnum,
        "isdigit" => characters::is_digit,
        "isdecimal" => characters::is_decimal,
        "isnumeric" => characters::is_numeric,
        "isspace" => is_space,
        "isascii" => return text.is_ascii(),
        "isprintable" => return text.chars().all(super::text::is_printable),
        "istitle" => return characters::is_titled(text),
        _ => return characters::has_case(text, name == "isupper"),
    };
    !text.is_empty() && text.chars().all(each)
}
