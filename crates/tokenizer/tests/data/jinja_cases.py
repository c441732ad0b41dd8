"""Writes jinja_cases.json: what Jinja 2, set up as transformers sets it up, makes of generated expressions.

Run by hand: python jinja_cases.py OUT.json (needs jinja2 3.1.6; recorded with Python 3.11). The seed is fixed, so the same versions
write the same file. A case is [expression or template, text]; the text is null where Jinja raises an error, or where what it writes
holds an address, which no two runs share.
"""

import json
import random
import re
import sys

from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

SEED = 20_250_309
LONGEST = 300

INTS = "0 1 2 3 5 7 10 42 255 (-1) (-2) (-7) 1000 9007199254740993 9223372036854775807 18446744073709551615 (-9223372036854775808)".split()
SMALL = "0 1 2 3 4 (-1) (-2) 10".split()
FLOATS = "0.0 0.5 1.0 1.5 2.1 2.5 2.675 (-0.5) (-1.5) 3.14159 1e16 1e-5 1e22 123456.789 9007199254740992.0 0.1 100.0".split()
STRINGS = [
    "", "a", "B", "abc", "Hello World", "  pad\t\n", "a,b,,c", "foo bar baz qux", "it's", 'say "hi"', "<b>&'x'</b>", "123", "-42",
    " 7 ", "3.7", "1e3", "0x1f", "1_000", "nan", "½", "²", "ÄÖü", "straße", "日本語", "ΑΣΣ", "ǆ", "a\x0bb\x1cc", "x\r\ny\nz", "line\n\n  two\n",
    "tab\there", "%s", "%d %s", "{} {}", "TITLE case-here", "o'neil (jr) [x]", "a_b c-d", "\u00a0nb\u2003", "é\u0301", "😀 ok", "\\", "\x00\x7f\u200b",
    "A1", "aB3", "True", "items", "Ⅷ", "１２", "trailing ", "xxabcxx", "ﬁn", "İ",
]
WORDS = ["", "a", "b", "x", " ", ",", "-", "ab", "o", "\n", "l", "foo", "abc", "😀", "ß"]
LISTS = [
    "[]", "[1]", "[3, 1, 2]", "[1, 2.5, true]", "['b', 'A', 'c', 'a']", "['x', 'X', 'y']", "[[1, 2], [3]]", "[none, 1]", "['a', 1]", "[0, '', none, 5]",
    "[1, 1.0, true, 2]", "[(2, 'b'), (1, 'a')]", "[18446744073709551615, 1.5, 9007199254740993, 9007199254740992.0]", "['10', '9', '1']", "[undefined_name, 1]",
    "[-1, -2.5, 0]", "['é', 'e', 'z', 'É']",
]
RECORDS = [
    "[{'n': 'b', 'v': 2}, {'n': 'A', 'v': 1}, {'n': 'a', 'v': 3}]", "[{'n': 1}, {'n': 2, 'v': none}, {}]", "[{'a': {'b': [1, 2]}}, {'a': {'b': [0, 5]}}]",
    "[{'items': 1}, {'k': 2}]",
]
TUPLES = ["()", "(1,)", "(1, 'a', 2.0)", "(3, 1, 2)"]
DICTS = [
    "{}", "{'a': 1}", "{'b': 2, 'a': 1, 'C': 3}", "{'k': [1, {'z': none}], 'j': 'é<'}", "{1: 'x', 2: 'y'}", "{none: 0, true: 1, 1.5: 2}", "{'items': 5, 'get': 6}",
    "{'x': {'y': 'z'}}", "{(1, 2): 't'}", "{'a': 1.0, 'b': true, 'c': 'text'}",
]
RANGES = ["range(0)", "range(5)", "range(2, 11, 3)", "range(5, 0, -2)"]
OTHERS = ["none", "true", "false", "undefined_name"]
MARKUP = ["('<i>'|safe)", "('a&b'|e)"]
LAZY = ["('ab'|map('upper'))", "([1, 2, 0]|select)", "({'a': 1}|items)", "{'a': 1, 'b': 2}.keys()", "{'a': 1}.values()", "{'b': 1}.items()"]


