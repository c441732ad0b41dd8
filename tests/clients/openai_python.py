"""The `openai` package against /v1: what its users call, and the errors its users catch."""

import base64
import json
import struct
from urllib.request import Request, urlopen

import openai
from pydantic import BaseModel, Field

from checks import MODEL, URL, check, raises, run

client = openai.OpenAI(base_url=URL + "/v1", api_key="none", max_retries=0, timeout=120)
ASK = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Why is the sky blue?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}


class Arguments(BaseModel):
    city: str
    unit: str


class Person(BaseModel):
    name: str
    age: int


def chat(**fields):
    return client.chat.completions.create(**{"model": MODEL, "messages": ASK, "max_tokens": 16, "temperature": 0, **fields})


@check
def models_are_listed_and_found():
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


@check
def a_chat_is_answered():
    answer = chat()
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content and choice.finish_reason == "length"
    usage = answer.usage
    assert usage.completion_tokens == 16 and usage.total_tokens == usage.prompt_tokens + 16


@check
def a_stream_is_the_answer_in_pieces():
    whole = chat().choices[0].message.content
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["length"]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 16
    assert all(chunk.usage is None for chunk in chunks[:-1])


@check
def the_stream_helper_gathers_the_answer():
    # The helper wants an answer that ends by itself.
    fields = {"max_tokens": 40, "temperature": 0, "extra_body": {"grammar": 'start: "It scatters."'}}
    with client.chat.completions.stream(model=MODEL, messages=ASK, **fields) as stream:
        seen = "".join(event.delta for event in stream if event.type == "content.delta")
        assert stream.get_final_completion().choices[0].message.content == seen == "It scatters."


@check
def a_required_tool_is_called():
    choice = chat(tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, max_tokens=100, seed=1).choices[0]
    assert choice.finish_reason == "tool_calls", choice
    call = choice.message.tool_calls[0]
    assert call.id and call.type == "function" and call.function.name == "get_weather"
    Arguments.model_validate_json(call.function.arguments)


@check
def a_named_tool_is_called_in_a_stream_and_its_result_taken():
    other = {"type": "function", "function": {"name": "other", "parameters": {"type": "object", "properties": {}}}}
    named = {"type": "function", "function": {"name": "get_weather"}}
    name, arguments, ids, finish = "", "", [], None
    for chunk in chat(tools=[other, WEATHER], tool_choice=named, max_tokens=100, stream=True):
        choice = chunk.choices[0]
        finish = choice.finish_reason or finish
        for call in choice.delta.tool_calls or []:
            name += call.function.name or ""
            arguments += call.function.arguments or ""
            ids += [call.id] if call.id else []
    Arguments.model_validate_json(arguments)
    assert name == "get_weather" and len(ids) == 1 and finish in ("tool_calls", "stop"), (name, ids, finish)
    called = {"id": ids[0], "type": "function", "function": {"name": name, "arguments": arguments}}
    history = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": ids[0], "content": "sunny"},
    ]
    assert chat(messages=history, tools=[WEATHER], tool_choice="none").choices[0].message.content


@check
def parse_gives_what_the_schema_says():
    n_parsed = 0
    for seed in range(4):
        try:
            answer = client.chat.completions.parse(
                model=MODEL,
                messages=ASK,
                response_format=Person,
                temperature=1.2,
                top_p=1,
                # From all tokens: the server's defaults keep the likely ones, and names without an end are among them.
                extra_body={"top_k": 0, "min_p": 0},
                seed=seed,
                max_tokens=400,
            )
        except openai.LengthFinishReasonError:
            # A name without an end, which the schema allows.
            continue
        choice = answer.choices[0]
        assert isinstance(choice.message.parsed, Person), choice
        n_parsed += 1
    assert n_parsed > 0
    return f"{n_parsed} of 4"


@check
def logprobs_cover_the_answer():
    choice = chat(logprobs=True, top_logprobs=3).choices[0]
    tokens = choice.logprobs.content
    assert b"".join(bytes(token.bytes) for token in tokens).decode(errors="replace").startswith(choice.message.content)
    for token in tokens:
        assert len(token.top_logprobs) == 3 and token.logprob <= 0
        # The most likely token is the one that temperature 0 takes.
        assert token.logprob == token.top_logprobs[0].logprob


@check
def n_answers_differ_and_come_back_for_the_same_seed():
    def texts():
        choices = chat(n=3, temperature=1, seed=5).choices
        assert [choice.index for choice in choices] == [0, 1, 2]
        return [choice.message.content for choice in choices]

    first = texts()
    assert len(set(first)) == 3 and texts() == first
    pieces = ["", "", ""]
    for chunk in chat(n=3, temperature=1, seed=5, stream=True):
        for choice in chunk.choices:
            pieces[choice.index] += choice.delta.content or ""
    assert pieces == first


