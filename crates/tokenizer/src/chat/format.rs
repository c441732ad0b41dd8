//! How are values put into text? Python's `'%s' % value` and `'{}'.format(value)`.

use super::args::{Args, size};
use super::budget::Result;
use super::eval::Renderer;
use super::number::truncated;
use super::text::write_repr;
use super::value::{Kind, Value};

/// How a value is written: what stands behind `%` or after the colon in braces.
#[derive(Clone, Debug)]
struct Spec {
    fill: char,
    align: Option<char>,
    sign: char,
    alternate: bool,
    zero: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: char,
}

/// Parts of a number: its sign, a prefix such as `0x`, and digits.
struct Digits {
    sign: &'static str,
    prefix: &'static str,
    digits: String,
}

const NEW: Spec = Spec {
    fill: ' ',
    align: None,
    sign: '-',
    alternate: false,
    zero: false,
    width: 0,
    grouping: None,
    precision: None,
    kind: 's',
};

impl Renderer<'_, '_> {
    /// `'%s and %d' % values`.
    pub(super) fn percent_format(&mut self, text: &str, values: &Value) -> Result<Value> {
        let tuple = match values {
            Value::List(list) if list.is_tuple() => Some(&list.items),
            _ => None,
        };
        let mut given = tuple.map_or_else(|| std::slice::from_ref(values), |items| &items[..]).iter();
        // Python does not mind if a value that has items is not used.
        let may_be_left = match values {
            Value::Map(_) | Value::Undefined => true,
            Value::List(list) => matches!(list.kind, Kind::List | Kind::Range(..)),
            _ => false,
        };
        self.budget.take(text.len())?;
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                out.push('%');
                rest = after;
                continue;
            }
            let (name, after) = match after.strip_prefix('(') {
                Some(after) => match after.split_once(')') {
                    Some((name, after)) if !name.contains('(') => (Some(name), after),
                    _ => return self.budget.fail("%: a name without its end"),
                },
                None => (None, after),
            };
            let (spec, after) = self.percent_spec(after)?;
            rest = after;
            let value = match (name, values) {
                (Some(name), Value::Map(map)) => map.entries.get(name),
                (Some(_), _) => return self.budget.fail("%: names need a map"),
                (None, _) => given.next(),
            };
            let Some(value) = value else { return self.budget.fail("%: too few values") };
            if name.is_some() {
                given = [].iter();
            }
            let written = self.percent_value(value, &spec)?;
            out.push_str(&written);
        }
        if given.next().is_some() && !may_be_left {
            return self.budget.fail("%: too many values");
        }
        out.push_str(rest);
        self.budget.string(&out)
    }

    fn percent_spec<'a>(&self, text: &'a str) -> Result<(Spec, &'a str)> {
        let mut spec = NEW;
        let mut rest = text;
        while let Some(flag) = rest.chars().next().filter(|flag| "#0- +".contains(*flag)) {
            rest = rest.get(1..).unwrap_or_default();
            match flag {
                '#' => spec.alternate = true,
                '0' => spec.zero = true,
                '-' => spec.align = Some('<'),
                '+' => spec.sign = '+',
                _ if spec.sign != '+' => spec.sign = ' ',
                _ => {}
            }
        }
        (spec.width, rest) = self.number_in(rest)?;
        if let Some(after) = rest.strip_prefix('.') {
            let (precision, after) = self.number_in(after)?;
            (spec.precision, rest) = (Some(precision), after);
        }
        let rest = rest.strip_prefix(['l', 'h', 'L']).unwrap_or(rest);
        let mut chars = rest.chars();
        match chars.next() {
            Some(kind) => spec.kind = kind,
            None => return self.budget.fail("%: the end of the text"),
        }
        Ok((spec, chars.as_str()))
    }

    fn number_in<'a>(&self, text: &'a str) -> Result<(usize, &'a str)> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, rest) = text.split_at(end);
        match digits.parse() {
            _ if digits.is_empty() => Ok((0, rest)),
            Ok(number) => Ok((number, rest)),
            Err(_) => self.budget.fail("a width does not fit"),
        }
    }

    fn percent_value(&mut self, value: &Value, spec: &Spec) -> Result<String> {
        match spec.kind {
            's' => {
                let text = self.budget.text_of(value)?;
                self.padded_text(&text, &Spec { zero: false, ..spec.clone() }, '>')
            }
            'r' | 'a' => {
                let text = self.budget.written(|sink| write_repr(value, sink))?;
                if spec.kind == 'a' && !text.is_ascii() {
                    return self.budget.fail("%a of this text is not supported");
                }
                self.padded_text(&text, &Spec { zero: false, ..spec.clone() }, '>')
            }
            'c' => {
                let text = match (value.as_str(), value.as_int()) {
                    (Some(text), _) if text.chars().count() == 1 => text.to_owned(),
                    (None, Some(code)) => match u32::try_from(code).ok().and_then(char::from_u32) {
                        Some(c) => c.to_string(),
                        None => return self.budget.fail("%c of no character"),
                    },
                    _ => return self.budget.fail("%c needs one character"),
                };
                self.padded_text(&text, &Spec { zero: false, precision: None, ..spec.clone() }, '>')
            }
            'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
                let number = match value {
                    Value::Float(number) if matches!(spec.kind, 'd' | 'i' | 'u') => {
                        truncated(*number).or_else(|why| self.budget.fail(why))?
                    }
                    _ => match value.as_int() {
                        Some(number) => number,
                        None => {
                            return self.budget.fail(format!("%{} of {}", spec.kind, value.kind()));
                        }
                    },
                };
                if spec.precision.is_some() {
                    return self.budget.fail("% of a whole number with a precision is not supported");
                }
                let digits = self.whole_digits(number, spec)?;
                self.padded_number(digits, spec)
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => match value.as_float() {
                Some(number) => {
                    let digits = self.float_digits(number, spec)?;
                    self.padded_number(digits, spec)
                }
                None => self.budget.fail(format!("%{} of {}", spec.kind, value.kind())),
            },
            other => self.budget.fail(format!("%{other} is not supported")),
        }
    }

    /// `'{} {0} {name:>8}'.format(..)`.
    pub(super) fn brace_format(&mut self, text: &str, args: &Args) -> Result<Value> {
        self.budget.take(text.len())?;
        let mut out = String::new();
        let mut rest = text;
        let (mut next, mut by_number) = (0, false);
        while let Some(place) = rest.find(['{', '}']) {
            let (before, after) = rest.split_at(place);
            out.push_str(before);
            if let Some(after) = after.strip_prefix("{{").or_else(|| after.strip_prefix("}}")) {
                out.push_str(rest.get(place..=place).unwrap_or_default());
                rest = after;
                continue;
            }
            let Some((field, after)) = after.strip_prefix('{').and_then(|after| after.split_once('}')) else {
                return self.budget.fail("format: a brace without its partner");
            };
            if field.contains(['{', '[', '.']) && !field.contains(':') || field.contains('{') {
                return self.budget.fail("format: fields within fields are not supported");
            }
            let (field, spec) = field.split_once(':').unwrap_or((field, ""));
            let (field, conversion) = field.split_once('!').map_or((field, None), |(f, c)| (f, Some(c)));
            if field.contains(['[', '.']) {
                return self.budget.fail("format: fields within fields are not supported");
            }
            self.budget.step(1 + args.named.len().saturating_mul(1 + field.len() / 64))?;
            let value = match field.parse::<usize>() {
                Ok(place) if next == 0 && field.bytes().all(|byte| byte.is_ascii_digit()) => {
                    by_number = true;
                    args.positional.get(place)
                }
                Err(_) if field.is_empty() && !by_number => {
                    next += 1;
                    args.positional.get(next - 1)
                }
                Err(_) if !field.is_empty() => args.named(field),
                _ => return self.budget.fail("format: fields with and without numbers"),
            };
            let Some(value) = value else {
                return self.budget.fail(format!("format: no value for {field:?}"));
            };
            let converted = match conversion {
                Some("r") => Value::Str(self.budget.written(|sink| write_repr(value, sink))?.into()),
                Some("s") => Value::Str(self.budget.text_of(value)?.into()),
                Some(_) => return self.budget.fail("format: this conversion is not supported"),
                None => value.clone(),
            };
            let written = self.formatted(&converted, spec)?;
            out.push_str(&written);
            rest = after;
        }
        out.push_str(rest);
        self.budget.string(&out)
    }

    /// Python's `format(value, spec)`.
    fn formatted(&mut self, value: &Value, spec: &str) -> Result<String> {
        if spec.is_empty() {
            return self.budget.text_of(value);
        }
        let spec = self.brace_spec(spec)?;
        let unsupported = |this: &Self| this.budget.fail("format: this specification is not supported");
        match value {
            Value::Str(text) => {
                if spec.kind != 's' && spec.kind != '\0'
                    || spec.zero
                    || spec.align == Some('=')
                    || spec.sign != '\0'
                    || spec.alternate
                    || spec.grouping.is_some()
                {
                    return unsupported(self);
                }
                self.padded_text(text, &spec, '<')
            }
            Value::Int(_) | Value::Bool(_) | Value::Float(_) => {
                let sign = if spec.sign == '\0' { '-' } else { spec.sign };
                let spec = Spec { sign, ..spec };
                let digits = match (value.as_int(), spec.kind) {
                    (Some(number), '\0' | 'd' | 'x' | 'X' | 'o' | 'b') if spec.precision.is_none() => {
                        let kind = if spec.kind == '\0' { 'd' } else { spec.kind };
                        self.whole_digits(number, &Spec { kind, ..spec.clone() })?
                    }
                    (_, 'e' | 'E' | 'f' | 'F' | 'g' | 'G') => {
                        self.float_digits(value.as_float().unwrap_or_default(), &spec)?
                    }
                    (_, '%') => {
                        let number = value.as_float().unwrap_or_default() * 100.0;
                        let mut digits = self.float_digits(number, &Spec { kind: 'f', ..spec.clone() })?;
                        digits.digits.push('%');
                        digits
                    }
                    _ => return unsupported(self),
                };
                self.padded_number(digits, &spec)
            }
            _ => unsupported(self),
        }
    }

    fn brace_spec(&self, text: &str) -> Result<Spec> {
        let mut spec = Spec { sign: '\0', kind: '\0', ..NEW };
        let chars: Vec<char> = text.chars().take(64).collect();
        let is_align = |place: usize| chars.get(place).copied().filter(|c| "<>=^".contains(*c));
        let mut at = 0;
        if let Some(align) = is_align(1) {
            (spec.fill, spec.align, at) = (chars.first().copied().unwrap_or(' '), Some(align), 2);
        } else if let Some(align) = is_align(0) {
            (spec.align, at) = (Some(align), 1);
        }
        let mut rest: String = chars.into_iter().skip(at).collect();
        if let Some(sign) = rest.chars().next().filter(|sign| "+- ".contains(*sign)) {
            spec.sign = sign;
            rest.remove(0);
        }
        if let Some(after) = rest.strip_prefix('#') {
            (spec.alternate, rest) = (true, after.to_owned());
        }
        spec.zero = rest.starts_with('0') && spec.align.is_none();
        if rest.starts_with('0') && !spec.zero {
            return self.budget.fail("format: this specification is not supported");
        }
        let (width, rest) = self.number_in(&rest)?;
        spec.width = width;
        let rest = match rest.strip_prefix([',', '_']) {
            Some(after) => {
                spec.grouping = rest.chars().next();
                after
            }
            None => rest,
        };
        let rest = match rest.strip_prefix('.') {
            Some(after) if after.starts_with(|c: char| c.is_ascii_digit()) => {
                let (precision, after) = self.number_in(after)?;
                spec.precision = Some(precision);
                after
            }
            _ => rest,
        };
        let mut chars = rest.chars();
        spec.kind = chars.next().unwrap_or('\0');
        if chars.next().is_some() {
            return self.budget.fail("format: this specification is not supported");
        }
        Ok(spec)
    }

    fn whole_digits(&self, number: i128, spec: &Spec) -> Result<Digits> {
        let size = number.unsigned_abs();
        let (prefix, digits) = match spec.kind {
            'x' => ("0x", format!("{size:x}")),
            'X' => ("0X", format!("{size:X}")),
            'o' => ("0o", format!("{size:o}")),
            'b' => ("0b", format!("{size:b}")),
            _ => ("", size.to_string()),
        };
        let digits = match spec.grouping {
            Some(sign) if prefix.is_empty() => grouped(&digits, sign),
            Some(_) => return self.budget.fail("format: groups of such digits are not supported"),
            None => digits,
        };
        let prefix = if spec.alternate { prefix } else { "" };
        Ok(Digits { sign: sign_of(number < 0, spec.sign), prefix, digits })
    }

    fn float_digits(&mut self, number: f64, spec: &Spec) -> Result<Digits> {
        let precision = spec.precision.unwrap_or(6);
        self.budget.take(precision.saturating_add(350))?;
        // Rust's own formatting takes no more.
        if precision > 10_000 || spec.alternate {
            return self.budget.fail("format: this precision is not supported");
        }
        let size = number.abs();
        let mut digits = if number.is_nan() {
            "nan".to_owned()
        } else if number.is_infinite() {
            "inf".to_owned()
        } else {
            match spec.kind {
                'f' | 'F' => format!("{size:.precision$}"),
                'e' | 'E' => with_exponent(size, precision),
                _ => general(size, precision.max(1)),
            }
        };
        if spec.kind.is_ascii_uppercase() {
            digits.make_ascii_uppercase();
        }
        if let Some(sign) = spec.grouping {
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            let (whole, rest) = digits.split_at(end);
            digits = grouped(whole, sign) + rest;
        }
        let negative = number.is_sign_negative() && !number.is_nan();
        Ok(Digits { sign: sign_of(negative, spec.sign), prefix: "", digits })
    }

    fn padded_number(&mut self, number: Digits, spec: &Spec) -> Result<String> {
        let Digits { sign, prefix, digits } = number;
        let is_number = digits.starts_with(|c: char| c.is_ascii_hexdigit()) && !digits.starts_with("inf");
        let zero = spec.zero && (spec.align != Some('<')) && is_number;
        let fills_with_zeros = spec.zero || (spec.align == Some('=') && spec.fill == '0');
        if (spec.zero && !is_number) || (fills_with_zeros && spec.grouping.is_some()) {
            return self.budget.fail("format: zeros before this are not supported");
        }
        if zero || spec.align == Some('=') {
            let length = sign.len() + prefix.len() + digits.chars().count();
            let missing = spec.width.saturating_sub(length);
            self.budget.take(missing.saturating_mul(4))?;
            let fill = if zero { '0' } else { spec.fill };
            let fill: String = std::iter::repeat_n(fill, missing).collect();
            return Ok([sign, prefix, &fill, &digits].concat());
        }
        let spec = Spec { precision: None, ..spec.clone() };
        self.padded_text(&[sign, prefix, &digits].concat(), &spec, '>')
    }

    /// A text cut to the precision and filled to the width.
    fn padded_text(&mut self, text: &str, spec: &Spec, align: char) -> Result<String> {
        let text = spec.precision.map_or(text, |precision| super::strings::head(text, precision));
        let missing = spec.width.saturating_sub(text.chars().count());
        self.budget.take(text.len().saturating_add(missing.saturating_mul(4)))?;
        let left = match spec.align.unwrap_or(align) {
            '<' => 0,
            '^' => missing / 2,
            _ => missing,
        };
        let fill = |count| std::iter::repeat_n(spec.fill, count).collect::<String>();
        Ok([&fill(left), text, &fill(missing - left)].concat())
    }
}

fn sign_of(negative: bool, sign: char) -> &'static str {
    match sign {
        _ if negative => "-",
        '+' => "+",
        ' ' => " ",
        _ => "",
    }
}

fn grouped(digits: &str, sign: char) -> String {
    let mut out = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(sign);
        }
        out.push(digit);
    }
    out
}

/// C's `%e`: an exponent has a sign and two digits at least.
fn with_exponent(size: f64, precision: usize) -> String {
    let text = format!("{size:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// C's `%g`: so many digits that count, without zeros at the end.
fn general(size: f64, digits: usize) -> String {
    let scientific = with_exponent(size, digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if exponent < -4 || exponent >= digits as i64 {
        let power = scientific.get(mantissa.len()..).unwrap_or_default();
        return trimmed(mantissa) + power;
    }
    let places = size_of_places(digits as i64 - 1 - exponent);
    trimmed(&format!("{size:.places$}"))
}

fn size_of_places(places: i64) -> usize {
    size(places.into())
}
