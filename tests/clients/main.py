"""Do the clients that people have work with the server? Starts one server, runs each client's program against it, and prints a table.

    main.py --worker PROGRAM --model GGUF --installed FOLDER [--soak-seconds S] [--at-once N] [--proof FOLDER] [NAME ...]

N programs run at once, but for those that measure time or memory. The programs print a line a check (checks.py). A program with a check that failed
runs a second time, alone, and that counts: machines are shared, and checks wait and measure. The table says who needed it. FOLDER holds `python/`,
`litellm/`, `typed/`, `agents/`, `gateways/` (environments: litellm, instructor and smolagents want an older `openai`) and `node_modules/`, and
where they are asked for `litellm-proxy/` and `lm-eval/`.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
# One at a time, so that lines of programs that run at once stay whole.
OUTPUT = threading.Lock()
# Name, environment, program, and its server: the one that most share, its OWN, or its own while nothing else runs (ALONE: it measures time
# or memory).
SHARED, OWN, ALONE = range(3)
CLIENTS = [
    ("curl", "python", "curl.py", SHARED),
    ("openai-python", "python", "openai_python.py", SHARED),
    ("anthropic-python", "python", "anthropic_python.py", SHARED),
    ("openai-node", "node", "openai_node.mjs", SHARED),
    ("anthropic-node", "node", "anthropic_node.mjs", SHARED),
    ("ai-sdk", "node", "ai_sdk.mjs", SHARED),
    ("langchain", "python", "langchain_client.py", SHARED),
    ("litellm", "litellm", "litellm_client.py", SHARED),
    ("llm", "python", "llm_client.py", SHARED),
    ("typed", "typed", "typed_clients.py", SHARED),
    ("agents", "agents", "agents_client.py", SHARED),
    ("dspy", "litellm", "dspy_client.py", SHARED),
    ("utf8", "python", "utf8.py", SHARED),
    ("openapi", "litellm", "document.py", OWN),
    ("faults", "python", "faults.py", ALONE),
    ("speculation", "python", "speculation.py", OWN),
    ("soak", "python", "soak.py", ALONE),
    ("hostile", "python", "hostile.py", ALONE),
    ("vllm-router", "gateways", "router_vllm.py", OWN),
    ("smg", "gateways", "gateway_smg.py", ALONE),
    ("kv-events", "gateways", "kv_events.py", ALONE),
    ("traces", "gateways", "traces.py", ALONE),
]
# Those that install half a gigabyte and take minutes run where they are named.
NAMED = [
    ("litellm-proxy", "litellm-proxy", "litellm_proxy.py", ALONE),
    ("lm-eval", "lm-eval", "lm_eval_client.py", ALONE),
]


def command(environment, program, options):
    if environment == "node":
        return ["node", str(HERE / program)]
    return [str(Path(options.installed) / environment / "bin" / "python"), str(HERE / program)]


def run_client(client, env, options, proof):
    """How many checks passed and failed, and the seconds that it took; each check is shown as it ends."""
    began = time.monotonic()
    name, environment, program, _ = client
    arguments = ["--seconds", str(options.soak_seconds)] if name in ("soak", "hostile") else []
    child = subprocess.Popen(
        command(environment, program, options) + arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    n_ok, n_failed, other = 0, 0, []
    for line in child.stdout:
        if line.startswith(("ok ", "FAILED ")):
            n_ok += line.startswith("ok ")
            n_failed += line.startswith("FAILED ")
            with OUTPUT:
                print(f"{name}: {line}", end="", flush=True)
                if proof:
                    proof.check(name, line)
        else:
            other.append(line)
    code = child.wait()
    with OUTPUT:
        if code != 0 and n_failed == 0 or n_ok + n_failed == 0:
            n_failed += 1
            print(f"{name}: FAILED it ended with {code}:\n{''.join(other[-40:])}")
        elif n_failed:
            print("".join(other[-300:]), end="")
    seconds = round(time.monotonic() - began, 1)
    if proof:
        proof.timings[name] = seconds
    return n_ok, n_failed, seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--installed", required=True)
    parser.add_argument("--soak-seconds", type=float, default=20)
    parser.add_argument("--at-once", type=int, default=3, help="programs that run at once (3)")
    parser.add_argument("--proof", help="a new folder for what is kept of this run (proof.py)")
    parser.add_argument("names", nargs="*", help=", ".join(client[0] for client in CLIENTS + NAMED))
    options = parser.parse_args()
    unknown = set(options.names) - {client[0] for client in CLIENTS + NAMED}
    if unknown:
        parser.error(f"no such client: {', '.join(sorted(unknown))}")
    clients = [client for client in CLIENTS + NAMED if client[0] in options.names] if options.names else CLIENTS
    env = {
        **os.environ,
        "CLIENTS_WORKER": options.worker, "CLIENTS_MODEL": options.model, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1",
        "CLIENTS_NODE_MODULES": str(Path(options.installed) / "node_modules"),
        # No client may ask anybody but the server, nor through a proxy.
        "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false",
        "OPENAI_API_KEY": "none",
    }
    os.environ.update(env)
    # The server takes its program and model from the environment.
    from proof import Proof
    from server import Server

    proof = Proof(options.proof, options, options.names) if options.proof else None
    # Those after which the server was gone: whatever a second time would give, that is a fault.
    results, fatal = {}, []

    def run_beside(client, server):
        """Runs a client while others run, on the server that it shares with them or its own."""
        if client[3] == OWN:
            results[client[0]] = run_client(client, env, options, proof)
        elif server.process.poll() is None:
            results[client[0]] = run_client(client, {**env, "CLIENTS_URL": server.url}, options, proof)
            if server.process.poll() is not None:
                fatal.append(client)
                with OUTPUT:
                    print("the server ended:\n" + "".join(server.log[-40:]))

    # Those that start servers of their own take longest, so they begin.
    beside = sorted((client for client in clients if client[3] != ALONE), key=lambda client: client[3], reverse=True)
    if beside:
        with Server("--queue", "600") as server, ThreadPoolExecutor(options.at_once) as pool:
            list(pool.map(lambda client: run_beside(client, server), beside))
    for client in clients:
        if client[3] == ALONE:
            results[client[0]] = run_client(client, env, options, proof)
    # A proof keeps what the first time gave.
    again = [] if proof else [client for client in clients if results.get(client[0], (0, 0))[1] and client not in fatal]
    for client in again:
        print(f"{client[0]}: a second time", flush=True)
        if client[3] == SHARED:
            with Server("--queue", "600") as server:
                run_beside(client, server)
        else:
            results[client[0]] = run_client(client, env, options, proof)
    if proof:
        with Server() as server:
            proof.receipt(server.url)
        proof.end()
    n_ok = sum(ok for ok, _, _ in results.values())
    n_failed = sum(failed for _, failed, _ in results.values()) + len(clients) - len(results) + len(fatal)
    print(f"\n{'client':<16} {'passed':>6} {'failed':>6} {'seconds':>8}")
    for client in clients:
        ok, failed, seconds = results.get(client[0], ("not", "run", "-"))
        print(f"{client[0]:<16} {ok:>6} {failed:>6} {seconds:>8}{'  the second time' if client in again else ''}")
    print(f"\n{n_ok} passed, {n_failed} failed")
    sys.exit(1 if n_failed else 0)


if __name__ == "__main__":
    main()
