"""The yardstick of encode.rs: python encode.py TOKENIZER.json TEXT (needs `tokenizers`; one thread)."""

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import statistics
import sys
import time

from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file(sys.argv[1])
text = open(sys.argv[2], encoding="utf-8", newline="").read()
seconds = []
for _ in range(7):
    start = time.perf_counter()
    n_ids = len(tokenizer.encode(text, add_special_tokens=False).ids)
    seconds.append(time.perf_counter() - start)
print(f"tokenizers: {n_ids} ids, {len(text.encode()) / 1e6 / statistics.median(seconds):.1f} MB/s")
