"""Writes pre_vectors.json: where Hugging Face's tokenizers cut random texts with the published patterns.

Run by hand: python pre_vectors.py OUT COUNT (needs `tokenizers`). A recipe is a list of patterns, each cutting the pieces of the
one before (the pre-tokeniser Split, Isolated). The patterns are those of the models' tokenizer.json or tokenization code, as
published and as quoted by llama.cpp's llama-vocab.cpp. For each text, in order, a recipe has 8 hexadecimal digits of FNV-1a over
the ends of its pieces, counted in bytes of UTF-8 and written as 4 bytes, the lowest first. Names are the first of each recipe in
src/pretokenize/recipes.rs.
"""

import json
import random
import sys

from tokenizers import Regex
from tokenizers.pre_tokenizers import Sequence, Split

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
NO_HAN = [kind[:-1] + r"&&[^\p{Han}]]" for kind in (UPPER, LOWER)]


def words(digits, contractions=CONTRACTIONS + "|", tail=r"[\r\n]*"):
    return rf"{contractions}[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+{tail}|{SPACES}"


def cased(digits, ending=CONTRACTIONS + "?", tail=r"[\r\n/]*", upper=UPPER, lower=LOWER):
    before = r"[^\r\n\p{L}\p{N}]?"
    return (
        rf"{before}{upper}*{lower}+{ending}|{before}{upper}+{lower}*{ending}|{digits}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+{tail}|{SPACES}"
    )


ONE, THREE = r"\p{N}", r"\p{N}{1,3}"
HAN_OR_KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
EAST_ASIAN = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
DEEPSEEK_WORDS = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+"
)
DEEPSEEK_LETTERS = (
    "[A-Za-z\xb5\xc0-\xd6\xd8-\xf6\xf8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-"
    "\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-"
    "\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15"
    "\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc"
    "\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107"
    "\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149"
    "\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f"
    "\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
    "\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df"
    "\U0001e900-\U0001e943]+"
)
YOUTU = "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+|[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"

RECIPES = {
    "gpt-2": [GPT2],
    "mpt": [GPT2],
    "smollm": [ONE, GPT2],
    "llama-bpe": [words(THREE)],
    "dbrx": [words(THREE)],
    "glm4": [words(THREE)],
    "minicpm5": [THREE, words(r"\p{N}+")],
    "qwen2": [words(ONE)],
    "qwen35": [
        rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{SPACES}"
    ],
    "deepseek-r1-qwen": [words(ONE)],
    "bailingmoe": [
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
    ],
    "laguna": [r"[^\n]+|[\n]+", words(ONE)],
    "ufakzeka": [words(ONE, contractions="")],
    "seed-coder": [
        rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
    ],
    "gpt-4o": [cased(THREE)],
    "granite-embed-multi-97m": [cased(THREE)],
    "youtu": [YOUTU, cased(ONE)],
    "kimi-k2": [r"[\p{Han}]+|" + cased(THREE, tail=r"[\r\n]*", upper=NO_HAN[0], lower=NO_HAN[1])],
    "tekken": [cased(ONE, ending="")],
    "deepseek-llm": [
        r"[\r\n]", r"\s?" + DEEPSEEK_LETTERS, "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$", EAST_ASIAN, r"\p{N}+"
    ],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", EAST_ASIAN, ONE],
    "deepseek-v3": [THREE, HAN_OR_KANA, rf"{DEEPSEEK_WORDS}[\r\n]*|{SPACES}"],
    "spark2_5": [THREE, HAN_OR_KANA, DEEPSEEK_WORDS + r"|[\r\n]|\s+(?!\S)|\s+", ONE],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
    "superbpe": [r"\p{N}+", r"(?=(\d{3})+(?!\d))"],
    "bloom": [BLOOM],
    "viking": [BLOOM, ONE],
}

PIECES = (
    "a|the| the|The|THE|don't|I'LL|we'Re|'s|'S|'ſ| '|ſ|camelCaseWord|HTTPServer|0|12|123|1234|1234567|٣٤٥٦|½|Ⅻ|²|〇|〡〢|一二三| |  |   |\t|"
    "\n|\n\n|\r\n| \n |\u00a0|\u3000|\u2003|\u0085|\u200b|\u200d|.|,|!|?!|...|//|/|/\n|-|_|(|)|{}|[0]|<|>|=|+=|$|€|©|°|é|e\u0301|\u0301|Ａ|ﬁ|ß|ẞ|Ǆ|ǅ|ʰ|"
    "ª|中文|漢字仮名|々|〻|⺀|㐀|龦|ひらがな|カタカナ|ー|한국어|ㄱㆎ|ㄅㄯ|！|…|“|”|—|，|、|。|〿|︰|русский|ΕΛΛΗΝΙΚΆ|ʓʕ|עברית|العربية|،|۔|हिन्दी|।|ไทย|မြန်မာ|ქართული|Ⴀ|🦀|"
    "👩‍👩‍👧‍👦|👍🏽|❤️|\ufe0f|\u0000|\u0007|\ufeff|\ue000|\U00010400|\U0001d49c|\U00020000|\U0002f800|aaaaaaaa|x̂|İ|ı|`|'|''|\"|'t|'re|'ve|'m|'ll|'d|'D|LL|%|3.14|1,000|#"
).split("|") + ["|", "|>", "<|"]


def fnv(ends):
    digest = 0x811C9DC5
    for end in ends:
        for byte in end.to_bytes(4, "little"):
            digest = ((digest ^ byte) * 0x01000193) & 0xFFFFFFFF
    return digest


def ends(pieces):
    at = 0
    for piece in pieces:
        at += len(piece.encode())
        yield at


def main():
    out, count = sys.argv[1], int(sys.argv[2])
    source = random.Random(1)
    texts = ["".join(source.choices(PIECES, k=source.randint(1, 24))) for _ in range(count)]
    digests = {}
    for name, patterns in RECIPES.items():
        cutter = Sequence([Split(Regex(pattern), "isolated") for pattern in patterns])
        cut = ((text, [piece for piece, _ in cutter.pre_tokenize_str(text)]) for text in texts)
        digests[name] = []
        for text, pieces in cut:
            assert "".join(pieces) == text, (name, text, pieces)
            digests[name].append(f"{fnv(ends(pieces)):08x}")
        digests[name] = "".join(digests[name])
    with open(out, "w") as file:
        json.dump({"texts": texts, "digests": digests}, file, ensure_ascii=True, indent=0)
        file.write("\n")


main()
