#!/usr/bin/env python3
"""How fast is the server beside llama-server, and what does HTTP cost?

    python3 benches/serving.py --worker target/release/worker-orcd --model m.gguf [--peer PATH/llama-server] [--before PATH/worker-orcd]
        [--device cuda:0]

Needs nothing but Python. All servers get the same model, threads, slots, prompts and number of tokens, through /v1/completions, greedily, with the end
token ignored; no two prompts begin alike, so no cache helps. They run in turn, round by round, so that all see the same machine; figures are medians over
the rounds. Times are in milliseconds, rates in tokens a second over all clients, from the first request until the last token. --before names another
build of this server.
"""

import argparse
import asyncio
import json
import random
import socket
import statistics
import subprocess
import time

WORDS = "time year people way day man thing woman life child world school state family student group country problem hand part".split()


class Server:
    def __init__(self, name, command, port):
        self.name, self.port = name, port
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    async def ready(self):
        for _ in range(1200):
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} ended with {self.process.returncode}")
            try:
                if (await self.request("GET", "/health"))[0] == 200:
                    return
            except OSError:
                pass
            await asyncio.sleep(0.1)
        raise SystemExit(f"{self.name} is not ready after two minutes")

    async def open(self, method, path, body):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        return reader, writer

    async def request(self, method, path, body=None):
        reader, writer = await self.open(method, path, body)
        raw = await reader.read()
        writer.close()
        return int(raw.split(b" ", 2)[1]), raw.partition(b"\r\n\r\n")[2]

    async def complete(self, prompt, n_token):
        """When the first and the last text came, since the request; and how many tokens the server counted."""
        body = {"prompt": prompt, "max_tokens": n_token, "temperature": 0, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
        began = time.perf_counter()
        reader, writer = await self.open("POST", "/v1/completions", body)
        first = last = count = None
        async for line in reader:
            if line.startswith(b"HTTP/") and b" 200 " not in line:
                raise SystemExit(f"{self.name}: {line!r} {await reader.read()!r}")
            if not line.startswith(b"data: {"):
                continue
            now = time.perf_counter() - began
            chunk = json.loads(line[6:])
            if "error" in chunk:
                raise SystemExit(f"{self.name}: {chunk}")
            if chunk.get("usage"):
                count = chunk["usage"]["completion_tokens"]
            if chunk["choices"] and chunk["choices"][0].get("text"):
                first, last = first or now, now
        writer.close()
        return first, last, count


class Run:
    """One way of asking: how many clients, prompts of how many words, how many tokens."""

    def __init__(self, rng):
        self.rng, self.results = rng, {}

    def prompt(self, n_word):
        return " ".join(self.rng.choice(WORDS) for _ in range(n_word))

    async def load(self, server, n_client, options):
        prompts = [self.prompt(options.words) for _ in range(n_client)]
        stop, health = asyncio.Event(), []
        poller = asyncio.create_task(poll(server, stop, health))
        began = time.perf_counter()
        answers = await asyncio.gather(*(server.complete(prompt, options.tokens) for prompt in prompts))
        seconds = time.perf_counter() - began
        stop.set()
        await poller
        n_token = sum(count for _, _, count in answers)
        assert n_token == n_client * options.tokens, (server.name, n_token)
        between = [1000 * (last - first) / (count - 1) for first, last, count in answers]
        result = self.results.setdefault((server.name, n_client), {"first": [], "rate": [], "between": [], "health": []})
        result["first"].append(1000 * statistics.median(first for first, _, _ in answers))
        result["rate"].append(n_token / seconds)
        result["between"].append(statistics.median(between))
        result["health"] += health

    async def prefix(self, server, options):
        """The time to the first token of a long prompt, and of a second one that begins the same."""
        shared = self.prompt(options.prefix_words)
        # llama-server keeps a sequence's cache in its slot, ours keeps pages: both find what a finished request left.
        cold, _, _ = await server.complete(shared + " " + self.prompt(8), 4)
        warm, _, _ = await server.complete(shared + " " + self.prompt(8), 4)
        result = self.results.setdefault((server.name, "prefix"), {"cold": [], "warm": []})
        result["cold"].append(1000 * cold)
        result["warm"].append(1000 * warm)


async def poll(server, stop, times):
    while not stop.is_set():
        began = time.perf_counter()
        status, _ = await server.request("GET", "/health")
        assert status == 200
        times.append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(0.02)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(options, n_slot):
    t = str(options.threads)
    servers = []
    for name, worker in (("worker-orcd", options.worker), ("before", options.before)):
        if worker:
            port = free_port()
            ours = [worker, "serve", "--device", options.device, "--threads", t, "--model", options.model, "--port", str(port)]
            servers.append(Server(name, ours + ["--slots", str(n_slot), "--ctx", str(options.ctx)], port))
    if options.peer:
        port = free_port()
        peer = [options.peer, "--model", options.model, "--port", str(port), "-t", t, "-tb", t, "--parallel", str(n_slot)]
        peer += ["-ngl", "0" if options.device == "cpu" else "99"]
        servers.append(Server("llama-server", peer + ["-c", str(options.ctx * n_slot), "--threads-http", "8"], port))
    return servers


async def http(options, run):
    """Milliseconds a token with and without HTTP, for one sequence: as a stream, and by `worker-orcd bench`. The model gets one thread less than
    the others, so that whoever reads the stream does not take the model's time."""
    threads, port = str(max(1, options.threads - 1)), free_port()
    command = [options.worker, "serve", "--device", options.device, "--threads", threads, "--model", options.model, "--port", str(port)]
    server, streamed, engine = Server("worker-orcd", [*command, "--ctx", str(options.ctx)], port), [], []
    try:
        await server.ready()
        for _ in range(options.rounds):
            first, last, count = await server.complete(run.prompt(options.words), 2 * options.tokens)
            streamed.append(1000 * (last - first) / (count - 1))
            engine.append(bench(options, threads))
    finally:
        server.process.kill()
    return statistics.median(streamed), statistics.median(engine)


def bench(options, threads):
    """Milliseconds a token without HTTP."""
    command = [options.worker, "bench", "--json", "--device", options.device, "--threads", threads, "--model", options.model]
    command += ["-p", "0", "-n", str(2 * options.tokens), "--depth", str(options.words), "--reps", "3"]
    tests = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["tests"]
    return next(1000 / test["tokens_per_second"]["median"] for test in tests if test["kind"] == "decode")


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def measure(options):
    counts = [int(n) for n in options.clients.split(",")]
    run = Run(random.Random(1))
    costs = await http(options, run)
    servers = start(options, max(counts))
    try:
        for server in servers:
            await server.ready()
            await server.complete("warm up", 8)
        for i in range(options.rounds):
            order = servers if i % 2 == 0 else servers[::-1]
            for n_client in counts:
                for server in order:
                    await run.load(server, n_client, options)
            for server in order:
                await run.prefix(server, options)
    finally:
        for server in servers:
            server.process.kill()
    return run.results, costs, counts, [server.name for server in servers]


def report(results, costs, counts, names, options):
    median = statistics.median
    print(f"{options.model}, {options.device}, {options.threads} threads, prompts of {options.words} words, {options.tokens} tokens, {options.rounds} rounds\n")
    print(f"{'server':<14} {'clients':>7} {'first ms':>9} {'tokens/s':>9} {'ms between':>10} {'health p50':>10} {'p99 ms':>8}")
    for n_client in counts:
        for name in names:
            r = results[name, n_client]
            print(
                f"{name:<14} {n_client:>7} {median(r['first']):>9.1f} {median(r['rate']):>9.1f} {median(r['between']):>10.2f} "
                f"{median(r['health']):>10.2f} {percentile(r['health'], 0.99):>8.2f}"
            )
    for name in names:
        r = results[name, "prefix"]
        print(f"{name}: a prompt of {options.prefix_words} words: first {median(r['cold']):.0f} ms, again {median(r['warm']):.1f} ms, "
              f"{median(c / w for c, w in zip(r['cold'], r['warm'])):.1f} times sooner")
    streamed, engine = costs
    print(f"worker-orcd: {engine:.3f} ms a token by bench, {streamed:.3f} ms as a stream: HTTP is {1000 * (streamed - engine):.0f} us a token")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--peer", help="llama-server")
    parser.add_argument("--before", help="another build to compare with")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clients", default="1,4,16")
    parser.add_argument("--words", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prefix-words", type=int, default=2000)
    parser.add_argument("--ctx", type=int, default=2560)
    parser.add_argument("--rounds", type=int, default=5)
    OPTIONS = parser.parse_args()
    report(*asyncio.run(measure(OPTIONS)), OPTIONS)
