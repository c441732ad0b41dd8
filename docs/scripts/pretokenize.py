#!/usr/bin/env python3
"""What the recipes of `tokenizer.ggml.pre` make of a text, with Hugging Face's `tokenizers`.

python pretokenize.py show TEXT                    each recipe's words of a text
python pretokenize.py check BINARY FOLDER TEXTS    worker-orcd and FOLDER/ggml-vocab-NAME.gguf: are the ids the same for each line of TEXTS?

Needs `tokenizers`, and `gguf` for the second. The recipes are those of crates/tokenizer/tests/data/pre_vectors.py.
"""

import json
import pathlib
import subprocess
import sys
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, models
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

VECTORS = pathlib.Path(__file__).parents[2] / "crates/tokenizer/tests/data/pre_vectors.py"
# That script writes its file when it is run, so its last line is left out.
RECIPES = {}
exec(VECTORS.read_text(encoding="utf-8").rsplit("\nmain()", 1)[0], RECIPES)
RECIPES = RECIPES["RECIPES"]

# Published vocabularies with vectors, and their recipes.
VOCABULARIES = {
    "gpt-2": "gpt-2", "starcoder": "smollm", "refact": "smollm", "command-r": "smollm", "mpt": "mpt", "falcon": "falcon", "llama-bpe": "llama-bpe",
    "qwen2": "qwen2", "qwen35": "qwen35", "deepseek-llm": "deepseek-llm", "deepseek-coder": "deepseek-coder",
}
COMPOSED, WHOLE_WORDS = {"qwen2", "mpt"}, {"llama-bpe"}


def splits(recipe):
    return [Split(Regex(pattern), "isolated") for pattern in RECIPES[recipe]]


def show(text):
    for recipe in RECIPES:
        cut = [word for word, _ in Sequence(splits(recipe)).pre_tokenize_str(text)]
        print(f"{recipe:24} {'|'.join(word.replace(chr(10), '⏎').replace(' ', '␣') for word in cut)}")


def reference(path, recipe):
    from gguf import GGUFReader

    field = {key: value.contents() for key, value in GGUFReader(path).fields.items() if key.startswith("tokenizer.ggml.")}
    tokens, kinds = field["tokenizer.ggml.tokens"], field["tokenizer.ggml.token_type"]
    vocab = {token: n for n, token in enumerate(tokens)}
    merges = [(merge[:merge.index(" ", 1)], merge[merge.index(" ", 1) + 1:]) for merge in field["tokenizer.ggml.merges"]]
    known = [(a, b) for a, b in merges if a in vocab and b in vocab and a + b in vocab]
    tokenizer = Tokenizer(models.BPE(vocab, known, ignore_merges=recipe in WHOLE_WORDS))
    tokenizer.pre_tokenizer = Sequence(splits(recipe) + [ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token, kind in zip(tokens, kinds) if kind == 4])
    return tokenizer


def check(binary, folder, path):
    texts = [line for line in pathlib.Path(path).read_text(encoding="utf-8").split("\n") if line]
    lines = "\n".join(json.dumps(text) for text in texts)
    for name, recipe in VOCABULARIES.items():
        file = pathlib.Path(folder) / f"ggml-vocab-{name}.gguf"
        run = subprocess.run([binary, "-q", "tokenize", "--model", file, "--jsonl"], input=lines, capture_output=True, text=True, check=True)
        found = [json.loads(line) for line in run.stdout.splitlines()]
        tokenizer = reference(file, recipe)
        compose = (lambda text: unicodedata.normalize("NFC", text)) if recipe in COMPOSED else str
        expected = [tokenizer.encode(compose(text), add_special_tokens=False).ids for text in texts]
        differ = [text for text, a, b in zip(texts, expected, found) if a != b]
        print(f"{name:15} {len(texts) - len(differ)} of {len(texts)} texts have the same ids {differ[:1]}")


if __name__ == "__main__":
    {"show": lambda: show(sys.argv[2]), "check": lambda: check(*sys.argv[2:5])}[sys.argv[1]]()
