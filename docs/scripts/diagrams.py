#!/usr/bin/env python3
"""Draws the diagrams of the reference pages: python diagrams.py FOLDER SMALL.gguf (small_file.py writes the latter).

Each is one SVG with its own background, so that it can be read in any theme; 360 units wide, so that its text can be read on a phone.
"""

import html
import pathlib
import sys

WIDTH, EDGE = 360, 8
STYLE = """
svg{font-family:system-ui,sans-serif}
.paper{fill:#fff;stroke:#d0d7de}.text{fill:#1f2328;font-size:13px}.head{font-weight:600;font-size:14px}.dim{fill:#59636e;font-size:12px}
.mono{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:12px}
.box{stroke:#1f232866}.a{fill:#cfe3ff}.b{fill:#d3f2d4}.c{fill:#ffe2b8}.d{fill:#ead9ff}.e{fill:#ffd6e0}.f{fill:#e6eaef}.g{fill:#c9f0ee}.line{stroke:#59636e;fill:none}
@media (prefers-color-scheme:dark){.paper{fill:#161b22;stroke:#3d444d}.text{fill:#f0f6fc}.dim{fill:#c3cfda}.box{stroke:#f0f6fc66}
.a{fill:#1f4b85}.b{fill:#1f5a2d}.c{fill:#7a4a00}.d{fill:#553a8a}.e{fill:#7d2a42}.f{fill:#3a424c}.g{fill:#14605c}.line{stroke:#9fb0c0}}
"""


class Drawing:
    def __init__(self, title, text):
        self.title, self.text, self.parts, self.y = title, text, [], 10

    def write(self, at, y, text, css="text", anchor="middle"):
        self.parts.append(f'<text x="{at:g}" y="{y:g}" class="{css}" text-anchor="{anchor}">{html.escape(text)}</text>')

    def box(self, x, y, width, height, css, lines=(), small="text"):
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" class="box {css}"/>')
        step = 15
        first = y + height / 2 - step * (len(lines) - 1) / 2 + 4.5
        for n, line in enumerate(lines):
            self.write(x + width / 2, first + n * step, line, small if n == 0 else "text dim")

    def head(self, text):
        assert len(text) <= 45, text
        self.y += 16
        self.write(EDGE + 2, self.y, text, "text head", "start")
        self.y += 6

    def note(self, text):
        assert len(text) <= 57, text
        self.y += 14
        self.write(EDGE + 2, self.y, text, "text dim", "start")
        self.y += 3

    def row(self, cells, height=38, ruler=None):
        """Boxes beside each other: (lines, share of the width, colour)."""
        if ruler:
            self.y += 13
            unit = (WIDTH - 2 * EDGE) / len(ruler)
            for n, number in enumerate(ruler):
                self.write(EDGE + unit * (n + 0.5), self.y, number, "text dim")
            self.y += 3
        total = sum(share for _, share, _ in cells)
        x = EDGE
        for lines, share, css in cells:
            width = (WIDTH - 2 * EDGE) * share / total
            self.box(x, self.y, width, height, css, [lines] if isinstance(lines, str) else lines)
            x += width
        self.y += height + 5

    def fields(self, *fields):
        """A block's parts in order: (name, bytes, colour); shows each one's byte range."""
        at, cells = 0, []
        for name, size, css in fields:
            span = str(at) if size == 1 else f"{at}–{at + size - 1}"
            cells.append(((name, span), 2.2 + size ** 0.33, css))
            at += size
        self.row(cells)

    def byte(self, *cells):
        """One byte, bit 7 at the left: (text, bits, colour)."""
        assert sum(bits for _, bits, _ in cells) == 8
        self.row(cells, 26 if all(isinstance(text, str) for text, _, _ in cells) else 38, "76543210")

    def word(self, bits, *cells):
        """One little-endian integer, its highest bit at the left."""
        assert sum(n for _, n, _ in cells) == bits
        self.row([((text, str(n) + (" bits" if n > 1 else "")), max(n, 3), css) for text, n, css in cells], 38)

    def save(self, folder, name):
        height = self.y + 8
        body = "\n".join(self.parts)
        path = pathlib.Path(folder) / f"{name}.svg"
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="432" height="{height * 1.2:g}" role="img">\n'
            f"<title>{html.escape(self.title)}</title>\n<desc>{html.escape(self.text)}</desc>\n<style>{STYLE}</style>\n"
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}" rx="6" class="paper"/>\n{body}\n</svg>\n',
            encoding="utf-8",
        )


