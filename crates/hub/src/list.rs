//! Which files does a repository have? The hub's list, or what the cache has where the hub is not asked.
//!
//! Source: the hub's API, `GET /api/models/ORG/REPO/tree/REVISION?recursive=true`: a JSON array of entries with `type`, `path` and `size`,
//! in pages that a `Link` header with `rel="next"` joins.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::cache::RepoCache;
use crate::choose::Entry;

/// The most pages of a list, of up to a thousand files each.
pub(crate) const MAX_PAGES: usize = 16;
/// The most bytes of a page.
pub(crate) const MAX_PAGE_BYTES: u64 = 8 << 20;
/// How deep folders of the cache are read, and how many files.
const MAX_DEPTH: usize = 4;
const MAX_FILES: usize = 4096;

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    size: Option<u64>,
}

/// The files on a page.
pub(crate) fn read(page: &str) -> Result<Vec<Entry>, String> {
    let items: Vec<Item> = serde_json::from_str(page).map_err(|error| error.to_string())?;
    Ok(items.into_iter().filter(|item| item.kind == "file").map(|item| (item.path, item.size)).collect())
}

/// The address of the next page in a `Link` header (RFC 8288).
pub(crate) fn next(link: &str) -> Option<&str> {
    let link = link.split(',').find(|link| link.contains("rel=\"next\""))?;
    link.trim().strip_prefix('<')?.split_once('>').map(|(address, _)| address)
}

/// The files of a revision that are here, as it was last looked up.
pub(crate) fn cached(cache: &RepoCache, revision: &str) -> Vec<Entry> {
    cache.commit_of(revision).map(|commit| walk_snapshot(cache, &commit)).unwrap_or_default()
}

/// The files of a commit that are here.
pub(crate) fn walk_snapshot(cache: &RepoCache, commit: &str) -> Vec<Entry> {
    let mut files = Vec::new();
    walk(&cache.snapshot(commit, ""), "", MAX_DEPTH, &mut files);
    files
}

fn walk(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<Entry>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{prefix}{name}");
        match fs::metadata(entry.path()) {
            Ok(found) if found.is_dir() && depth > 0 => {
                walk(&entry.path(), &format!("{path}/"), depth - 1, files);
            }
            Ok(found) if found.is_file() && files.len() < MAX_FILES => files.push((path, Some(found.len()))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_files_and_says_where_the_next_is() {
        let page = r#"[{"type":"directory","path":"q","oid":"a"},{"type":"file","path":"q/m.gguf","size":5,"lfs":{"size":5}}]"#;
        assert_eq!(read(page).unwrap(), [("q/m.gguf".to_owned(), Some(5))]);
        assert!(read("{}").is_err());
        assert_eq!(next("<https://hub/x?cursor=a>; rel=\"next\""), Some("https://hub/x?cursor=a"));
        assert_eq!(next("<https://hub/x>; rel=\"prev\""), None);
    }
}
