#!/usr/bin/env python3
"""How far is a build from the references on the golden models?

Usage: pip install numpy && python golden_error.py WORKER [NAME...]

For each model of tests/golden (or those whose names begin with a NAME): the normalised square error of the logits, the
Kullback-Leibler divergence in nats a token, and the share of tokens whose likeliest next token is the reference's, of the
exact kernels and of the fast ones, over the random ids. Prints a Markdown table.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests/golden"


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def compare(found, expected):
    """NMSE, mean KL divergence of `found` from `expected`, share of equal likeliest tokens."""
    nmse = ((found - expected) ** 2).sum() / ((expected - expected.mean()) ** 2).sum()
    p, q = log_softmax(expected), log_softmax(found)
    divergence = (np.exp(p) * (p - q)).sum(axis=1).mean()
    return nmse, divergence, (found.argmax(axis=1) == expected.argmax(axis=1)).mean()


def logits(worker, model, flags):
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/logits.npy"
        command = [worker, "-qq", "eval", "logits", "--model", model, "--tokens", model.with_suffix(".json")]
        command += ["--key", "tokens.random", "--out", out, "--device", "cpu", "--threads", "2", *flags]
        if subprocess.run(command).returncode:
            return None
        return np.load(out).astype(np.float64)


def main():
    worker, *names = sys.argv[1:]
    print("| model | exact: NMSE | fast: NMSE | KL | same first |\n|---|---|---|---|---|")
    for model in sorted(GOLDEN.glob("*.gguf")):
        if names and not any(model.name.startswith(name) for name in names):
            continue
        expected = np.load(model.with_suffix(".logits.npz"))["random"].astype(np.float64)
        exact, fast = (logits(worker, model, flags) for flags in (["--exact"], []))
        if exact is None or fast is None:
            print(f"| `{model.stem}` | refused |")
            continue
        (e, *_), (f, divergence, same) = compare(exact, expected), compare(fast, expected)
        print(f"| `{model.stem}` | {e:.0e} | {f:.0e} | {divergence:.0e} | {same:.1%} |", flush=True)


if __name__ == "__main__":
    main()
