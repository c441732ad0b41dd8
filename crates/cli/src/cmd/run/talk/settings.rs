//! What can be changed in a conversation? How tokens are chosen, under the names and with the ranges of the API's fields.

use std::str::FromStr;

use device::SamplingParams;
use worker::Defaults;

use crate::cmd::run::sampling::SamplingArgs;
use crate::numbers::{self, NO_LIMIT, Seed};

/// A setting: its name, how it is set, and what is in effect.
type Setting =
    (&'static str, fn(&mut SamplingArgs, &str) -> Option<()>, fn(&SamplingArgs, &SamplingParams) -> String);

const SETTINGS: [Setting; 10] = [
    (
        "temperature",
        |to, value| number(&mut to.defaults.temperature, value),
        |_, now| now.temperature.to_string(),
    ),
    (
        "top_k",
        |to, value| read(&mut to.defaults.top_k, value, numbers::top_k),
        |_, now| now.top_k.to_string(),
    ),
    ("top_p", |to, value| number(&mut to.defaults.top_p, value), |_, now| now.top_p.to_string()),
    ("min_p", |to, value| number(&mut to.defaults.min_p, value), |_, now| now.min_p.to_string()),
    (
        "repetition_penalty",
        |to, value| number(&mut to.defaults.repetition_penalty, value),
        |_, now| now.repetition_penalty.to_string(),
    ),
    ("typical_p", |to, value| plain(&mut to.typical_p, value), |_, now| now.typical_p.to_string()),
    (
        "presence_penalty",
        |to, value| plain(&mut to.presence_penalty, value),
        |_, now| now.presence_penalty.to_string(),
    ),
    (
        "frequency_penalty",
        |to, value| plain(&mut to.frequency_penalty, value),
        |_, now| now.frequency_penalty.to_string(),
    ),
    (
        "seed",
        |to, value| number(&mut to.seed, value),
        |now, _| shown_or(now.seed.and_then(|Seed(seed)| seed), "random"),
    ),
    (
        "max_tokens",
        |to, value| read(&mut to.max_tokens, value, numbers::most_tokens),
        |now, _| shown_or(now.max_tokens.filter(|&n| n != NO_LIMIT), "what the context holds"),
    ),
];

/// The names of the settings.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|(name, ..)| *name)
}

/// A number, or `default` for none.
fn number<T: FromStr>(to: &mut Option<T>, value: &str) -> Option<()> {
    read(to, value, str::parse)
}

/// The same, as a flag reads it.
fn read<T, E>(to: &mut Option<T>, value: &str, read: impl Fn(&str) -> Result<T, E>) -> Option<()> {
    *to = if value == "default" { None } else { Some(read(value).ok()?) };
    Some(())
}

/// A number that has no default of the model's.
fn plain(to: &mut f32, value: &str) -> Option<()> {
    *to = value.parse().ok()?;
    Some(())
}

fn shown_or(value: Option<impl ToString>, none: &str) -> String {
    value.map_or_else(|| none.to_owned(), |value| value.to_string())
}

/// Changes a setting, or says why not and changes nothing.
pub(super) fn set(sampling: &mut SamplingArgs, name: &str, value: &str) -> Result<(), String> {
    let name = name.replace('-', "_");
    let Some((_, set, _)) = SETTINGS.iter().find(|(known, ..)| *known == name) else {
        let hint = server::nearest::suggestion(&name, names());
        return Err(format!("no setting is called {name}{hint}"));
    };
    let mut changed = sampling.clone();
    set(&mut changed, value).ok_or_else(|| format!("{name}: expected a number, found {value:?}"))?;
    changed.check().map_err(|refusal| refusal.to_string())?;
    *sampling = changed;
    Ok(())
}

/// What is in effect, a line each.
pub(super) fn shown(sampling: &SamplingArgs, defaults: Defaults) -> String {
    let params = sampling.params(defaults);
    SETTINGS.iter().map(|(name, _, get)| format!("{name:<18} {}\n", get(sampling, &params))).collect()
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    #[test]
    fn settings_have_the_ranges_of_flags() {
        let command = SamplingArgs::augment_args(Command::new("run"));
        let mut sampling =
            SamplingArgs::from_arg_matches(&command.get_matches_from(["run", "--top-k", "7"])).unwrap();
        let mut set = |name: &str, value: &str| set(&mut sampling, name, value);
        assert_eq!(set("temperature", "0.5"), Ok(()));
        assert_eq!(set("top-k", "default"), Ok(()));
        assert_eq!(set("seed", "3"), Ok(()));
        assert_eq!(set("temp", "0.5").unwrap_err(), "no setting is called temp");
        assert_eq!(set("topp", "0.5").unwrap_err(), "no setting is called topp; did you mean top_p?");
        assert_eq!(set("top_p", "2").unwrap_err(), "top_p: expected 0 to 1, found 2");
        assert_eq!(set("top_p", "x").unwrap_err(), "top_p: expected a number, found \"x\"");
        assert_eq!(set("max_tokens", "0").unwrap_err(), "max_tokens: expected at least 1, found 0");
        let shown = shown(&sampling, Defaults::default());
        for line in [
            "temperature        0.5\n",
            "top_k              40\n",
            "seed               3\n",
            "top_p              0.95\n",
        ] {
            assert!(shown.contains(line), "{shown}");
        }
    }

    #[test]
    fn minus_one_is_what_it_is_for_flags() {
        let command = SamplingArgs::augment_args(Command::new("run"));
        let args = ["run", "-n", "-1", "-s", "-1", "--top-k", "-1", "--repeat-penalty", "1.1"];
        let mut sampling = SamplingArgs::from_arg_matches(&command.get_matches_from(args)).unwrap();
        let lines = [
            "top_k              0\n",
            "seed               random\n",
            "max_tokens         what the context holds\n",
            "repetition_penalty 1.1\n",
        ];
        let check = |sampling: &SamplingArgs| {
            let shown = shown(sampling, Defaults::default());
            assert!(lines.iter().all(|line| shown.contains(line)), "{shown}");
        };
        check(&sampling);
        for (name, other) in [("max_tokens", "5"), ("seed", "5"), ("top_k", "5")] {
            assert_eq!(set(&mut sampling, name, other), Ok(()));
            assert_eq!(set(&mut sampling, name, "-1"), Ok(()));
        }
        check(&sampling);
    }
}
