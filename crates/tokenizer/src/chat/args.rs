//! With what is something called? Arguments are matched to parameters as Python matches them: one too many, an unknown name or a
//! value given twice is an error.

use super::budget::Result;
use super::eval::Renderer;
use super::value::Value;

/// Evaluated arguments.
#[derive(Default)]
pub(super) struct Args {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(String, Value)>,
}

impl Args {
    /// The argument of a name.
    pub(super) fn named(&self, wanted: &str) -> Option<&Value> {
        self.named.iter().find(|(name, _)| name == wanted).map(|(_, value)| value)
    }

    /// These by position, none by name.
    pub(super) fn of<const N: usize>(values: [Value; N]) -> Args {
        Args { positional: values.into(), named: Vec::new() }
    }
}

impl Renderer<'_, '_> {
    /// The arguments of these parameters; one without a name can only be given by its position.
    pub(super) fn bind<'a, const N: usize>(
        &self,
        what: &str,
        args: &'a Args,
        names: [&str; N],
    ) -> Result<[Option<&'a Value>; N]> {
        let mut found = [None; N];
        if args.positional.len() > N {
            let given = args.positional.len();
            return self.budget.fail(format!("{what} takes at most {N} arguments, not {given}"));
        }
        for (place, value) in found.iter_mut().zip(&args.positional) {
            *place = Some(value);
        }
        for (name, value) in &args.named {
            let place = names.iter().position(|known| known == name && !name.is_empty());
            match place.and_then(|place| found.get_mut(place)) {
                Some(free @ None) => *free = Some(value),
                Some(_) => return self.budget.fail(format!("{what}: {name} is given twice")),
                None => return self.budget.fail(format!("{what} has no argument {name:?}")),
            }
        }
        Ok(found)
    }

    /// A whole number of 64 bits, as Python's own functions take them; `default` if there is none.
    pub(super) fn whole(&self, what: &str, value: Option<&Value>, default: i128) -> Result<i128> {
        match value {
            None => Ok(default),
            Some(value) => match value.as_int() {
                Some(number) if i64::try_from(number).is_ok() => Ok(number),
                Some(_) => self.budget.fail(format!("{what}: a number does not fit 64 bits")),
                None => self.budget.fail(format!("{what} needs a whole number, not {}", value.kind())),
            },
        }
    }

    /// A string.
    pub(super) fn text<'a>(&self, what: &str, value: Option<&'a Value>) -> Result<&'a str> {
        match value {
            Some(value) => match value.as_str() {
                Some(text) => Ok(text),
                None => self.budget.fail(format!("{what} needs a string, not {}", value.kind())),
            },
            None => self.budget.fail(format!("{what} needs a string")),
        }
    }
}

/// An argument for which `None` means that it is not given.
pub(super) fn given(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !matches!(value, Value::None))
}

/// A number as a size: nothing if it is negative.
pub(super) fn size(number: i128) -> usize {
    usize::try_from(number.max(0)).unwrap_or(usize::MAX)
}
