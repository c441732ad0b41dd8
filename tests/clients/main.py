"""Do the clients that people have work with the server? Starts one server, runs each client's program against it, and prints a table.

    main.py --worker PROGRAM --model GGUF --installed FOLDER [--soak-seconds S] [--proof FOLDER] [NAME ...]

The programs print a line a check (checks.py). FOLDER holds `python/`, `litellm/`, `typed/`, `agents/`, `gateways/` (environments: litellm, instructor and
smolagents want an older `openai`) and `node_modules/`.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Name, environment, program, and whether it starts servers of its own.
CLIENTS = [
    ("curl", "python", "curl.py", False),
    ("openai-python", "python", "openai_python.py", False),
    ("anthropic-python", "python", "anthropic_python.py", False),
    ("openai-node", "node", "openai_node.mjs", False),
    ("anthropic-node", "node", "anthropic_node.mjs", False),
    ("ai-sdk", "node", "ai_sdk.mjs", False),
    ("langchain", "python", "langchain_client.py", False),
    ("litellm", "litellm", "litellm_client.py", False),
    ("llm", "python", "llm_client.py", False),
    ("typed", "typed", "typed_clients.py", False),
    ("agents", "agents", "agents_client.py", False),
    ("dspy", "litellm", "dspy_client.py", False),
    ("utf8", "python", "utf8.py", False),
    ("openapi", "litellm", "document.py", True),
    ("faults", "python", "faults.py", True),
    ("speculation", "python", "speculation.py", True),
    ("soak", "python", "soak.py", True),
    ("hostile", "python", "hostile.py", True),
    ("vllm-router", "gateways", "router_vllm.py", True),
    ("smg", "gateways", "gateway_smg.py", True),
    ("kv-events", "gateways", "kv_events.py", True),
    ("traces", "gateways", "traces.py", True),
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
            print(f"{name}: {line}", end="", flush=True)
            if proof:
                proof.check(name, line)
        else:
            other.append(line)
    code = child.wait()
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
    parser.add_argument("--proof", help="a new folder for what is kept of this run (proof.py)")
    parser.add_argument("names", nargs="*", help=", ".join(client[0] for client in CLIENTS))
    options = parser.parse_args()
    unknown = set(options.names) - {client[0] for client in CLIENTS}
    if unknown:
        parser.error(f"no such client: {', '.join(sorted(unknown))}")
    clients = [client for client in CLIENTS if not options.names or client[0] in options.names]
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
    results = {}
    shared = [client for client in clients if not client[3]]
    if shared:
        with Server("--queue", "600") as server:
            for client in shared:
                results[client[0]] = run_client(client, {**env, "CLIENTS_URL": server.url}, options, proof)
                if server.process.poll() is not None:
                    print("the server ended:\n" + "".join(server.log[-40:]))
                    break
    for client in clients:
        if client[3]:
            results[client[0]] = run_client(client, env, options, proof)
    if proof:
        with Server() as server:
            proof.receipt(server.url)
        proof.end()
    n_ok = sum(ok for ok, _, _ in results.values())
    n_failed = sum(failed for _, failed, _ in results.values()) + len(clients) - len(results)
    print(f"\n{'client':<16} {'passed':>6} {'failed':>6} {'seconds':>8}")
    for client in clients:
        ok, failed, seconds = results.get(client[0], ("not", "run", "-"))
        print(f"{client[0]:<16} {ok:>6} {failed:>6} {seconds:>8}")
    print(f"\n{n_ok} passed, {n_failed} failed")
    sys.exit(1 if n_failed else 0)


if __name__ == "__main__":
    main()
