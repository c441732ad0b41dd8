//! JSON as it is written, byte by byte. That it is JSON is the grammar's care; what is none ends the reading.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::places::{At, Places};
use super::{Repeated, value};

/// A value in the writing.
#[derive(Clone, Debug)]
pub(super) struct Json {
    /// Where the value stands as a whole.
    root: At,
    frames: Vec<Frame>,
    scalar: Scalar,
    is_over: bool,
}

/// An open array or object.
#[derive(Clone, Debug)]
struct Frame {
    is_array: bool,
    at: At,
    /// The values so far.
    n: usize,
    /// An object's key whose value comes.
    key: Option<Arc<str>>,
    after_comma: bool,
    /// Keys and values so far, if they are needed: the frame is part of an item.
    kept: Option<Vec<(Arc<str>, Arc<str>)>>,
    /// An array's items or an object's keys so far, if they must differ.
    seen: Option<Seen>,
}

/// Items of an array, or keys of an object.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// All that an item can be, if they are few.
    pub(super) values: Option<Arc<BTreeSet<String>>>,
    settled: Arc<BTreeSet<Arc<str>>>,
    /// Of this token, so that trying one copies no more.
    fresh: Vec<Arc<str>>,
}

/// What is open within the innermost frame.
#[derive(Clone, Debug)]
enum Scalar {
    None,
    /// A string with its first quote; its text is left out where it is not needed.
    Text {
        raw: Option<Vec<u8>>,
        after_backslash: bool,
    },
    /// A number, `true`, `false` or `null`.
    Bare(Vec<u8>),
}

/// The open frames, the innermost one's state, and the scalar in the writing.
pub(super) type Shape = (usize, Option<(usize, bool, bool)>, Option<Vec<u8>>);

impl Seen {
    pub(super) fn has(&self, item: &str) -> bool {
        self.settled.contains(item) || self.fresh.iter().any(|fresh| **fresh == *item)
    }

    fn add(&mut self, item: Arc<str>) -> Result<(), Repeated> {
        if self.has(&item) {
            return Err(Repeated);
        }
        self.fresh.push(item);
        Ok(())
    }

    /// Items that start with this text and are longer.
    pub(super) fn beyond<'a>(&'a self, start: &'a str) -> impl Iterator<Item = &'a str> {
        let from = (std::ops::Bound::Excluded(start), std::ops::Bound::Unbounded);
        let items = self.settled.range::<str, _>(from).map(|item| &**item);
        items.take_while(move |item| item.starts_with(start))
    }
}

impl Json {
    pub(super) fn new(root: At) -> Json {
        Json { root, frames: Vec::new(), scalar: Scalar::None, is_over: false }
    }

    /// Is the value complete, or no JSON?
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// After a token that was not only tried.
    pub(super) fn settle(&mut self) {
        for seen in self.frames.iter_mut().filter_map(|frame| frame.seen.as_mut()) {
            if !seen.fresh.is_empty() {
                Arc::make_mut(&mut seen.settled).extend(seen.fresh.drain(..));
            }
        }
    }