@check
def a_stop_string_ends_the_answer_and_is_not_shown():
    whole = chat(max_tokens=40).choices[0].message.content
    stop = whole.split()[5]
    choice = chat(max_tokens=40, stop=[stop]).choices[0]
    assert choice.finish_reason == "stop" and choice.message.content == whole[: whole.index(stop)]


@check
def completions_continue_text():
    fields = {"model": MODEL, "prompt": ["The sea is", "One, two,"], "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(**fields, logprobs=2)
    assert len(whole.choices) == 2 and all(len(choice.logprobs.tokens) == 8 for choice in whole.choices)
    pieces = ["", ""]
    for chunk in client.completions.create(**fields, stream=True):
        for choice in chunk.choices:
            pieces[choice.index] += choice.text
    assert pieces == [choice.text for choice in whole.choices]


def embed(texts, **fields):
    answer = client.embeddings.create(model=MODEL, input=texts, **fields)
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    return [item.embedding for item in answer.data], answer.usage


def similarity(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


@check
def embeddings_are_the_same_in_every_form():
    text = "The cat sleeps on the sofa."
    # The package asks for base64 where nothing is said, and takes it apart.
    [plain], usage = embed([text])
    [floats], _ = embed(text, encoding_format="float")
    assert plain == [struct.unpack("<f", struct.pack("<f", x))[0] for x in floats] and abs(similarity(plain, plain) - 1) < 1e-5
    assert usage.prompt_tokens == usage.total_tokens > 0
    raw = client.embeddings.create(model=MODEL, input=text, encoding_format="base64").data[0].embedding
    assert list(struct.unpack(f"<{len(plain)}f", base64.b64decode(raw))) == plain
    ids = json.load(urlopen(Request(URL + "/tokenize", json.dumps({"prompt": text}).encode(), {"Content-Type": "application/json"})))["tokens"]
    [of_ids], _ = embed(ids)
    [first, second], both = embed([ids, ids])
    assert of_ids == first == second == plain and both.prompt_tokens == 2 * usage.prompt_tokens
    [short], _ = embed(text, dimensions=64)
    length = sum(x * x for x in plain[:64]) ** 0.5
    assert len(short) == 64 and all(abs(a - b / length) < 1e-6 for a, b in zip(short, plain))


@check
def embeddings_come_in_batches():
    texts = [f"Text {i} of many: {'word ' * (i % 17)}" for i in range(128)]
    batch, usage = embed(texts)
    assert len(batch) == 128 and usage.prompt_tokens > 128 * 5
    for i in (0, 1, 64, 127):
        assert embed(texts[i])[0] == [batch[i]], i


@check
def embeddings_that_cannot_be_have_an_error():
    most = client.models.list().data[0].embeddings
    for fields, param in [
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": []}, "input"),
        ({"input": ["a"] * 10_000}, "input"),
        ({"input": "a", "dimensions": most["dimensions"] + 1}, "dimensions"),
        ({"input": [10**9]}, "input"),
        ({"input": "word " * (most["max_input_tokens"] + 10)}, "input"),
    ]:
        error = raises(openai.BadRequestError, lambda: client.embeddings.create(model=MODEL, **fields))
        assert error.param == param, (fields.keys(), error.body)
    # No classifier: the reason is said.
    error = raises(openai.BadRequestError, lambda: client.post("/rerank", cast_to=object, body={"query": "a", "documents": ["b"]}))
    assert error.code == "unsupported_model", error.body


def respond(**fields):
    fields = {"model": MODEL, "input": "Why is the sky blue?", "max_output_tokens": 16, "temperature": 0, **fields}
    return client.responses.create(**fields)


FUNCTION = {"type": "function", "strict": True, **WEATHER["function"]}


@check
def a_response_is_a_chat_in_another_form():
    response = respond(instructions="You are brief.")
    messages = [{"role": "developer", "content": "You are brief."}, *ASK[1:]]
    assert response.output_text == chat(messages=messages).choices[0].message.content
    assert response.status == "incomplete" and response.incomplete_details.reason == "max_output_tokens"
    count = client.responses.input_tokens.count(model=MODEL, input="Why is the sky blue?", instructions="You are brief.")
    assert response.usage.output_tokens == 16 and response.usage.input_tokens == count.input_tokens


@check
def a_response_streams_by_named_events():
    whole = respond().output_text
    events = list(respond(stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole
    assert events[0].type == "response.created" and events[-1].type == "response.incomplete"
    assert events[-1].response.output_text == whole
    with client.responses.stream(model=MODEL, input="Why is the sky blue?", max_output_tokens=16, temperature=0) as stream:
        kinds = {event.type for event in stream}
        assert "response.output_text.delta" in kinds and "response.incomplete" in kinds


@check
def a_response_calls_a_function_and_the_next_takes_its_result():
    first = respond(tools=[FUNCTION], tool_choice="required", parallel_tool_calls=False, max_output_tokens=100)
    call = first.output[-1]
    assert call.type == "function_call" and call.name == "get_weather", first
    Arguments.model_validate_json(call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    next_ = respond(previous_response_id=first.id, input=[result], tools=[FUNCTION], tool_choice="none")
    again = respond(input=[{"role": "user", "content": "Why is the sky blue?"}, *first.output, result], tools=[FUNCTION], tool_choice="none")
    assert next_.output_text and next_.output_text == again.output_text
    assert next_.usage.input_tokens == again.usage.input_tokens


@check
def a_response_is_read_and_deleted():
    first = respond()
    second = respond(previous_response_id=first.id, input="And at night?")
    for response in (first, second):
        assert client.responses.retrieve(response.id) == response
    items = list(client.responses.input_items.list(second.id, order="asc", limit=1))
    assert [item.role for item in items] == ["user", "assistant", "user"], items
    assert items[0].content[0].text == "Why is the sky blue?" and items[1].id == first.output[-1].id
    client.responses.delete(first.id)
    assert raises(openai.NotFoundError, lambda: client.responses.retrieve(first.id)).code == "not_found"
    raises(openai.NotFoundError, lambda: client.responses.delete(first.id))
    assert respond(previous_response_id=second.id, input="Why?").output_text


class Bounded(BaseModel):
    """Ends within its tokens in any case: the client parses what was cut off as well, and fails."""

    name: str = Field(max_length=40)
    age: int = Field(ge=0, le=150)


@check
def a_response_is_parsed():
    for seed in range(3):
        response = client.responses.parse(
            model=MODEL, input="Who?", text_format=Bounded, temperature=1.2, max_output_tokens=400, extra_body={"seed": seed}
        )
        assert isinstance(response.output_parsed, Bounded), response


@check
def a_response_that_cannot_be_has_an_error():
    missing = raises(openai.BadRequestError, lambda: respond(previous_response_id="resp_0"))
    assert missing.code == "previous_response_not_found" and missing.param == "previous_response_id"
    assert raises(openai.BadRequestError, lambda: respond(tools=[{"type": "web_search"}])).param == "tools[0].type"
    assert raises(openai.BadRequestError, lambda: respond(background=True)).param == "background"


@check
def receipts_come_with_their_choices():
    def streamed(chunks):
        ended = {}
        for chunk in chunks:
            for choice in chunk.choices:
                if hasattr(choice, "receipt"):
                    assert choice.finish_reason and choice.index not in ended
                    ended[choice.index] = choice.receipt
        return [receipt for _, receipt in sorted(ended.items())]

    fields = {"n": 2, "seed": 5, "temperature": 0.7, "extra_body": {"receipt": True}}
    receipts = [choice.receipt for choice in chat(**fields).choices]
    assert [receipt["parameters"]["seed"] for receipt in receipts] == [5, 6]
    assert streamed(chat(**fields, stream=True)) == receipts
    fields.update(model=MODEL, prompt="The sea is", max_tokens=8)
    receipts = [choice.receipt for choice in client.completions.create(**fields).choices]
    assert all(len(receipt["answer"]) == 8 for receipt in receipts)
    assert streamed(client.completions.create(**fields, stream=True)) == receipts
    assert raises(openai.BadRequestError, lambda: chat(extra_body={"receipt": "yes"})).param == "receipt"


@check
def errors_have_types():
    assert raises(openai.NotFoundError, lambda: chat(model="gpt-4")).code == "model_not_found"
    error = raises(openai.BadRequestError, lambda: chat(temperature=3))
    assert error.param == "temperature" and error.type == "invalid_request_error", error.body
    assert raises(openai.BadRequestError, lambda: chat(extra_body={"no_such_field": 1})).body["message"]
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    raises(openai.BadRequestError, lambda: chat(messages=picture))
    raises(openai.BadRequestError, lambda: chat(stream=True, messages=[{"role": "user", "content": "x " * 60000}]))


if __name__ == "__main__":
    run()