def layout(folder):
    d = Drawing("The layout of a GGUF file", "Header, metadata, tensor entries, padding, tensor data, from the first byte to the last")
    for name, parts, css in [
        ("Header, 24 bytes", [["magic", "GGUF"], ["version", "u32"], ["tensors", "u64"], ["keys", "u64"]], "a"),
        ("Metadata, one after the other, for each key", [["key", "string"], ["type", "u32"], ["value", "by type"]], "b"),
        ("Tensor entries, for each tensor", [["name", "string"], ["n_dims", "u32"], ["dims", "u64 each"], ["type", "u32"], ["offset", "u64"]], "c"),
        ("Padding", [["zeros up to a multiple of general.alignment"]], "f"),
    ]:
        d.head(name)
        d.row([(part, 1, css) for part in parts], 38 if len(parts) > 1 else 26)
    d.head("Tensor data: offsets count from here")
    d.row([(["tensor 0", "offset 0"], 3, "d"), (["pad"], 1, "f"), (["tensor 1", "aligned"], 3, "d"), (["pad"], 1, "f"), (["…"], 1, "d")])
    d.note("Fields before the data are not aligned: they may start")
    d.note("at any byte. All numbers are little-endian.")
    d.save(folder, "gguf-layout")


def string_and_array(folder):
    d = Drawing("Strings and arrays in GGUF", "A string is a length and bytes; an array is an element type, a length and the elements")
    d.head("string")
    d.row([(["length n", "u64"], 2, "a"), (["n bytes, no zero at the end", "UTF-8"], 4, "b")])
    d.head("array of numbers")
    d.row([(["type", "u32"], 1.2, "c"), (["length n", "u64"], 1.6, "a"), (["n numbers", "no padding"], 3, "b")])
    d.head("array of strings")
    d.row([(["type", "8"], 1.2, "c"), (["n", "u64"], 1, "a"), (["length", "u64"], 1.2, "a"), (["bytes"], 1, "b"), (["length", "u64"], 1.2, "a"), (["bytes"], 1, "b")])
    d.head("array of arrays")
    d.row([(["type", "9"], 1, "c"), (["n", "u64"], 1, "a"), (["type", "u32"], 1, "c"), (["n", "u64"], 1, "a"), (["elements"], 1.6, "b"), (["…"], 0.6, "c")])
    d.note("In version 1 lengths have 32 bits in place of 64.")
    d.save(folder, "gguf-values")


def small_file(folder, path):
    data = pathlib.Path(path).read_bytes()
    d = Drawing("A small GGUF file, byte by byte", "352 bytes in rows of 16; each colour is a part of the file as the legend says")
    marks = [(24, "a"), (153, "b"), (230, "c"), (256, "f"), (268, "d"), (288, "f"), (324, "g"), (352, "f")]
    assert len(data) == 352
    unit, left = 19.8, 36
    for start in range(0, len(data), 16):
        at = start
        for end, name in marks:
            if at < end and at < start + 16:
                width = (min(end, start + 16) - at) * unit
                d.parts.append(f'<rect x="{left + unit * (at - start):g}" y="{d.y:g}" width="{width:g}" height="17" class="{name}"/>')
                at = min(end, start + 16)
        d.write(left - 4, d.y + 13, f"{start:03x}", "text dim mono", "end")
        row = data[start:start + 16].hex(" ")
        d.parts.append(f'<text x="{left + 2.4:g}" y="{d.y + 13:g}" class="text mono" textLength="{16 * unit - 5:g}">{row}</text>')
        d.y += 17.5
    d.y += 6
    legend = [("a", "header"), ("b", "keys"), ("c", "tensor entries"), ("f", "padding")], [("d", "norm: 3 of F32"), ("g", "w: 2 blocks of Q4_0")]
    for line in legend:
        x = EDGE
        for name, text in line:
            d.parts.append(f'<rect x="{x}" y="{d.y}" width="14" height="14" rx="2" class="box {name}"/>')
            d.write(x + 19, d.y + 12, text, "text", "start")
            x += 30 + 7.1 * len(text)
        d.y += 20
    d.save(folder, "gguf-small-file")


