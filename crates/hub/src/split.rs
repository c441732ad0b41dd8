//! Which files make one model? A split GGUF is `PREFIX-00001-of-0000N.gguf` to `PREFIX-0000N-of-0000N.gguf`.
//!
//! Source: llama.cpp's gguf-split. The name alone decides, since nothing of the file is here yet.

/// The most parts, as the reader of split files has it.
const MAX_PARTS: usize = 1024;

/// The paths of all parts in order; the path itself where it is not one of several.
pub(crate) fn parts(path: &str) -> Vec<String> {
    let named = |count: usize, prefix: &str| {
        (1..=count).map(|no| format!("{prefix}-{no:05}-of-{count:05}.gguf")).collect::<Vec<_>>()
    };
    match read(path) {
        Some((prefix, no, count)) if (1..=count).contains(&no) && count <= MAX_PARTS => named(count, prefix),
        _ => vec![path.to_owned()],
    }
}

/// What is before the numbers, the part's number and how many there are.
fn read(path: &str) -> Option<(&str, usize, usize)> {
    let number = |text: &str| {
        let digits = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let (rest, count) = path.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (prefix, no) = rest.rsplit_once('-')?;
    Some((prefix, number(no)?, number(count)?))
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn parts_follow_from_the_name_of_any_of_them() {
        let all = ["q/m-00001-of-00003.gguf", "q/m-00002-of-00003.gguf", "q/m-00003-of-00003.gguf"];
        assert_eq!(parts(all[0]), all);
        assert_eq!(parts(all[2]), all);
        let whole = [
            "m.gguf",
            "m-00004-of-00003.gguf",
            "m-00000-of-00003.gguf",
            "m-1-of-3.gguf",
            "m-00001-of-99999.gguf",
            "m-+0001-of-00003.gguf",
        ];
        for path in whole {
            assert_eq!(parts(path), [path]);
        }
    }
}
