"""What the harness is given and what it says: the tokenizer of a GGUF file as a folder of Hugging Face's, and the log likelihood of every choice."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import tokenizers

HERE = Path(__file__).resolve().parent
# Token types of a GGUF file: control tokens and those that users added.
SPECIAL = (3, 4)


def tokenizer(model, folder):
    """Writes the file's tokenizer, one of SmolLM2's kind: byte-level BPE that sets digits apart."""
    reader = gguf.GGUFReader(model)
    value = lambda name: reader.fields["tokenizer.ggml." + name].contents()
    assert (value("model"), value("pre")) == ("gpt2", "smollm"), (value("model"), value("pre"))
    tokens, types = value("tokens"), value("token_type")
    bpe = tokenizers.models.BPE({token: i for i, token in enumerate(tokens)}, [tuple(pair.split(" ")) for pair in value("merges")])
    whole = tokenizers.Tokenizer(bpe)
    pieces = [tokenizers.pre_tokenizers.Digits(individual_digits=True), tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    whole.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(pieces)
    whole.decoder = tokenizers.decoders.ByteLevel()
    whole.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token, kind in zip(tokens, types) if kind in SPECIAL])
    whole.save(f"{folder}/tokenizer.json")
    ends = {"eos_token": tokens[value("eos_token_id")], "bos_token": tokens[value("bos_token_id")]}
    Path(f"{folder}/tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **ends}))
    Path(f"{folder}/config.json").write_text(json.dumps({"model_type": "llama"}))
    return whole


def evaluate(kind, arguments):
    """Runs the task: of each question the log likelihoods of its choices; and the accuracy, without and with lengths."""
    with tempfile.TemporaryDirectory() as out:
        command = [str(Path(sys.executable).parent / "lm_eval"), "run", "--model", kind, "--tasks", "simple", "--include_path", str(HERE)]
        command += ["--model_args", ",".join(f"{name}={value}" for name, value in arguments.items()), "--log_samples", "--output_path", out]
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": f"{out}/home", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(command, cwd=HERE, env=env, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr[-2000:]
        samples = [json.loads(line) for line in next(Path(out).rglob("samples_*.jsonl")).read_text().splitlines()]
        results = json.loads(next(Path(out).rglob("results_*.json")).read_text())["results"]["simple"]
    samples.sort(key=lambda sample: sample["doc_id"])
    return [[float(answer[0][0]) for answer in sample["resps"]] for sample in samples], (results["acc,none"], results["acc_norm,none"])


def questions():
    return [json.loads(line) for line in (HERE / "simple.jsonl").read_text().splitlines()]


def chosen(values):
    """The choice of each question."""
    return [max(range(len(row)), key=row.__getitem__) for row in values]