def blocks_32(folder):
    d = Drawing("Blocks of 32 weights", "Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4 and NVFP4: fields with byte ranges, and the bits of their bytes")
    d.head("Q4_0, IQ4_NL: 18 bytes")
    d.fields(("d", 2, "a"), ("qs", 16, "b"))
    d.note("byte j of qs, j below 16; the same in those below")
    d.byte(("weight j + 16", 4, "b"), ("weight j", 4, "g"))
    d.head("Q4_1: 20 bytes")
    d.fields(("d", 2, "a"), ("m", 2, "c"), ("qs", 16, "b"))
    d.head("Q5_0: 22 bytes")
    d.fields(("d", 2, "a"), ("qh", 4, "d"), ("qs", 16, "b"))
    d.note("qh, a u32: bit i is the fifth bit of weight i")
    d.row([(["31", "w31"], 1, "d"), (["30", "w30"], 1, "d"), (["…"], 4, "d"), (["1", "w1"], 1, "d"), (["0", "w0"], 1, "d")])
    d.head("Q5_1: 24 bytes")
    d.fields(("d", 2, "a"), ("m", 2, "c"), ("qh", 4, "d"), ("qs", 16, "b"))
    d.head("Q8_0: 34 bytes")
    d.fields(("d", 2, "a"), ("qs: 32 × i8", 32, "b"))
    d.head("MXFP4: 17 bytes")
    d.fields(("e", 1, "a"), ("qs", 16, "b"))
    d.note("e: an exponent (E8M0); a weight: 4 bits (E2M1)")
    d.row([(["sign"], 1, "e"), (["exponent", "2 bits"], 2, "c"), (["mantissa", "1 bit"], 1, "d")])
    d.head("NVFP4: 36 bytes for 64 weights")
    d.fields(("d: 4 × UE4M3", 4, "a"), ("qs: 4 groups of 8 bytes", 32, "b"))
    d.note("byte j of group g, j from 0 to 7")
    d.byte(("16g + j + 8", 4, "b"), ("16g + j", 4, "g"))
    d.save(folder, "blocks-32")


def blocks_k(folder):
    d = Drawing("K-quants: blocks of 256 weights", "Q2_K, Q3_K, Q4_K, Q5_K and Q6_K: fields with byte ranges, and the bits of their bytes")
    d.head("Q2_K: 84 bytes, 16 groups of 16")
    d.fields(("scales", 16, "c"), ("qs", 64, "b"), ("d", 2, "a"), ("dmin", 2, "a"))
    d.note("scales[g]")
    d.byte(("minimum of group g", 4, "e"), ("scale of group g", 4, "c"))
    d.note("qs[32h + j], j from 0 to 31, half h; n = 128h + j")
    d.byte(("n + 96", 2, "b"), ("n + 64", 2, "g"), ("n + 32", 2, "b"), ("n", 2, "g"))
    d.head("Q3_K: 110 bytes, 16 groups of 16")
    d.fields(("hmask", 32, "d"), ("qs", 64, "b"), ("scales", 12, "c"), ("d", 2, "a"))
    d.note("hmask[j]: the third bit of weight 32k + j is bit k")
    d.byte(*[(f"{32 * k}+j" if k else "j", 1, "d") for k in range(7, -1, -1)])
    d.note("scales 0–7: low four bits of groups g and g + 8")
    d.byte(("group g + 8", 4, "c"), ("group g", 4, "c"))
    d.note("scales 8–11, byte 8 + g: upper two bits")
    d.byte(("g + 12", 2, "e"), ("g + 8", 2, "e"), ("g + 4", 2, "e"), ("g", 2, "e"))
    d.head("Q4_K: 144 bytes, 8 groups of 32")
    d.fields(("d", 2, "a"), ("dmin", 2, "a"), ("scales", 12, "c"), ("qs", 128, "b"))
    d.note("scales[g], g from 0 to 3 (s: scale, m: minimum)")
    d.byte((("s of g+4", "upper 2"), 2, "e"), ("s of group g", 6, "c"))
    d.note("scales[4 + g]")
    d.byte((("m of g+4", "upper 2"), 2, "e"), ("m of group g", 6, "c"))
    d.note("scales[8 + g]; upper two bits are in the bytes above")
    d.byte(("m of g + 4, low 4", 4, "e"), ("s of g + 4, low 4", 4, "c"))
    d.note("qs[32p + j], pair of groups p from 0 to 3")
    d.byte(("64p + 32 + j", 4, "b"), ("64p + j", 4, "g"))
    d.head("Q5_K: 176 bytes, 8 groups of 32")
    d.fields(("d", 2, "a"), ("dmin", 2, "a"), ("scales", 12, "c"), ("qh", 32, "d"), ("qs", 128, "b"))
    d.note("qh[j]: the fifth bit of weight 32k + j is bit k")
    d.byte(*[(f"{32 * k}+j" if k else "j", 1, "d") for k in range(7, -1, -1)])
    d.head("Q6_K: 210 bytes, 16 groups of 16")
    d.fields(("ql", 128, "b"), ("qh", 64, "d"), ("scales: i8", 16, "c"), ("d", 2, "a"))
    d.note("ql[64h + j], j from 0 to 63, half h")
    d.byte(("128h + 64 + j", 4, "b"), ("128h + j", 4, "g"))
    d.note("qh[32h + j], j below 32: upper two bits; n = 128h + j")
    d.byte(("n + 96", 2, "d"), ("n + 64", 2, "e"), ("n + 32", 2, "d"), ("n", 2, "e"))
    d.save(folder, "blocks-k")


