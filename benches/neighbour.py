#!/usr/bin/env python3
"""What does a busy neighbour cost? Our server's token times and llama.cpp's, alone and beside processes that only compute.

    python3 benches/neighbour.py --worker target/release/worker-orcd --model m.gguf [--peer COMMAND] [--busy 0,1,2,3]

COMMAND starts llama.cpp's server on the port that replaces {port}, with the model {model} and {threads} threads: `llama-server -m {model} -t {threads}
--port {port} -c 2048`, or one made with a binding of it. `--busy` says how many busy processes there are a core. A machine that shares its cores
fairly leaves a program with as many threads as cores 1/(1 + N) of them, so a token should take 1 + N times as long: the ratio to that is what the
program loses by itself, in waiting for threads that are not running.

Each round measures all pairs of server and number of neighbours one after the other, in turn, within a minute or so: where other programs load the machine
too, figures of one round can be compared, and ratios are taken within a round. Needs nothing but Python.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import shlex
import statistics
import sys

from serving import Server, free_port

PROMPT = "Once there was a tree by the river, and every day a child"


def spin():
    while True:
        pass


@contextlib.contextmanager
def neighbours(n):
    processes = [multiprocessing.Process(target=spin, daemon=True) for _ in range(n)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def start(options):
    t, port = str(options.threads), free_port()
    ours = [options.worker, "serve", "--device", "cpu", "--threads", t, "--model", options.model, "--port", str(port), "--ctx", "2048"]
    servers = [Server("worker-orcd", ours, port)]
    if options.peer:
        port = free_port()
        values = {"model": options.model, "threads": t, "port": str(port)}
        servers.append(Server("llama.cpp", [part.format(**values) for part in shlex.split(options.peer)], port))
    return servers


async def token_time(server, n_token):
    """Milliseconds between tokens of one stream."""
    first, last, count = await server.complete(PROMPT, n_token)
    return 1000 * (last - first) / (count - 1)


async def measure(options):
    busy = [int(n) for n in options.busy.split(",")]
    servers = start(options)
    rounds = []
    try:
        for server in servers:
            await server.ready()
            await token_time(server, 8)
        for i in range(options.rounds):
            times, order = {}, servers if i % 2 == 0 else servers[::-1]
            for n in busy:
                with neighbours(n * options.cores):
                    for server in order:
                        times[server.name, n] = await token_time(server, options.tokens)
            rounds.append(times)
            told = ", ".join(f"{name} with {n}: {time:.1f}" for (name, n), time in times.items())
            print(f"round {i + 1}, ms a token: {told}", file=sys.stderr, flush=True)
    finally:
        for server in servers:
            server.process.kill()
    return [server.name for server in servers], busy, rounds


def report(names, busy, rounds, options):
    load = " ".join(f"{n:.1f}" for n in os.getloadavg())
    print(f"{options.model}, {options.threads} threads on {options.cores} cores, {options.tokens} tokens, {options.rounds} rounds; load averages at the end {load}\n")
    print(f"{'server':<12} {'busy a core':>11} {'ms a token':>11} {'to alone':>9} {'of fair':>8} {'to peer':>8}")
    for n in busy:
        for name in names:
            median = statistics.median(times[name, n] for times in rounds)
            alone = statistics.median(times[name, n] / times[name, busy[0]] for times in rounds)
            fair = alone * (1 + busy[0]) / (1 + n)
            peer = statistics.median(times[name, n] / times[names[-1], n] for times in rounds)
            print(f"{name:<12} {n:>11} {median:>11.2f} {alone:>9.2f} {fair:>8.2f} {peer:>8.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--peer", help="a command that starts llama.cpp's server, with {model}, {threads} and {port}")
    parser.add_argument("--busy", default="0,1,2,3", help="busy processes a core")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    report(*asyncio.run(measure(options)), options)


if __name__ == "__main__":
    main()
