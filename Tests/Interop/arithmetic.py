"""Tensor arithmetic of other libraries, to compare the toolkit's with: numpy, ml_dtypes, gguf, hashlib, xxhash."""

import hashlib
import json
import pathlib

import gguf
import ml_dtypes
import numpy
import safetensors
import xxhash

# The numpy type for the raw bytes of a safetensors type. F4 and F6 are packed, so they stay bytes.
NUMPY_TYPES = {
    "BOOL": numpy.bool_, "U8": numpy.uint8, "I8": numpy.int8, "U16": numpy.uint16, "I16": numpy.int16,
    "U32": numpy.uint32, "I32": numpy.int32, "U64": numpy.uint64, "I64": numpy.int64,
    "F16": numpy.float16, "BF16": ml_dtypes.bfloat16, "F32": numpy.float32, "F64": numpy.float64,
    "C64": numpy.complex64, "F8_E5M2": ml_dtypes.float8_e5m2, "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu, "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
}  # fmt: skip


def read_safetensors(path):
    """The tensors of one file as (type, shape, bytes), by the package's own parser."""
    tensors = safetensors.deserialize(pathlib.Path(path).read_bytes())
    return {name: (view["dtype"], tuple(view["shape"]), bytes(view["data"])) for name, view in tensors}


def read_checkpoint(directory):
    """The tensors of all safetensors files of a directory, each of which may occur only once."""
    tensors = {}
    for path in sorted(pathlib.Path(directory).glob("*.safetensors")):
        for name, tensor in read_safetensors(path).items():
            assert name not in tensors, f"{name} is in two shards of {directory}"
            tensors[name] = tensor
    return tensors


def array(tensor):
    """A (type, shape, bytes) triple as a numpy array."""
    element_type, shape, data = tensor
    return numpy.frombuffer(data, NUMPY_TYPES[element_type]).reshape(shape)


def decoded(tensors, name):
    """A tensor's values in float32: block-FP8 weights times the scale of their 128 x 128 tile, everything else as it is."""
    values = array(tensors[name]).astype(numpy.float32)
    scales = tensors.get(f"{name}_scale_inv")
    if scales is None:
        return values
    rows, columns = values.shape[-2:]
    tiles = array(scales).astype(numpy.float32).repeat(128, axis=-2).repeat(128, axis=-1)
    return values * tiles[..., :rows, :columns]


def weights(tensors):
    """The names of all tensors except block scales."""
    return [name for name in tensors if not name.endswith("_scale_inv")]


def stored(values, element_type):
    """The bytes of float32 values in another type, rounded to nearest, ties to even, by ml_dtypes, numpy or gguf."""
    values = numpy.ascontiguousarray(values, numpy.float32)
    if element_type in NUMPY_TYPES:
        return values.astype(NUMPY_TYPES[element_type]).tobytes()
    return gguf.quants.quantize(values, gguf.GGMLQuantizationType[element_type]).tobytes()


def read_gguf(path):
    """The tensors of one GGUF file as (type, row-major shape, bytes), and its reader."""
    reader = gguf.GGUFReader(path)
    tensors = {
        tensor.name: (
            tensor.tensor_type.name,
            tuple(int(length) for length in reversed(tensor.shape)),
            tensor.data.tobytes(),
        )
        for tensor in reader.tensors
    }
    return tensors, reader


def metadata(reader):
    """The key-values of a GGUF file without the reader's own entries."""
    return {
        name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")
    }


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def xxh3(data):
    return xxhash.xxh3_128_hexdigest(data)


def load_json(path):
    return json.loads(pathlib.Path(path).read_text())
