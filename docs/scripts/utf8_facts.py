#!/usr/bin/env python3
"""How tokens and characters meet: python utf8_facts.py FOLDER, where FOLDER/NAME/tokenizer.json are published tokenizers (needs `tokenizers`).

Prints how many tokens of each vocabulary are no UTF-8 by themselves, and the bytes of the tokens of some characters. Then what Python's decoder,
which replaces maximal subparts as Unicode recommends, makes of broken bytes.
"""

import pathlib
import sys

from tokenizers import Tokenizer

from bpe import byte_table

CHARACTERS = ["é", "中文", "한국어", "क्षि", "😁", "🇫🇷", "👩‍👩‍👧‍👦"]
BROKEN = ["f09f98", "f09f9841", "e282", "c0af", "eda080", "f4908080", "e29c8585", "ff"]

of_char = {char: byte for byte, char in byte_table().items()}


def spelt(token):
    return bytes(of_char[char] for char in token)


def is_text(token):
    try:
        spelt(token).decode()
    except UnicodeDecodeError:
        return False
    except KeyError:
        pass  # Added later, and spelt as it is.
    return True


for path in sorted(pathlib.Path(sys.argv[1]).glob("*/tokenizer.json")):
    tokenizer = Tokenizer.from_file(str(path))
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    broken = sum(not is_text(token) for token in vocabulary)
    print(f"{path.parent.name}: {broken} of {len(vocabulary)} tokens are no UTF-8")
    for text in CHARACTERS:
        tokens = tokenizer.encode(text, add_special_tokens=False).tokens
        print(f"  {text} {len(text.encode())} bytes: {' | '.join(spelt(token).hex(' ') for token in tokens)}")
for bytes_ in BROKEN:
    print(bytes.fromhex(bytes_).hex(" "), ascii(bytes.fromhex(bytes_).decode(errors="replace")))
