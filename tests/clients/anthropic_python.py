"""The `anthropic` package against /v1/messages: what its users call, and the errors its users catch."""

import anthropic

from checks import MODEL, URL, check, raises, run

client = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0, timeout=120)
ASK = [{"role": "user", "content": "Why is the sky blue?"}]
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
}


def fields(**more):
    # The package no longer has an argument for the temperature.
    body = {"temperature": 0, **more.pop("extra_body", {})}
    return {"model": MODEL, "messages": ASK, "system": "You are brief.", "max_tokens": 16, "extra_body": body, **more}


def ask(**more):
    return client.messages.create(**fields(**more))


@check
def a_message_is_answered():
    message = ask(metadata={"user_id": "me"})
    assert message.type == "message" and message.role == "assistant" and message.model == MODEL
    assert message.content[0].type == "text" and message.content[0].text
    assert message.stop_reason == "max_tokens" and message.usage.output_tokens == 16
    assert message.usage.input_tokens + message.usage.cache_read_input_tokens > 10


@check
def a_stream_is_the_answer_in_pieces():
    whole = ask().content[0].text
    with client.messages.stream(**fields()) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole == final.content[0].text
    assert final.stop_reason == "max_tokens" and final.usage.output_tokens == 16


@check
def a_stream_has_the_published_events_in_order():
    names = [event.type for event in ask(stream=True)]
    outer = [name for i, name in enumerate(names) if name != "ping" and names[i - 1 : i] != [name]]
    assert outer == [
        "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"
    ], names


@check
def a_stop_sequence_ends_the_answer():
    word = ask().content[0].text.split()[2]
    message = ask(stop_sequences=[word])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", word)


@check
def a_tool_is_called_and_its_result_taken():
    # The small model would call without end.
    choice = {"type": "any", "disable_parallel_tool_use": True}
    called = ask(tools=[WEATHER], tool_choice=choice, max_tokens=64)
    use = called.content[-1]
    assert called.stop_reason == "tool_use" and use.type == "tool_use" and set(use.input) == {"city", "unit"}
    for result in [
        {"type": "tool_result", "tool_use_id": use.id, "content": "12 degrees"},
        {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "no such city"}], "is_error": True},
    ]:
        turns = [*ASK, {"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
        answer = ask(messages=turns, tools=[WEATHER], tool_choice={"type": "none"})
        assert answer.content[0].type == "text" and answer.content[0].text


@check
def a_streamed_call_is_the_whole_one():
    call = {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "get_weather"}, "max_tokens": 64}
    with client.messages.stream(**fields(**call)) as stream:
        streamed = stream.get_final_message().content[-1]
    assert streamed.type == "tool_use" and streamed.input == ask(**call).content[-1].input


@check
def tokens_are_counted():
    counted = client.messages.count_tokens(model=MODEL, messages=ASK, system="You are brief.").input_tokens
    usage = ask().usage
    assert counted == usage.input_tokens + usage.cache_read_input_tokens


@check
def errors_have_their_types():
    error = raises(anthropic.NotFoundError, lambda: ask(model="other"))
    assert error.body["error"]["type"] == "not_found_error"
    error = raises(anthropic.BadRequestError, lambda: ask(extra_body={"frobnicate": 1}))
    assert "frobnicate" in error.body["error"]["message"]
    image = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    error = raises(anthropic.BadRequestError, lambda: ask(messages=[{"role": "user", "content": [image]}]))
    assert "image" in error.body["error"]["message"]


run()
