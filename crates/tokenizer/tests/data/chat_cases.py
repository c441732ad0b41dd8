"""Writes chat_cases.json: what Jinja 2, set up as transformers sets it up, makes of each template and conversation.

Run by hand: python chat_cases.py [--transformers] OUT.json TEMPLATE.jinja ... (needs jinja2). Templates are the models' published ones.
With --transformers its own function renders (needs transformers too), and the messages are recorded as it hands them to a template.
"""

import argparse
import datetime
import json
import pathlib

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2025, 3, 9, 14, 5, 6)


def function(name, **properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties)[:1]}
    return {"type": "function", "function": {"name": name, "description": "The weather <now> in a \"city\" & around", "parameters": parameters}}


def call(id, name, arguments):
    return {"type": "function", "id": id, "function": {"name": name, "arguments": arguments}}


def calls(content, *calls):
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def result(id, name, text):
    return {"role": "tool", "content": text, "name": name, "tool_call_id": id}


def conversation(messages, **more):
    return {"messages": messages, "add_generation_prompt": True} | more


WEATHER = function(
    "get_weather",
    city={"type": "string", "description": "Zürich, 東京"},
    days={"type": "integer", "enum": [1, 2], "default": 1},
    unit={"type": ["string", "null"]},
)
EVENT = function(
    "add_event",
    event={
        "type": "object",
        "description": "What",
        "properties": {"at": {"type": "array", "items": {"type": "number"}}, "who": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
        "required": ["at"],
    },
    private={"type": "boolean"},
)
TOOLS = [WEATHER, EVENT]
FIRST, SECOND = "abcdefghi", "abcdefghj"
USER = {"role": "user", "content": "What is the capital of France?"}
OTHER = {"role": "user", "content": "And \"Germany\"'s? é <b>&\n\n"}
ANSWER = {"role": "assistant", "content": "  Paris. "}
SYSTEM = {"role": "system", "content": "Be brief.\n"}
NESTED = {
    "event": {
        "at": [18446744073709551615, -9223372036854775808, 1e21, 1e-7, 0.1, -0.0],
        "who": "Zoë \"Q\" 'x' <é> \u2028 \U0001f600 \\n\n\t",
    },
    "private": True,
    "l": [],
    "m": {},
    "n": None,
}
CONVERSATIONS = {
    "user": conversation([USER]),
    "system": conversation([SYSTEM, USER]),
    "turns": conversation([SYSTEM, USER, ANSWER, OTHER, {"role": "assistant", "content": "Berlin"}, USER]),
    "tools": conversation([SYSTEM, USER], tools=TOOLS),
    "call": conversation(
        [USER, calls("", call(FIRST, "get_weather", {"city": "Bern", "x": 1.0})), result(FIRST, "get_weather", "{\"t\": 21.5}")], tools=TOOLS
    ),
    "parallel": conversation(
        [
            SYSTEM,
            USER,
            calls(
                "Two calls.",
                call(FIRST, "get_weather", {"city": "Bern"}),
                call(SECOND, "add_event", {"event": {"at": [1, 2.5], "who": None}, "private": False}),
            ),
            result(FIRST, "get_weather", "sunny"),
            result(SECOND, "add_event", "done"),
            ANSWER,
            OTHER,
        ],
        tools=TOOLS,
    ),
    "reasoning": conversation(
        [
            USER,
            {"role": "assistant", "reasoning_content": "Think: France.\n", "content": "Paris."},
            OTHER,
            calls("", call(FIRST, "get_weather", {"city": "Berlin"})) | {"reasoning_content": "Call."},
            result(FIRST, "get_weather", "rain"),
        ],
        tools=TOOLS,
        enable_thinking=True,
    ),
    "parts": conversation(
        [
            {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": [{"type": "text", "text": "First "}, {"type": "text", "text": "second é"}]},
        ]
    ),
    "empty": conversation([{"role": "system", "content": ""}, {"role": "user", "content": ""}, {"role": "assistant", "content": ""}, USER]),
    "developer": conversation([{"role": "developer", "content": "Obey."}, USER], tools=TOOLS),
    "continue": conversation([USER, {"role": "assistant", "content": "The capital is"}], add_generation_prompt=False),
    "nested": conversation([USER, calls(None, call(FIRST, "add_event", NESTED)), result(FIRST, "add_event", "[1, {\"a\": \"é\"}]")], tools=TOOLS),
    "no_prompt": conversation([SYSTEM, USER, ANSWER, OTHER], tools=TOOLS, add_generation_prompt=False, enable_thinking=False),
    "extras": conversation(
        [SYSTEM, USER],
        documents=[{"title": "Bridges", "text": "Long é"}, {"doc_id": "2", "title": "Doors", "contents": "x", "text": "y"}],
        date_string="26 Jul 2024",
        enable_thinking=False,
        reasoning_effort="high",
        builtin_tools=["browser", "python"],
        model_identity="You are X.",
    ),
    "text_arguments": conversation(
        [USER, calls("", call(FIRST, "get_weather", "{\"city\": \"Bern\"}")), result(FIRST, "get_weather", "5")], tools=TOOLS
    ),
    "wrong_order": conversation([ANSWER, USER, OTHER]),
    "no_messages": conversation([]),
}


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=lineno)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def by_jinja(template, variables):
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: NOW.strftime(format)
    return env.from_string(template).render(**variables)


def by_transformers(template, variables):
    from transformers.utils import chat_template_utils

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return NOW

    chat_template_utils.datetime = Clock
    variables = dict(variables)
    chats = [variables.pop("messages")]
    return chat_template_utils.render_jinja_template(conversations=chats, chat_template=template, **variables)[0][0]


def render(write, template, conversation):
    variables = {"tools": None, "documents": None, "bos_token": "<BOS>", "eos_token": "<EOS>"} | conversation
    try:
        return write(template, variables)
    except Exception as error:
        # Jinja's own errors are of classes below this one.
        kind = "raised" if type(error) is jinja2.exceptions.TemplateError else "error"
        return {kind: str(error)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--transformers", action="store_true")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("templates", type=pathlib.Path, nargs="+")
    options = parser.parse_args()
    write = by_transformers if options.transformers else by_jinja
    handed = {
        key: conversation | {"messages": json.loads(write("{{ messages | tojson }}", conversation))}
        for key, conversation in CONVERSATIONS.items()
    }
    cases = {"now": int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp()), "conversations": handed, "templates": {}}
    for path in options.templates:
        source = path.read_bytes().decode()
        expected = {key: render(write, source, conversation) for key, conversation in CONVERSATIONS.items()}
        cases["templates"][path.name.removesuffix(".jinja")] = {"source": source, "expected": expected}
    options.out.write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")


main()
