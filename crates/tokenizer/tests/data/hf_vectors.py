"""Writes hf_vectors.txt: hashes of the ids that Hugging Face's tokenizers gives to random texts.

Run by hand: python hf_vectors.py FOLDER OUT COUNT, where FOLDER/NAME/tokenizer.json are the published tokenizers (needs
`tokenizers`). Texts come from the generator below, which tests/it/hf.rs repeats step for step; a line is NAME and, for each
text in order, 8 hexadecimal digits of FNV-1a over its ids. A failing text's ids can be had by running this by hand.
"""

import pathlib
import sys

from tokenizers import Tokenizer

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


def main():
    folder, out, count = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    lines = ["pieces " + " ".join(piece.encode().hex() or "-" for piece in PIECES)]
    for name in ["gptoss", "qwen2_5", "llama3", "gpt2"]:
        tokenizer = Tokenizer.from_file(str(folder / name / "tokenizer.json"))
        digests = [fnv(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts(count)]
        lines.append(name + " " + "".join(f"{digest:08x}" for digest in digests))
    pathlib.Path(out).write_text("\n".join(lines) + "\n")


main()
