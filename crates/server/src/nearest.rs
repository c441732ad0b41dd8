//! Which name of a field, a setting or a command may have been meant? By its spelling alone; names of models have families, which `hub`
//! compares as well.

/// The known name that is spelled most like this one, if it is alike enough to be meant: one edit for every three characters, and at least
/// one, but never all of them.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody misspells a name at this length, and the comparison takes the product of both.
    if name.len() > MAX_NAME {
        return None;
    }
    let distance =
        |other: &str| strsim::osa_distance(&name.to_ascii_lowercase(), &other.to_ascii_lowercase());
    let near = known.into_iter().map(|other| (distance(other), other));
    let near = near.filter(|(edits, other)| {
        let n_char = other.chars().count();
        *edits <= (n_char / 3).max(1) && *edits < n_char
    });
    near.min_by_key(|(edits, _)| *edits).map(|(_, other)| other)
}

/// The longest name that is compared, in bytes.
const MAX_NAME: usize = 64;

/// `; did you mean X?`, or nothing.
#[must_use]
pub fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_is_found_and_what_is_not_is_not() {
        let known = ["temperature", "top_p", "top_k", "n", "max_tokens"];
        for (name, meant) in [
            ("temprature", Some("temperature")),
            ("Temperature", Some("temperature")),
            ("topp", Some("top_p")),
            ("max_token", Some("max_tokens")),
            ("best_of", None),
            ("N", Some("n")),
            ("", None),
            ("x", None),
            ("frequency", None),
        ] {
            assert_eq!(nearest(name, known), meant, "{name}");
        }
        assert_eq!(nearest(&"n".repeat(65), ["n"]), None);
        assert_eq!(suggestion("tmp", ["temp"]), "; did you mean temp?");
        assert_eq!(suggestion("x", ["temp"]), "");
    }
}
