"""The routes of the soak: what is sent to each, and what its stream's events mean.

Of an event a route says the text in it and whether the stream ends there: `end` well, `error` not, and `done` for OpenAI's mark after either.
"""

import json

from checks import MODEL

TEXTS = ("end",), ("error",)
MARKED = ("end", "done"), ("error", "done")


def ask(prompt):
    return [{"role": "user", "content": prompt}]


class Route:
    """`ends` are how a stream may end: well, or not."""

    def __init__(self, path, body, read, ends):
        self.path, self.body, self.read, self.ends = path, body, read, ends


def execute(event, data):
    return (data["t"] if event == "token" else ""), (event if event in ("end", "error") else None)


def openai(text):
    def read(_, data):
        if data == "[DONE]":
            return "", "done"
        if "error" in data:
            return "", "error"
        choice = data["choices"][0]
        return text(choice) or "", ("end" if choice["finish_reason"] else None)

    return read


def responses(event, data):
    ends = {"response.completed": "end", "response.incomplete": "end", "response.failed": "error", "error": "error"}
    return (data["delta"] if event == "response.output_text.delta" else ""), ends.get(event)


def messages(event, data):
    text = data["delta"].get("text", "") if event == "content_block_delta" else ""
    return text, {"message_stop": "end", "error": "error"}.get(event)


def completion(_, data):
    if "error" in data:
        return "", "error"
    return data["content"], ("end" if data["stop"] else None)


ROUTES = {
    "execute": Route(
        "/execute", lambda name, prompt, i, n: {"job_id": name, "prompt": prompt, "max_tokens": n, "temperature": 0.8, "seed": i}, execute, TEXTS
    ),
    "chat": Route(
        "/v1/chat/completions",
        lambda _, prompt, i, n: {"model": MODEL, "messages": ask(prompt), "max_tokens": n, "temperature": 0.8, "seed": i, "stream": True},
        openai(lambda choice: choice["delta"].get("content")), MARKED,
    ),
    "completions": Route(
        "/v1/completions",
        lambda _, prompt, i, n: {"model": MODEL, "prompt": prompt, "max_tokens": n, "temperature": 0.8, "seed": i, "stream": True},
        openai(lambda choice: choice["text"]), MARKED,
    ),
    "responses": Route(
        "/v1/responses",
        lambda _, prompt, i, n: {"model": MODEL, "input": prompt, "max_output_tokens": n, "temperature": 0, "stream": True}, responses, TEXTS,
    ),
    "messages": Route(
        "/v1/messages",
        lambda _, prompt, i, n: {"model": MODEL, "messages": ask(prompt), "max_tokens": n, "temperature": 0, "stream": True}, messages, TEXTS,
    ),
    "completion": Route(
        "/completion", lambda _, prompt, i, n: {"prompt": prompt, "n_predict": n, "temperature": 0.8, "seed": i, "stream": True}, completion, TEXTS
    ),
}


async def events(response):
    """Each event's name and data, as they come."""
    name = None
    async for line in response.content:
        line = line.decode()
        if line.startswith("event: "):
            name = line[7:].strip()
        elif line.startswith("data: "):
            data = line[6:].strip()
            yield name, (data if data == "[DONE]" else json.loads(data))
            name = None
