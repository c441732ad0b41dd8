//! What does a string in a template say? Python's escapes, which are more than those of the parser, are written as the parser reads
//! them before it does.

/// The same string with escapes that the parser knows; none if nothing has to change. `literal` has its quotes.
pub(super) fn respelled(literal: &str) -> Result<Option<String>, &'static str> {
    if !literal.contains('\\') {
        return Ok(None);
    }
    let mut quotes = literal.chars();
    let (Some(quote), Some(_)) = (quotes.next(), quotes.next_back()) else { return Ok(None) };
    let text = unescaped(quotes.as_str())?;
    let mut out = String::with_capacity(literal.len() + 8);
    out.push(quote);
    for c in text.chars() {
        if c == quote || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out.push(quote);
    Ok(Some(out))
}

fn unescaped(text: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(text.len());
    let mut high = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let escape = if c == '\\' { chars.next() } else { None };
        let code = match (c, escape) {
            ('\\', Some('\n')) => continue,
            ('\\', Some('a')) => 7,
            ('\\', Some('b')) => 8,
            ('\\', Some('t')) => 9,
            ('\\', Some('n')) => 10,
            ('\\', Some('v')) => 11,
            ('\\', Some('f')) => 12,
            ('\\', Some('r')) => 13,
            ('\\', Some(kind @ ('x' | 'u' | 'U'))) => {
                let digits = match kind {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let mut code = 0u32;
                for _ in 0..digits {
                    let digit = chars.next().and_then(|c| c.to_digit(16)).ok_or("an escape lacks digits")?;
                    code = code.checked_mul(16).ok_or("an escape names no character")? + digit;
                }
                code
            }
            ('\\', Some(first @ '0'..='7')) => {
                let mut code = first.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    match chars.peek().and_then(|c| c.to_digit(8)) {
                        Some(digit) => code = code * 8 + digit,
                        None => break,
                    }
                    chars.next();
                }
                code
            }
            ('\\', Some('N')) => return Err("characters by name are not supported"),
            ('\\', Some(other @ ('\\' | '\'' | '"'))) => u32::from(other),
            ('\\', Some(other)) => {
                // Python keeps the backslash of what is no escape.
                flush(&mut high)?;
                out.push('\\');
                u32::from(other)
            }
            _ => u32::from(c),
        };
        // Two halves of a surrogate pair are two characters to Python, which no encoding takes; here they are refused or joined.
        if (0xd800..0xdc00).contains(&code) {
            flush(&mut high)?;
            high = Some(code);
            continue;
        }
        let code = match high.take() {
            Some(first) if (0xdc00..0xe000).contains(&code) => {
                0x1_0000 + ((first - 0xd800) << 10) + (code - 0xdc00)
            }
            Some(_) => return Err("half of a character"),
            None => code,
        };
        out.push(char::from_u32(code).ok_or("an escape names no character")?);
    }
    flush(&mut high)?;
    Ok(out)
}

fn flush(high: &mut Option<u32>) -> Result<(), &'static str> {
    if high.take().is_some() { Err("half of a character") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::respelled;

    #[test]
    fn escapes_are_pythons() {
        let spelled = |text: &str| respelled(text).map(Option::unwrap_or_default);
        assert_eq!(spelled(r"'a'"), Ok(String::new()));
        assert_eq!(spelled(r"'\a\v\/\d\x41\101\'\\'"), Ok("'\u{7}\u{b}\\\\/\\\\dAA\\'\\\\'".to_owned()));
        assert_eq!(spelled("'a\\\nb'"), Ok("'ab'".to_owned()));
        assert_eq!(spelled(r"'\U0001F600\ud83d\ude00'"), Ok("'😀😀'".to_owned()));
        for wrong in [r"'\x4'", r"'\ud83d'", r"'\N{DASH}'", r"'\UFFFFFFFF'"] {
            assert!(spelled(wrong).is_err(), "{wrong}");
        }
    }
}