class Cases:
    def __init__(self):
        self.random = random.Random(SEED)
        self.found = {}

    def of(self, *pools):
        return self.random.choice(self.random.choice(pools))

    def string(self, pool=STRINGS):
        return literal(self.random.choice(pool))

    def any(self):
        kind = self.random.randrange(13)
        if kind < 3:
            return self.string()
        return self.of([INTS, FLOATS, LISTS, RECORDS, TUPLES, DICTS, RANGES, OTHERS, MARKUP, LAZY][kind - 3])

    def value(self, kind):
        """A value of a kind; seldom one of another."""
        if self.random.random() < 0.08:
            return self.any()
        kind = self.random.choice(kind.split("|"))
        return {
            "int": lambda: self.of(INTS),
            "small": lambda: self.of(SMALL),
            "float": lambda: self.of(FLOATS),
            "str": lambda: self.string(),
            "word": lambda: self.string(WORDS),
            "list": lambda: self.of(LISTS),
            "records": lambda: self.of(RECORDS),
            "tuple": lambda: self.of(TUPLES),
            "dict": lambda: self.of(DICTS),
            "range": lambda: self.of(RANGES),
            "bool": lambda: self.random.choice(["true", "false"]),
            "none": lambda: "none",
            "markup": lambda: self.of(MARKUP),
            "lazy": lambda: self.of(LAZY),
            "any": self.any,
        }.get(kind, lambda: literal(kind.removeprefix("=")))()

    def add(self, expression):
        self.found.setdefault(expression)

    def repeat(self, count, make):
        for _ in range(count):
            self.add(make())


