#!/usr/bin/env python3
"""Writes python.gguf of this folder with gguf-py: a file that this project's own writer had no part in.

Usage: pip install numpy gguf && python make.py
"""

import pathlib

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType as Kind
from gguf import GGUFWriter
from gguf.quants import quantize

writer = GGUFWriter(pathlib.Path(__file__).with_name("python.gguf"), "llama")
writer.add_custom_alignment(64)
writer.add_uint8("u8", 255)
writer.add_int8("i8", -128)
writer.add_uint16("u16", 65535)
writer.add_int16("i16", -32768)
writer.add_uint32("u32", 2**32 - 1)
writer.add_int32("i32", -(2**31))
writer.add_float32("f32", 0.1)
writer.add_bool("bool", True)
writer.add_string("string", "h\u00e9llo")
writer.add_uint64("u64", 2**64 - 1)
writer.add_int64("i64", -(2**63))
writer.add_float64("f64", 0.1)
writer.add_array("strings", ["", "a", "\u4e2d\u6587"])
writer.add_array("i32s", [1, -2, 3])
writer.add_array("f32s", [0.5, -0.5])
writer.add_array("bools", [True, False])
writer.add_key_value("nested", [[1, 2], [3]], Kind.ARRAY)

values = np.sin(np.arange(2 * 32 * 3, dtype=np.float32)).reshape(3, 64)
writer.add_tensor("f32.weight", values)
writer.add_tensor("f16.weight", values.astype(np.float16))
for kind in [Type.BF16, Type.Q8_0, Type.Q4_0, Type.MXFP4]:
    writer.add_tensor(f"{kind.name.lower()}.weight", quantize(values, kind), raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
