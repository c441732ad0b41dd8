//! How are a header's numbers and strings read?
//!
//! A position in a file's bytes. Numbers are little-endian; counts and lengths are 64 bits wide, in version 1 of the
//! format 32. Every read is checked against the end of the file and names the place it was for when it fails.

use std::fmt;
use std::ops::Range;

use crate::error::GgufError;
use crate::limits;

/// What is being read, for errors.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Header,
    KeyNumber(u64),
    Key(&'a str),
    TensorNumber(u64),
    Tensor(&'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Header => f.write_str("the header"),
            Place::KeyNumber(n) => write!(f, "metadata key number {n}"),
            Place::Key(key) => write!(f, "key {key:?}"),
            Place::TensorNumber(n) => write!(f, "tensor number {n}"),
            Place::Tensor(name) => write!(f, "tensor {name:?}"),
        }
    }
}

/// The width of counts and lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// 32 bits: version 1.
    Narrow,
    /// 64 bits: versions 2 and 3.
    Wide,
}

impl Width {
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Width::Narrow => 4,
            Width::Wide => 8,
        }
    }
}

/// A bound on a length or count, with its name for errors.
#[derive(Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) what: &'static str,
    pub(crate) max: u64,
}

pub(crate) const STRING: Bound = Bound { what: "a string length", max: limits::MAX_STRING_BYTES };
pub(crate) const ARRAY: Bound = Bound { what: "an array length", max: limits::MAX_ARRAY_LEN };

#[cold]
fn over(Bound { what, max }: Bound, found: u64, offset: u64, place: Place<'_>) -> GgufError {
    GgufError::Limit { place: place.to_string(), offset, what, max, found }
}

#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    data: &'a [u8],
    /// Invariant: at most `data.len()`.
    pos: usize,
    width: Width,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(data: &'a [u8], pos: usize, width: Width) -> Cursor<'a> {
        Cursor { data, pos: pos.min(data.len()), width }
    }

    pub(crate) fn pos(&self) -> usize {
        self.pos
    }

    pub(crate) fn width(&self) -> Width {
        self.width
    }

    /// Passes over `n` bytes.
    #[inline]
    pub(crate) fn take(&mut self, n: u64, place: Place<'_>) -> Result<&'a [u8], GgufError> {
        let rest = self.data.get(self.pos..).unwrap_or_default();
        let Some(bytes) = usize::try_from(n).ok().and_then(|n| rest.get(..n)) else {
            return Err(self.truncated(n, place));
        };
        self.pos += bytes.len();
        Ok(bytes)
    }

    #[cold]
    fn truncated(&self, needed: u64, place: Place<'_>) -> GgufError {
        let available = (self.data.len() - self.pos) as u64;
        GgufError::Truncated { place: place.to_string(), offset: self.pos as u64, needed, available }
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self, place: Place<'_>) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64, place)?);
        Ok(bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self, place: Place<'_>) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(place)?))
    }

    #[inline]
    pub(crate) fn u64(&mut self, place: Place<'_>) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(place)?))
    }

    /// A count or length of the version's width, unchecked.
    #[inline]
    pub(crate) fn raw_count(&mut self, place: Place<'_>) -> Result<u64, GgufError> {
        match self.width {
            Width::Narrow => self.u32(place).map(u64::from),
            Width::Wide => self.u64(place),
        }
    }

    /// A count or length of the version's width, within its bound.
    #[inline]
    pub(crate) fn count(&mut self, bound: Bound, place: Place<'_>) -> Result<u64, GgufError> {
        let offset = self.pos as u64;
        let found = self.raw_count(place)?;
        if found > bound.max {
            return Err(over(bound, found, offset, place));
        }
        Ok(found)
    }

    /// A length and that many bytes; the range of the bytes.
    #[inline]
    pub(crate) fn string(&mut self, bound: Bound, place: Place<'_>) -> Result<Range<usize>, GgufError> {
        let n = self.count(bound, place)?;
        let start = self.pos;
        self.take(n, place)?;
        Ok(start..self.pos)
    }

    /// A string that is a name: UTF-8 and not empty.
    pub(crate) fn name(&mut self, bound: Bound, place: Place<'_>) -> Result<&'a str, GgufError> {
        let range = self.string(bound, place)?;
        let offset = range.start as u64;
        let bytes = self.data.get(range).unwrap_or_default();
        if bytes.is_empty() {
            return Err(GgufError::Empty { place: place.to_string(), offset });
        }
        std::str::from_utf8(bytes).map_err(|error| GgufError::NotUtf8 {
            place: place.to_string(),
            offset,
            valid: error.valid_up_to(),
        })
    }
}
