"""instructor and pydantic-ai against /v1: answers as pydantic's types, a set among them, whose items must differ; streams and tools."""

import asyncio
from typing import Annotated, Literal

import instructor
import openai
from pydantic import BaseModel, ConfigDict, Field
from pydantic_ai import Agent, ModelSettings, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from checks import MODEL, URL, check, run

ASK = "Name three colours."
FIELDS = {"max_tokens": 120, "temperature": 0.9}
# A small model says what it likes: bounds make it come to an end.
Word = Annotated[str, Field(max_length=8, pattern="^[a-z]+$")]


class Tags(BaseModel):
    model_config = ConfigDict(extra="forbid")
    tags: set[Word] = Field(min_length=2, max_length=3)


def tags(mode, seed):
    client = instructor.from_openai(openai.OpenAI(base_url=URL + "/v1", api_key="none", max_retries=0, timeout=120), mode=mode)
    said = []
    client.on("completion:response", lambda answer, **_: said.append(answer.choices[0].message))
    messages = [{"role": "user", "content": ASK}]
    found = client.create(model=MODEL, response_model=Tags, messages=messages, max_retries=0, seed=seed, **FIELDS)
    text = said[0].content or said[0].tool_calls[0].function.arguments
    # As many items as words were written: none came twice.
    assert text.count('"') == 2 * (len(found.tags) + 1), text


@check
def instructor_gets_a_set_by_schema():
    for seed in range(3):
        tags(instructor.Mode.JSON_SCHEMA, seed)


@check
def instructor_gets_a_set_by_a_tool():
    for seed in range(3):
        tags(instructor.Mode.TOOLS, seed)


class Words(BaseModel):
    """A list: instructor's parts of a set are none yet."""

    model_config = ConfigDict(extra="forbid")
    words: list[Word] = Field(min_length=2, max_length=3)


@check
def instructor_streams_a_list():
    client = instructor.from_openai(openai.OpenAI(base_url=URL + "/v1", api_key="none", max_retries=0, timeout=120), mode=instructor.Mode.JSON_SCHEMA)
    parts = client.create_partial(model=MODEL, response_model=Words, messages=[{"role": "user", "content": ASK}], max_retries=0, seed=5, **FIELDS)
    found = [part.words or [] for part in parts]
    assert len(found) > 2 and 2 <= len(found[-1]) <= 3, found


def agent(output, seed, kind=OpenAIChatModel, **fields):
    model = kind(MODEL, provider=OpenAIProvider(base_url=URL + "/v1", api_key="none"))
    settings = ModelSettings(**{**FIELDS, "seed": seed, **fields})
    return Agent(model, output_type=output, retries=0, model_settings=settings)


@check
def pydantic_ai_gets_a_set():
    for output in (NativeOutput(Tags), ToolOutput(Tags)):
        for seed in range(3):
            assert 2 <= len(agent(output, seed).run_sync(ASK).output.tags) <= 3


@check
def pydantic_ai_streams_a_set():
    async def stream():
        async with agent(NativeOutput(Tags), 4).run_stream(ASK) as result:
            return [output async for output in result.stream_output()][-1]

    assert 2 <= len(asyncio.run(stream()).tags) <= 3


def with_a_tool(kind):
    """An agent that must ask for the weather first, and the cities that it asked for."""
    # A call is forced in the first step, and an answer in the one after it.
    asked, made = [], agent(str, 1, kind, max_tokens=60, temperature=0)

    @made.tool_plain
    def weather(city: Literal["Bern", "Rome"]) -> str:
        """The weather of a city."""
        asked.append(city)
        return f"It is sunny in {city}."

    return made, asked


def forced(n_step):
    return ModelSettings(tool_choice="required" if n_step == 0 else "none", parallel_tool_calls=False)


@check
def pydantic_ai_calls_a_tool_and_takes_its_result():
    for kind in (OpenAIChatModel, OpenAIResponsesModel):
        made, asked = with_a_tool(kind)
        result = made.run_sync("What is the weather?", model_settings=lambda ctx: forced(ctx.run_step - 1))
        assert asked in (["Bern"], ["Rome"]) and result.output, (kind, asked, result)


@check
def pydantic_ai_streams_a_call_and_an_answer():
    async def stream(kind):
        made, asked = with_a_tool(kind)
        names = []
        async with made.iter("What is the weather?", model_settings=lambda ctx: forced(ctx.run_step - 1)) as run_:
            async for node in run_:
                if Agent.is_model_request_node(node):
                    async with node.stream(run_.ctx) as events:
                        names += [type(event).__name__ async for event in events]
        return asked, names, run_.result.output

    for kind in (OpenAIChatModel, OpenAIResponsesModel):
        asked, names, output = asyncio.run(stream(kind))
        assert asked in (["Bern"], ["Rome"]) and output and names.count("PartDeltaEvent") > 3, (kind, asked, names)


if __name__ == "__main__":
    run()