def literal(text):
    return '"' + "".join({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(c) or (c if c.isprintable() else f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}") for c in text) + '"'


# Name, kind of the value, kinds of the arguments; a name before "=" makes an argument a named one. "?" may be left out.
FILTERS = """
abs int|float|bool|str
attr dict|str word|=items
batch list|range|str small ?any
capitalize str|any
center str|int ?small
count str|list|dict|range|tuple|lazy
d any ?word|int ?bool
default any ?word boolean=bool
dictsort dict ?bool ?=key|=value ?bool
dictsort dict reverse=bool by==value
e str|any
escape str|markup
filesizeformat int|float|str ?bool
first list|str|range|dict|lazy
float str|int|float|any ?float|int
forceescape str|markup
format str ?any ?any
groupby records =n|=v|=a.b ?any case_sensitive=bool
groupby list ?small
indent str ?small|word ?bool ?bool
int str|float|int|any ?int ?small
int str ?small base=int
items dict|any
join list|range|tuple|dict|lazy ?word
join records =+ attribute==n|=v
last list|str|range|dict|lazy
length str|list|dict|range|lazy
list str|list|dict|range|lazy
lower str|any
map list|str =upper|=string|=int|=length|=abs|=first
map records attribute==n|=v|=a.b.1|=items
map records attribute==v default=any
max list|range|str|tuple ?bool
max records attribute==n|=v
min list|range|str|tuple ?bool
min records attribute==n|=v
pprint any
reject list|range ?=odd|=string|=none|=defined
rejectattr records =n|=v ?=defined|=none|=string
replace str|int word word ?small
reverse list|str|range|dict|tuple|lazy
round float|int|bool ?small ?=common|=ceil|=floor|=other
safe str|any
select list|range ?=odd|=string|=none|=eq ?small
selectattr records =n|=v ?=defined|=none|=eq ?small|word
slice list|range|str small ?any
sort list|tuple|str|dict|range ?bool ?bool
sort records attribute==n|=v|=n,v
string any
striptags str
sum list|range|tuple start=small|float
sum records =v
title str|any
tojson any
tojson dict|list ?bool ?small
tojson dict|str|list indent=small sort_keys=bool ensure_ascii=bool
trim str|markup ?word
truncate str ?small|int ?bool ?word ?small
unique list|str|tuple ?bool
unique records attribute==n
upper str|any
urlencode str|int
urlize str
wordcount str|any
wordwrap str ?small
xmlattr dict
nosuchfilter any
"""

TESTS = """
boolean callable defined divisibleby:int|small eq:any equalto:any escaped even false filter float ge:any gt:any greaterthan:any in:any integer iterable
le:any lessthan:any lower lt:any mapping ne:any none number odd sameas:any sequence string test true undefined upper nosuchtest
"""

METHODS = """
str capitalize
str casefold
str center small|int ?word
str count word ?small ?small
str encode
str endswith word|tuple ?small ?small
str expandtabs ?small
str find word ?small ?small
str format ?any ?any
str index word
str isalnum
str isalpha
str isascii
str isdecimal
str isdigit
str islower
str isnumeric
str isprintable
str isspace
str istitle
str isupper
str isidentifier
word join list|tuple|str|dict
str ljust small|int ?word
str lower
str lstrip ?word
str partition word
str removeprefix word
str removesuffix word
str replace word word ?small
str rfind word ?small ?small
str rindex word
str rjust small|int ?word
str rpartition word
str rsplit ?word|none ?small
str rstrip ?word
str split ?word|none ?small
str splitlines ?bool
str startswith word|tuple ?small ?small
str strip ?word
str swapcase
str title
str upper
str zfill small|int
str nosuch
list count any
list index any
list copy
list append int
list pop
tuple count small
tuple index small
dict get word|any ?any
dict items
dict keys
dict values
dict copy
dict pop word
dict update dict
float is_integer
int bit_length
markup upper
markup strip
markup startswith word
markup replace word word
"""

# What templates have, by hand.
EXPRESSIONS = r"""
1 ~ 2 + 3
"a" ~ 1 * 2
not 1 in [1]
not 1 == 2
-2 ** 2
2 ** 3 ** 2
-"3"|int
-3|abs
(-3)|abs
1 if false else 2 if false else 3
3 is divisibleby 3 and true
3 is not divisibleby 2 or false
"a" "b" 'c'
[1,2,3][-1]
[1,2,3,][0]
(1)
(1,)
{'a':1,}['a']
{'a':1}.a
"abc"[1]
"abc".1
[[1,2],[3]].0.1
1.5.real
x.y.z
1 < 2 < 3 > 2
1 in [1] == true
1 == 1 in [1, true]
"a" in "abc" and "b" not in "abc"
none is none
none is not none
x is defined
x is not defined
x is undefined
loop is defined
self is defined
self.x
self["x"] ~ 1
self.x is defined
self.x.y
self.__class__
self.x()
self[1 // 0]
"a" if self.x else "b"
range is defined
dict is callable
cycler is defined
x.y is defined
(x or {}).y is defined
true == 1
True
None
False ~ none
1e3
1_000
0x1F
0b11
0o17
1.0e-3
"\x41"
'it''s'
[1,2,3]|first|string ~ 'x'
[1,2]|map('string')|join('-')|upper
{'a': {'b': 1}}['a']['b']
{'a': {'b': 1}}.a.b
"%s" % "x"
"%s-%s" % ("x", 1)
"%d%%" % 5
"a" * 3
3 * "a"
[1] * 2
(1,) + (2,)
7 // 2
7 % 3
7 / 2
4 / 2
2 ** -1
2 ** 0.5
1 // 0
1.0 // 0.3
10 % 3.5
"a" < "b"
[1,2] < [1,3]
(1,2) == [1,2]
{'a':1} == {'a':1.0}
"x" if x
(x)
x ~ "a"
[x]
x|length
x|list
x|default("d")|upper
x.y|default("d")
""|default("d", true)
none|default("d")
0|default(5, true)
[none, 1]|select|list
[1,2,3,4]|select("even")|list
[1,2,3,4]|reject("gt", 2)|list
[{'a':1},{'b':2}]|selectattr("a", "defined")|list
[{'a':1},{'a':2}]|selectattr("a", "equalto", 2)|first
[{'a':1},{'a':2}]|map(attribute="a")|sum
"a b"|title
"hello world"|capitalize
"Hello"|lower|replace("l", "L", 1)
"  x "|trim
"a\nb"|indent(2)
"a\nb"|indent(2, true)
"a\n\nb"|indent("->", blank=true)
"abc"|reverse
[1,2,3]|reverse|list
"abc"|list
{'b':1,'a':2}|list
{'b':1,'a':2}|dictsort
{'b':1,'a':2}|items|list
{'b':1,'a':2}.items()|list
{'b':1,'a':2}.keys()|list|sort
{'b':1}.values()|list
{'b':1}|length
"a,b".split(",")
"a,b".split(",")[0]
"a  b".split()
" a b ".strip().split(" ", 1)
"abc".startswith("a")
"abc".startswith(("x", "a"))
"abc".endswith("c")
"abc".find("c")
"abc".upper().lower().title()
"abc".replace("a", "b")
"a{}b".format(1)
"a{x}b".format(x=1)
", ".join(["a", "b"])
"".join([])
"abc".isalpha()
"<think>x</think>y".split("</think>")[-1].lstrip("\n")
"a\\n"
"a" + 1
1 + "a"
[] + ()
none + 1
{'a': 1, **{}}
dict(a=1, b=2)
namespace(a=1).a
range(3)|list
range(1, 4)|join(",")
(range(3))[1]
3 in range(5)
lipsum()
"x" is string
1 is number
1.0 is float
1 is integer
true is integer
true is boolean
[] is sequence
{} is mapping
"a" is iterable
1 is iterable
"abc" is in "abcd"
1 is in [1]
1 is sameas 1
true is sameas true
"a" is eq "a"
2 is odd
2 is even
"A" is upper
1 is lt 2
1 is ge 2
"a"|e
"<a>"|escape
"<a>"|safe
("<a>"|safe) ~ "<b>"
("<a>"|e) + "<b>"
["<"|e]
{'a': "<"|e}|string
3.7|int
"3.7"|int
"x"|int
"x"|int(-1)
none|int
[]|int
"1e3"|float
3|float
3.14159|round(2)
3|round
-2.5|round
2.5|round
3.5|round
2.5|round|int
[3,1,2]|sort
[3,1,2]|sort(reverse=true)
["b","A"]|sort(case_sensitive=true)
[1,1,2]|unique|list
[1,2,3]|max
[]|max
[1,2,3]|sum
["a","b"]|sum
[[1],[2]]|sum(start=[])
"a b c"|wordcount
1234567|filesizeformat
"abc"|center(9)
[1,2,3,4,5]|batch(2)|list
[1,2,3,4,5]|slice(2)|list
"foo bar"|truncate(5)
[{'a':1,'b':2},{'a':1,'b':3}]|groupby("a")|list
([{'a':1,'b':2}]|groupby("a"))[0].grouper
([{'a':1,'b':2}]|groupby("a"))[0].list
{'a':[1,{'b':none}]}|tojson
{'a':[1,{'b':none}]}|string
"é"|string|length
{1:2}[1]
{1:2}["1"]
{1:2}|string
{(1,2):3}|string
{1.5:2,true:3,none:4}|string
{'x':1}.get('y')
{'x':1}.get('y', 0)
{'x':1}.x.y
{'x':1}['y']['z']
{'items':1}.items
{'items':1}['items']
"%.2f" % 3.14159
"%5s|%-5s|" % ("a", "b")
"%03d" % 7
"%x" % 255
"%s" % [1]
"%s" % none
"%r" % "a"
"%s %s" % "a"
"%(a)s" % {'a':1}
"a\tb".expandtabs(4)
"42".zfill(5)
"a".ljust(3) ~ "|"
"{:>5}|{:<5}|{:^5}".format("a","b","c")
"{:,}".format(1234567)
"{:.1f}".format(2.25)
"{:05.1f}".format(2.25)
"{0}{1}{0}".format("a","b")
"{!r}".format("a")
"{a[0]}".format(a=[1])
"{a.b}".format(a={'b':1})
caller
caller()
varargs
x()
"a"()
1.upper()
foo.bar()
[1,2].append(3)
{'a':1}.update({'b':2})
{'a':1}.pop('a')
"a".__class__
[].__len__()
{}.__class__.__mro__
[1,2,3].index(2)
[1,1].count(1)
(1,2).index(3)
"abc"|first
"abc"|last
[]|first
{}|first
[1,2]|join
[1,none]|join(",")
[x, 1]|join(",")
"a"|join("-")
1|join
1|string|length
"abc"[::-1]
"abc"[1:]
"abc"[:-1]
[1,2,3][1:2]
"abc"[5:]
"abc"[5]
[1][5]
{'a':1}[0]
1[0]
none[0]
none.a
true.a
"a".b
[1].a
[1]['a']
"""

TEMPLATES = [
    '{% for a in 1, 2 %}{{ a }}{% endfor %}',
    '{% for a, b in [(1,2)] %}{{ a }}{{ b }}{% endfor %}',
    '{% for (a, b) in [(1,2)] %}{{ a }}{{ b }}{% endfor %}',
    '{% set x = 1, 2 %}{{ x }}',
    '{% set (a, b) = (1, 2) %}{{ a }}',
    '{% set a = 1 %}{% set b %}{{ a }}{% endset %}{{ b }}',
    '{% set b | upper %}x{% endset %}{{ b }}',
    '{% if 1 %}a{% elif 2 %}b{% else %}c{% endif %}',
    '{% raw %}{{ x }}{% endraw %}',
    '{%- raw -%} {{ x }} {%- endraw -%}',
    'x\n{% if 1 %}\n  y\n{% endif %}\nz\n',
    '  {%+ if 1 %}a{% endif %}',
    '{% if 1 +%}\na{% endif %}',
    '{% for x in [1] -%}\n {{ x }}\n{%- endfor %}\n',
    '{% for x in [] %}a{% else %}b{% endfor %}',
    '{% for x in [1,2,3] if x > 1 %}{{ loop.index }}{{ loop.length }}{{ loop.first }}{% endfor %}',
    '{% for x in [1,2,3] %}{% if loop.last %}!{% endif %}{{ loop.nextitem }}{{ loop.previtem }}{% endfor %}',
    '{% for x in [1,2] %}{% set y = x %}{% endfor %}{{ y }}',
    '{% set y = 0 %}{% for x in [1,2] %}{% set y = y + x %}{{ y }}{% endfor %}{{ y }}',
    '{% if true %}{% set y = 5 %}{% endif %}{{ y }}',
    '{% macro m(a, b=2, *c) %}{% endmacro %}',
    '{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(b=3) }}',
    '{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}',
    '{% set x = 1 %}{% macro m() %}{% set x = 2 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}',
    '{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}',
    '{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}',
    '{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}',
    '{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}',
    '{% macro m() %}a{% endmacro %}{% call m() %}b{% endcall %}',
    '{% for x in [1] %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}{{ m is defined }}',
    '{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}',
    '{% with a = 1, b = a %}{{ b }}{% endwith %}',
    '{% filter upper %}a{% set z = 1 %}{% endfilter %}{{ z }}',
    '{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b }}',
    '{% set d = {} %}{% set d.a = 1 %}',
    '{% for k in {"a":1} %}{{ k }}{% endfor %}',
    '{% for k, v in {"a":1}.items() %}{{ k }}{{ v }}{% endfor %}',
    '{% for c in "ab" %}{{ c }}{% endfor %}',
    '{% for x in none %}{% endfor %}',
    '{% for x in undefinedx %}a{% else %}b{% endfor %}',
    '{% for x in 5 %}{% endfor %}',
    '{% do [] %}',
    '{% include "x" %}',
    '{% extends "x" %}',
    '{% block a %}x{% endblock %}',
    '{% import "x" as y %}',
    '{% if x %}{% endif %}{{ x }}',
    '{% set loop = 1 %}',
    '{% set true = 1 %}',
    '{% for loop in [1] %}{{ loop }}{% endfor %}',
    '{% for x in [1,2,3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{{ loop.index }}{% endfor %}',
    '{% for x in [1,2] %}{% for y in [1,2] %}{% if y == 2 %}{% break %}{% endif %}{{ x }}{{ y }}{% endfor %}{% endfor %}',
    '{% for x in [1,2] %}{% set o = loop %}{% for y in [1] %}{{ o.index }}{{ loop.index }}{% endfor %}{% endfor %}',
    '{% set x %}{% endset %}{{ x is string }}{{ x|length }}',
    '{% set a = [1] %}{% set b = a %}{{ a is sameas b }}',
    '{% for x in [[1,[2]],3] recursive %}{{ loop.depth0 }}{% if x is iterable %}{{ loop(x) }}{% endif %}{% endfor %}',
    '{% for g, l in [{"k":2},{"k":1}]|groupby("k") %}{{ g }}:{{ l|length }} {% endfor %}',
    '{% for row in range(5)|batch(2, "-") %}{{ row|join }},{% endfor %}',
    '{% set x = [1,2]|map("string") %}{% if x %}{{ x|join }}{% endif %}{{ x|join }}',
    '{% for x in [1] %}{{ loop.cycle("a","b") }}{{ loop.changed(x) }}{% endfor %}',
    '{% for x in [1,1,2] %}{{ loop.changed(x) }}{% endfor %}',
    "{% set s = 'a\nb' %}{{ s }}",
    "{% set s = 'a\r\nb' %}{{ s|length }}",
    '{% autoescape false %}{{ "<" }}{% endautoescape %}',
    '{% set x = {"a":1}|items %}{{ x|list }}',
    '{% set a = joiner("|") %}{{ a() }}x{{ a() }}',
    '{% if not x is defined %}u{% endif %}',
    '{% if x is defined and x.y %}d{% else %}u{% endif %}',
    '{% for i in range(3) %}{{ i }}{{ "," if not loop.last }}{% endfor %}',
    '{% if messages %}{% endif %}ok',
    '{% set a, b, c = "xyz" %}{{ c }}{{ a }}',
    '{% for i in [3,1]|sort %}{{ i }}{% endfor %}',
    '{% for i in (1,2) %}{{ i }}{% endfor %}',
    '{% if (1, 2) %}a{% endif %}',
    'a\n  {% if 1 %}  \n  b\n  {% endif %}\nc',
    '\t{% if 1 %}\n\tb\n\t{% endif %}',
    '{% if 1 %}{{ 1 }}\n{% endif %}\n{{ 2 }}',
]

PERCENT = "%s %d %5d %-5d| %05d %+d %x %X %o %#x %.2f %8.3f %-8.1f| %e %.3e %g %.3g %G %r %5s| %-5s| %.2s %c %% %i %u %s%s %(a)s %q %5.1f%%".split(" ")
BRACES = "{} {0} {1}{0} {a} {:>5} {:<5}| {:^6}| {:*^7} {:d} {:05d} {:+} {:,} {:.2f} {:10.3f} {:e} {:g} {:x} {:#x} {:b} {:.3} {!r} {!s:>6} {:%} {{}} { }} {:_} {:s} {0:>4}".split(" ")


def arguments(cases, spec):
    given = []
    for part in spec:
        if part.startswith("?"):
            if cases.random.random() < 0.4:
                break
            part = part[1:]
        name, equals, kind = part.partition("=") if not part.startswith("=") else ("", "", part)
        if equals and name and "|" not in name:
            if cases.random.random() < 0.75:
                given.append(f"{name}={cases.value(kind)}")
        else:
            given.append(cases.value(part))
    return given


def generate(cases):
    for source in [*EXPRESSIONS.strip().splitlines(), *TEMPLATES]:
        cases.add(source)
    for line in FILTERS.strip().splitlines():
        name, kind, *spec = line.split()
        for _ in range(22):
            given = arguments(cases, spec)
            call = f"{name}({', '.join(given)})" if given else name
            suffix = "|list" if name in "batch items map reject rejectattr reverse select selectattr slice unique".split() and cases.random.random() < 0.85 else ""
            cases.add(f"{cases.value(kind)}|{call}{suffix}")
    for word in TESTS.split():
        name, _, kind = word.partition(":")
        negated = lambda: "is not" if cases.random.random() < 0.2 else "is"
        if kind:
            cases.repeat(16, lambda: f"{cases.any()} {negated()} {name}({cases.value(kind)})")
        else:
            cases.repeat(16, lambda: f"{cases.any()} {negated()} {name}")
    for line in METHODS.strip().splitlines():
        kind, name, *spec = line.split()
        for _ in range(16 if spec else 11):
            cases.add(f"{cases.value(kind)}.{name}({', '.join(arguments(cases, spec))})")
    numbers = lambda: cases.of(INTS, FLOATS, SMALL, FLOATS, ["true", "false"])
    for operator in "+ - * / // %".split():
        cases.repeat(38, lambda: f"{numbers()} {operator} {numbers()}")
    cases.repeat(40, lambda: f"{cases.of(SMALL, FLOATS)} ** {cases.of(SMALL)}")
    for operator in "+ - * / // % ~ == != < <= > >= in and or".split():
        large = INTS if operator not in "*" else SMALL
        kinds = [lambda: cases.of(large), cases.string, lambda: cases.of(LISTS), lambda: cases.of(TUPLES), lambda: cases.of(DICTS), lambda: cases.of(RANGES), lambda: cases.of(OTHERS), lambda: cases.of(MARKUP), lambda: cases.of(LAZY), lambda: cases.of(FLOATS)]
        same = lambda make: (make(), make())
        cases.repeat(14, lambda: f" {operator} ".join(same(cases.random.choice(kinds))))
        cases.repeat(12, lambda: f"{cases.random.choice(kinds)()} {operator} {cases.random.choice(kinds)()}")
    cases.repeat(30, lambda: f"{numbers()} {cases.random.choice('== != < <= > >='.split())} {numbers()}")
    cases.repeat(20, lambda: f"{numbers()} < {numbers()} <= {numbers()}")
    cases.repeat(20, lambda: f"{cases.any()} not in {cases.value('list|str|dict|range|lazy')}")
    cases.repeat(12, lambda: f"-{cases.any()}")
    cases.repeat(12, lambda: f"not {cases.any()}")
    cases.repeat(12, lambda: f"{cases.any()} if {cases.any()} else {cases.any()}")
    cases.repeat(8, lambda: f"{cases.any()} if {cases.any()}")
    bound = lambda: cases.random.choice(["", *SMALL])
    cases.repeat(70, lambda: f"{cases.value('str|list|tuple|range|markup')}[{bound()}:{bound()}{cases.random.choice(['', ':' + bound()])}]")
    cases.repeat(70, lambda: f"{cases.any()}[{cases.value('small|word|=a|=items|float|bool')}]")
    cases.repeat(50, lambda: f"{cases.any()}.{cases.random.choice('a b items get upper keys append n x real pop foo count'.split())}")
    cases.repeat(30, lambda: f"{cases.any()}.{cases.random.choice('a b items get upper keys n x foo count'.split())} is defined")
    for text in PERCENT:
        cases.repeat(6, lambda: f"{literal('<' + text + '>')} % {cases.value('int|float|str|any|tuple|dict')}")
        cases.repeat(2, lambda: f"{literal('<' + text + '>')}|format({cases.value('int|float|str')})")
    for text in BRACES:
        cases.repeat(7, lambda: f"{literal('<' + text + '>')}.format({cases.value('int|small|float|str|bool|any')}, {cases.value('int|str')})")
        cases.repeat(1, lambda: f"{literal('<' + text + '>')}.format(a={cases.value('int|str')})")
    escapes = r"\n \t \\ \' \" \x41 \u00e9 \U0001F600 \a \b \f \v \r \0 \101 \7 \/ \d \q \x4 \u12".split()
    cases.repeat(40, lambda: "'" + "".join(cases.random.choice(escapes + ["a", " b"]) for _ in range(3)) + "'")
    chains = "upper lower trim title list first last length sort reverse|list unique|list join join('-') string int float tojson capitalize map('string')|list map('upper')|join select|list abs round sum min max e replace('a','b') default('z') items|list".split()
    cases.repeat(260, lambda: "|".join([cases.any(), *(cases.random.choice(chains) for _ in range(cases.random.choice([2, 2, 3])))]))
    for function in ["range", "dict", "namespace", "cycler", "joiner"]:
        cases.repeat(10, lambda: f"{function}({', '.join(cases.value('small|int|dict|list') for _ in range(cases.random.randrange(4)))})")
    cases.repeat(10, lambda: f"dict({cases.value('dict|list|records')}, k={cases.any()})")
    templates(cases)


def templates(cases):
    value = lambda: cases.value("list|str|dict|range|tuple|lazy|records")
    attributes = "index index0 revindex revindex0 first last length depth depth0 previtem nextitem foo cycle('a','b') changed(x)".split()
    cases.repeat(60, lambda: f"{{% for x in {value()} %}}{{{{ loop.{cases.random.choice(attributes)} }}}},{{{{ x }}}};{{% else %}}none{{% endfor %}}")
    cases.repeat(25, lambda: f"{{% for x in {value()} if x {cases.random.choice(['', '!= 1', 'is string', '> 1'])} %}}{{{{ loop.index }}}}{{{{ x }}}}{{% endfor %}}")
    cases.repeat(25, lambda: f"{{% for a, b in {cases.random.choice(['{}|items', '{}.items()', '{}|dictsort']).format(cases.of(DICTS))} %}}{{{{ a }}}}={{{{ b }}}};{{% endfor %}}")
    cases.repeat(25, lambda: f"{{% set x = {value()} %}}{{{{ x|list }}}}{{{{ x|{cases.random.choice(['list', 'first', 'length', 'join', 'sort'])} }}}}{{% if x %}}t{{% endif %}}")
    cases.repeat(15, lambda: f"{{% set x = {cases.of(LAZY)} %}}{{{{ x|first }}}}{{{{ x|list }}}}{{% for y in x %}}{{{{ y }}}}{{% endfor %}}")
    cases.repeat(20, lambda: f"{{% macro m(a, b={cases.any()}) %}}[{{{{ a }}}}|{{{{ b }}}}]{{% endmacro %}}{{{{ m({', '.join(cases.value('small|str') for _ in range(cases.random.randrange(4)))}) }}}}")
    cases.repeat(12, lambda: f"{{% macro m(a) %}}{{{{ a }}}}{{{{ varargs }}}}{{{{ kwargs }}}}{{% endmacro %}}{{{{ m({', '.join(cases.value('small|str') for _ in range(cases.random.randrange(4)))}, k={cases.any()}) }}}}")
    cases.repeat(12, lambda: f"{{% macro m(a) %}}<{{{{ caller(a) }}}}>{{% endmacro %}}{{% set z = {cases.any()} %}}{{% call(y) m({cases.value('small|str')}) %}}{{{{ y }}}}{{{{ z }}}}{{% endcall %}}")
    cases.repeat(12, lambda: f"{{% for x in [{cases.of(LISTS)}, {cases.of(LISTS)}] recursive %}}{{{{ loop.depth }}}}{{% if x is string or x is number or x is none %}}{{{{ x }}}}{{% else %}}({{{{ loop(x) }}}}){{% endif %}}{{% endfor %}}")
    cases.repeat(15, lambda: f"{{% set x = {cases.any()} %}}{{% for i in range(2) %}}{{% set x = i %}}{{{{ x }}}}{{% endfor %}}{{{{ x }}}}")
    cases.repeat(15, lambda: f"{{% set ns = namespace(v={cases.any()}) %}}{{% for i in range(2) %}}{{% set ns.v = ns.v ~ i %}}{{% endfor %}}{{{{ ns.v }}}}{{{{ ns.w is defined }}}}")
    cases.repeat(12, lambda: f"{{% set x %}} {{{{ {cases.any()} }}}} {{% endset %}}{{{{ x|{cases.random.choice(['length', 'trim', 'upper', 'e'])} }}}}")
    block_filters = ["upper", "trim", "e", "replace('a', 'b')", "indent(2)", "length"]
    cases.repeat(12, lambda: f"{{% filter {cases.random.choice(block_filters)} %}} {{{{ {cases.any()} }}}}\n {{% endfilter %}}")
    cases.repeat(10, lambda: f"{{% with x = {cases.any()}, y = {cases.any()} %}}{{{{ x }}}}{{{{ y }}}}{{% endwith %}}{{{{ x }}}}")
    cases.repeat(12, lambda: f"{{% set a, b = {cases.value('list|tuple|str|range|dict')} %}}{{{{ a }}}}{{{{ b }}}}")
    cases.repeat(10, lambda: f"{{% set c = cycler({cases.any()}, 'q') %}}{{{{ c.next() }}}}{{{{ c.current }}}}{{{{ c.next() }}}}{{{{ c.next() }}}}{{{{ c.reset() }}}}{{{{ c.current }}}}")
    cases.repeat(6, lambda: f"{{% set j = joiner({cases.value('word')}) %}}{{% for x in {value()} %}}{{{{ j() }}}}{{{{ x }}}}{{% endfor %}}")
    cases.repeat(12, lambda: f"{{% for x in range(6) %}}{{% if x == {cases.of(SMALL)} %}}{{% {cases.random.choice(['break', 'continue'])} %}}{{% endif %}}{{{{ x }}}}{{% endfor %}}")
    cases.repeat(10, lambda: f"{{% if {cases.any()} %}}a{{% elif {cases.any()} %}}b{{% else %}}c{{% endif %}}")
    ends = ["\n", "\r\n", "  ", "\n  "]
    end = lambda: cases.random.choice(ends)
    tag = lambda: cases.random.choice(["{% if true %}", "{%- if true %}", "{% if true -%}"])
    cases.repeat(30, lambda: f"{{% set q = 1 %}}{end()}a{end()}{tag()}{end()}b{end()}{{{{ q }}}}{end()}{cases.random.choice(['{% endif %}', '{%- endif -%}'])}{end()}{{# c #}}{end()}")


def white_space(cases):
    """Templates of text, tags and raw text, with and without signs for white space."""
    pick = cases.random.choice
    signs = ["", "", "-", "+"]
    texts = ["", " ", "  ", "\n", "\t", "\n\n", "a", "b ", "\r\n", " x", "{ ", "}", "% ", "# ", "'", '"', "-", "\\", "} }"]
    blank = lambda: "".join(pick(texts) for _ in range(cases.random.randrange(4)))
    tag = lambda body: "{%" + pick(signs) + pick([" ", "", "\n"]) + body + pick([" ", "", "\n"]) + pick(signs) + "%}"
    output = lambda: "{{" + pick(signs) + pick(["1", " 'v\n' ", "'}}'", " '%}'"]) + pick([" ", ""]) + pick(["", "-"]) + "}}"
    comment = lambda: "{#" + pick(signs) + pick([" c ", "c\n", "", "{{ x }}", "{% if %}"]) + pick(signs) + "#}"
    raw = lambda: "{%" + pick(signs) + pick([" ", "", "\n"]) + "raw " + pick(["", "-"]) + "%}" + blank() + pick(["", "{{ x }}", "{% if %}", "{#"]) + blank() + tag("endraw")

    def node(depth):
        kind = cases.random.randrange(6 if depth < 2 else 3)
        if kind < 3:
            return [output, comment, raw][kind]()
        first, last = [("if true", "endif"), ("for i in [1, 2]", "endfor"), ("filter upper", "endfilter")][kind - 3]
        return tag(first) + body(depth + 1) + tag(last)

    body = lambda depth: "".join(blank() + node(depth) for _ in range(cases.random.randrange(1, 4))) + blank()
    cases.repeat(160, lambda: "<{% set q = 1 %}" + body(0) + ">")


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def main():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.filters["tojson"] = tojson
    cases = Cases()
    generate(cases)
    white_space(cases)
    lines = []
    for source in cases.found:
        template = source if "{%" in source else "{{ " + source + " }}"
        try:
            text = env.from_string(template).render()
            text.encode()
        except Exception:
            text = None
        if text is not None and re.search(r" at 0x|<p>|<LoopContext|<Macro|<Namespace", text):
            text = None
        if text is None or len(text) <= LONGEST:
            lines.append(json.dumps([source, text], ensure_ascii=False, separators=(",", ":")))
    with open(sys.argv[1], "w", newline="\n") as out:
        out.write("[\n" + ",\n".join(lines) + "\n]\n")


main()
