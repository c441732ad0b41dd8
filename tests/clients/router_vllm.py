"""vllm-router before two workers: every kind of request that the workers answer comes through as it is."""

import json
import sys

from checks import check, run
from fleet import MODEL, Answer, Process, Workers, chat, free_ports, wait_for
from server import call

# Its own launcher imports a web framework that only its debugging balancer needs.
LAUNCH = """
import argparse
from vllm_router.router import Router
from vllm_router.router_args import RouterArgs
parser = argparse.ArgumentParser()
RouterArgs.add_cli_args(parser)
Router.from_args(RouterArgs.from_cli_args(parser.parse_args())).start()
"""
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}}
workers = router = None


def post(path, body, status=200):
    answer = Answer(router + path, body)
    assert answer.status == status, (answer.status, answer.text[-300:])
    return answer


@check
def chats_answer_as_the_worker_itself_does():
    through, direct = post("/v1/chat/completions", chat("Say hi")).json(), Answer(workers.urls[0] + "/v1/chat/completions", chat("Say hi")).json()
    assert through["choices"] == direct["choices"] and through["usage"]["completion_tokens"] == 4, (through, direct)
    events = post("/v1/chat/completions", chat("Say hi", stream=True, stream_options={"include_usage": True})).events()
    assert events[-1] == "[DONE]" and json.loads(events[-2])["usage"]["completion_tokens"] == 4, events[-2:]
    text = "".join(choice["delta"].get("content") or "" for event in events[:-1] for choice in json.loads(event)["choices"])
    assert text == direct["choices"][0]["message"]["content"], text


@check
def schemas_and_tools_are_held():
    format = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    answer = post("/v1/chat/completions", chat("Is it so?", max_tokens=60, response_format=format)).json()
    assert isinstance(json.loads(answer["choices"][0]["message"]["content"])["ok"], bool)
    answer = post("/v1/chat/completions", chat("What time is it?", max_tokens=60, tools=[TOOL], tool_choice="required")).json()
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "now", answer


@check
def completions_take_text_and_ids():
    for prompt in ("The sky is", ["The sky is", "The sea is"], [504, 7234]):
        choices = post("/v1/completions", {"model": MODEL, "prompt": prompt, "max_tokens": 3}).json()["choices"]
        assert len(choices) == (2 if isinstance(prompt, list) and isinstance(prompt[0], str) else 1)
    events = post("/v1/completions", {"model": MODEL, "prompt": "The sky is", "max_tokens": 3, "stream": True}).events()
    assert events[-1] == "[DONE]" and json.loads(events[-2])["choices"][0]["finish_reason"] == "length"


@check
def responses_and_messages_answer():
    body = {"model": MODEL, "input": "Say hi", "max_output_tokens": 3}
    assert post("/v1/responses", body).json()["output"][0]["content"][0]["text"]
    assert '"response.incomplete"' in post("/v1/responses", {**body, "stream": True}).events()[-1]
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Say hi"}], "max_tokens": 3}
    assert post("/v1/messages", body).json()["stop_reason"] == "max_tokens"
    assert '"message_stop"' in post("/v1/messages", {**body, "stream": True}).events()[-1]
    assert post("/v1/messages/count_tokens", {"model": MODEL, "messages": body["messages"]}).json()["input_tokens"] > 0


@check
def text_routes_and_jobs_answer():
    ids = post("/tokenize", {"model": MODEL, "prompt": "Hello"}).json()["tokens"]
    assert post("/detokenize", {"model": MODEL, "tokens": ids}).json()["prompt"] == "Hello"
    assert "Say hi" in post("/apply-template", {"messages": [{"role": "user", "content": "Say hi"}]}).json()["prompt"]
    assert "event: end" in post("/execute", {"job_id": "1", "prompt": "The sky is", "max_tokens": 3}).text
    status, models = call("GET", router + "/v1/models")
    assert status == 200 and models["data"][0]["id"] == MODEL, models


@check
def receipts_come_through():
    answer = post("/v1/chat/completions", chat("Say hi", receipt=True)).json()
    assert len(answer["choices"][0]["receipt"]["answer"]) == 4, answer


@check
def refusals_keep_their_status_and_their_words():
    error = post("/v1/chat/completions", chat("Say hi", temperature=9), 400).json()["error"]
    assert error["param"] == "temperature", error
    error = post("/v1/chat/completions", chat("Say hi", temprature=1), 400).json()["error"]
    assert "did you mean temperature" in error["message"], error
    assert post("/v1/chat/completions", {**chat("Say hi"), "model": "other"}, 404).json()["error"]["code"] == "model_not_found"


@check
def both_workers_were_asked():
    counts = workers.count("vllm:request_success_total")
    assert all(counts), counts
    return f"{counts[0]:.0f} and {counts[1]:.0f} requests"


if __name__ == "__main__":
    with Workers(2) as workers:
        port = free_ports(2)
        command = [sys.executable, "-c", LAUNCH, "--worker-urls", *workers.urls, "--policy", "round_robin"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(port + 1)]
        with Process(command) as process:
            router = f"http://127.0.0.1:{port}"
            wait_for("the router is ready", 60, lambda: call("GET", router + "/readiness")[0] == 200)
            run()
