"""Is every event whole characters, when the model's tokens are bytes of them and the answer is cut inside one?

A grammar makes the model write a given text, whose characters SmolLM2 has mostly as single bytes. Cut after each number of tokens, the answer must be
a prefix of the text in whole characters, the same streamed and not.
"""

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from checks import MODEL, URL, check, run
from server import call

TEXTS = {"Chinese": "你好，世界。龘", "emoji with joiners": "👩‍👩‍👧‍👦🏳️‍🌈👍🏽", "Arabic": "مرحبا بالعالم", "mixed": "a龘b👩‍🚀cÜ"}


def body(text, max_tokens, **fields):
    return {
        "model": MODEL, "messages": [{"role": "user", "content": f"Repeat: {text}"}], "max_tokens": max_tokens,
        "temperature": 0, "grammar": "start: " + json.dumps(text, ensure_ascii=False), **fields,
    }


def post(path, fields):
    request = urllib.request.Request(URL + path, json.dumps(fields).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        return response.read()


def streamed(path, fields):
    """Each event's JSON; each must be valid UTF-8 by itself."""
    frames = [frame for frame in post(path, {**fields, "stream": True}).split(b"\n\n") if frame.startswith(b"data: {")]
    return [json.loads(frame[6:].decode("utf-8", errors="strict")) for frame in frames]


def lone_surrogates(text):
    return any(0xD800 <= ord(c) < 0xE000 for c in text)


def cut(text, max_tokens):
    """Answers cut after so many tokens, streamed and not."""
    content = json.loads(post("/v1/chat/completions", body(text, max_tokens)))["choices"][0]["message"]["content"] or ""
    chunks = streamed("/v1/chat/completions", body(text, max_tokens))
    pieces = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"]]
    assert "".join(pieces) == content, (max_tokens, pieces, content)
    # What is left of a character that was cut may be shown as a replacement, at the very end.
    kept = content.rstrip("\ufffd")
    assert text.startswith(kept) and len(content) - len(kept) <= 1, (max_tokens, content)
    assert not any(lone_surrogates(piece) for piece in pieces)
    return len(kept)


def make(name, text):
    def whole_characters():
        whole = json.loads(post("/v1/chat/completions", body(text, 200)))
        choice, n_token = whole["choices"][0], whole["usage"]["completion_tokens"]
        assert choice["message"]["content"] == text and choice["finish_reason"] == "stop", whole
        with ThreadPoolExecutor(8) as pool:
            lengths = list(pool.map(lambda n: cut(text, n), range(1, n_token + 1)))
        assert lengths == sorted(lengths) and lengths[-1] == len(text), lengths
        return f"{len(text)} characters, {n_token} tokens, cut after each"

    whole_characters.__name__ = f"{name} is whole characters wherever it is cut"
    return whole_characters


for NAME, TEXT in TEXTS.items():
    check(make(NAME, TEXT))


@check
def logprobs_give_the_bytes_of_half_characters():
    choice = json.loads(post("/v1/chat/completions", body("龘👩", 200, logprobs=True)))["choices"][0]
    found = b"".join(bytes(token["bytes"]) for token in choice["logprobs"]["content"])
    assert found.startswith("龘👩".encode()), found


@check
def a_byte_forced_by_its_bias_never_leaves_half():
    tokens = call("POST", URL + "/tokenize", {"content": "龘"})[1]["tokens"]
    assert len(tokens) > 1, "this character should be several tokens"
    fields = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 6, "temperature": 0}
    fields["logit_bias"] = {str(tokens[0]): 100}
    whole = json.loads(post("/v1/chat/completions", fields))["choices"][0]["message"]["content"]
    pieces = [c["choices"][0]["delta"].get("content") or "" for c in streamed("/v1/chat/completions", fields) if c["choices"]]
    assert "".join(pieces) == whole, (pieces, whole)


@check
def job_events_are_whole_characters():
    for seed in range(4):
        job = {"job_id": f"utf8 {seed}", "prompt": "你好世界 👩‍👩‍👧‍👦 مرحبا: 你好世界 👩‍👩‍👧‍👦", "max_tokens": 40, "temperature": 1.5, "seed": seed}
        raw = post("/execute", job)
        frames = raw.split(b"\n\n")
        texts = [json.loads(f.split(b"data: ")[1].decode("utf-8", errors="strict"))["t"] for f in frames if f.startswith(b"event: token")]
        assert texts and not any(lone_surrogates(text) for text in texts)


if __name__ == "__main__":
    run()
