//! What may no file mention? Places that exist on one machine only, and the addresses of registries: a clone stands alone, and
//! people behind a mirror name their own.

use super::Finding;

/// Each is written in two pieces, so that this file obeys its own rule.
const FORBIDDEN: [(&str, &str); 8] = [
    (concat!("../", "shared"), ELSEWHERE),
    (concat!("/wo", "rk/"), ELSEWHERE),
    (concat!("/ro", "ot/"), ELSEWHERE),
    (concat!("pypi", ".org"), REGISTRY),
    (concat!("pythonhosted", ".org"), REGISTRY),
    (concat!("crates", ".io"), REGISTRY),
    (concat!("npmjs", ".org"), REGISTRY),
    (concat!("npmjs", ".com"), REGISTRY),
];

const ELSEWHERE: &str = "a clone has no such place";
const REGISTRY: &str = "name the registry, not its host";

/// Checks one text file of any kind. Lock files name their registry by design.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    if path.ends_with("Cargo.lock") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for (word, why) in FORBIDDEN {
            if line.contains(word) {
                findings.push(Finding {
                    path: path.to_owned(),
                    line: at + 1,
                    what: format!("{word:?}"),
                    why,
                });
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{FORBIDDEN, check};

    #[test]
    fn every_forbidden_word_is_found_and_lock_files_are_exempt() {
        for (word, _) in FORBIDDEN {
            let text = format!("one\nsee https://{word}/x\n");
            let findings = check("docs/a.md", &text);
            assert_eq!(findings.len(), 1, "{word}");
            assert_eq!(findings[0].line, 2);
            assert!(check("Cargo.lock", &text).is_empty());
        }
    }
}
