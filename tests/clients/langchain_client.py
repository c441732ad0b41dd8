"""langchain-openai against /v1: invoke, stream, tools, structured output, many at once."""

import asyncio

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from checks import MODEL, URL, check, run


def make(max_tokens, **fields):
    return ChatOpenAI(
        base_url=URL + "/v1", api_key="none", model=MODEL, max_tokens=max_tokens, max_retries=0, timeout=120, **fields
    )


model = make(16, temperature=0)
ASK = [("system", "You are brief."), ("user", "Why is the sky blue?")]


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return city


@check
def invoke_answers():
    answer = model.invoke(ASK)
    assert answer.content and answer.usage_metadata["output_tokens"] == 16


@check
def stream_gives_the_same_text():
    assert "".join(chunk.content for chunk in model.stream(ASK)) == model.invoke(ASK).content


@check
def bind_tools_calls_one():
    bound = make(100, temperature=0).bind_tools([get_weather], tool_choice="get_weather", strict=True)
    (call,) = bound.invoke(ASK).tool_calls
    assert call["name"] == "get_weather" and isinstance(call["args"]["city"], str)


@check
def structured_output_is_parsed():
    for method in ("json_schema", "function_calling"):
        answer = make(400, seed=1).with_structured_output(Person, method=method).invoke("Name a person of 30 years.")
        assert isinstance(answer, Person), (method, answer)


@check
def four_at_once_get_what_one_gets():
    alone = model.invoke(ASK).content

    async def together():
        return await asyncio.gather(*(model.ainvoke(ASK) for _ in range(4)))

    assert [answer.content for answer in asyncio.run(together())] == [alone] * 4


if __name__ == "__main__":
    run()
