//! Are settings taken from where they should be? On a made-up program with every kind of flag, and on all flags of the real one.

use clap::{Arg, ArgAction, CommandFactory, value_parser};
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

/// A program whose `serve` has every kind of flag.
fn program() -> Command {
    let serve = Command::new("serve")
        .arg(Arg::new("config").long("config").value_parser(value_parser!(PathBuf)))
        .arg(Arg::new("model").long("model").short('m').required(true))
        .arg(Arg::new("port").long("port").default_value("8080").value_parser(value_parser!(u16)))
        .arg(Arg::new("name").long("served-name").action(ArgAction::Append))
        .arg(Arg::new("device").long("device").default_value("auto").conflicts_with("gpu"))
        .arg(Arg::new("gpu").long("gpu-device"))
        .arg(Arg::new("exact").long("exact").action(ArgAction::SetTrue))
        .arg(Arg::new("api_key").long("api-key").value_parser(value_parser!(u64)));
    let verbose = Arg::new("verbose").long("verbose").action(ArgAction::Count).global(true);
    Command::new("w").arg(verbose).subcommand(serve).subcommand(Command::new("other"))
}

/// The settings that a command line, variables and a file make; or why there are none.
fn set_up(line: &str, variables: &[(&str, &str)], file: &str) -> String {
    let program = program();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let args = line.split(' ').map(OsString::from).collect();
    match parse(&program, args, &variables, &|_| Ok(file.to_owned())) {
        Ok(layered) => print(&program, &layered, &[]),
        Err(Refusal::Flags(refusal)) => format!("flags: {}", crate::exit::reason(&refusal)),
        Err(Refusal::Setting(error)) => format!("setting: {error:#}"),
    }
}

