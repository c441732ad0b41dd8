//! Do templates mean here what they mean to Jinja 2 with Python's values?

use expect_test::{Expect, expect};
use serde_json::json;
use tokenizer::{ChatInput, ChatTemplate};

#[expect(clippy::needless_pass_by_value, reason = "expect! makes a value")]
fn render(source: &str, expected: Expect) {
    let tool = json!({ "maximum": u64::MAX, "minimum": i64::MIN, "x": 1e16, "items": [1] });
    let extra = [("tool".to_owned(), tool)];
    let input = ChatInput { extra: &extra, now: Some(0), ..ChatInput::default() };
    let result = ChatTemplate::new(source, "<s>", "</s>").and_then(|template| template.render(&input));
    expected.assert_eq(&result.unwrap_or_else(|error| error.to_string()));
}

#[test]
fn whole_numbers_are_exact() {
    render(
        "{{ tool.maximum }} {{ tool.minimum }} {{ tool.x }} {{ tool | tojson }}",
        expect![[
            r#"18446744073709551615 -9223372036854775808 1e+16 {"maximum": 18446744073709551615, "minimum": -9223372036854775808, "x": 1e+16, "items": [1]}"#
        ]],
    );
    render(
        "{{ tool.maximum + 1 }} {{ tool.maximum * 9 }} {{ tool.minimum // -1 }} {{ -7 // 2 }}",
        expect!["18446744073709551616 166020696663385964535 9223372036854775808 -4"],
    );
    render(
        "{{ 170141183460469231731687303715884105727 + 1 }}",
        expect!["chat template: line 1: a number does not fit 128 bits"],
    );
    render("{{ 10 ** 39 }}", expect!["chat template: line 1: a number does not fit 128 bits"]);
    render("{{ 1e300 | int }}", expect!["chat template: line 1: a number does not fit 128 bits"]);
    render(
        "{{ tool.maximum == 18446744073709551616.0 }} {{ tool.maximum < 18446744073709551616.0 }}",
        expect!["False True"],
    );
    render(
        "{{ 9007199254740993 == 9007199254740992.0 }} {{ 9007199254740993 in [9007199254740992.0] }}",
        expect!["False False"],
    );
}

/// Compared as floats these numbers have no consistent order.
#[test]
fn sorting_compares_exactly_and_never_panics() {
    render(
        "{{ [9007199254740993, 9007199254740992.0, 9007199254740992, 9007199254740994.0, 9007199254740991] | sort }}",
        expect![
            "[9007199254740991, 9007199254740992.0, 9007199254740992, 9007199254740993, 9007199254740994.0]"
        ],
    );
    render(
        "{% set ns = namespace(l=[]) %}{% for i in range(300) %}{% set ns.l = ns.l + [i * 7919 % 300, 'x' if i == 250 else 0.5] %}{% endfor %}{{ ns.l | sort }}",
        expect!["chat template: line 1: cannot order str and int"],
    );
    render(
        "{{ ['nan' | float, 1, 2] | sort }}",
        expect!["chat template: line 1: values that are not a number have no order"],
    );
    render("{{ [1, 2, 1.0, true] | sort(reverse=true) }}", expect!["[2, 1, 1.0, True]"]);
}

