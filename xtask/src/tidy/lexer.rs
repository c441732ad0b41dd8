//! Which characters of a Rust file are code, and which are comment or text? Enough of the language's lexical structure
//! (The Rust Reference, "Lexical structure") for rules that look for words: comments nest, strings may be raw, and a quote
//! may begin a lifetime.

/// A file twice, line by line: once with everything but code blanked, once with everything but comments.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) code: Vec<String>,
    pub(super) comments: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Code,
    LineComment,
    /// Depth of nesting.
    BlockComment(usize),
    Text,
    /// Number of `#` that close it.
    RawText(usize),
}

/// Splits a file into its code and its comments.
pub(super) fn split(source: &str) -> Split {
    let chars: Vec<char> = source.chars().collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let mut state = State::Code;
    let mut at = 0;
    while at < chars.len() {
        let (next, len) = step(state, &chars, at);
        let is_comment = |s| matches!(s, State::LineComment | State::BlockComment(_));
        for &c in &chars[at..at + len] {
            let blank = if c == '\n' { '\n' } else { ' ' };
            code.push(if state == State::Code && next == State::Code { c } else { blank });
            comments.push(if is_comment(state) || is_comment(next) { c } else { blank });
        }
        (state, at) = (next, at + len);
    }
    let lines = |text: &str| text.split('\n').map(str::to_owned).collect();
    Split { code: lines(&code), comments: lines(&comments) }
}

/// The state after the next piece, and the piece's length in characters.
fn step(state: State, chars: &[char], at: usize) -> (State, usize) {
    let here = &chars[at..];
    match state {
        State::Code => code_step(chars, at),
        State::LineComment if here[0] == '\n' => (State::Code, 1),
        State::BlockComment(depth) if here.starts_with(&['/', '*']) => (State::BlockComment(depth + 1), 2),
        State::BlockComment(depth) if here.starts_with(&['*', '/']) => {
            (if depth == 1 { State::Code } else { State::BlockComment(depth - 1) }, 2)
        }
        State::Text if here[0] == '\\' && here.len() > 1 => (State::Text, 2),
        State::Text if here[0] == '"' => (State::Code, 1),
        State::RawText(hashes) if here[0] == '"' && count_hashes(&here[1..]) >= hashes => {
            (State::Code, 1 + hashes)
        }
        _ => (state, 1),
    }
}

fn code_step(chars: &[char], at: usize) -> (State, usize) {
    let here = &chars[at..];
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match here {
        ['/', '/', ..] => (State::LineComment, 2),
        ['/', '*', ..] => (State::BlockComment(1), 2),
        ['"', ..] => (State::Text, 1),
        ['r', rest @ ..] | ['b' | 'c', 'r', rest @ ..] if !in_word => {
            let hashes = count_hashes(rest);
            let prefix = here.len() - rest.len();
            if rest.get(hashes) == Some(&'"') {
                (State::RawText(hashes), prefix + hashes + 1)
            } else {
                (State::Code, 1)
            }
        }
        // A character is stepped over whole, so that a quote in it opens nothing.
        ['\'', '\\', _, rest @ ..] => match rest.iter().position(|&c| c == '\'') {
            Some(end) => (State::Code, end + 4),
            None => (State::Code, 1),
        },
        ['\'', _, '\'', ..] => (State::Code, 3),
        _ => (State::Code, 1),
    }
}

fn count_hashes(chars: &[char]) -> usize {
    chars.iter().take_while(|&&c| c == '#').count()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::split;

    fn check(source: &str, code_and_comments: &Expect) {
        let split = split(source);
        let trimmed = |lines: &[String]| lines.iter().map(|l| l.trim_end()).collect::<Vec<_>>().join("\n");
        code_and_comments.assert_eq(&format!(
            "{}\n----\n{}\n",
            trimmed(&split.code),
            trimmed(&split.comments)
        ));
    }

    #[test]
    fn code_comments_and_texts_are_told_apart() {
        check(
            "let a = \"unsafe // no\"; // unsafe\nlet b = r#\"x\" y\"#; /* a /* b */ c */ d();\nlet c: &'a str = '\"'; e('\\'', \"\\\"\");",
            &expect![[r#"
                let a =               ;
                let b =          ;                   d();
                let c: &'a str = '"'; e('\'',     );
                ----
                                        // unsafe
                                   /* a /* b */ c */

            "#]],
        );
    }
}
