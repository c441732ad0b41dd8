//! Do completions and manual pages have what the program has?

use crate::program::worker;

const COMMANDS: [&str; 4] = ["run", "serve", "inspect", "bench"];

#[test]
fn each_shell_completes_commands_and_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let script = worker(&["completions", shell]).ok();
        for name in COMMANDS.iter().chain(&["print-config", "temperature"]) {
            assert!(script.contains(name), "{shell}: {name}");
        }
    }
    assert_eq!(worker(&["completions", "cmd"]).code, 2);
}

#[test]
fn each_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    assert_eq!(worker(&["man", "--dir", pages.to_str().unwrap()]).ok(), "");
    for name in COMMANDS {
        let page = std::fs::read_to_string(pages.join(format!("worker-orcd-{name}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS") && page.contains("\\-\\-"), "{name}: {page}");
    }
    let page = worker(&["man"]).ok();
    assert_eq!(page, std::fs::read_to_string(pages.join("worker-orcd.1")).unwrap());
    assert!(page.contains("Exit codes"), "{page}");
}
