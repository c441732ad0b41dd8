#!/usr/bin/env python3
"""Byte-level BPE as the reference page states it, in plain Python, and what other rules would give.

python bpe.py check FOLDER TEXT...       FOLDER/NAME/tokenizer.json: compares every rule with Hugging Face's `tokenizers`
python bpe.py trace TOKENIZER.json WORD  the merges of one word, step by step

Needs `tokenizers`. Words are cut by the tokenizer's own pre-tokeniser, so only merging is compared.
"""

import json
import pathlib
import sys

from tokenizers import Tokenizer


def byte_table():
    """GPT-2's table: the character that stands for each byte."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table, n = {}, 0
    for byte in range(256):
        table[byte] = chr(byte) if byte in shown else chr(0x100 + n)
        n += byte not in shown
    return table


class Bpe:
    def __init__(self, path):
        model = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))["model"]
        self.vocab = model["vocab"]
        pairs = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
        self.rank = {}
        for n, pair in enumerate(pairs):
            self.rank.setdefault(pair, n)
        self.pairs = pairs
        self.ignore_merges = model.get("ignore_merges", False)

    def lowest_leftmost(self, word, trace=None):
        """The rule: of all neighbours that a merge names, join the one of lowest rank, the leftmost of equals; again and again."""
        parts = list(word)
        while True:
            ranks = [(self.rank[pair], i) for i, pair in enumerate(zip(parts, parts[1:])) if pair in self.rank]
            if not ranks:
                return parts
            rank, i = min(ranks)
            parts[i:i + 2] = [parts[i] + parts[i + 1]]
            if trace is not None:
                trace.append((rank, list(parts)))

    def all_at_once(self, word):
        """Join every place of the lowest pair, from the left, before looking again."""
        parts = list(word)
        while True:
            ranks = [self.rank[pair] for pair in zip(parts, parts[1:]) if pair in self.rank]
            if not ranks:
                return parts
            left, right = self.pairs[min(ranks)]
            joined, i = [], 0
            while i < len(parts):
                both = i + 1 < len(parts) and (parts[i], parts[i + 1]) == (left, right)
                joined.append(left + right if both else parts[i])
                i += 2 if both else 1
            parts = joined

    def by_token_id(self, word):
        """tiktoken's rule: the key of a pair is the id of what it makes, whether a merge names the pair or not."""
        parts = list(word)
        while True:
            ids = [(self.vocab[a + b], i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in self.vocab]
            if not ids:
                return parts
            _, i = min(ids)
            parts[i:i + 2] = [parts[i] + parts[i + 1]]

    def most_frequent(self, word):
        """The rule of training, misapplied: join the pair that occurs most often in the word, the lowest rank of equals."""
        parts = list(word)
        while True:
            seen = [pair for pair in zip(parts, parts[1:]) if pair in self.rank]
            if not seen:
                return parts
            best = min(set(seen), key=lambda pair: (-seen.count(pair), self.rank[pair]))
            i = next(i for i, pair in enumerate(zip(parts, parts[1:])) if pair == best)
            parts[i:i + 2] = [parts[i] + parts[i + 1]]

    def longest_match(self, word):
        """Take the longest token that the rest begins with."""
        parts, at = [], 0
        while at < len(word):
            end = next(end for end in range(len(word), at, -1) if word[at:end] in self.vocab)
            parts.append(word[at:end])
            at = end
        return parts


RULES = ["lowest_leftmost", "all_at_once", "by_token_id", "longest_match", "most_frequent"]


def check(folder, texts):
    text = "".join(pathlib.Path(path).read_text(encoding="utf-8") for path in texts)
    for path in sorted(pathlib.Path(folder).glob("*/tokenizer.json")):
        hugging_face, bpe = Tokenizer.from_file(str(path)), Bpe(path)
        if hugging_face.normalizer:
            text = hugging_face.normalizer.normalize_str(text)
        words = sorted({word for word, _ in hugging_face.pre_tokenizer.pre_tokenize_str(text)})
        whole = [bpe.ignore_merges and word in bpe.vocab for word in words]
        # `model.tokenize` wants the spelling of the byte table, which the pre-tokeniser has given.
        expected = [[token.value for token in hugging_face.model.tokenize(word)] for word in words]
        print(f"{path.parent.name}: {len(words)} different words, {sum(whole)} taken whole by ignore_merges")
        for rule in RULES:
            found = [[word] if keep else getattr(bpe, rule)(word) for word, keep in zip(words, whole)]
            differ = [(word, a, b) for word, a, b in zip(words, expected, found) if a != b]
            example = min(differ, key=lambda d: (len(d[0]), d[0])) if differ else ""
            print(f"  {rule:16} {len(differ):6} differ {len(differ) / len(words):8.3%} {example}")
        merged = [word for word in words if bpe.ignore_merges and word in bpe.vocab and bpe.lowest_leftmost(word) != [word]]
        print(f"  without ignore_merges {len(merged)} words would be cut: {merged[:3]}")


def trace(path, word):
    hugging_face, bpe, steps = Tokenizer.from_file(path), Bpe(path), []
    (spelt, _), = hugging_face.pre_tokenizer.pre_tokenize_str(word)
    bpe.lowest_leftmost(spelt, steps)
    print(" ".join(spelt))
    for rank, parts in steps:
        print(f"{rank:7}  {' '.join(parts)}")
    print([bpe.vocab[part] for part in (steps[-1][1] if steps else spelt)], hugging_face.encode(word, add_special_tokens=False).ids)


if __name__ == "__main__":
    {"check": lambda: check(sys.argv[2], sys.argv[3:]), "trace": lambda: trace(*sys.argv[2:4])}[sys.argv[1]]()
