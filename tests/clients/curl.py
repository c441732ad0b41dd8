"""curl against /v1: the very bytes of answers and streams, which every other client parses."""

import json
import subprocess

from checks import MODEL, URL, check, run

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}


def curl(path, body=None, *options):
    """Status, headers in lower case, and the body's bytes."""
    command = ["curl", "-sS", "-N", "-i", "--max-time", "120", URL + path, *options]
    if body is not None:
        command += ["-H", "Content-Type: application/json", "-d", body if isinstance(body, str) else json.dumps(body)]
    out = subprocess.run(command, capture_output=True, check=True).stdout
    head, _, rest = out.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, rest


def frames(body):
    """The data of each event, comments left out; every byte must belong to a frame."""
    assert body.endswith(b"\n\n"), body[-80:]
    pieces = [piece for piece in body.decode().split("\n\n")[:-1] if not piece.startswith(":")]
    assert all(piece.startswith("data: ") and "\n" not in piece for piece in pieces), pieces
    return [piece[6:] for piece in pieces]


@check
def a_stream_of_chat_has_openais_frames():
    status, headers, body = curl("/v1/chat/completions", {**CHAT, "stream": True})
    assert status == 200 and headers["content-type"].startswith("text/event-stream"), headers
    *chunks, done = frames(body)
    chunks = [json.loads(chunk) for chunk in chunks]
    assert done == "[DONE]" and all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [c["choices"][0]["finish_reason"] for c in chunks][-1] == "length"
    assert all("usage" not in chunk or chunk["usage"] is None for chunk in chunks)


@check
def a_stream_of_completions_has_openais_frames():
    status, _, body = curl("/v1/completions", {"model": MODEL, "prompt": "a", "max_tokens": 3, "stream": True})
    *chunks, done = frames(body)
    assert status == 200 and done == "[DONE]"
    assert all(json.loads(chunk)["object"] == "text_completion" for chunk in chunks)


@check
def errors_have_four_keys_and_name_the_field():
    cases = [
        ("{", 400, None),
        ("[]", 400, None),
        (json.dumps({**CHAT, "messages": "x"}), 400, "messages"),
        (json.dumps({**CHAT, "messages": [{"role": "user", "content": 7}]}), 400, "messages"),
        (json.dumps({**CHAT, "max_tokens": -2}), 400, "max_tokens"),
        (json.dumps({**CHAT, "n": 129}), 400, "n"),
        (json.dumps({**CHAT, "top_logprobs": 21, "logprobs": True}), 400, "top_logprobs"),
        (json.dumps({**CHAT, "model": "other"}), 404, "model"),
        (json.dumps({**CHAT, "surprise": 1}), 400, "surprise"),
        ("[" * 5000, 400, None),
    ]
    for body, expected, param in cases:
        status, _, answer = curl("/v1/chat/completions", body)
        error = json.loads(answer)["error"]
        assert status == expected and set(error) == {"message", "type", "param", "code"}, (body[:80], status, error)
        assert param is None or param in (error["param"] or ""), (body[:80], error)


@check
def other_content_types_methods_and_routes_are_refused():
    assert curl("/v1/chat/completions", json.dumps(CHAT), "-H", "Content-Type: text/plain")[0] in (200, 415)
    assert curl("/v1/chat/completions")[0] == 405
    assert curl("/v1/nothing")[0] == 404


@check
def tokens_go_there_and_back():
    text = "Straße 你好 👩‍👩‍👧"
    _, _, body = curl("/tokenize", {"content": text})
    tokens = json.loads(body)["tokens"]
    _, _, body = curl("/detokenize", {"tokens": tokens})
    answer = json.loads(body)
    assert text in (answer.get("content"), answer.get("prompt")), answer
    _, _, body = curl("/tokenize", {"messages": CHAT["messages"]})
    answer = json.loads(body)
    assert answer["count"] == len(answer["tokens"]) > 0


@check
def the_job_api_has_its_frames_and_returns_the_correlation_id():
    job = {"job_id": "curl", "prompt": "The sea is", "max_tokens": 3, "temperature": 0}
    status, headers, body = curl("/execute", job, "-H", "X-Correlation-Id: abc-1")
    names = [frame.split("\n")[0] for frame in body.decode().split("\n\n") if frame]
    assert status == 200 and names[0] == "event: started" and names[-1] == "event: end", names
    assert set(names[1:-1]) == {"event: token"}
    assert headers.get("x-correlation-id") == "abc-1", headers


if __name__ == "__main__":
    run()