#[test]
fn filters_tests_and_methods_are_jinjas() {
    render(
        "{{ 2.1|round(0,'ceil') }} {{ 5|round }} {{ 2.675|round(2) }} {{ 1234.5|round(-2) }}",
        expect!["3.0 5 2.67 1200.0"],
    );
    render("{{ '0x1f'|int(0,16) }} {{ '42.9'|int }} {{ 'x'|float(1.5) }}", expect!["31 42 1.5"]);
    render(
        "{{ ['a','B']|max }} {{ ['b','B','a']|unique|list }} {{ ['b','A']|sort }}",
        expect!["B ['b', 'a'] ['A', 'b']"],
    );
    render("{{ '123' is upper }} {{ 'A1' is upper }} {{ 3.0 is odd }}", expect!["False True True"]);
    render(
        "{{ \"a\\x0bb\".splitlines() }} {{ '½²5'.isdigit() }} {{ '²5'.isdigit() }}",
        expect!["['a', 'b'] False True"],
    );
    render(
        "{{ {'b': 1} | tojson(4) }} {{ 'it\\'s o\\'clock-now' | title }}",
        expect![[r#"{"b": 1} It's O'clock-Now"#]],
    );
    render("{{ tool.items is defined }} {{ tool['items'] }}", expect!["True [1]"]);
    render("{{ tool.items }}", expect!["chat template: line 1: method cannot be written here"]);
}

/// What Jinja computes only when it is wanted is always true, has no length and is seen once.
#[test]
fn iterators_are_iterators() {
    render("{{ 'yes' if [] | map('upper') else 'no' }}", expect!["yes"]);
    render("{% set x = 'ab' | map('upper') %}{{ x | list }}{{ x | list }}", expect!["['A', 'B'][]"]);
    render(
        "{{ [1, 2] | map('string') | length }}",
        expect!["chat template: line 1: an iterator has no length"],
    );
    render("{{ [1, 2] | select }}", expect!["chat template: line 1: an iterator cannot be written here"]);
    render(
        "{{ {'a': 1}.items() }} {{ {'a': 1}.keys() }} {{ range(1, 7)[::2] }}",
        expect!["dict_items([('a', 1)]) dict_keys(['a']) range(1, 7, 2)"],
    );
}

#[test]
fn statements_and_functions_that_published_templates_use() {
    render(
        "{{ {1: 'a', 'k': 2, none: 3}[1.0] }} {{ {1: 'a'} }} {{ {1: 'a', true: 'b'} | tojson }}",
        expect![[r#"a {1: 'a'} {"1": "b"}"#]],
    );
    render(
        "{% macro m(x) %}<{{ x }}{{ caller(x + 1) }}>{% endmacro %}{% for i in [1, 2] %}{% call(y) m(i * 10) %}{{ y }}/{{ loop.index }}{% endcall %}{% endfor %}",
        expect!["<1011/1><2021/2>"],
    );
    render(
        "{% for x in [{'n': 1, 'c': [{'n': 2}, {'n': 3, 'c': [{'n': 4}]}]}] recursive %}{{ x.n }}{{ loop.depth }}{{ loop.index }}{% if x.c %}({{ loop(x.c) }}){% endif %} {% endfor %}",
        expect!["111(221 322(431 ) ) "],
    );
    render(
        "{% for k, v in [{'a': 'x', 'b': 1}, {'a': 'Y', 'b': 2}, {'a': 'X', 'b': 3}] | groupby('a') %}{{ k }}{{ v | map(attribute='b') | list }}{% endfor %}",
        expect!["x[1, 3]Y[2]"],
    );
    render(
        "{{ range(7) | batch(3, 0) | list }} {{ range(7) | slice(3) | list }}",
        expect!["[[0, 1, 2], [3, 4, 5], [6, 0, 0]] [[0, 1, 2], [3, 4], [5, 6]]"],
    );
    render(
        "{{ 'foo bar baz qux' | truncate(9) }} {{ 'a b-c' | wordcount }} {{ 'ab' | center(5) }}|",
        expect!["foo... 3   ab |"],
    );
    render(
        "{{ '%05.1f|%-4s|%x|%(a)s' | format(3.14159, 'a', 255) }}",
        expect!["chat template: line 1: %: names need a map"],
    );
    render(
        "{{ '%05.1f|%-4s|%x|%%' % (3.14159, 'a', 255) }} {{ '%(a)s' % {'a': 1} }}",
        expect!["003.1|a   |ff|% 1"],
    );
    render("{{ '100 %% %s' % 'a' }}", expect!["100 % a"]);
    render("{{ '%+%' % {} }}", expect!["chat template: line 1: %% is not supported"]);
    render("{{ '{:0=9}{:*=9,}'.format(-7, 1234) }}", expect!["-00000007****1,234"]);
    render(
        "{{ '{:0=9,}'.format(1234) }}",
        expect!["chat template: line 1: format: zeros before this are not supported"],
    );
    render("{{ '-7'.zfill(4) }} {{ 'a'.ljust(3, '.') }} {{ 'a'.rjust(3) }}", expect!["-007 a..   a"]);
    render(
        "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}{% set j = joiner() %}{{ j() }}x{{ j() }}y",
        expect!["abaax, y"],
    );
    render("{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, a=2) }}", expect!["(1,){'a': 2}"]);
    render(
        "{% macro m() %}{% endmacro %}{{ m(1) }}",
        expect!["chat template: line 1: macro m takes at most 0 arguments"],
    );
    render(
        "{% macro m(a) %}{% endmacro %}{{ m(b=1) }}",
        expect![[r#"chat template: line 1: macro m has no argument "b""#]],
    );
}

/// Jinja keeps the line end after `{% raw %}`, and blanks before `{% endraw %}` unless a line of them ends there.
#[test]
fn raw_text_keeps_what_jinja_keeps() {
    render(
        "a {% raw %}\n{{ x }} \\ \"q\" {% if %}\n  {% endraw %}\nb",
        expect!["a \n{{ x }} \\ \"q\" {% if %}\nb"],
    );
    render("a{% raw %} {% endraw -%}\n b", expect!["a b"]);
    render("a\n  {%- raw -%}\n b {%- endraw %}\n\n{% raw %}{% endraw %}c", expect!["ab\nc"]);
    render("{% if true %}x{% raw %}\n<s>{%+ endraw +%}\n{% endif %}", expect!["x\n<s>\n"]);
}

/// Scopes of Jinja: blocks that are captured and macros have their own, and a macro sees the variables around it.
#[test]
fn scopes() {
    render("{% set x %}{% set y = 1 %}a{% endset %}{{ x }}{{ y }}", expect!["a"]);
    render("{% generation %}{% set y = 1 %}{{ y }}{% endgeneration %}{{ y }}", expect!["1"]);
    render(
        "{% for i in [1, 2] %}{% macro m() %}{{ i }}{{ z }}{% endmacro %}{% set z = i * 2 %}{{ m() }}{% endfor %}",
        expect!["1224"],
    );
    render("{% for i in [1] %}{% for j in [1] %}{{ loop.depth }}{% endfor %}{% endfor %}", expect!["1"]);
    render(
        "{% autoescape true %}{{ '<' }}{% endautoescape %}",
        expect!["chat template: line 1: autoescape is not supported"],
    );
    render(
        "{{ ('<b>' | safe) + '<i>' }} {{ '<' | e }} {{ ('<' | e) + '<' }}",
        expect!["<b>&lt;i&gt; &lt; &lt;&lt;"],
    );
}
