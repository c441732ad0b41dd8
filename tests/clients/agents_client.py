"""openai-agents, llama-index and smolagents against /v1: answers, streams, and tools whose results are taken."""

import asyncio
from typing import Literal

import agents
import openai
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel, ConfigDict
from smolagents import ActionStep, OpenAIModel, Tool, ToolCallingAgent

from checks import MODEL, URL, check, run

ASK = "What is the weather?"


class Weather(BaseModel):
    model_config = ConfigDict(extra="forbid")
    city: Literal["Bern", "Rome"]
    sunny: bool


agents.set_tracing_disabled(True)


def agent(kind, **fields):
    """One of openai-agents, over /v1/responses or /v1/chat/completions."""
    client = openai.AsyncOpenAI(base_url=URL + "/v1", api_key="none", max_retries=0, timeout=120)
    settings = agents.ModelSettings(temperature=0, max_tokens=60, parallel_tool_calls=False, tool_choice=fields.pop("tool_choice", None))
    return agents.Agent(name="a", instructions="You are brief.", model=kind(MODEL, client), model_settings=settings, **fields)


KINDS = (agents.OpenAIResponsesModel, agents.OpenAIChatCompletionsModel)


def weather_tool():
    """The tool, and the cities that it was asked for."""
    asked = []

    @agents.function_tool
    def weather(city: Literal["Bern", "Rome"]) -> str:
        """The weather of a city."""
        asked.append(city)
        return f"It is sunny in {city}."

    return weather, asked


@check
def openai_agents_answer_alike_whole_and_in_a_stream():
    async def both(kind):
        # What the small model answers in few words.
        whole = await agents.Runner.run(agent(kind), "Hi")
        result = agents.Runner.run_streamed(agent(kind), "Hi")
        deltas = [
            event.data.delta
            async for event in result.stream_events()
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
        ]
        return whole.final_output, "".join(deltas), result.final_output

    for kind in KINDS:
        whole, streamed, final = asyncio.run(both(kind))
        assert whole and whole == streamed == final, (kind, whole, streamed, final)


@check
def openai_agents_give_a_type():
    for kind in KINDS:
        found = agents.Runner.run_sync(agent(kind, output_type=Weather), "Is it sunny in Rome?").final_output
        assert isinstance(found, Weather), found


@check
def openai_agents_call_a_tool_and_take_its_result():
    # Forced once: after a call the choice is the model's again.
    for kind in KINDS:
        tool, asked = weather_tool()
        result = agents.Runner.run_sync(agent(kind, tools=[tool], tool_choice="required"), ASK)
        assert asked and set(asked) <= {"Bern", "Rome"} and result.final_output, (kind, asked, result)


@check
def openai_agents_stream_a_call_and_its_answer():
    async def stream(kind, tool):
        result = agents.Runner.run_streamed(agent(kind, tools=[tool], tool_choice="required"), ASK)
        names = [event.name async for event in result.stream_events() if event.type == "run_item_stream_event"]
        return names, result.final_output

    for kind in KINDS:
        tool, asked = weather_tool()
        names, final = asyncio.run(stream(kind, tool))
        assert names[:2] == ["tool_called", "tool_output"] and asked and final, (kind, names, asked)


def index(**fields):
    return OpenAILike(
        **{
            "model": MODEL, "api_base": URL + "/v1", "api_key": "none", "is_chat_model": True, "is_function_calling_model": True, "max_retries": 0,
            "context_window": 2048, "temperature": 0, "max_tokens": 16, "timeout": 120, **fields,
        }
    )


@check
def llama_index_answers_alike_whole_and_in_a_stream():
    messages = [ChatMessage(role="system", content="You are brief."), ChatMessage(role="user", content=ASK)]
    whole = index().chat(messages)
    assert whole.message.content and whole.raw.usage.completion_tokens == 16
    chunks = list(index().stream_chat(messages))
    assert len(chunks) > 4 and "".join(chunk.delta or "" for chunk in chunks) == whole.message.content
    plain = index(is_chat_model=False)
    assert "".join(chunk.delta for chunk in plain.stream_complete("The sky is")) == plain.complete("The sky is").text != ""


def weather(city: Literal["Bern", "Rome"]) -> str:
    """The weather of a city."""
    return f"It is sunny in {city}."


@check
def llama_index_calls_a_tool_and_takes_its_result():
    tool, llm = FunctionTool.from_defaults(weather), index(max_tokens=60)
    called = llm.chat_with_tools([tool], user_msg=ASK, tool_required=True, allow_parallel_tool_calls=False)
    (call,) = llm.get_tool_calls_from_response(called)
    result = tool(**call.tool_kwargs)
    history = [
        ChatMessage(role="user", content=ASK), called.message,
        ChatMessage(role="tool", content=str(result), additional_kwargs={"tool_call_id": call.tool_id}),
    ]
    assert result.content in ("It is sunny in Bern.", "It is sunny in Rome.") and llm.chat(history).message.content
    *_, last = llm.stream_chat_with_tools([tool], user_msg=ASK, tool_required=True, allow_parallel_tool_calls=False)
    assert llm.get_tool_calls_from_response(last)[0].tool_kwargs == call.tool_kwargs


@check
def llama_index_gives_a_type():
    llm = index(max_tokens=60, should_use_structured_outputs=True)
    found = llm.structured_predict(Weather, PromptTemplate("Is it sunny in {city}?"), city="Rome")
    assert isinstance(found, Weather), found


class WeatherTool(Tool):
    name = "weather"
    description = "The weather of a city"
    inputs = {"city": {"type": "string", "enum": ["Bern", "Rome"], "description": "the city"}}
    output_type = "string"

    def forward(self, city: str) -> str:
        return f"It is sunny in {city}."


def smol(**fields):
    client = {"max_retries": 0, "timeout": 120}
    return OpenAIModel(MODEL, api_base=URL + "/v1", api_key="none", client_kwargs=client, **{"temperature": 0, "max_tokens": 16, **fields})


@check
def smolagents_answer_alike_whole_and_in_a_stream():
    messages = [{"role": "user", "content": [{"type": "text", "text": ASK}]}]
    whole = smol().generate(messages)
    deltas = list(smol().generate_stream(messages))
    assert whole.content and "".join(delta.content or "" for delta in deltas) == whole.content
    assert whole.token_usage.output_tokens == sum(delta.token_usage.output_tokens for delta in deltas if delta.token_usage) == 16


@check
def smolagents_call_tools_whole_and_in_a_stream():
    # A call is forced, with an answer as a tool of its own; the small model may use the tool wrongly, which is its next step's subject.
    for stream in (False, True):
        model = smol(max_tokens=100, parallel_tool_calls=False)
        made = ToolCallingAgent([WeatherTool()], model, instructions="Be brief.", max_steps=1, stream_outputs=stream, verbosity_level=0)
        step, *_ = [step for step in made.run(ASK, stream=True) if isinstance(step, ActionStep)]
        calls = step.model_output_message.tool_calls
        assert [call.function.name for call in calls] in (["weather"], ["final_answer"]), calls


if __name__ == "__main__":
    run()
