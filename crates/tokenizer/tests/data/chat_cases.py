"""Writes chat_cases.json: what Jinja 2, set up as transformers sets it up, makes of each template and conversation.

Run by hand: python chat_cases.py OUT.json TEMPLATE.jinja ... (needs jinja2). Templates are the models' published ones.
"""

import datetime
import json
import pathlib
import sys

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2025, 3, 9, 14, 5, 6)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather <now> in a \"city\" & around",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Zürich, 東京"},
                "days": {"type": "integer", "enum": [1, 2], "default": 1},
                "unit": {"type": ["string", "null"]},
            },
            "required": ["city"],
        },
    },
}
CALL = {"type": "function", "id": "abcdefghi", "function": {"name": "get_weather", "arguments": {"city": "Bern", "x": 1.0}}}
USER = {"role": "user", "content": "What is the capital of France?"}
ANSWER = {"role": "assistant", "content": "  Paris. "}
SYSTEM = {"role": "system", "content": "Be brief.\n"}
CONVERSATIONS = {
    "one": {"messages": [USER], "add_generation_prompt": True},
    "no_prompt": {"messages": [USER], "add_generation_prompt": False},
    "system": {"messages": [SYSTEM, USER], "add_generation_prompt": True},
    "turns": {"messages": [SYSTEM, USER, ANSWER, {"role": "user", "content": "And \"Germany\"'s? é\n\n"}], "add_generation_prompt": True},
    "tools": {"messages": [SYSTEM, USER], "tools": [WEATHER], "add_generation_prompt": True},
    "call": {
        "messages": [USER, {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "{\"t\": 21.5}", "name": "get_weather", "tool_call_id": "abcdefghi"}],
        "tools": [WEATHER],
        "add_generation_prompt": True,
    },
    "wrong_order": {"messages": [ANSWER, USER, USER], "add_generation_prompt": True},
    "empty": {"messages": [], "add_generation_prompt": True},
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


def render(template, conversation):
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: NOW.strftime(format)
    variables = {"tools": None, "documents": None, "bos_token": "<BOS>", "eos_token": "<EOS>"} | conversation
    try:
        return env.from_string(template).render(**variables)
    except jinja2.exceptions.TemplateError as error:
        return {"error": str(error)}
    except (TypeError, RecursionError) as error:
        return {"error": str(error)}


def main():
    cases = {"now": int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp()), "conversations": CONVERSATIONS, "templates": {}}
    for name in sys.argv[2:]:
        path = pathlib.Path(name)
        source = path.read_bytes().decode()
        expected = {key: render(source, conversation) for key, conversation in CONVERSATIONS.items()}
        cases["templates"][path.stem] = {"source": source, "expected": expected}
    pathlib.Path(sys.argv[1]).write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")


main()
