//! Does every operation count what it reads? Each is done with a short and a long text: if it counts no more steps for the long
//! one, it must be known not to read it.

use std::collections::HashMap;

use expect_test::expect;

use super::attributes::STRING_METHODS;
use super::eval::Renderer;
use super::value::Value;
use super::{filters, predicates, source};
use crate::stop::Stop;

const SHORT: usize = 1 << 10;
const LONG: usize = 1 << 13;

/// The steps of an expression over texts of so many bytes; none if it fails, which ends a rendering.
fn steps(expr: &str, size: usize) -> Option<u64> {
    let given = [("s", "x"), ("n", "1"), ("w", "a ")];
    let mut globals: HashMap<String, Value> =
        given.map(|(name, text)| (name.to_owned(), Value::str(&text.repeat(size / text.len())))).into();
    globals.insert("y".to_owned(), Value::str("y"));
    let source = source::prepare(&format!("{{% if {expr} %}}{{% endif %}}")).ok()?;
    let root = source::parse(&source).ok()?;
    let mut renderer = Renderer::new(globals, 0, Stop::default());
    renderer.run(&root).ok()?;
    Some(renderer.budget.steps())
}

/// A long text at each place that a filter, a test, a method or an operator takes one.
fn expressions() -> Vec<String> {
    let mut found = Vec::new();
    for filter in filters::NAMES {
        found.extend(["s", "n", "w"].map(|value| format!("{value} | {filter}")));
        found.extend(["s", "y, s", "s, y"].map(|args| format!("y | {filter}({args})")));
        found.extend(["y", "1", "y, y"].map(|args| format!("s | {filter}({args})")));
        found.push(format!("[s] | map('{filter}') | list"));
    }
    for test in predicates::NAMES.into_iter().filter(|name| name.starts_with(char::is_alphabetic)) {
        found.extend([format!("s is {test}"), format!("(s,) is {test}")]);
        found.extend([format!("s is {test}(s ~ y)"), format!("y is {test}(s)")]);
    }
    for method in STRING_METHODS {
        found.extend(["", "y", "1", "1, y", "y, y"].map(|args| format!("s.{method}({args})")));
        found.extend(["", "y"].map(|args| format!("w.{method}({args})")));
        found.extend(["s", "y, s", "s, y", "(s, s)"].map(|args| format!("y.{method}({args})")));
        found.extend(["s", "a=s"].map(|args| format!("'%s{{}}{{a}}'.{method}({args})")));
    }
    for operator in ["==", "!=", "<", ">=", "in", "not in", "~", "+", "%", "and", "or"] {
        found.extend([format!("s {operator} y"), format!("y {operator} s")]);
        found.push(format!("(s ~ y) {operator} (s ~ y)"));
    }
    let keyed = [
        "{}[s]",
        "{}[(s,)]",
        "(s,) in {}",
        "((s,),) in {y: 1}",
        "{}.get(s)",
        "{}.get((s,))",
        "{s: 1} == {s: 1}",
        "{(s,): 1} == {(s,): 1}",
        "dict([(s, 1)])",
        "dict(**{s: 1})",
        "namespace(**{s: 1})",
        "namespace() | attr(s)",
        "y | attr(s)",
        "[(s,), (s,)] | unique | list",
        "[{y: s}] | groupby(y)",
        "[s, s] | sort",
        "[s, s] | max",
        "{s: 1} | dictsort",
        "{(1,) * n | length: 1} | list",
        "[y] | map(attribute=s) | list",
        "[y] | select('in', s) | list",
        "'%(a)s' % {'a': s}",
        "s[0]",
        "s[1:]",
        "s * 1",
        "[s] | join",
        "{'a': s} | tojson",
        "[[s]] | string",
        "cycler(s).next()",
    ];
    found.extend(keyed.map(str::to_owned));
    found
}

#[test]
fn what_reads_a_long_text_counts_its_bytes() {
    let mut free = Vec::new();
    let mut counted = 0;
    let expressions = expressions();
    for expr in &expressions {
        let (Some(short), Some(long)) = (steps(expr, SHORT), steps(expr, LONG)) else { continue };
        if long - short >= (LONG - SHORT) as u64 / 64 {
            counted += 1;
        } else {
            free.push(expr.as_str());
        }
    }
    expect![[r#"
        s | attr(y)
        s | d
        n | d
        w | d
        y | d(s)
        y | d(y, s)
        y | d(s, y)
        s | d(y)
        s | d(1)
        s | d(y, y)
        [s] | map('d') | list
        s | default
        n | default
        w | default
        y | default(s)
        y | default(y, s)
        y | default(s, y)
        s | default(y)
        s | default(1)
        s | default(y, y)
        [s] | map('default') | list
        y | float(s)
        y | indent(y, s)
        y | int(s)
        y | max(s)
        y | max(s, y)
        y | min(s)
        y | min(s, y)
        s | string
        n | string
        w | string
        [s] | map('string') | list
        y | tojson(s)
        y | tojson(y, s)
        y | tojson(s, y)
        y | unique(s)
        y | unique(s, y)
        s is defined
        (s,) is defined
        s is undefined
        (s,) is undefined
        s is none
        (s,) is none
        s is boolean
        (s,) is boolean
        s is false
        (s,) is false
        s is true
        (s,) is true
        s is integer
        (s,) is integer
        s is float
        (s,) is float
        s is string
        (s,) is string
        s is mapping
        (s,) is mapping
        s is number
        (s,) is number
        s is sequence
        (s,) is sequence
        s is iterable
        (s,) is iterable
        s is callable
        (s,) is callable
        s is escaped
        (s,) is escaped
        y.format(s)
        y.format(y, s)
        y.format(s, y)
        y.format((s, s))
        s and y
        y and s
        s or y
        y or s
        cycler(s).next()"#]]
    .assert_eq(&free.join("\n"));
    assert!(counted > 300, "{counted} of {}", expressions.len());
}
