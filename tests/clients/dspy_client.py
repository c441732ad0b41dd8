"""dspy against /v1, through litellm: signatures as schemas, a stream, and tools whose results are taken."""

import asyncio
from typing import Literal

import dspy

from checks import MODEL, URL, check, run

ADAPTER = dspy.JSONAdapter()


class Model(dspy.LM):
    """What dspy takes no model for that its catalogue does not have."""

    supports_response_schema = True
    supports_function_calling = True
    supported_params = {"response_format", "tools", "tool_choice"}


def made(**fields):
    return Model(
        f"openai/{MODEL}", api_base=URL + "/v1", api_key="none", cache=False, num_retries=0, timeout=120, **{"temperature": 0, "max_tokens": 100, **fields}
    )


class Weather(dspy.Signature):
    """Say whether it is sunny."""

    question: str = dspy.InputField()
    city: Literal["Bern", "Rome"] = dspy.OutputField()
    sunny: bool = dspy.OutputField()


@check
def a_text_is_answered():
    (text,) = made(max_tokens=16)("Why is the sky blue?")
    assert text, text


@check
def a_signature_is_held_as_a_schema():
    with dspy.context(lm=made(), adapter=ADAPTER):
        found = dspy.Predict(Weather)(question="Is it sunny in Rome?")
    assert found.city in ("Bern", "Rome") and isinstance(found.sunny, bool), found


@check
def a_signature_comes_in_a_stream():
    async def stream():
        predict = dspy.streamify(dspy.Predict(Weather))
        with dspy.context(lm=made(), adapter=ADAPTER):
            return [part async for part in predict(question="Is it sunny in Rome?")]

    *parts, last = asyncio.run(stream())
    assert len(parts) > 4 and isinstance(last, dspy.Prediction) and last.city in ("Bern", "Rome"), (len(parts), last)


@check
def a_program_calls_its_tool():
    def weather(city: Literal["Bern", "Rome"]) -> str:
        """The weather of a city."""
        return f"It is sunny in {city}."

    adapter = dspy.ChatAdapter(use_native_function_calling=True)
    for seed in range(8):
        # The small model may add arguments of its own without end, which the tool's schema allows.
        lm = made(tool_choice="required", parallel_tool_calls=False, temperature=1, seed=seed)
        with dspy.context(lm=lm, adapter=adapter):
            program = dspy.Predict("question: str, tools: list[dspy.Tool] -> calls: dspy.ToolCalls")
            (called,) = program(question="What is the weather?", tools=[dspy.Tool(weather)]).calls.tool_calls
        assert called.name == "weather", called
        if "city" in called.args:
            assert weather(called.args["city"]).endswith(("Bern.", "Rome.")), called
            return f"whole at try {seed + 1}"
    raise AssertionError("expected whole arguments in one of 8 calls")


if __name__ == "__main__":
    run()
