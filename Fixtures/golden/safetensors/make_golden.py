"""Writes the golden files of this folder with the reference writer: safetensors 0.8.0 and its own `serialize`.

Usage: python make_golden.py FOLDER
"""

import ctypes
import os
import sys

from safetensors import TensorSpec, serialize

# The element types that `serialize` writes, by the names it takes, with bits per element. It has none for F6_E2M3 and
# F6_E3M2, although the format has them.
TYPES = [
    ("bool", 8), ("float4_e2m1fn_x2", 4), ("uint8", 8), ("int8", 8), ("float8_e5m2", 8), ("float8_e4m3fn", 8),
    ("float8_e8m0fnu", 8), ("float8_e4m3fnuz", 8), ("float8_e5m2fnuz", 8), ("int16", 16), ("uint16", 16),
    ("float16", 16), ("bfloat16", 16), ("int32", 32), ("uint32", 32), ("float32", 32), ("complex64", 64),
    ("float64", 64), ("int64", 64), ("uint64", 64),
]


def write(folder, name, tensors, metadata=None):
    kept, specs = [], {}
    for position, (tensor, dtype, shape, byte_count) in enumerate(tensors):
        buffer = ctypes.create_string_buffer(bytes((7 * position + i) % 251 for i in range(byte_count)), byte_count + 1)
        kept.append(buffer)
        specs[tensor] = TensorSpec(
            dtype=dtype, shape=shape, data_ptr=ctypes.addressof(buffer), data_len=byte_count)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(serialize(specs, metadata))


def main(folder):
    # Every type, named so that the alphabet and the writer's order disagree.
    # F4 is given as pairs: the file then says [3, 4].
    every = [("weights." + chr(ord("a") + i), dtype, [3, 2] if bits == 4 else [3, 4], 3 * 4 * bits // 8)
             for i, (dtype, bits) in enumerate(TYPES)]
    write(folder, "every_type.safetensors", every, {"format": "pt"})
    write(folder, "empty.safetensors", [])
    write(folder, "metadata_only.safetensors", [], {"note": "quote \" slash / back \\ tab \t bell \x07 del \x7f é 漢 🎛"})
    write(folder, "names.safetensors", [
        ("b", "float32", [2], 8), ("B", "float32", [1], 4), ("a\"b\\c\n\x01\x7f", "float32", [1], 4),
        ("é", "float32", [1], 4), ("z", "float32", [1], 4), ("漢字", "float32", [1], 4), ("🎛", "float32", [1], 4),
        ("\uff5e", "float32", [1], 4), ("", "float32", [1], 4), ("b.0", "float32", [1], 4), ("a/b", "float32", [1], 4),
    ])
    write(folder, "shapes.safetensors", [
        ("scalar", "bfloat16", [], 2), ("empty", "bfloat16", [0], 0), ("empty.rows", "float32", [0, 7168], 0),
        ("empty.columns", "int64", [5, 0], 0), ("deep", "uint8", [1, 1, 1, 1, 2, 1, 1, 3], 6), ("odd", "uint8", [7], 7),
        ("vector", "float32", [3], 12),
    ])


if __name__ == "__main__":
    main(sys.argv[1])
