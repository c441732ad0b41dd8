#!/usr/bin/env python3
"""Input for merge_time.c: python merge_words.py TOKENIZER.json TEXT (needs `tokenizers`). Also says on stderr how words of the text are.

Words are the text's letters without its spaces, cut to a length, as an unbroken word is: 64 different ones of each length.
"""

import collections
import json
import pathlib
import sys

from tokenizers import Tokenizer

from bpe import Bpe, byte_table

bpe, text = Bpe(sys.argv[1]), pathlib.Path(sys.argv[2]).read_text(encoding="utf-8")
table = byte_table()
lines = [f"{bpe.vocab[a]} {bpe.vocab[b]} {bpe.vocab[a + b]}" for a, b in bpe.pairs]
print(len(lines), *lines, sep="\n")
letters = [bpe.vocab[table[byte]] for byte in "".join(c for c in text if c.isascii() and c.isalpha()).encode()]
for length in [2, 4, 6, 8, 12, 16, 24, 32, 40, 48, 56, 64, 96, 128, 256, 512, 1024, 2048, 4096]:
    for n in range(64):
        start = n * 4099 % (len(letters) - length)
        print(length, *letters[start:start + length])

words = [word for word, _ in Tokenizer.from_file(sys.argv[1]).pre_tokenizer.pre_tokenize_str(text)]
counts = collections.Counter(words)
lengths = sorted(len(word) for word in words)
whole = sum(n for word, n in counts.items() if word in bpe.vocab)
at = lambda share: lengths[int(share * (len(lengths) - 1))]
print(json.dumps({"words": len(words), "different": len(counts), "tokens themselves": round(whole / len(words), 4), "bytes, median": at(0.5),
                  "99 of 100": at(0.99), "longest": lengths[-1]}), file=sys.stderr)
