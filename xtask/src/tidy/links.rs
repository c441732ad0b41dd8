//! Do the links of the Markdown files lead somewhere? Links to files of this repository, that is: others need a network.

use std::path::Path;

use super::Finding;

/// Checks one Markdown file; `root` is the folder that `path` is relative to.
pub(super) fn check(root: &Path, path: &str, text: &str) -> Vec<Finding> {
    let folder = root.join(path).parent().map_or_else(|| root.to_owned(), Path::to_owned);
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for target in targets(line) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !folder.join(file).exists() {
                let what = format!("a link to {file:?}");
                findings.push(Finding {
                    path: path.to_owned(),
                    line: at + 1,
                    what,
                    why: "there is no such file",
                });
            }
        }
    }
    findings
}

/// What stands between `](` and the next `)`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use expect_test::expect;

    use super::super::listed;
    use super::check;

    #[test]
    fn links_to_missing_files_are_found() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("docs")).unwrap();
        fs::write(root.path().join("docs/b.md"), "").unwrap();
        let text =
            "See [b](b.md#part), [c](https://example.org/c), [d](#d)\nand [e](../e.md), [b](../docs/b.md).\n";
        expect![[r#"
            docs/a.md:2: a link to "../e.md"; there is no such file
        "#]]
        .assert_eq(&listed(&check(root.path(), "docs/a.md", text)));
    }
}
