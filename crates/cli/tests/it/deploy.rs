//! Do the files under `deploy/` say what the program understands? Their flags, settings and variables are given to it, and it tells a service manager what the unit waits for.

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::program::{command, done, golden};

const CONTAINER: &str = include_str!("../../../../deploy/Containerfile");
const RELEASE: &str = include_str!("../../../../deploy/Containerfile.release");
const KUBERNETES: &str = include_str!("../../../../deploy/kubernetes.yaml");
const SERVICE: &str = include_str!("../../../../deploy/worker-orcd.service");
const SETTINGS: &str = include_str!("../../../../deploy/worker-orcd.toml");
const TOOLCHAIN: &str = include_str!("../../../../rust-toolchain.toml");

/// What is in effect with these words and variables.
#[track_caller]
fn in_effect(words: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = command(words);
    command.arg("--print-config").envs(environment.iter().copied());
    done(command.output().unwrap()).ok()
}

/// A number of the settings that are in effect.
#[track_caller]
fn number(settings: &str, name: &str) -> u64 {
    let line = settings.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = ")).unwrap();
    line.split(' ').next().unwrap().parse().unwrap()
}

/// What follows the first place where a file says `key`, up to the line's end.
#[track_caller]
fn after<'a>(text: &'a str, key: &str) -> &'a str {
    let rest = text.lines().find_map(|line| line.trim_start().strip_prefix(key));
    rest.unwrap_or_else(|| panic!("nothing says {key:?}")).trim()
}

#[test]
fn the_service_starts_with_settings_that_there_are_and_has_time_to_drain() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("worker-orcd.toml");
    std::fs::write(&file, SETTINGS).unwrap();
    let line = after(SERVICE, "ExecStart=");
    let replaced = line.replace("/etc/worker-orcd/worker-orcd.toml", file.to_str().unwrap());
    assert_ne!(line, replaced);
    let (program, words) = replaced.split_once(' ').unwrap();
    assert_eq!(program, "/usr/local/bin/worker-orcd");
    let settings = in_effect(&words.split(' ').collect::<Vec<_>>(), &[]);
    assert!(settings.contains("\"%d/api-keys\"  # flag --api-key-file"), "{settings}");
    assert_eq!(after(SERVICE, "LoadCredential="), "api-keys:/etc/worker-orcd/api-keys");
    assert!(settings.contains("device = \"cuda:0\"  # file"), "{settings}");
    let stop: u64 = after(SERVICE, "TimeoutStopSec=").parse().unwrap();
    assert!(number(&settings, "drain-timeout-sec") + 5 <= stop);
}

#[test]
fn the_settings_that_are_commented_out_are_settings_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("worker-orcd.toml");
    let text: Vec<&str> = SETTINGS
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line))
        .collect();
    std::fs::write(&file, text.join("\n")).unwrap();
    let settings = in_effect(&["serve", "--config", file.to_str().unwrap()], &[]);
    assert!(settings.contains("allowed-host = [\"llm.example\"]  # file"), "{settings}");
}

#[test]
fn the_pod_has_flags_that_there_are_and_time_to_load_and_to_drain() {
    let mut lines = KUBERNETES.lines().map(str::trim).skip_while(|line| *line != "args:").skip(1);
    let words: Vec<&str> = lines.by_ref().map_while(|line| line.strip_prefix("- ")).collect();
    assert!(words.len() > 5, "{words:?}");
    let settings = in_effect(&words, &[]);
    assert_eq!(number(&settings, "port").to_string(), after(KUBERNETES, "containerPort:"));
    let [grace, wait] =
        ["terminationGracePeriodSeconds:", "command: [sleep,"].map(|key| after(KUBERNETES, key));
    let wait: u64 = wait.trim_matches(['"', ']']).parse().unwrap();
    let drain = number(&settings, "drain-timeout-sec");
    assert!(wait + drain + 5 <= grace.parse().unwrap());
    // While it drains /health is 503, and that alone must not have it killed.
    let liveness = &KUBERNETES[KUBERNETES.find("livenessProbe:").unwrap()..];
    let [period, n] =
        ["periodSeconds:", "failureThreshold:"].map(|key| after(liveness, key).parse::<u64>().unwrap());
    assert!(Duration::from_secs(period * n) > Duration::from_secs(drain));
    assert_eq!(after(KUBERNETES, "path: /"), "health");
}

