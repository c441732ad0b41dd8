"""instructor and pydantic-ai against /v1: answers as pydantic's types, a set among them, whose items must differ."""

import asyncio
from typing import Annotated

import instructor
import openai
from pydantic import BaseModel, ConfigDict, Field
from pydantic_ai import Agent, ModelSettings, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
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


def agent(output, seed):
    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=URL + "/v1", api_key="none"))
    return Agent(model, output_type=output, retries=0, model_settings=ModelSettings(seed=seed, **FIELDS))


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


if __name__ == "__main__":
    run()
