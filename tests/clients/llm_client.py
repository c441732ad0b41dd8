"""The `llm` command with the server as one of its `extra-openai-models.yaml`: a prompt, a stream, a chat that goes on, a schema."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import MODEL, URL, check, run

FOLDER = Path(tempfile.mkdtemp(prefix="llm-"))
(FOLDER / "extra-openai-models.yaml").write_text(
    f"- model_id: worker\n  model_name: {MODEL}\n  api_base: {URL}/v1\n  supports_schema: true\n  supports_tools: true\n"
)
(FOLDER / "keys.json").write_text(json.dumps({"openai": "none"}))


def llm(*arguments):
    command = [sys.executable, "-m", "llm", "-m", "worker", "-o", "temperature", "0", "-o", "max_tokens", "16", *arguments]
    env = {**os.environ, "LLM_USER_PATH": str(FOLDER)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout


@check
def a_prompt_is_answered_alike_with_and_without_a_stream():
    assert llm("Why is the sky blue?", "--no-stream").strip() == llm("Why is the sky blue?").strip() != ""


@check
def a_conversation_goes_on():
    assert llm("-c", "And at night?").strip()


@check
def a_schema_is_held():
    answer = json.loads(llm("--schema", "ok bool", "-o", "max_tokens", "60", "Is it so?"))
    assert isinstance(answer["ok"], bool)


if __name__ == "__main__":
    run()
