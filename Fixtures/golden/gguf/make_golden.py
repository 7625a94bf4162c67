#!/usr/bin/env python3
"""Writes the golden files of this folder with the `gguf` package. See README.md."""

import pathlib
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFEndian, GGUFValueType, GGUFWriter, quants

OUT = pathlib.Path(__file__).resolve().parent
T = GGUFValueType


def every_value(writer):
    scalars = {
        "test.uint8": (255, T.UINT8), "test.int8": (-128, T.INT8), "test.uint16": (65535, T.UINT16),
        "test.int16": (-32768, T.INT16), "test.uint32": (4294967295, T.UINT32), "test.int32": (-2147483648, T.INT32),
        "test.uint64": (2**64 - 1, T.UINT64), "test.int64": (-(2**63), T.INT64), "test.float32": (-1.5, T.FLOAT32),
        "test.float64": (0.1, T.FLOAT64), "test.bool": (True, T.BOOL), "test.string": ("Füße 🦶", T.STRING),
    }
    for key, (value, kind) in scalars.items():
        writer.add_key_value(key, value, kind)
    arrays = {
        T.UINT8: [0, 255], T.INT8: [-128, 127], T.UINT16: [1, 65535], T.INT16: [-32768, 32767],
        T.UINT32: [1, 4294967295], T.INT32: [-2147483648, 2147483647], T.UINT64: [1, 2**64 - 1],
        T.INT64: [-(2**63), 2**63 - 1], T.FLOAT32: [0.5, -2.0], T.FLOAT64: [0.1, -1e300], T.BOOL: [True, False, True],
        T.STRING: ["", "a", "Füße"],
    }
    for kind, values in arrays.items():
        writer.add_key_value(f"test.array.{kind.name.lower()}", values, T.ARRAY, sub_type=kind)


def every_kind_of_tensor(writer, endian):
    for dtype in (np.float32, np.float16, np.float64, np.int8, np.int16, np.int32, np.int64):
        values = np.arange(6).reshape(2, 3) - 2
        writer.add_tensor(f"{np.dtype(dtype).name}", values.astype(dtype))
    blocks = quants.quantize(np.arange(64, dtype=np.float32).reshape(2, 32) / 8 - 4, GGMLQuantizationType.Q8_0)
    if endian == GGUFEndian.BIG:
        # The package takes blocks as bytes and leaves their half-precision scales alone.
        blocks = blocks.copy()
        blocks[:, [0, 1]] = blocks[:, [1, 0]]
    writer.add_tensor("q8_0", blocks, raw_dtype=GGMLQuantizationType.Q8_0)


def whole(name, endian):
    writer = GGUFWriter(OUT / name, "step3", endianess=endian)
    every_value(writer)
    every_kind_of_tensor(writer, endian)
    finish(writer)


def aligned(name):
    writer = GGUFWriter(OUT / name, "step3")
    writer.add_custom_alignment(128)
    writer.add_tensor("a", np.array([1, 2, 3], dtype=np.float32))
    writer.add_tensor("b", np.array([[4], [5]], dtype=np.float32))
    finish(writer)


def split(name):
    writer = GGUFWriter(OUT / name, "step3", split_max_tensors=2, small_first_shard=True)
    for index in range(5):
        writer.add_tensor(f"blk.{index}", np.full((2, 2), index, dtype=np.float32))
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    assert sys.byteorder == "little"
    whole("little.gguf", GGUFEndian.LITTLE)
    whole("big.gguf", GGUFEndian.BIG)
    aligned("aligned-128.gguf")
    split("split.gguf")
