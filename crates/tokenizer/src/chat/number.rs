//! What do numbers do? Python's whole numbers, exact as far as 128 bits go, and its floats.
//!
//! A result that does not fit is an error, never another number.

use std::cmp::Ordering;

use minijinja::machinery::ast::BinOpKind;

use super::value::Value;

/// The largest whole number below which each is exact as a float.
const EXACT: u128 = 1 << 53;

const TOO_LARGE: &str = "a number does not fit 128 bits";

/// A number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    pub(super) fn of(value: &Value) -> Option<Number> {
        match value {
            Value::Float(value) => Some(Number::Float(*value)),
            _ => value.as_int().map(Number::Int),
        }
    }

    fn float(self) -> f64 {
        match self {
            Number::Int(value) => value as f64,
            Number::Float(value) => value,
        }
    }
}

/// The exact order of two numbers; none where one is NaN.
pub(super) fn compare(a: Number, b: Number) -> Option<Ordering> {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
        (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b),
        (Number::Int(a), Number::Float(b)) => int_to_float(a, b),
        (Number::Float(a), Number::Int(b)) => int_to_float(b, a).map(Ordering::reverse),
    }
}

fn int_to_float(a: i128, b: f64) -> Option<Ordering> {
    // 2^127: the bounds of 128 bits are exact as floats.
    const LIMIT: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;
    if b.is_nan() {
        return None;
    }
    if b >= LIMIT {
        return Some(Ordering::Less);
    }
    if b < -LIMIT {
        return Some(Ordering::Greater);
    }
    let whole = b.trunc();
    let rest = 0.0.partial_cmp(&(b - whole))?;
    Some(a.cmp(&(whole as i128)).then(rest))
}

/// `a op b` of two numbers.
pub(super) fn arithmetic(op: BinOpKind, a: Number, b: Number) -> Result<Value, &'static str> {
    let divides = matches!(op, BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem);
    if divides && b.float() == 0.0 {
        return Err("division by zero");
    }
    if let (Number::Int(a), Number::Int(b)) = (a, b) {
        return whole_arithmetic(op, a, b);
    }
    let (a, b) = (a.float(), b.float());
    Ok(Value::Float(match op {
        BinOpKind::Add => a + b,
        BinOpKind::Sub => a - b,
        BinOpKind::Mul => a * b,
        BinOpKind::Div => a / b,
        BinOpKind::FloorDiv => floor_div_rem(a, b).0,
        BinOpKind::Rem => floor_div_rem(a, b).1,
        BinOpKind::Pow => power(a, b)?,
        _ => return Err("not a computation"),
    }))
}

fn whole_arithmetic(op: BinOpKind, a: i128, b: i128) -> Result<Value, &'static str> {
    let whole = match op {
        BinOpKind::Add => a.checked_add(b),
        BinOpKind::Sub => a.checked_sub(b),
        BinOpKind::Mul => a.checked_mul(b),
        // Python rounds the exact quotient once; past 53 bits floats would round three times.
        BinOpKind::Div if a.unsigned_abs() > EXACT || b.unsigned_abs() > EXACT => {
            return Err("numbers past 53 bits are not divided");
        }
        BinOpKind::Div => return Ok(Value::Float(a as f64 / b as f64)),
        BinOpKind::FloorDiv => {
            a.checked_div(b).map(|whole| if a % b != 0 && (a < 0) != (b < 0) { whole - 1 } else { whole })
        }
        BinOpKind::Rem => {
            a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
        }
        BinOpKind::Pow if b < 0 => return power(a as f64, b as f64).map(Value::Float),
        BinOpKind::Pow => match a {
            0 | 1 => Some(if b == 0 { 1 } else { a }),
            -1 => Some(if b % 2 == 0 { 1 } else { -1 }),
            _ => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
        },
        _ => return Err("not a computation"),
    };
    whole.map(Value::Int).ok_or(TOO_LARGE)
}

/// Python's `divmod` of floats.
fn floor_div_rem(a: f64, b: f64) -> (f64, f64) {
    let mut rest = a % b;
    let mut quotient = (a - rest) / b;
    if rest == 0.0 {
        rest = 0f64.copysign(b);
    } else if (b < 0.0) != (rest < 0.0) {
        rest += b;
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return (0f64.copysign(a / b), rest);
    }
    let floor = quotient.floor();
    (if quotient - floor > 0.5 { floor + 1.0 } else { floor }, rest)
}

