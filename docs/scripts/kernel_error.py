#!/usr/bin/env python3
"""How far is each set of CPU kernels from the references on the golden models?

Usage: python kernel_error.py WORKER SET... (SET: exact, or a value of --cpu-features that this processor runs)

For each set, the largest normalised square error of the logits over both sequences of the models of tests/golden, as prompts
and as generated rows, in three groups: formats of 3 bits a weight and more, formats of fewer bits, and mixtures of experts whose
choices are so near that rounding picks another expert. Prints the figures of the table in docs/src/performance.md, and which models the largest are of.
"""

import json
import pathlib
import subprocess
import sys

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests/golden"

GROUPS = ["3 bits and more", "fewer bits", "near choices"]

# As `Golden::has_near_choices` of crates/testkit.
NEAR = ("deepseek2", "gemma4-moe", "glm4moe", "granitemoe", "mixtral", "qwen35moe", "qwen3moe")
FEW = ("q2_k", "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "tq1_0", "tq2_0", "q1_0", "q2_0")


def group(name):
    if name.startswith(NEAR):
        return "near choices"
    return "fewer bits" if name.rsplit("-", 1)[1] in FEW else "3 bits and more"


def measure(worker, model, kernels):
    """The larger error of prompt rows and of generated ones."""
    flags = ["--exact"] if kernels == "exact" else ["--cpu-features", kernels]
    command = [worker, "-qq", "eval", "golden", model, "--device", "cpu", "--threads", "1", "--json", *flags]
    found = subprocess.run(command, capture_output=True, check=True)
    sequences = json.loads(found.stdout)["sequences"]
    return [max(sequence[rows]["nmse"] for sequence in sequences) for rows in ("prompt", "generated")]


def main():
    worker, *sets = sys.argv[1:]
    heads = [f"{rows}: {name}" for rows in ("prompts", "generated") for name in GROUPS]
    print(f"| kernels | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    names = {}
    for kernels in sets:
        worst = {}
        for model in sorted(GOLDEN.glob("*.gguf")):
            for rows, error in enumerate(measure(worker, model, kernels)):
                key = (rows, group(model.stem))
                worst[key] = max(worst.get(key, (0, "")), (error, model.stem))
        found = [worst[rows, name] for rows in range(2) for name in GROUPS]
        print(f"| `{kernels}` | {' | '.join(f'{error:.1e}' for error, _ in found)} |", flush=True)
        names[kernels] = [name for _, name in found]
    for kernels, models in names.items():
        print(f"{kernels}: {', '.join(models)}")


if __name__ == "__main__":
    main()