    pub(super) fn byte(&mut self, byte: u8, places: &Places) -> Result<(), Repeated> {
        match &mut self.scalar {
            Scalar::Text { raw, after_backslash } => {
                if let Some(raw) = raw {
                    raw.push(byte);
                }
                let ends = byte == b'"' && !*after_backslash;
                *after_backslash = byte == b'\\' && !*after_backslash;
                if ends { self.text() } else { Ok(()) }
            }
            Scalar::Bare(raw) if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.') => {
                raw.push(byte);
                Ok(())
            }
            Scalar::Bare(raw) => {
                let text = bare(raw);
                self.scalar = Scalar::None;
                self.value(Some(text))?;
                self.between(byte, places)
            }
            Scalar::None => self.between(byte, places),
        }
    }

    /// A byte outside of strings and numbers.
    fn between(&mut self, byte: u8, places: &Places) -> Result<(), Repeated> {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b':' => {}
            b',' => self.frames.iter_mut().last().into_iter().for_each(|frame| frame.after_comma = true),
            b'"' => {
                let raw = self.frames.last().is_some_and(Frame::wants_texts).then(|| vec![byte]);
                self.scalar = Scalar::Text { raw, after_backslash: false };
            }
            b'{' | b'[' => self.open(byte == b'[', places),
            b'}' | b']' => return self.close(byte == b']'),
            b'-' | b'0'..=b'9' | b'a'..=b'z' => self.scalar = Scalar::Bare(vec![byte]),
            _ => self.is_over = true,
        }
        Ok(())
    }

    fn open(&mut self, is_array: bool, places: &Places) {
        let (at, is_kept) = match self.frames.last() {
            None => (Arc::clone(&self.root), false),
            Some(above) if above.is_array => (places.item(&above.at, above.n), above.keeps()),
            Some(above) => {
                let key = above.key.as_deref().and_then(|key| serde_json::from_str::<String>(key).ok());
                (key.map_or_else(At::default, |key| places.property(&above.at, &key)), above.keeps())
            }
        };
        let seen = places.differ(&at, is_array).then(|| Seen {
            values: places.values(&at).filter(|_| is_array),
            settled: Arc::default(),
            fresh: Vec::new(),
        });
        let kept = is_kept.then(Vec::new);
        self.frames.push(Frame { is_array, at, n: 0, key: None, after_comma: false, kept, seen });
    }

    fn close(&mut self, is_array: bool) -> Result<(), Repeated> {
        match self.frames.pop() {
            Some(frame) if frame.is_array == is_array => {
                let text = frame.kept.as_ref().map(|_| frame.text(None));
                self.value(text)
            }
            _ => {
                self.is_over = true;
                Ok(())
            }
        }
    }

    /// A string is complete.
    fn text(&mut self) -> Result<(), Repeated> {
        let Scalar::Text { raw, .. } = std::mem::replace(&mut self.scalar, Scalar::None) else {
            return Ok(());
        };
        let text = raw.and_then(|raw| text(&raw));
        match self.frames.last_mut() {
            Some(frame) if frame.awaits_key() => {
                let key: Arc<str> = text.unwrap_or_default().into();
                frame.key = Some(Arc::clone(&key));
                frame.seen.as_mut().map_or(Ok(()), |seen| seen.add(key))
            }
            _ => self.value(text),
        }
    }

    /// A value of the innermost frame is complete.
    fn value(&mut self, text: Option<String>) -> Result<(), Repeated> {
        let Some(frame) = self.frames.last_mut() else {
            self.is_over = true;
            return Ok(());
        };
        frame.n += 1;
        frame.after_comma = false;
        let key = frame.key.take().unwrap_or_default();
        let Some(text) = text.filter(|_| frame.keeps()) else { return Ok(()) };
        let text: Arc<str> = text.into();
        if let Some(seen) = frame.seen.as_mut().filter(|_| frame.is_array) {
            seen.add(Arc::clone(&text))?;
        }
        if let Some(kept) = &mut frame.kept {
            kept.push((key, text));
        }
        Ok(())
    }

    /// Is an array open whose items must differ, or an object whose keys must?
    pub(super) fn is_in_unique(&self) -> bool {
        self.frames.iter().any(|frame| frame.seen.is_some())
    }

    pub(super) fn is_in_text(&self) -> bool {
        matches!(self.scalar, Scalar::Text { .. })
    }

    /// The items that a string in the writing must differ from, and its text so far.
    pub(super) fn text_item(&self) -> Option<(&Seen, String)> {
        let Scalar::Text { raw: Some(raw), after_backslash: false } = &self.scalar else { return None };
        let frame = self.frames.last().filter(|frame| frame.is_array || frame.awaits_key())?;
        Some((frame.seen.as_ref()?, unfinished(raw)?))
    }

    /// Is every item that could still come of this one already there? Known only where an item can be one of few.
    pub(super) fn is_hopeless(&self) -> bool {
        let Some(frame) = self.frames.last() else { return false };
        let Some((seen, values)) = frame.seen.as_ref().and_then(|seen| Some((seen, seen.values.as_ref()?)))
        else {
            return false;
        };
        let start = match &self.scalar {
            Scalar::None if frame.after_comma => String::new(),
            Scalar::None => return false,
            Scalar::Text { raw, .. } => match raw.as_deref().and_then(unfinished) {
                Some(start) => start,
                None => return false,
            },
            // A fraction may be written in many ways.
            Scalar::Bare(raw)
                if raw.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) && raw[0] <= b'9' =>
            {
                return false;
            }
            Scalar::Bare(raw) => String::from_utf8_lossy(raw).into_owned(),
        };
        !values.iter().any(|value| value.starts_with(&start) && !seen.has(value))
    }

    /// What decides, with the items so far, which values can come next.
    pub(super) fn shape(&self) -> Shape {
        let raw = match &self.scalar {
            Scalar::None => None,
            Scalar::Text { raw, .. } => Some(raw.clone().unwrap_or_default()),
            Scalar::Bare(raw) => Some(raw.clone()),
        };
        let last = self.frames.last().map(|frame| (frame.n, frame.after_comma, frame.key.is_some()));
        (self.frames.len(), last, raw)
    }

    /// Would an item be there twice if all that is open in it ended here?
    pub(super) fn is_at_risk(&self) -> bool {
        let mut open = match &self.scalar {
            Scalar::None => None,
            Scalar::Text { raw: Some(raw), .. } => match unfinished(raw) {
                Some(start) if !self.frames.last().is_some_and(Frame::awaits_key) => Some(start + "\""),
                _ => return false,
            },
            Scalar::Text { .. } => return false,
            Scalar::Bare(raw) => Some(bare(raw)),
        };
        for frame in self.frames.iter().rev() {
            if let (true, Some(seen), Some(item)) = (frame.is_array, &frame.seen, &open)
                && seen.has(item)
            {
                return true;
            }
            let is_incomplete = open.is_none() && (frame.after_comma || frame.key.is_some());
            if frame.kept.is_none() || is_incomplete {
                return false;
            }
            open = Some(frame.text(open));
        }
        false
    }
}

