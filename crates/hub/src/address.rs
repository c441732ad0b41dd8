//! What does an address of the hub's pages lead to, as it is copied from a browser, or in Ollama's form `hf.co/ORG/REPO:QUANTIZATION`?

use crate::ModelRef;

/// The hosts of the hub's pages.
const HOSTS: [&str; 3] = ["huggingface.co/", "www.huggingface.co/", "hf.co/"];

/// Whether a text is an address on the web, or begins with a host of the hub.
#[must_use]
pub fn is_address(text: &str) -> bool {
    text.contains("://") || HOSTS.iter().any(|host| text.starts_with(host))
}

/// The name of what an address of the hub leads to, if it leads to a repository or to a file in one.
pub(crate) fn named(text: &str) -> Option<String> {
    let text = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    let place = HOSTS.iter().find_map(|host| text.strip_prefix(host))?;
    let place = place.split(['?', '#']).next()?.trim_end_matches('/');
    let mut parts = place.splitn(5, '/');
    let repo = format!("{}/{}", parts.next()?, parts.next()?);
    let at = |revision: &str| if revision == "main" { String::new() } else { format!("@{revision}") };
    let name = match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => format!("hf:{repo}"),
        (Some("tree"), Some(revision), None) => format!("hf:{repo}{}", at(revision)),
        (Some("blob" | "resolve" | "raw"), Some(revision), Some(path)) => {
            format!("hf:{repo}{}::file={path}", at(revision))
        }
        _ => return None,
    };
    name.parse::<ModelRef>().is_ok().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_by_what_they_lead_to() {
        for (address, name) in [
            ("https://huggingface.co/Org/Repo-GGUF", Some("hf:Org/Repo-GGUF")),
            ("http://www.huggingface.co/Org/Repo-GGUF/", Some("hf:Org/Repo-GGUF")),
            ("hf.co/Org/Repo-GGUF:Q4_K_M", Some("hf:Org/Repo-GGUF:Q4_K_M")),
            ("https://huggingface.co/Org/Repo/tree/main", Some("hf:Org/Repo")),
            ("https://huggingface.co/Org/Repo/tree/v2", Some("hf:Org/Repo@v2")),
            ("https://huggingface.co/Org/Repo/blob/main/m.gguf", Some("hf:Org/Repo::file=m.gguf")),
            (
                "https://huggingface.co/Org/Repo/resolve/v2/a/m.gguf?download=true",
                Some("hf:Org/Repo@v2::file=a/m.gguf"),
            ),
            ("https://huggingface.co/Org", None),
            ("https://huggingface.co/Org/Repo/discussions/1", None),
            ("https://huggingface.co/Org/Repo/resolve/main/../m.gguf", None),
            ("https://example.org/Org/Repo", None),
            ("models/m.gguf", None),
        ] {
            assert_eq!(named(address).as_deref(), name, "{address}");
            assert_eq!(is_address(address), address != "models/m.gguf", "{address}");
        }
    }
}
