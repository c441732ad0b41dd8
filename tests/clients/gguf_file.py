"""Copies of GGUF files with another text in their metadata."""

import struct

STRING = 8
ALIGNMENT = 32


def with_text(model, key, text, path):
    """A copy with one more text, padded with spaces so that the file's tensors stay where they are aligned. The key must not be there yet."""
    with open(model, "rb") as file:
        head, rest = file.read(24), file.read()
    magic, version, n_tensor, n_kv = struct.unpack("<4sIQQ", head)
    assert magic == b"GGUF" and key.encode() not in rest[: 16 << 20], key
    text = text.encode()
    text += b" " * (-(len(key) + len(text) + 20) % ALIGNMENT)
    entry = struct.pack("<Q", len(key)) + key.encode() + struct.pack("<IQ", STRING, len(text)) + text
    with open(path, "wb") as file:
        file.write(struct.pack("<4sIQQ", magic, version, n_tensor, n_kv + 1) + entry + rest)
