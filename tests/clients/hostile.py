"""Do clients that mean harm leave a stream, a probe and the memory alone?

A server of its own with two keys and a port for probes. One key and whoever has none attack, all at once, for --seconds (20): idle sockets by the thousand, heads and
bodies that do not end, bodies of 4 MiB that cost the most (one word, numbers, messages), and, where --schemas and
--running ask for them, schemas that no cache knows and requests for 128 answers. The other key's streams and the probes are measured alone and meanwhile. The attackers
run in a process of the lowest priority: on a real network they have machines of their own.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import random
import resource
import socket
import statistics
import tempfile
import threading
import time
from urllib.parse import urlsplit

from checks import check, run
from server import Server

KEYS = {"attacker": "the-key-of-an-attacker", "other": "the-key-of-the-other"}
LARGEST = 4 << 20


def request(path, body, key=None, length=None):
    """The bytes of a request."""
    given = f"X-Api-Key: {KEYS[key]}\r\n" if key else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{given}Content-Type: application/json\r\nConnection: close\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body


def chat(text):
    return json.dumps({"messages": [{"role": "user", "content": text}], "max_tokens": 1}).encode()


def large_bodies():
    room = LARGEST - 200
    message = b'{"role":"user","content":"a"},{"role":"assistant","content":"b"},'
    numbers = b'{"max_tokens":1,"prompt":[' + b"0," * (room // 2) + b"0]}"
    return [
        request("/v1/chat/completions", chat("x" * room), "attacker"),
        request("/v1/chat/completions", chat("many words of a text " * (room // 21)), "attacker"),
        request("/v1/completions", numbers, "attacker"),
        request("/v1/chat/completions", b'{"max_tokens":1,"messages":[' + message * (room // len(message)) + message[:-1] + b"]}", "attacker"),
    ]


def schemas():
    """Requests with a schema that no cache knows, for ever."""
    for i in itertools.count(random.randrange(1 << 40)):
        words = {"enum": [f"{i}-{k}" for k in range(2000)]}
        text = {"type": "string", "pattern": f"^(a|b{i}|[a-z]{{1,40}}x){{1,40}}$"}
        many = {f"p{i}_{k}": {"type": "integer", "minimum": k, "maximum": i + 12345 * k} for k in range(100)}
        for schema in (words, text, {"type": "object", "properties": many, "required": list(many)}, {"type": "array", "items": words, "maxItems": 1000}):
            form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
            body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1, "response_format": form}
            yield request("/v1/chat/completions", json.dumps(body).encode(), "attacker")


def answers():
    """Requests for as many answers as there may be."""
    body = {"prompt": "Once upon a time", "max_tokens": 64, "n": 128, "ignore_eos": True}
    return itertools.repeat(request("/v1/completions", json.dumps(body).encode(), "attacker"))


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


def hold(address, data, n, until):
    """Keeps so many connections that say this and no more."""
    held = []
    while time.time() < until:
        for s in held[:]:
            try:
                if not s.recv(4096):
                    raise OSError
            except BlockingIOError:
                continue
            except OSError:
                s.close()
                held.remove(s)
        for _ in range(min(100, n - len(held))):
            try:
                s = socket.create_connection(address, timeout=5)
                s.sendall(data)
                s.setblocking(False)
                held.append(s)
            except OSError:
                pass
        time.sleep(0.05)


def attack(address, until):
    os.nice(19)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    unfinished = request("/v1/completions", b'{"prompt":"' + b"a" * 65536, "attacker", LARGEST - 1)
    calls = [(send, itertools.repeat(data)) for data in large_bodies() for _ in range(4)]
    calls += [(send, schemas()) for _ in range(ARGS.schemas)] + [(send, answers()) for _ in range(ARGS.running)]
    calls += [(hold, data, n) for data, n in ((b"", 1500), (b"GET / HTTP/1.1\r\nX-A", 500), (unfinished, 50))]
    threads = [threading.Thread(target=f, args=(address, *more, until)) for f, *more in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def stream(address, n_token):
    """Seconds between the tokens of an answer, and until the first."""
    body = {"prompt": "Once upon a time", "max_tokens": n_token, "stream": True, "ignore_eos": True, "temperature": 0}
    began, last, gaps, first = time.monotonic(), None, [], None
    with socket.create_connection(address, timeout=120) as s:
        s.sendall(request("/v1/completions", json.dumps(body).encode(), "other"))
        answer = b""
        while data := s.recv(65536):
            answer += data
            now = time.monotonic()
            for _ in range(data.count(b'"text":"')):
                if last is None:
                    first = now - began
                else:
                    gaps.append(now - last)
                last = now
    assert answer.startswith(b"HTTP/1.1 200 ") and b"[DONE]" in answer, answer[:20] + answer[-400:]
    return first, gaps


def probe(address):
    began = time.monotonic()
    with socket.create_connection(address, timeout=60) as s:
        s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP/1.1 200 ")
    return time.monotonic() - began


def percentile(values, share):
    values = sorted(values)
    return 1000 * values[min(len(values) - 1, int(len(values) * share))]


class Watch(threading.Thread):
    """Asks for the health, on both ports, and for the memory."""

    def __init__(self, server, addresses):
        super().__init__(daemon=True)
        self.server, self.addresses, self.is_over = server, addresses, False
        self.times, self.rss = [[] for _ in addresses], []

    def run(self):
        while not self.is_over:
            for address, times in zip(self.addresses, self.times):
                try:
                    times.append(probe(address))
                except OSError:
                    times.append(60.0)
            self.rss.append(self.server.rss())
            time.sleep(0.05)


@check
def attackers_leave_a_stream_a_probe_and_the_memory_alone():
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
        keys.write("".join(f"{name}:{key}\n" for name, key in KEYS.items()))
        keys.flush()
        with Server("--api-key-file", keys.name, "--health-port", "0") as server:
            return measured(server)


def measured(server):
    url = urlsplit(server.url)
    address = (url.hostname, url.port)
    line = next(line for line in server.log if "probes are answered on" in line)
    health = urlsplit(line[line.index("http://"):].strip())
    addresses = [address, (health.hostname, health.port)]
    idle = server.rss()
    alone = [gap for _ in range(3) for gap in stream(address, 80)[1]]
    watch = Watch(server, addresses)
    until = time.time() + ARGS.seconds
    attackers = multiprocessing.Process(target=attack, args=(address, until))
    attackers.start()
    time.sleep(1)
    watch.start()
    firsts, meanwhile = [], []
    while time.time() < until:
        first, gaps = stream(address, 80)
        firsts.append(first)
        meanwhile += gaps
    watch.is_over = True
    watch.join()
    attackers.join(60)
    attackers.kill()
    time.sleep(10)
    after, peak = server.rss(), max(watch.rss)
    figures = (
        f"between tokens p99 alone {percentile(alone, 0.99):.0f} ms, meanwhile {percentile(meanwhile, 0.99):.0f}, median "
        f"{1000 * statistics.median(alone):.0f} and {1000 * statistics.median(meanwhile):.0f}; first token at most {max(firsts):.1f} s; "
        + "; ".join(
            f"/health p99 {percentile(times, 0.99):.0f} ms, at most {1000 * max(times):.0f} of {len(times)}" for times in watch.times
        )
        + f"; memory {idle:.0f}, at most {peak:.0f}, ten seconds after {after:.0f} MiB"
    )
    warnings = sum("could not be accepted" in line for line in server.log)
    assert peak < idle + 1024 and after < idle + 128, figures
    assert all(percentile(times, 0.99) < 1000 * ARGS.health_p99 for times in watch.times), figures
    assert percentile(meanwhile, 0.99) < ARGS.slower * percentile(alone, 0.99), figures
    assert warnings <= 1 + ARGS.seconds / 10, f"{warnings} warnings"
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--health-p99", type=float, default=0.5, help="seconds; bounds for machines that do nothing else are 0.05")
    parser.add_argument("--schemas", type=int, default=0, help="clients that send schemas, each a new one")
    parser.add_argument("--running", type=int, default=0, help="requests for 128 answers at a time")
    parser.add_argument("--slower", type=float, default=3, help="times; 1.5 on machines that do nothing else")
    ARGS = parser.parse_args()
    run()
