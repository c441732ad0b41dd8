"""Sizes of published models, from their shapes: parameters, bytes of weights by format, bytes of the KV cache. The table of which-model.md.

    python3 docs/scripts/model_sizes.py write | check

Weights count every matrix and norm once. The KV cache is in float16, for one sequence; layers with a window are counted as far as the window
and the engine's reserve for one slot on a GPU go (docs/src/memory.md). GB are 10^9 bytes, as file lists show them. `write` puts the table
into the page, `check` ends with 1 where it differs.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "src/which-model.md"
# Bits a weight.
FORMATS = {"Q4_K": 4.5, "Q6_K": 6.5625, "Q8_0": 8.5, "F16": 16}
# Positions of a page of the cache on a GPU, and rows of a step.
POSITIONS, STEP = 64, 2048


@dataclass
class Model:
    """The shapes of a decoder with gated feed-forwards."""

    name: str
    layers: int
    width: int
    heads: tuple[int, int, int]  # of queries, of keys, values in a head
    feed_forward: int
    vocabulary: int
    tied: bool
    experts: int = 1
    biases: bool = False
    norms: int = 2
    head_norms: bool = False
    local: int = 0  # layers with a window
    window: int = 0

    def parameters(self):
        h, k, d = self.heads
        attention = self.width * d * (2 * h + 2 * k) + (d * (h + 2 * k) if self.biases else 0) + (2 * d if self.head_norms else 0)
        router = self.width * self.experts if self.experts > 1 else 0
        layer = attention + 3 * self.width * self.feed_forward * self.experts + router + self.norms * self.width
        return self.layers * layer + self.width + self.vocabulary * self.width * (1 if self.tied else 2)

    def cache(self, n):
        """Bytes of keys and values for `n` tokens."""
        _, k, d = self.heads
        pages = -(-n // POSITIONS)
        kept = -(-(self.window - 1) // POSITIONS) if self.local else 0
        windows = min(pages, (2 * kept + 2) + kept + STEP // POSITIONS)
        return 4 * k * d * POSITIONS * ((self.layers - self.local) * pages + self.local * windows)


MODELS = [
    Model("SmolLM2-135M", 30, 576, (9, 3, 64), 1536, 49152, True),
    Model("Qwen2.5-0.5B", 24, 896, (14, 2, 64), 4864, 151936, True, biases=True),
    Model("Qwen3-0.6B", 28, 1024, (16, 8, 128), 3072, 151936, True, head_norms=True),
    Model("Llama-3.2-1B", 16, 2048, (32, 8, 64), 8192, 128256, True),
    Model("Qwen3-1.7B", 28, 2048, (16, 8, 128), 6144, 151936, True, head_norms=True),
    Model("SmolLM3-3B", 36, 2048, (16, 4, 128), 11008, 128256, True),
    Model("Qwen3-4B", 36, 2560, (32, 8, 128), 9728, 151936, True, head_norms=True),
    Model("Llama-3.1-8B", 32, 4096, (32, 8, 128), 14336, 128256, False),
    Model("Qwen3-8B", 36, 4096, (32, 8, 128), 12288, 151936, False, head_norms=True),
    Model("Gemma 3 12B", 48, 3840, (16, 8, 256), 15360, 262208, True, norms=4, head_norms=True, local=40, window=1024),
    Model("Qwen3-14B", 40, 5120, (40, 8, 128), 17408, 151936, False, head_norms=True),
    Model("Qwen3-30B-A3B", 48, 2048, (32, 4, 128), 768, 151936, False, experts=128, head_norms=True),
    Model("Qwen2.5-32B", 64, 5120, (40, 8, 128), 27648, 152064, False, biases=True),
]


def row(model):
    n = model.parameters()
    sizes = [f"{n * bits / 8 / 1e9:.2f}" if n < 4e9 else f"{n * bits / 8 / 1e9:.1f}" for bits in FORMATS.values()]
    caches = [f"{model.cache(tokens) / 1e9:.2f}" for tokens in (4096, 32768)]
    return "| " + " | ".join([model.name, f"{n / 1e9:.2f}", *sizes, *caches]) + " |"


def main(mode):
    head = "| model | parameters, 10⁹ | " + " | ".join(FORMATS) + " | KV 4k | KV 32k |"
    table = "\n".join([head, "|---|" + "---:|" * 7, *map(row, MODELS)])
    old = PAGE.read_text(encoding="utf-8")
    new = re.sub(r"(<!-- sizes: begin -->\n).*(<!-- sizes: end -->)", lambda ends: f"{ends[1]}\n{table}\n\n{ends[2]}", old, flags=re.S)
    if mode == "write":
        PAGE.write_text(new, encoding="utf-8")
    elif new != old:
        sys.exit(f"{PAGE.name}: the table is not that of model_sizes.py; run it with `write`")


if __name__ == "__main__":
    main(sys.argv[1])