fn power(a: f64, b: f64) -> Result<f64, &'static str> {
    if a == 0.0 && b < 0.0 {
        return Err("0 to a negative power");
    }
    if a < 0.0 && a.is_finite() && b.is_finite() && b.fract() != 0.0 {
        return Err("a negative number to a broken power");
    }
    let found = a.powf(b);
    if found.is_infinite() && a.is_finite() && b.is_finite() {
        return Err("a power does not fit a float");
    }
    Ok(found)
}

/// The whole number next to a float towards 0.
pub(super) fn truncated(value: f64) -> Result<i128, &'static str> {
    if value.is_finite() && value.abs() < 1e38 { Ok(value.trunc() as i128) } else { Err(TOO_LARGE) }
}

/// Why a text is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoNumber {
    /// It is none in Python either.
    Invalid,
    /// It is one, but not one for this crate.
    Refused(&'static str),
}

/// Digits without the `_` that Python allows between two of them. `ascii` has neither white space around it nor a sign.
fn without_underscores(text: &str, valid: impl Fn(char) -> bool) -> Option<String> {
    let mut before = None;
    let mut out = String::with_capacity(text.len());
    for (i, c) in text.char_indices() {
        if c == '_' {
            let after = text.get(i + 1..).and_then(|rest| rest.chars().next());
            if !before.is_some_and(&valid) || !after.is_some_and(&valid) {
                return None;
            }
        } else {
            out.push(c);
        }
        before = Some(c);
    }
    Some(out)
}

/// Other scripts' digits are digits to Python.
fn foreign_digits(text: &str) -> Result<(), NoNumber> {
    if text.is_ascii() || !text.chars().any(|c| !c.is_ascii() && super::characters::is_decimal(c)) {
        Ok(())
    } else {
        Err(NoNumber::Refused("digits of other scripts are not read"))
    }
}

/// Python's `int(text, base)`.
pub(super) fn parse_int(text: &str, base: i128) -> Result<i128, NoNumber> {
    foreign_digits(text)?;
    if base != 0 && !(2..=36).contains(&base) {
        return Err(NoNumber::Invalid);
    }
    let text = text.trim_matches(super::characters::is_space);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefix = match digits.as_bytes().first_chunk::<2>() {
        Some(b"0x" | b"0X") => 16,
        Some(b"0o" | b"0O") => 8,
        Some(b"0b" | b"0B") => 2,
        _ => 0,
    };
    let prefixed = prefix != 0 && (base == 0 || base == prefix);
    let radix = match base {
        0 if prefixed => prefix,
        0 => 10,
        base => base,
    } as u32;
    let digits = if prefixed { digits.get(2..).unwrap_or_default() } else { digits };
    // An underscore may stand between prefix and digits.
    let digits = if prefixed { digits.strip_prefix('_').unwrap_or(digits) } else { digits };
    let digits = without_underscores(digits, |c| c.is_digit(radix)).ok_or(NoNumber::Invalid)?;
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(NoNumber::Invalid);
    }
    // In base 0 a number of several digits does not start with 0.
    if base == 0 && !prefixed && digits.starts_with('0') && digits.bytes().any(|digit| digit != b'0') {
        return Err(NoNumber::Invalid);
    }
    let sign = if negative { "-" } else { "" };
    i128::from_str_radix(&format!("{sign}{digits}"), radix).map_err(|_| NoNumber::Refused(TOO_LARGE))
}

/// Python's `float(text)`.
pub(super) fn parse_float(text: &str) -> Result<f64, NoNumber> {
    foreign_digits(text)?;
    let text = text.trim_matches(super::characters::is_space);
    let text = without_underscores(text, |c| c.is_ascii_digit()).ok_or(NoNumber::Invalid)?;
    text.parse().map_err(|_| NoNumber::Invalid)
}

