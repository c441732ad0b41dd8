#!/usr/bin/env python3
"""What do a client's many requests cost another's stream, and how long do equal prompts wait that come together?

    python3 benches/fairness.py --worker target/release/worker-orcd --model m.gguf [--before OTHER/worker-orcd]

Two clients with a key each. One reads a stream and the other has --requests (64) answers under way, each with a hard schema or grammar of its own; the
same is measured alone and beside as many answers without a schema. And --prompts (16) prompts of one client come at once: the mean time to their first
tokens. `--before` is another build; both are measured in turn, round by round, so that they see the same machine. Figures are medians over the rounds.
Needs nothing but Python. Whoever sends the many requests has the lowest priority, as on a network it would be another machine.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time

from serving import Run, Server, free_port, percentile

KEYS = {"many": "the-key-of-many", "one": "the-key-of-one"}
KINDS = ("alone", "no schema", "schemas")


def tree(i):
    fields = {"l": {"$ref": "#"}, "r": {"$ref": "#"}, f"n{i}": {"type": "integer"}}
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def hard(i):
    """The i-th format; no two are the same."""
    words = {"enum": [f"{i}-{k}" for k in range(2000)]}
    many = {f"p{i}_{k}": {"type": "integer", "minimum": k, "maximum": i + 12345 * k} for k in range(100)}
    schemas = [
        {"type": "array", "items": words, "maxItems": 1000},
        {"type": "object", "properties": many, "required": list(many)},
        {"type": "string", "pattern": f"^(a|b{i}|[a-z]{{1,40}}x){{1,40}}$"},
        {"type": "array", "items": {"type": "string", "pattern": f"(.*a{i}.{{40}}){{4}}"}},
        tree(i),
    ]
    if i % 6 == 5:
        return {"grammar": f'start: e\ne: e "+" e | e "*" e | "(" e ")" | /[0-9]+/ | "x{i}"'}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schemas[i % 6]}}}


class Keyed(Server):
    """A server with a key for each client."""

    async def open(self, method, path, body, key="one"):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\nX-Api-Key: {KEYS[key]}\r\n"
        writer.write((head + f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n").encode() + data)
        return reader, writer


async def gaps(server, n_token):
    """Milliseconds between a stream's tokens."""
    body = {"prompt": "Once upon a time", "max_tokens": n_token, "temperature": 0, "ignore_eos": True, "stream": True}
    reader, writer = await server.open("POST", "/v1/completions", body)
    last, times = None, []
    async for line in reader:
        if line.startswith(b"data: {"):
            assert b'"error"' not in line, line
            now = time.perf_counter()
            times += [] if last is None else [1000 * (now - last)]
            last = now
    writer.close()
    return times


async def keep_asking(server, first, is_hard, statuses):
    """One answer after the other, each with another format."""
    for i in range(first, 1 << 40, 1000):
        body = {"prompt": "Once upon a time", "max_tokens": 500, "temperature": 1.5, **(hard(i) if is_hard else {"ignore_eos": True})}
        reader, writer = await server.open("POST", "/v1/completions", body, "many")
        status = (await reader.read()).split(b" ", 2)[1:2]
        writer.close()
        statuses[status[0] if status else b"none"] = statuses.get(status[0] if status else b"none", 0) + 1


def flood(port, n, is_hard):
    """A process with so many answers under way."""

    async def ask():
        server = Keyed.__new__(Keyed)
        server.port, statuses = port, {}
        first = random.randrange(1 << 20) * 6
        await asyncio.gather(*(keep_asking(server, first + i, is_hard, statuses) for i in range(n)))

    os.nice(19)
    asyncio.run(ask())


async def beside(server, kind, options):
    """Milliseconds between the tokens of one client's stream for a while, with the other client's requests begun before."""
    child = None
    if kind != "alone":
        child = multiprocessing.Process(target=flood, args=(server.port, options.requests, kind == "schemas"), daemon=True)
        child.start()
        await asyncio.sleep(options.settle)
        running = json.loads((await server.request("GET", "/health"))[1])
        assert running["n_running"] + running["n_waiting"] > 1, running
    until, times = time.monotonic() + options.seconds, []
    while time.monotonic() < until:
        times += await gaps(server, options.tokens)
    if child:
        child.kill()
        child.join()
        while json.loads((await server.request("GET", "/health"))[1])["n_running"]:
            await asyncio.sleep(0.1)
    return times


async def firsts(server, run, options):
    """Mean milliseconds to the first token of prompts that come at once."""
    answers = await asyncio.gather(*(server.complete(run.prompt(options.words), 32) for _ in range(options.prompts)))
    return 1000 * statistics.mean(first for first, _, _ in answers)


def start(options, keys):
    servers = []
    for name, program in (("worker", options.worker), ("before", options.before)):
        if program:
            port = free_port()
            command = [program, "serve", "--device", options.device, "--model", options.model, "--port", str(port), "--ctx", "2048"]
            command += ["--slots", str(options.slots), "--queue", "600", "--api-key-file", keys]
            servers.append(Keyed(name, command + (["--threads", str(options.threads)] if options.threads else []), port))
    return servers


async def measure(options):
    run, results = Run(random.Random(1)), {}
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
        keys.write("".join(f"{name}:{key}\n" for name, key in KEYS.items()))
        keys.flush()
        servers = start(options, keys.name)
        try:
            for server in servers:
                await server.ready()
                await server.complete("warm up", 8)
            for i in range(options.rounds):
                for server in servers if i % 2 == 0 else servers[::-1]:
                    for kind in KINDS:
                        times = await beside(server, kind, options)
                        results.setdefault((server.name, kind), []).append([percentile(times, share) for share in (0.5, 0.99)])
                    results.setdefault((server.name, "first"), []).append(await firsts(server, run, options))
                told = ", ".join(f"{name} {kind}: {values[-1]}" for (name, kind), values in results.items())
                print(f"round {i + 1}, load {os.getloadavg()[0]:.1f}: {told}", flush=True)
        finally:
            for server in servers:
                server.process.kill()
    return [server.name for server in servers], results


def report(names, results, options):
    median = statistics.median
    print(f"\n{'build':<8} {'the other client':<17} {'p50 ms':>8} {'p99 ms':>8} {'p99 to alone':>13} {'to no schema':>13}")
    for name in names:
        for kind in KINDS:
            rows = results[name, kind]
            ratios = [median(row[1] / other[1] for row, other in zip(rows, results[name, base])) for base in KINDS[:2]]
            print(f"{name:<8} {kind:<17} {median(r[0] for r in rows):>8.1f} {median(r[1] for r in rows):>8.1f} {ratios[0]:>13.2f} {ratios[1]:>13.2f}")
    for name in names:
        rows = results[name, "first"]
        ratio = median(row / other for row, other in zip(rows, results[names[-1], "first"]))
        print(f"{name}: mean time to first token of {options.prompts} prompts: {median(rows):.0f} ms, {ratio:.2f} of {names[-1]}'s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker", required=True)
    parser.add_argument("--before", help="another build to compare with")
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--words", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--settle", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    report(*asyncio.run(measure(options)), options)