def blocks_iq(folder):
    d = Drawing("IQ formats: blocks of 256 weights", "IQ4_XS, IQ3_S, IQ3_XXS, IQ2_S, IQ2_XS, IQ2_XXS, IQ1_M and IQ1_S: fields with byte ranges, and their words")
    d.head("IQ4_XS: 136 bytes, 8 groups of 32")
    d.fields(("d", 2, "a"), ("scales_h", 2, "e"), ("scales_l", 4, "c"), ("qs", 128, "b"))
    d.note("scales_l[k]; scales_h: two more bits a group, 0 first")
    d.byte(("group 2k + 1", 4, "c"), ("group 2k", 4, "c"))
    d.head("IQ3_S: 110 bytes, 8 groups of 32")
    d.fields(("d", 2, "a"), ("qs", 64, "b"), ("qh", 8, "d"), ("signs", 32, "e"), ("scales", 4, "c"))
    d.note("qh[g]: bit k is the ninth bit of the index qs[8g + k]")
    d.note("signs[n]: bit j is set where weight 8n + j is negative")
    d.head("IQ3_XXS: 98 bytes, 8 groups of 32")
    d.fields(("d", 2, "a"), ("qs", 64, "b"), ("8 × u32", 32, "c"))
    d.note("the u32 of a group: scale, and signs of 4 times 8 weights")
    d.word(32, ("scale", 4, "c"), ("signs 3", 7, "e"), ("signs 2", 7, "e"), ("signs 1", 7, "e"), ("signs 0", 7, "e"))
    d.head("IQ2_S: 82 bytes, 16 groups of 16")
    d.fields(("d", 2, "a"), ("qs", 32, "b"), ("signs", 32, "e"), ("qh", 8, "d"), ("scales", 8, "c"))
    d.note("qh[g]: upper two bits of the indices qs[4g] to qs[4g + 3]")
    d.byte(("4g + 3", 2, "d"), ("4g + 2", 2, "d"), ("4g + 1", 2, "d"), ("4g", 2, "d"))
    d.head("IQ2_XS: 74 bytes, 16 groups of 16")
    d.fields(("d", 2, "a"), ("qs: 32 × u16", 64, "b"), ("scales", 8, "c"))
    d.note("a u16 of qs: 8 weights")
    d.word(16, ("signs", 7, "e"), ("index into 512 entries", 9, "b"))
    d.head("IQ2_XXS: 66 bytes, 8 groups of 32")
    d.fields(("d", 2, "a"), ("qs: 8 × two u32", 64, "b"))
    d.note("the first u32: four indices; the second:")
    d.word(32, ("scale", 4, "c"), ("signs 3", 7, "e"), ("signs 2", 7, "e"), ("signs 1", 7, "e"), ("signs 0", 7, "e"))
    d.head("IQ1_M: 56 bytes, 16 groups of 16")
    d.fields(("qs", 32, "b"), ("qh", 16, "d"), ("4 × u16", 8, "c"))
    d.note("qh[g]: shift's sign and 3 upper bits of two indices")
    d.byte(("±", 1, "e"), ("index 2g+1", 3, "d"), ("±", 1, "e"), ("index 2g", 3, "d"))
    d.note("a u16: a quarter of the half d, and four scales")
    d.word(16, ("of d", 4, "a"), ("scale 3", 3, "c"), ("scale 2", 3, "c"), ("scale 1", 3, "c"), ("scale 0", 3, "c"))
    d.head("IQ1_S: 50 bytes, 8 groups of 32")
    d.fields(("d", 2, "a"), ("qs", 32, "b"), ("qh: 8 × u16", 16, "d"))
    d.note("qh[g]: shift's sign, scale, 3 upper bits of four indices")
    d.word(16, ("±", 1, "e"), ("scale", 3, "c"), ("index 3", 3, "d"), ("index 2", 3, "d"), ("index 1", 3, "d"), ("index 0", 3, "d"))
    d.save(folder, "blocks-iq")


