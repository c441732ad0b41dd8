"""lm-eval's `local-completions` against servers of its own: the same choices as transformers on the same weights (lm_eval/reference.json)?"""

import os
import sys
import tempfile
from pathlib import Path

from checks import MODEL, check, run
from server import Server, call

sys.path.insert(0, str(Path(__file__).resolve().parent / "lm_eval"))

import json

import harness

REFERENCE = json.loads((harness.HERE / "reference.json").read_text())


def compared(*flags):
    """How many choices are the reference's, the largest difference of a log likelihood, and the accuracies."""
    with Server(*flags) as server:
        arguments = {"model": MODEL, "base_url": f"{server.url}/v1/completions", "tokenizer_backend": "huggingface", "tokenizer": folder}
        values, accuracy = harness.evaluate("local-completions", {**arguments, "num_concurrent": 4})
    assert len(values) == len(REFERENCE) == 100
    same = sum(ours == theirs for ours, theirs in zip(harness.chosen(values), harness.chosen(REFERENCE)))
    largest = max(abs(x - y) for ours, theirs in zip(values, REFERENCE) for x, y in zip(ours, theirs))
    return same, largest, accuracy


def told(same, largest, accuracy):
    return f"{same} of 100 choices, largest difference {largest:.5f}, accuracy {accuracy[0]:.2f}, normalized by length {accuracy[1]:.2f}"


@check
def the_folder_s_tokenizer_is_the_file_s():
    with Server() as server:
        for question in harness.questions():
            text = " ".join([question["question"], *question["choices"]])
            _, ours = call("POST", server.url + "/tokenize", {"prompt": text, "add_special_tokens": False})
            assert ours["tokens"] == tokenizer.encode(text, add_special_tokens=False).ids, text


@check
def exact_kernels_choose_as_transformers_does():
    same, largest, accuracy = compared("--exact")
    assert same == 100 and largest < 0.001, told(same, largest, accuracy)
    return told(same, largest, accuracy)


@check
def fast_kernels_choose_as_transformers_does():
    same, largest, accuracy = compared()
    # Where two choices are closer than their rounding, either may win.
    assert same >= 98 and largest < 0.2, told(same, largest, accuracy)
    return told(same, largest, accuracy)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = harness.tokenizer(os.environ["CLIENTS_MODEL"], folder)
        run()
