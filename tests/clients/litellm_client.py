"""litellm against /v1, as the provider `openai` and as `hosted_vllm`: what a gateway made with it sends."""

import litellm
import openai

from checks import MODEL, URL, check, raises, run

litellm.suppress_debug_info = True
ASK = [{"role": "user", "content": "Why is the sky blue?"}]


def ask(provider="openai", **fields):
    return litellm.completion(
        model=f"{provider}/{MODEL}", messages=ASK, api_base=URL + "/v1", api_key="none", timeout=120,
        **{"max_tokens": 16, "temperature": 0, "num_retries": 0, **fields},
    )


@check
def completion_answers():
    answer = ask()
    assert answer.choices[0].message.content and answer.usage.completion_tokens == 16


@check
def hosted_vllm_answers_the_same():
    assert ask("hosted_vllm").choices[0].message.content == ask().choices[0].message.content


@check
def stream_gives_the_same_text():
    chunks = ask(stream=True, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ask().choices[0].message.content


@check
def a_schema_is_held():
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    text = ask(response_format=form, max_tokens=60).choices[0].message.content
    assert "".join(text.split()) in ('{"ok":true}', '{"ok":false}'), text


@check
def errors_have_types():
    raises((openai.BadRequestError, litellm.BadRequestError), lambda: ask(temperature=3))


if __name__ == "__main__":
    run()