def blocks_ternary(folder):
    d = Drawing("Ternary formats: blocks of 256 weights", "TQ1_0 and TQ2_0: fields with byte ranges, and what a byte holds")
    d.head("TQ1_0: 54 bytes")
    d.fields(("qs", 48, "b"), ("qh", 4, "d"), ("d", 2, "a"))
    d.note("a byte: five digits of base 3, v as ⌈256 v / 243⌉")
    d.note("qs[j], j below 32: digit k is weight 32k + j")
    d.row([((f"j + {32 * k}" if k else "j", f"digit {k}"), 1, "bg"[k % 2]) for k in range(5)])
    d.note("qs[32 + j], j below 16")
    d.row([((f"j + {160 + 16 * k}", f"digit {k}"), 1, "bg"[k % 2]) for k in range(5)])
    d.note("qh[j], j below 4: four digits, the fifth is 0")
    d.row([((f"j + {240 + 4 * k}", f"digit {k}"), 1, "d") for k in range(4)])
    d.head("TQ2_0: 66 bytes")
    d.fields(("qs", 64, "b"), ("d", 2, "a"))
    d.note("qs[32h + j], j from 0 to 31, half h; n = 128h + j")
    d.byte(("n + 96", 2, "b"), ("n + 64", 2, "g"), ("n + 32", 2, "b"), ("n", 2, "g"))
    d.save(folder, "blocks-ternary")


def tokenizer_steps(folder):
    d = Drawing("From text to ids", "Special tokens are found, text is normalised, cut into words, spelt as bytes and merged")
    text, word = "c", "b"
    d.head("1. The text")
    d.row([("Hello, y'all! <tool_call>", 1, text)], 26)
    d.head("2. Special tokens are cut out")
    d.row([("Hello, y'all! ", 3, text), (("<tool_call>", "151657"), 2, "d")])
    d.head("3. Some models normalise text (NFC)")
    d.row([("e + U+0301", 1, text), ("é", 1, text)], 26)
    d.head("4. The pre-tokeniser cuts into words")
    d.row([("Hello", 2, word), (",", 1, word), ("␣y", 1, word), ("'all", 1.5, word), ("!", 1, word), ("␣", 1, word)], 26)
    d.head("5. Each word is spelt by its bytes")
    d.row([("Ġ", 1, "g"), ("y", 1, "g")], 26)
    d.head("6. Neighbours are joined by rank")
    d.row([("Ġy", 1, word)], 26)
    d.head("7. What is left are tokens with ids")
    d.row([(t, 1 + len(t) / 3, "a") for t in ["9707", "11", "379", "64848", "0", "220", "151657"]], 26)
    d.note("Ids are those of Qwen2.5. Words are merged each for")
    d.note("itself: no token reaches over a cut.")
    d.save(folder, "tokenizer-steps")


def byte_table(folder):
    d = Drawing("GPT-2's table of bytes", "The character that stands for each byte: bytes that are not printable, and space, are U+0100 and up")
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shifted = [byte for byte in range(256) if byte not in shown]
    unit, left = 20.4, 30
    for low in range(16):
        d.write(left + unit * (low + 0.5), d.y + 9, f"{low:x}", "text dim mono")
    d.y += 14
    for high in range(16):
        d.write(left - 5, d.y + 14, f"{high:x}0", "text dim mono", "end")
        for low in range(16):
            byte = 16 * high + low
            x = left + unit * low
            css = "f" if byte in shown else "c"
            char = chr(byte) if byte in shown else chr(0x100 + shifted.index(byte))
            d.parts.append(f'<rect x="{x:g}" y="{d.y:g}" width="{unit:g}" height="19" class="box {css}"/>')
            d.write(x + unit / 2, d.y + 14, char, "text")
        d.y += 19
    d.y += 4
    d.note("Grey: its own Latin-1 character. Orange: U+0100")
    d.note("and up, in order: 00 is Ā, 20 is Ġ, 7f is ġ, ad is Ń.")
    d.save(folder, "byte-table")