impl Frame {
    /// Are the values in it needed?
    fn keeps(&self) -> bool {
        self.kept.is_some() || (self.is_array && self.seen.is_some())
    }

    fn awaits_key(&self) -> bool {
        !self.is_array && self.key.is_none()
    }

    /// Is the text of a string that begins here needed?
    fn wants_texts(&self) -> bool {
        self.keeps() || (self.awaits_key() && !self.at.is_empty())
    }

    /// The text of the whole, with a last value that is not kept yet.
    fn text(&self, last: Option<String>) -> String {
        let kept = self.kept.iter().flatten().map(|(key, text)| (key.to_string(), text.to_string()));
        let last = last.map(|text| (self.key.as_deref().unwrap_or_default().to_owned(), text));
        let all = kept.chain(last);
        if self.is_array { value::array(all.map(|(_, text)| text)) } else { value::object(all) }
    }
}

/// A string's text from how it is written.
fn text(raw: &[u8]) -> Option<String> {
    serde_json::from_slice::<String>(raw).ok().map(|decoded| value::string(&decoded))
}

/// The text of a string whose end is missing, without the closing quote. `None` within a character.
fn unfinished(raw: &[u8]) -> Option<String> {
    let mut text = text(&[raw, b"\""].concat())?;
    text.pop();
    Some(text)
}

fn bare(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    if raw.first().is_some_and(u8::is_ascii_alphabetic) { text.into_owned() } else { value::number(&text) }
}
