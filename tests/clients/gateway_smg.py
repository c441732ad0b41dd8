"""SMG (Shepherd Model Gateway) before three workers, both started as deploy/gateway/ does: answers, caches, receipts, and what happens when a worker dies,
drains or is full."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from checks import check, run
from fleet import DEPLOY, FLAGS, MODEL, SLOTS, Answer, Later, Process, Workers, chat, environment, free_ports, wait_for
from server import call

CHAT = "/v1/chat/completions"
WORKER = "x-smg-routed-worker-id"
# A start of some 250 tokens for each of three conversations.
STARTS = [f"Subject {i}. " + "alpha beta gamma delta " * 60 for i in range(3)]
workers = gateway = None


def smg(workers, *flags):
    """A gateway before these workers, ready."""
    port = free_ports(2)
    env = environment(
        N_WORKER=str(workers.n), FIRST_PORT=str(workers.first_port), PORT=str(port), METRICS_PORT=str(port + 1),
        SMG=str(Path(sys.executable).parent / "smg"),
    )
    process = Process([str(DEPLOY / "gateway.sh"), *flags], env)
    process.url = f"http://127.0.0.1:{port}"
    wait_for("the gateway knows all workers", 60, lambda: n_healthy(process.url) == workers.n)
    return process


def n_healthy(url):
    status, ready = call("GET", url + "/readiness")
    return ready["healthy_workers"] if status == 200 else 0


def post(path, body, status=200):
    answer = Answer(gateway + path, body)
    assert answer.status == status, (answer.status, answer.text[-300:])
    return answer


def streams_everywhere(n_token):
    """Streams of so many tokens that are under way on all workers. The gateway chooses where each goes, so more are sent until all have one."""
    later = []

    def are_everywhere():
        if all(workers.count("vllm:num_requests_running")):
            return True
        if len(later) < 30:
            body = chat(f"{time.monotonic()} {len(later)}: tell me.", max_tokens=n_token, ignore_eos=True, stream=True)
            later.append(Later(gateway + CHAT, body))
        return False

    wait_for("each worker has a stream", 60, are_everywhere)
    return later


def is_whole(answer):
    events = answer.events()
    if answer.status != 200 or events[-1] != "[DONE]":
        return False
    last = json.loads(events[-2])
    return "error" not in last and last["choices"][0]["finish_reason"] == "length"


@check
def answers_are_the_workers_own():
    direct = Answer(workers.urls[0] + CHAT, chat("Say hi")).json()
    assert post(CHAT, chat("Say hi")).json()["choices"] == direct["choices"]
    events = post(CHAT, chat("Say hi", stream=True)).events()
    assert events[-1] == "[DONE]"
    text = "".join(choice["delta"].get("content") or "" for event in events[:-1] for choice in json.loads(event)["choices"])
    assert text == direct["choices"][0]["message"]["content"], text
    assert post("/v1/completions", {"model": MODEL, "prompt": "The sky is", "max_tokens": 3}).json()["choices"][0]["text"]
    assert post("/v1/responses", {"model": MODEL, "input": "Say hi", "max_output_tokens": 3}).json()["output"]
    message = {"model": MODEL, "messages": [{"role": "user", "content": "Say hi"}], "max_tokens": 3}
    assert post("/v1/messages", message).json()["stop_reason"] == "max_tokens"
    assert post(CHAT, {**chat("Say hi"), "model": "other"}, 404).json()["error"]["code"] == "model_not_found"


@check
def a_conversation_stays_where_its_start_is_cached():
    hits, queries = workers.count("vllm:prefix_cache_hits_total"), workers.count("vllm:prefix_cache_queries_total")
    places = []
    for turn in range(4):
        places.append([post(CHAT, chat(start + f"Question {turn}", max_tokens=1)).headers[WORKER] for start in STARTS])
    assert all(place == places[0] for place in places), places
    hits = sum(workers.count("vllm:prefix_cache_hits_total")) - sum(hits)
    queries = sum(workers.count("vllm:prefix_cache_queries_total")) - sum(queries)
    # Three turns of four begin with what is there, but for their last page and their question.
    assert hits > 0.6 * queries, (hits, queries)
    return f"{hits:.0f} of {queries:.0f} prompt tokens from the caches"


@check
def a_receipt_taken_through_it_verifies():
    for body in (chat("Say hi", receipt=True, temperature=0.9), chat("Say hi", receipt=True, stream=True)):
        answer = post(CHAT, body)
        last = json.loads(answer.events()[-2]) if body.get("stream") else answer.json()
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(last["choices"][0]["receipt"], file)
            file.flush()
            command = [os.environ["CLIENTS_WORKER"], "verify", file.name, os.environ["CLIENTS_MODEL"], "--device", "cpu"]
            done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0 and done.stdout.startswith("equal: 4 tokens"), (done.returncode, done.stdout, done.stderr[-300:])


@check
def a_correlation_id_and_a_trace_reach_the_worker():
    answer = Answer(gateway + CHAT, chat("Say hi"), {"X-Correlation-Id": "order-7"})
    assert answer.headers["x-correlation-id"] == "order-7", dict(answer.headers)


@check
def a_killed_worker_ends_its_own_stream_with_an_error_and_no_other():
    later = streams_everywhere(100)
    # What has no event yet is tried again elsewhere, and whole.
    time.sleep(1)
    os.kill(workers.pid(0), signal.SIGKILL)
    # Others are tried for what comes now.
    places = [post(CHAT, chat(f"Short {i}", max_tokens=1)).headers[WORKER] for i in range(6)]
    assert workers.urls[0] not in places, places
    n_cut = 0
    for answer in (request.get() for request in later):
        # One that was over before is whole there too.
        if answer.headers[WORKER] == workers.urls[0] and not is_whole(answer):
            events = answer.events()
            assert answer.status == 200 and events[-1] == "[DONE]" and "error" in json.loads(events[-2]), answer.text[-300:]
            n_cut += 1
        else:
            assert is_whole(answer), answer.text[-300:]
    wait_for("the gateway misses the worker", 20, lambda: n_healthy(gateway) == 2)
    return f"{n_cut} of {len(later)} streams were cut"


@check
def a_worker_that_comes_back_is_used_again():
    port = workers.urls[0].rsplit(":", 1)[1]
    command = [os.environ["CLIENTS_WORKER"], "serve", "--model", os.environ["CLIENTS_MODEL"], *FLAGS, *SLOTS, "--port", port]
    workers.again = Process(command)
    wait_for("the gateway has the worker again", 60, lambda: n_healthy(gateway) == 3)
    wait_for(
        "the worker is asked", 60,
        lambda: len({Answer(gateway + CHAT, chat(f"{i} {time.monotonic()}", max_tokens=1)).headers[WORKER] for i in range(6)}) == 3,
    )


@check
def a_draining_worker_loses_no_request():
    later = streams_everywhere(80)
    os.kill(workers.pid(1), signal.SIGTERM)
    more = [Later(gateway + CHAT, chat(f"More {i}", max_tokens=2)) for i in range(12)]
    lost = [request.get().text[-200:] for request in later if not is_whole(request.get())]
    lost += [request.get().text[-200:] for request in more if request.get().status != 200]
    assert not lost, lost
    assert all(request.get().headers[WORKER] != workers.urls[1] for request in more)
    wait_for("the gateway misses the worker", 20, lambda: n_healthy(gateway) == 2)
    # It may be missed as soon as it drains, and a worker takes a moment from its last answer to its end.
    wait_for("the worker is gone", 10, lambda: call("GET", workers.urls[1] + "/health")[0] == 0)


@check
def a_full_worker_s_429_is_passed_on():
    with Workers(1, ["--slots", "1", "--queue", "1"]) as small, smg(small) as full:
        long = chat("Tell me.", max_tokens=200, ignore_eos=True)
        later = [Later(full.url + CHAT, long) for _ in range(6)]
        answers = [request.get() for request in later]
        refused = [answer for answer in answers if answer.status != 200]
        assert refused and len(refused) < 6, [answer.status for answer in answers]
        for answer in refused:
            assert answer.status == 429 and answer.json()["error"]["code"] == "busy" and answer.headers["retry-after"], answer.text
    return f"{len(refused)} of 6"


if __name__ == "__main__":
    with Workers(3) as workers, smg(workers) as process:
        gateway = process.url
        try:
            run()
        finally:
            if hasattr(workers, "again"):
                workers.again.__exit__()