def utf8_bytes(folder):
    d = Drawing("The bytes of UTF-8", "One to four bytes a character: how each begins, and which bits hold the code point")
    lead, rest = "c", "g"
    d.head("U+0000 to U+007F: 1 byte")
    d.row([("0xxxxxxx", 1, "b"), ("", 3, "f")], 26)
    d.head("U+0080 to U+07FF: 2 bytes")
    d.row([("110xxxxx", 1, lead), ("10xxxxxx", 1, rest), ("", 2, "f")], 26)
    d.head("U+0800 to U+FFFF: 3 bytes")
    d.row([("1110xxxx", 1, lead), ("10xxxxxx", 1, rest), ("10xxxxxx", 1, rest), ("", 1, "f")], 26)
    d.head("U+10000 to U+10FFFF: 4 bytes")
    d.row([("11110xxx", 1, lead)] + [("10xxxxxx", 1, rest)] * 3, 26)
    d.note("A byte that begins with 10 continues a character; any")
    d.note("other begins one. So at most three bytes ever wait.")
    d.save(folder, "utf8-bytes")


def utf8_stream(folder):
    d = Drawing("A stream of tokens becomes text", "Three tokens: text, a broken character, its end and more; what waits and what is given away after each")
    for token, waits, text in [("48 69 20", "–", "Hi␣"), ("f0 9f 98", "f0 9f 98", "–"), ("81 21", "–", "😁!"), ("e2 82", "e2 82", "–"), ("41", "–", "\ufffdA")]:
        d.row([(["token", token], 1.2, "d"), (["waits", waits], 1.2, "c"), (["given away", text], 1, "b")])
    d.note("The last two: e2 82 can only go on with 80 to bf. 41 does")
    d.note("not, so one U+FFFD stands for both bytes.")
    d.save(folder, "utf8-stream")


def rope_pairs(folder):
    d = Drawing("Which values of a head turn together in RoPE", "A head of 8 values: adjacent pairs, halves, and halves of the first 4 values alone.")
    ruler = [str(n) for n in range(8)]
    for title, pairs in (
        ("Adjacent pairs: x[2i], x[2i+1]", [0, 0, 1, 1, 2, 2, 3, 3]),
        ("Half split: x[i], x[i + n_rot/2]", [0, 1, 2, 3, 0, 1, 2, 3]),
        ("Half split, partial: n_rot = 4 of 8", [0, 1, 0, 1, None, None, None, None]),
    ):
        d.head(title)
        cells = [("-", 1, "f") if pair is None else (f"f[{pair}]", 1, "abcd"[pair]) for pair in pairs]
        d.row(cells, 30, ruler)
    d.note("Equal colours turn together, by p times the frequency.")
    d.save(folder, "rope-pairs")


def request_path(folder):
    d = Drawing("From a file and a request to an answer", "What happens once at start, for each request, for each step of the device and for each token")
    for title, parts, css in (
        ("Once, at start", [["GGUF file", "checked"], ["memory plan", "fits, or refused"], ["resident", "weights, KV cache"]], "a"),
        ("For each request", [["HTTP", "keys and limits"], ["validate", "template, tokens"], ["queue", "fair by client"]], "b"),
        ("For each step", [["schedule", "prefill, decode"], ["compute", "one batch"], ["sample", "seed and position"]], "c"),
        ("For each token", [["text", "whole characters"], ["stop strings", "tool calls"], ["event", "of the stream"]], "d"),
    ):
        d.head(title)
        d.row([(part, 1, css) for part in parts])
    d.note("Sequences join and leave the batch at every step.")
    d.note("They share one paged KV cache, prefixes included.")
    d.save(folder, "request-path")


def main():
    folder, path = sys.argv[1], sys.argv[2]
    for draw in [layout, string_and_array, blocks_32, blocks_k, blocks_iq, blocks_ternary, tokenizer_steps, byte_table, utf8_bytes, utf8_stream, rope_pairs, request_path]:
        draw(folder)
    small_file(folder, path)


if __name__ == "__main__":
    main()
