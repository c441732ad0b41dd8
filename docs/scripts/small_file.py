#!/usr/bin/env python3
"""Writes the small file that the reference page on the format shows byte by byte: python small_file.py OUT (needs `gguf`)."""

import sys

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter
from gguf.quants import quantize

writer = GGUFWriter(sys.argv[1], "tiny")
writer.add_uint32("tiny.block_count", 1)
writer.add_array("tiny.words", ["a", "\u00e9"])
writer.add_tensor("norm", np.array([1.0, -2.0, 0.5], dtype=np.float32))
rows = np.arange(-32, 32, dtype=np.float32).reshape(2, 32) / 4
writer.add_tensor("w", quantize(rows, Type.Q4_0), raw_dtype=Type.Q4_0)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
