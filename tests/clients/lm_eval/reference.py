"""Writes `reference.json`: the log likelihoods that Hugging Face transformers computes in float32 from the same file's weights.

    reference.py smollm2.gguf

Needs `lm-eval[hf]`, gguf and torch (6 GB), which the client that compares with the written numbers (`lm_eval_client.py`) does not.
"""

import json
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM

import harness
from pathlib import Path

if __name__ == "__main__":
    model = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        read = AutoModelForCausalLM.from_pretrained(str(model.parent), gguf_file=model.name, dtype=torch.float32)
        read.config.__dict__.pop("quantization_config", None)
        # A model of the same weights that does not remember where they came from.
        plain = type(read)(read.config).float()
        plain.load_state_dict(read.state_dict())
        plain.save_pretrained(folder)
        config = Path(f"{folder}/config.json").read_text()
        harness.tokenizer(model, folder)
        Path(f"{folder}/config.json").write_text(config)
        values, accuracy = harness.evaluate("hf", {"pretrained": folder, "dtype": "float32", "device": "cpu"})
    rows = ",\n".join(json.dumps([round(value, 5) for value in row]) for row in values)
    (harness.HERE / "reference.json").write_text(f"[\n{rows}\n]\n")
    print(f"{len(values)} questions, accuracy {accuracy[0]:.2f}, normalized by length {accuracy[1]:.2f}")