/// Python's `round(number, places)`, which rounds the exact decimal value, halves to the even digit.
pub(super) fn round(number: Number, places: i128) -> Result<Value, &'static str> {
    match number {
        Number::Int(value) if places >= 0 => Ok(Value::Int(value)),
        Number::Int(value) => match power_of_ten(places.unsigned_abs()) {
            Some(unit) => round_to(value, 0.0, unit).map(Value::Int).ok_or(TOO_LARGE),
            None => Ok(Value::Int(0)),
        },
        Number::Float(value) if !value.is_finite() => Ok(Value::Float(value)),
        Number::Float(value) if places >= 0 => {
            // No float has more decimal places.
            let places = usize::try_from(places).unwrap_or(usize::MAX).min(1074);
            format!("{value:.places$}").parse().map(Value::Float).map_err(|_| TOO_LARGE)
        }
        Number::Float(value) => match power_of_ten(places.unsigned_abs()) {
            Some(unit) => {
                let whole = round_to(truncated(value)?, value.fract(), unit).ok_or(TOO_LARGE)?;
                Ok(Value::Float((whole as f64).abs().copysign(value)))
            }
            None => Ok(Value::Float(0f64.copysign(value))),
        },
    }
}

fn power_of_ten(places: u128) -> Option<i128> {
    10i128.checked_pow(u32::try_from(places).ok()?)
}

/// `whole + fraction` (both of one sign) to the next multiple of `unit`.
fn round_to(whole: i128, fraction: f64, unit: i128) -> Option<i128> {
    let (quotient, rest) = (whole / unit, (whole % unit).unsigned_abs());
    let half = (rest * 2).cmp(&unit.unsigned_abs());
    let half = if fraction == 0.0 { half } else { half.then(Ordering::Greater) };
    let away = half.is_gt() || (half.is_eq() && quotient % 2 != 0);
    let sign = if whole < 0 { -1 } else { 1 };
    quotient.checked_add(if away { sign } else { 0 })?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::{NoNumber, Number, compare, parse_float, parse_int, round};
    use std::cmp::Ordering::{Equal, Greater, Less};

    #[test]
    fn whole_numbers_and_floats_are_ordered_exactly() {
        let two53 = 9_007_199_254_740_992i128;
        let order = |a, b| compare(Number::Int(a), Number::Float(b));
        assert_eq!(order(two53 + 1, two53 as f64), Some(Greater));
        assert_eq!(order(two53, two53 as f64), Some(Equal));
        assert_eq!(order(i128::MAX, i128::MAX as f64), Some(Less));
        assert_eq!(order(i128::MIN, i128::MIN as f64), Some(Equal));
        assert_eq!(order(-1, -1.5), Some(Greater));
        assert_eq!(order(1, 1.5), Some(Less));
        assert_eq!(order(0, f64::INFINITY), Some(Less));
        assert_eq!(order(0, f64::NAN), None);
    }

    #[test]
    fn texts_are_numbers_as_in_python() {
        assert_eq!(parse_int(" 1_000\u{1f}", 10), Ok(1000));
        assert_eq!(parse_int("0x1f", 16), Ok(31));
        assert_eq!(parse_int("-0B1", 0), Ok(-1));
        for (text, base) in
            [("1__0", 10), ("_1", 10), ("0x1f", 10), ("012", 0), ("", 10), ("1", 37), ("½", 10)]
        {
            assert_eq!(parse_int(text, base), Err(NoNumber::Invalid), "{text}");
        }
        assert!(matches!(parse_int("１", 10), Err(NoNumber::Refused(_))));
        assert_eq!(parse_float("1_0.5e1"), Ok(105.0));
        assert_eq!(parse_float("1_"), Err(NoNumber::Invalid));
    }

    #[test]
    fn rounding_is_of_the_exact_value() {
        let float = |value, places| format!("{:?}", round(Number::Float(value), places));
        assert_eq!(float(2.675, 2), "Ok(Float(2.67))");
        assert_eq!(float(0.5, 0), "Ok(Float(0.0))");
        assert_eq!(float(250.0, -2), "Ok(Float(200.0))");
        assert_eq!(float(250.1, -2), "Ok(Float(300.0))");
        assert_eq!(format!("{:?}", round(Number::Int(-35), -1)), "Ok(Int(-40))");
    }
}