#[test]
fn the_container_sets_variables_that_there_are_and_is_built_with_the_pinned_compiler() {
    let channel = after(TOOLCHAIN, "channel = ").trim_matches('"');
    assert!(CONTAINER.contains(&format!("\nFROM rust:{channel}-")), "{channel}");
    let names: BTreeSet<&str> = CONTAINER
        .split(|c: char| c != '_' && !c.is_ascii_alphanumeric())
        .filter(|word| word.starts_with("WORKER_ORCD_"))
        .collect();
    let environment: Vec<(&str, &str)> = names
        .iter()
        .map(|&name| match name {
            "WORKER_ORCD_HOST" => (name, "0.0.0.0"),
            "WORKER_ORCD_PORT" => (name, "8080"),
            "WORKER_ORCD_API_KEY" => (name, "never shown by anything"),
            _ => panic!("what may {name} be?"),
        })
        .collect();
    let settings = in_effect(&["serve", "--model", "/models/m.gguf"], &environment);
    for name in names {
        assert!(settings.contains(&format!("# environment {name}")), "{name}: {settings}");
    }
    assert!(CONTAINER.contains("WORKER_ORCD_HOST=0.0.0.0"));
    assert_eq!(after(CONTAINER, "EXPOSE ").parse(), Ok(number(&settings, "port")));
}

#[test]
fn the_image_of_a_release_is_set_up_as_the_one_that_is_built() {
    let set_up = |text: &'static str| {
        let (_, rest) = text.rsplit_once("\nCOPY --from=").unwrap();
        rest.lines().skip(1).filter(|line| !line.starts_with('#')).collect::<Vec<_>>()
    };
    assert_eq!(set_up(RELEASE), set_up(CONTAINER));
}

/// The next thing that a server says to its manager.
#[track_caller]
fn heard(manager: &UnixDatagram) -> String {
    let mut bytes = [0; 256];
    let n = manager.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..n].to_vec()).unwrap()
}

#[test]
fn a_service_manager_hears_that_it_is_ready_that_it_lives_and_that_it_stops() {
    assert_eq!(after(SERVICE, "Type="), "notify");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let model = golden("llama-q4_0.gguf");
    let words = ["serve", "--device", "cpu", "--threads", "1", "--port", "0", "--model", &model];
    let mut server = command(&words);
    server.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000").env_remove("WATCHDOG_PID");
    let mut server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Signs of life may come while it loads.
    while heard(&manager) != "READY=1\n" {}
    for _ in 0..3 {
        assert_eq!(heard(&manager), "WATCHDOG=1\n");
    }
    let id = server.id().to_string();
    assert!(Command::new("kill").args(["-STOP", &id]).status().unwrap().success());
    std::thread::sleep(Duration::from_millis(100));
    manager.set_nonblocking(true).unwrap();
    while manager.recv(&mut [0; 256]).is_ok() {}
    std::thread::sleep(Duration::from_millis(500));
    assert!(manager.recv(&mut [0; 256]).is_err(), "a process that is stopped gives no sign of life");
    manager.set_nonblocking(false).unwrap();
    for signal in ["-CONT", "-TERM"] {
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
    while heard(&manager) != "STOPPING=1\n" {}
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

#[test]
fn the_service_is_bounded_and_has_room_for_its_connections() {
    let settings = in_effect(&["serve", "--model", "/m.gguf"], &[]);
    let files: u64 = after(SERVICE, "LimitNOFILE=").parse().unwrap();
    assert!(files >= 2 * number(&settings, "max-connections") + 64);
    let tasks: u64 = after(SERVICE, "TasksMax=").parse().unwrap();
    // A thread for each processor of the largest machines, and those of the server.
    assert!(tasks >= 1024);
    assert!(after(SERVICE, "WatchdogSec=").parse::<u64>().unwrap() >= 10);
    // The unit and the pod run the same thing.
    let limits = &KUBERNETES[KUBERNETES.find("limits:").unwrap()..];
    assert_eq!(after(SERVICE, "MemoryMax=").replace('G', "Gi"), after(limits, "memory:"));
}
