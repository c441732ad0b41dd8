"""Writes hf_vectors.txt: hashes of the ids that Hugging Face's tokenizers gives to random texts.

Run by hand: python hf_vectors.py FOLDER GEMMA OUT COUNT, where FOLDER/NAME/tokenizer.json are the published tokenizers and GEMMA
is ggml-vocab-gemma-4.gguf, whose vocabulary is put into the pipeline of Gemma's tokenizer.json (needs `tokenizers` and `gguf`). Texts come from the generator below, which tests/it/hf.rs repeats step for step; a line is NAME and, for each
text in order, 8 hexadecimal digits of FNV-1a over its ids. A failing text's ids can be had by running this by hand.
"""

import pathlib
import sys

from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import Replace
from tokenizers.pre_tokenizers import Split

PIECES = [
    "a", "the", " the", "The", "THE", "don't", "I'LL", "we'Re", "'s", "'S", "'ſ", " '", "ſ", "camelCaseWord", "HTTPServer",
    "0", "12", "123", "1234", "1234567", "٣٤٥", "½", "Ⅻ", "²", "一二三", " ", "  ", "   ", "\t", "\t\t", "\n", "\n\n", "\r\n", " \n ",
    "\u00a0", "\u3000", "\u2003", "\u0085", "\u200b", "\u200d", ".", ",", "!", "?!", "...", "//", "/\n", "-", "--", "_", "(", ")", "{}", "[0]", "<|", "|>",
    "=", "==", "+=", "$", "€", "©", "°", "é", "e\u0301", "a\u0300\u0301", "\u0301", "Ａ", "ﬁ", "ß", "ẞ", "Ǆ", "ǅ", "ʰ", "ª", "中文", "漢字仮名", "ひらがな", "カタカナ", "한국어",
    "русский", "ΕΛΛΗΝΙΚΆ", "עברית", "العربية", "हिन्दी", "ไทย", "မြန်မာ", "ქართული", "🦀", "👩‍👩‍👧‍👦", "🇫🇷", "👍🏽", "❤️", "\ufe0f", "\u0000", "\u0007", "\ufeff", "\ue000", "\U00010400", "\U0001d49c",
    "aaaaaaaa", "abcabcabc", "Straße", "naïve", "x̂", "Việt", "İ", "ı", "ŉ", "`", "``", "'", "''", "\"", "'t", "'re", "'ve", "'m", "'ll", "'d", "'D", "LL", "°C", "%", "100%", "3.14", "1,000", "#", "@user", "https://a.b/c?d=e&f",
]


class Random:
    """xorshift64*, the high 32 bits."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        x = self.state
        x ^= x >> 12
        x ^= (x << 25) & 0xFFFFFFFFFFFFFFFF
        x ^= x >> 27
        self.state = x
        return (((x * 0x2545F4914F6CDD1D) & 0xFFFFFFFFFFFFFFFF) >> 32) % n


def texts(count):
    random = Random(88172645463325252)
    for _ in range(count):
        yield "".join(PIECES[random.below(len(PIECES))] for _ in range(1 + random.below(24)))


def fnv(ids):
    digest = 0x811C9DC5
    for id in ids:
        for byte in id.to_bytes(4, "little"):
            digest = ((digest ^ byte) * 0x01000193) & 0xFFFFFFFF
    return digest


def gemma(path):
    fields = GGUFReader(path).fields
    texts, kinds, merges = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type", "merges"))
    pairs = [(merge[: merge.index(" ", 1)], merge[merge.index(" ", 1) + 1 :]) for merge in merges]
    vocab = {text: id for id, text in enumerate(texts)}
    tokenizer = Tokenizer(BPE(vocab, pairs, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = Split(" ", "merged_with_previous")
    tokenizer.add_special_tokens([text for text, kind in zip(texts, kinds) if kind == 3])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text, kind in zip(texts, kinds) if kind == 4])
    return tokenizer


def main():
    folder, out, count = pathlib.Path(sys.argv[1]), sys.argv[3], int(sys.argv[4])
    lines = ["pieces " + " ".join(piece.encode().hex() or "-" for piece in PIECES)]
    tokenizers = {
        name: Tokenizer.from_file(str(folder / name / "tokenizer.json"))
        for name in ["gptoss", "qwen2_5", "llama3", "gpt2"]
    }
    tokenizers["gemma-4"] = gemma(sys.argv[2])
    for name, tokenizer in tokenizers.items():
        digests = [fnv(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts(count)]
        lines.append(name + " " + "".join(f"{digest:08x}" for digest in digests))
    pathlib.Path(out).write_text("\n".join(lines) + "\n")


main()
