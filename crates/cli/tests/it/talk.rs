//! Does the chat in a terminal lose no line that is typed ahead, say what a command lacks, and keep the log out of the prompt?

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::program::{command, rewritten};

/// Starts a chat in a terminal in which these lines were typed before, and gives what it shows until it ends by itself.
fn talk(typed: impl AsRef<[u8]>, has_log: bool) -> String {
    talk_on(typed.as_ref(), None, has_log)
}

/// Likewise; once it has said the first of two texts, the second is typed.
fn talk_on(typed: &[u8], mut later: Option<(&'static str, &'static str)>, has_log: bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    let template = ("tokenizer.chat_template", "{% for m in messages %}{{ m.content }}{% endfor %}".into());
    let model = rewritten(folder.path(), "llama-q4_0.gguf", |_| true, &[template]);
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = File::options().read(true).write(true).open(name).unwrap();
    let mut master = File::from(master);
    master.write_all(typed).unwrap();
    let log = if has_log { terminal.try_clone().unwrap().into() } else { Stdio::null() };
    let quiet: &[&str] = if has_log { &[] } else { &["-q"] };
    let mut child = command(&[&["run", &model, "--device", "cpu"], quiet].concat())
        .stdin(terminal.try_clone().unwrap())
        .stdout(terminal)
        .stderr(log)
        .spawn()
        .unwrap();
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        let (mut all, mut some) = (Vec::new(), [0; 4096]);
        // The end of a terminal is an error.
        while let Ok(n @ 1..) = master.read(&mut some) {
            all.extend_from_slice(&some[..n]);
            if let Some((_, text)) = later.take_if(|(said, _)| String::from_utf8_lossy(&all).contains(*said))
            {
                master.write_all(text.as_bytes()).unwrap();
            }
        }
        let _ = ended.send(all);
    });
    let shown = end.recv_timeout(Duration::from_secs(60));
    if shown.is_err() {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    let shown = String::from_utf8_lossy(&shown.expect("the chat ends at /exit")).into_owned();
    assert!(status.success(), "{shown}");
    shown
}

#[test]
fn lines_that_are_typed_ahead_are_all_read() {
    let shown = talk("/one\n/two\n/save\n/load\n/exit\n", false);
    for said in [
        "no command /one; /help lists them",
        "no command /two; /help lists them",
        "/save: expected the name of a new file behind it",
        "/load: expected the name of a file that /save wrote behind it",
    ] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
}

#[test]
fn a_line_that_is_no_text_ends_nothing() {
    let said = "a byte that is not UTF-8 was typed";
    let shown = talk_on(b"caf\xe9\n", Some((said, "/two\n/exit\n")), false);
    assert!(shown.contains("no command /two; /help lists them"), "{shown}");
}

#[test]
fn the_log_of_loading_stands_before_the_prompt() {
    for _ in 0..5 {
        let shown = talk("/exit\n", true);
        let loaded = shown.find("loaded in ").unwrap_or_else(|| panic!("{shown}"));
        assert!(shown.find("Type a message").is_some_and(|greeting| loaded < greeting), "{shown}");
    }
}
