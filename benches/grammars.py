#!/usr/bin/env python3
"""What does a grammar cost? Tokens a second with each of a folder's GBNF grammars and without, and llama.cpp's server beside ours.

    python3 benches/grammars.py --worker target/release/worker-orcd --model m.gguf --grammars llama.cpp/grammars [--peer COMMAND]

COMMAND starts llama.cpp's server on the port that replaces {port}, with the model {model} and {threads} threads. Both are asked through /completion, at
temperature 1 with the same seeds, for answers of --tokens at most; a grammar may end one sooner. The time of a token is what the server says of itself,
after the first token, so that compiling a grammar and the prompt do not count; the time until the first is in a column of its own. Round by round, and
with and without in turn. Needs nothing but Python.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import time
import urllib.request
from pathlib import Path

from serving import free_port


class Server:
    def __init__(self, name, command, port):
        self.name, self.url = name, f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(1200):
            if self.process.poll() is not None:
                raise SystemExit(f"{name} ended with {self.process.returncode}")
            try:
                urllib.request.urlopen(self.url + "/health", timeout=5)
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"{name} is not ready after two minutes")

    def complete(self, grammar, seed, n_token):
        """Seconds until the first token, milliseconds between the others, how many, and the text."""
        body = {"prompt": "An example:\n", "n_predict": n_token, "temperature": 1.0, "seed": seed, "stream": True, "cache_prompt": False}
        body |= {"grammar": grammar} if grammar else {}
        request = urllib.request.Request(self.url + "/completion", json.dumps(body).encode(), {"Content-Type": "application/json"})
        began, times, text = time.perf_counter(), [], ""
        with urllib.request.urlopen(request, timeout=300) as response:
            for line in response:
                if line.startswith(b"data: {"):
                    data = json.loads(line[6:])
                    assert "error" not in data, data
                    text += data["content"]
                    if not data["stop"]:
                        times.append(time.perf_counter() - began)
                    else:
                        n = data["tokens_predicted"]
        between = 1000 * (times[-1] - times[0]) / (n - 1) if n > 16 and len(times) > 1 else None
        return times[0] if times else time.perf_counter() - began, between, n, text


def start(options):
    port = free_port()
    command = [options.worker, "serve", "--device", "cpu", "--model", options.model, "--port", str(port), "--threads", str(options.threads), "--ctx", "2048"]
    servers = [Server("worker-orcd", command, port)]
    if options.peer:
        port = free_port()
        values = {"model": options.model, "threads": str(options.threads), "port": str(port)}
        servers.append(Server("llama.cpp", [part.format(**values) for part in shlex.split(options.peer)], port))
    return servers


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--grammars", required=True, type=Path, help="a folder of .gbnf files")
    parser.add_argument("--peer", help="a command that starts llama.cpp's server, with {model}, {threads} and {port}")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    grammars = {path.stem: path.read_text() for path in sorted(options.grammars.glob("*.gbnf"))}
    servers, results = start(options), {}
    try:
        for server in servers:
            server.complete(None, 0, 8)
        for seed in range(1, options.rounds + 1):
            for name, grammar in grammars.items():
                for server in servers if seed % 2 else servers[::-1]:
                    _, bare, _, _ = server.complete(None, seed, options.tokens)
                    first, between, n, _ = server.complete(grammar, seed, options.tokens)
                    row = results.setdefault((server.name, name), {"first": [], "ms": [], "ratio": [], "n": []})
                    row["first"].append(1000 * first)
                    row["n"].append(n)
                    if between and bare:
                        row["ms"].append(between)
                        row["ratio"].append(between / bare)
            print(f"round {seed}, load {os.getloadavg()[0]:.1f}", flush=True)
    finally:
        for server in servers:
            server.process.kill()
    print(f"\n{'grammar':<12} {'server':<12} {'tokens':>7} {'first ms':>9} {'once known':>11} {'ms a token':>11} {'to none':>8}")
    for name in grammars:
        for server in servers:
            row = results[server.name, name]
            median = lambda key: f"{statistics.median(row[key]):.2f}" if row[key] else "-"
            known = statistics.median(row["first"][1:] or row["first"])
            print(f"{name:<12} {server.name:<12} {sum(row['n']):>7} {row['first'][0]:>9.0f} {known:>11.0f} {median('ms'):>11} {median('ratio'):>8}")


if __name__ == "__main__":
    main()