fn check(line: &str, variables: &[(&str, &str)], file: &str, expected: &Expect) {
    expected.assert_eq(&set_up(line, variables, file));
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "model = \"f.gguf\"\nport = 3\nserved_name = [\"a\", 'b \"c\"']\nexact = true\nverbose = 2";
    check(
        "w serve --config c.toml --port 1",
        &[("WORKER_ORCD_PORT", "2"), ("WORKER_ORCD_MODEL", "e.gguf"), ("PATH", "x")],
        file,
        &expect![[r#"
            model = "e.gguf"  # environment WORKER_ORCD_MODEL
            port = 1  # flag --port
            served-name = ["a", "b \"c\""]  # file c.toml
            device = "auto"  # default
            # gpu-device is not set (--gpu-device, WORKER_ORCD_GPU_DEVICE)
            exact = true  # file c.toml
            # api-key is not set (--api-key, WORKER_ORCD_API_KEY)
            verbose = 2  # file c.toml
        "#]],
    );
    check(
        "w --verbose serve -m m",
        &[("WORKER_ORCD_CONFIG", "c"), ("WORKER_ORCD_SERVED_NAME", "x, y"), ("WORKER_ORCD_EXACT", "off")],
        file,
        &expect![[r#"
            model = "m"  # flag --model
            port = 3  # file c
            served-name = ["x", "y"]  # environment WORKER_ORCD_SERVED_NAME
            device = "auto"  # default
            # gpu-device is not set (--gpu-device, WORKER_ORCD_GPU_DEVICE)
            exact = false  # environment WORKER_ORCD_EXACT
            # api-key is not set (--api-key, WORKER_ORCD_API_KEY)
            verbose = 1  # flag --verbose
        "#]],
    );
}

#[test]
fn what_excludes_a_layer_above_yields_to_it() {
    let said = set_up("w serve -m m --gpu-device 1", &[("WORKER_ORCD_DEVICE", "cpu")], "");
    assert!(said.contains("# device = \"auto\" is not in effect\ngpu-device = 1  # flag"), "{said}");
    let said = set_up("w serve -m m --config c", &[("WORKER_ORCD_DEVICE", "cpu")], "gpu-device = 1");
    assert!(said.contains("device = \"cpu\"  # environment"), "{said}");
    check(
        "w serve -m m --config c",
        &[],
        "gpu-device = 1\ndevice = 'cpu'",
        &expect![
            "setting: c: device: the argument '--device <device>' cannot be used with '--gpu-device <gpu>'"
        ],
    );
}

#[test]
fn what_is_unknown_or_wrong_is_named_with_its_place() {
    let serve = "w serve -m m --config c.toml";
    check(
        serve,
        &[],
        "port = 1\nserver-name = 'x'",
        &expect!["setting: c.toml:2: no setting is called server-name; did you mean served-name?"],
    );
    check(
        serve,
        &[("WORKER_ORCD_PROT", "1")],
        "",
        &expect![
            "setting: environment: no setting is called WORKER_ORCD_PROT; did you mean WORKER_ORCD_PORT?"
        ],
    );
    check(serve, &[], "port = 1\nport = 2", &expect!["setting: c.toml:2: duplicate key"]);
    check(
        serve,
        &[],
        "served-name = 'a'\nserved_name = 'b'",
        &expect!["setting: c.toml:2: served_name is set twice"],
    );
    check(
        serve,
        &[],
        "\n[port]",
        &expect!["setting: c.toml:2: port: expected text, a number, true or false, or a list, found a table"],
    );
    check(serve, &[], "exact = 1", &expect!["setting: c.toml:1: exact: expected true or false"]);
    check(serve, &[], "port = [1, 2]", &expect!["setting: c.toml:1: port: expected text or a number"]);
    check(serve, &[], "port = = 1", &expect!["setting: c.toml:1: extra `=`, expected nothing"]);
    check(
        serve,
        &[("WORKER_ORCD_PORT", "70000")],
        "",
        &expect![
            "setting: WORKER_ORCD_PORT: invalid value '70000' for '--port <port>': 70000 is not in 0..=65535"
        ],
    );
    check(
        serve,
        &[],
        "port = 0x1_0000",
        &expect![
            "setting: c.toml: port: invalid value '65536' for '--port <port>': 65536 is not in 0..=65535"
        ],
    );
    check(
        "w serve",
        &[],
        "",
        &expect!["flags: the following required arguments were not provided: --model <model>"],
    );
    check(
        "w serve --prot 1",
        &[],
        "",
        &expect!["flags: unexpected argument '--prot' found tip: a similar argument exists: '--port'"],
    );
}

#[test]
fn a_secret_is_shown_nowhere() {
    for (line, variables, file) in [
        ("w serve -m m --api-key 1234567", vec![], ""),
        ("w serve -m m", vec![("WORKER_ORCD_API_KEY", "1234567")], ""),
        ("w serve -m m --config c", vec![], "api-key = 1234567"),
        ("w serve -m m --api-key x1234567", vec![], ""),
        ("w serve -m m", vec![("WORKER_ORCD_API_KEY", "x1234567")], ""),
        ("w serve -m m --config c", vec![], "api-key = 'x1234567'"),
    ] {
        let said = set_up(line, &variables, file);
        assert!(
            !said.contains("1234567") && said.to_lowercase().replace("_", "-").contains("api-key"),
            "{said}"
        );
    }
}

#[test]
fn what_others_put_into_the_environment_is_left_alone() {
    let of_kubernetes = [
        ("WORKER_ORCD_SERVICE_HOST", "10.0.0.1"),
        ("WORKER_ORCD_SERVICE_PORT_HTTP", "80"),
        ("WORKER_ORCD_PORT", "tcp://10.0.0.1:80"),
        ("WORKER_ORCD_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("WORKER_ORCD_FIXTURES", "/x"),
        ("WORKER_ORCD_EXACT", ""),
    ];
    let said = set_up("w serve -m m", &of_kubernetes, "");
    assert!(said.contains("port = 8080  # default"), "{said}");
    // Other commands read no settings.
    assert_eq!(set_up("w other", &[("WORKER_ORCD_PROT", "1")], ""), "");
}

#[test]
fn what_is_printed_is_a_file_that_says_the_same() {
    let first =
        set_up("w serve --port 9 --served-name a --served-name 7 --exact --verbose -m é\"\\", &[], "");
    let second = set_up("w serve --config c", &[], &first);
    let values = |text: &str| {
        text.lines().map(|line| line.split("  #").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(values(&first), values(&second));
    assert!(second.contains("  # file c"), "{second}");
}

/// What one flag becomes, as a flag, as a variable and in a file.
#[test]
fn every_flag_of_serve_can_be_set_in_every_way() {
    let command = crate::Cli::command();
    let mut built = command.clone();
    built.build();
    let serve = built.find_subcommand("serve").unwrap();
    let mut n = 0;
    for arg in settings(serve) {
        let (id, name) = (arg.get_id().as_str(), long(arg).to_owned());
        let outcome = |flag: Option<String>, variables: &[(OsString, OsString)], file: Option<String>| {
            let mut args: Vec<OsString> = vec!["w".into(), "serve".into()];
            if id != "model" {
                args.push("--model=m".into());
            }
            args.extend(flag.map(OsString::from));
            args.extend(file.as_ref().map(|_| "--config=c".into()));
            let read = |_: &Path| Ok(file.clone().unwrap_or_default());
            match parse(&command, args, variables, &read) {
                Ok(layered) => {
                    let matches = layered.matches.subcommand_matches("serve").unwrap();
                    let raw = matches.get_raw(id).map(|raw| raw.map(ToOwned::to_owned).collect::<Vec<_>>());
                    let count = matches!(arg.get_action(), ArgAction::Count).then(|| matches.get_count(id));
                    Ok((raw.filter(|_| count.is_none()), count, layered.origin(matches, id)))
                }
                Err(Refusal::Flags(refusal)) => Err(refusal.kind()),
                Err(Refusal::Setting(_)) => Err(ErrorKind::ValueValidation),
            }
        };
        let is_switch = matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::Count);
        let default = arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
        let others = ["64", "999", "a:b", "http://a", "127.0.0.1", "tcp://127.0.0.1:1", "{}", "mean"];
        let samples = default.into_iter().chain(others.map(str::to_owned));
        let by_flag = |value: &String| match is_switch {
            true => outcome(Some(format!("--{name}")), &[], None),
            false => outcome(Some(format!("--{name}={value}")), &[], None),
        };
        let is_accepted = |value: &String| {
            !matches!(by_flag(value), Err(ErrorKind::ValueValidation | ErrorKind::InvalidValue))
        };
        let value = samples.filter(|value| is_switch || !value.is_empty()).find(is_accepted);
        let value = value.unwrap_or_else(|| panic!("--{name}: add a value that it accepts to this test"));
        let (variable_value, file_value) = match arg.get_action() {
            ArgAction::SetTrue => ("true".to_owned(), "true".to_owned()),
            ArgAction::Count => ("1".to_owned(), "1".to_owned()),
            _ => (value.clone(), format!("{value:?}")),
        };
        let variable = environment::variable(arg);
        let from_variable = outcome(None, &[(variable.clone().into(), variable_value.into())], None);
        let from_file = outcome(None, &[], Some(format!("{} = {file_value}", name.replace('-', "_"))));
        match by_flag(&value) {
            Ok((raw, count, origin)) => {
                assert_eq!(origin, Origin::Flag, "{name}");
                assert_eq!(from_variable, Ok((raw.clone(), count, Origin::Environment(variable))), "{name}");
                assert_eq!(from_file, Ok((raw, count, Origin::File("c".into()))), "{name}");
            }
            // One that asks for another beside it does so everywhere.
            Err(kind) => {
                assert_eq!(kind, ErrorKind::MissingRequiredArgument, "{name}");
                assert!(from_variable.is_err() && from_file.is_err(), "{name}");
            }
        }
        n += 1;
    }
    assert!(n > 15, "{n} flags");
}

/// What files are made of, right and wrong.
const WORDS: &[&str] = &[
    "model",
    "port",
    "served-name",
    "served_name",
    "device",
    "gpu-device",
    "exact",
    "api-key",
    "verbose",
    "config",
    " = ",
    "=",
    "\"",
    "'",
    "\"\"\"",
    "\n",
    "\r\n",
    "[",
    "]",
    "{",
    "}",
    ",",
    ".",
    "#",
    "-",
    "+",
    "_",
    "true",
    "off",
    "inf",
    "nan",
    "0x",
    "65536",
    "1e400",
    "1_0",
    "9223372036854775808",
    "2026-01-01T00:00:00Z",
    "é",
    "語",
    "\u{feff}",
    "\u{0}",
    "\\u00e9",
    "\\UFFFFFFFF",
    "secret",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_file_and_any_variable_are_settings_or_an_error_that_is_bounded(
        file in prop::collection::vec(prop::sample::select(WORDS), 0..40),
        variable in prop::collection::vec(prop::sample::select(WORDS), 0..10),
        of in prop::sample::select(&["PORT", "SERVED_NAME", "EXACT", "VERBOSE", "API_KEY", "NO_FLAG", ""][..]),
    ) {
        let name = format!("WORKER_ORCD_{of}");
        let said = set_up("w serve -m m --config c", &[(&name, &variable.concat())], &file.concat());
        prop_assert!(said.len() < 4000, "{}", said.len());
    }
}

#[test]
fn a_file_that_nests_deep_is_refused() {
    for deep in ["[".repeat(100_000), "a.".repeat(100_000), "{a=".repeat(100_000)] {
        let said = set_up("w serve -m m --config c", &[], &format!("model = {deep}"));
        assert!(said.starts_with("setting: c:1: ") && said.len() < 4000, "{}", &said[..said.len().min(200)]);
    }
}
