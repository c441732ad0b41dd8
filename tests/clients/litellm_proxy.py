"""litellm's proxy before the server: openai's and anthropic's requests through it, whole, in streams, and with a tool."""

import json
import secrets
import sys
import tempfile
from pathlib import Path

import openai

from checks import MODEL, check, run
from fleet import Answer, Process, environment, free_ports, wait_for
from server import Server, call

ASK = [{"role": "user", "content": "Why is the sky blue?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Bern", "Rome"]}}, "required": ["city"], "additionalProperties": False},
    },
}
NAMES = ("as-openai", "as-vllm")
# The proxy refuses to start without a key of its own.
KEY = "sk-" + secrets.token_hex(32)
client = url = direct = None


def chat(name, **fields):
    return client.chat.completions.create(**{"model": name, "messages": ASK, "max_tokens": 16, "temperature": 0, **fields})


def post(path, body):
    answer = Answer(url + path, body, {"Authorization": f"Bearer {KEY}"})
    assert answer.status == 200, (answer.status, answer.text[-500:])
    return answer


@check
def chats_are_the_server_s_own():
    body = {"model": MODEL, "messages": ASK, "max_tokens": 16, "temperature": 0}
    own = Answer(direct + "/v1/chat/completions", body).json()["choices"][0]["message"]["content"]
    for name in NAMES:
        answer = chat(name)
        assert answer.choices[0].message.content == own and answer.usage.completion_tokens == 16, (name, answer)
        chunks = list(chat(name, stream=True, stream_options={"include_usage": True}))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == own, name
        assert chunks[-1].usage.completion_tokens == 16, chunks[-1]


@check
def a_tool_is_called_whole_and_in_a_stream():
    fields = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 200}
    for name in NAMES:
        call_ = chat(name, **fields).choices[0].message.tool_calls[0].function
        assert call_.name == "weather" and json.loads(call_.arguments)["city"] in ("Bern", "Rome"), call_
        deltas = [call for chunk in chat(name, stream=True, **fields) if chunk.choices for call in chunk.choices[0].delta.tool_calls or []]
        assert "".join(delta.function.arguments or "" for delta in deltas) == call_.arguments, deltas


@check
def embeddings_and_completions_come_through():
    (vector,) = client.embeddings.create(model="as-openai", input="The sky", encoding_format="float").data
    own = Answer(direct + "/v1/embeddings", {"input": "The sky"}).json()["data"][0]["embedding"]
    assert vector.embedding == own
    assert client.completions.create(model="as-openai", prompt="The sky is", max_tokens=4, temperature=0).choices[0].text


@check
def responses_and_messages_come_through():
    response = client.responses.create(model="as-openai", input="Why is the sky blue?", max_output_tokens=16)
    assert response.output_text, response
    events = [event.type for event in client.responses.create(model="as-openai", input="Why?", max_output_tokens=16, stream=True)]
    assert "response.output_text.delta" in events, events
    body = {"model": "as-openai", "messages": ASK, "max_tokens": 16}
    assert post("/v1/messages", body).json()["content"][0]["text"]
    answer = post("/v1/messages", {**body, "stream": True})
    assert '"message_stop"' in answer.text and "text_delta" in answer.text, answer.text[-500:]


@check
def what_the_server_refuses_is_refused():
    try:
        chat("as-vllm", temperature=9)
    except openai.BadRequestError as error:
        assert "temperature" in str(error), error
        return
    raise AssertionError("expected a refusal, found an answer")


def is_ready():
    assert process.process.poll() is None, "the proxy ended"
    return call("GET", url + "/health/liveliness")[0] == 200


if __name__ == "__main__":
    with Server() as server, tempfile.TemporaryDirectory() as folder:
        direct = server.url
        models = [
            {"model_name": name, "litellm_params": {"model": f"{provider}/{MODEL}", "api_base": server.url + "/v1", "api_key": "none", "max_retries": 0}}
            for name, provider in zip(NAMES, ("openai", "hosted_vllm"))
        ]
        # JSON is YAML.
        path = Path(folder) / "config.yaml"
        path.write_text(json.dumps({"model_list": models, "litellm_settings": {"telemetry": False, "num_retries": 0}}))
        port = free_ports(1)
        command = [str(Path(sys.executable).parent / "litellm"), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
        env = environment(LITELLM_MASTER_KEY=KEY, LITELLM_LOCAL_MODEL_COST_MAP="True")
        # Its thousands of modules are compiled once, not at each start.
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        with Process(command, env) as process:
            url = f"http://127.0.0.1:{port}"
            try:
                wait_for("the proxy is ready", 600, is_ready)
            except AssertionError:
                print("".join(process.log[-30:]))
                raise
            client = openai.OpenAI(base_url=url + "/v1", api_key=KEY, max_retries=0, timeout=120)
            run()
