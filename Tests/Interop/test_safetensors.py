"""Safetensors files between the package from PyPI and our tools, in both directions."""

import itertools
import json
import math
import pathlib

import ml_dtypes
import numpy
import pytest
import safetensors
import safetensors.numpy
import xxhash

from arithmetic import NUMPY_TYPES, array, read_checkpoint, read_safetensors, xxh3

# The package's name for a type when writing raw bytes, with its packing: (elements, bytes).
PACKAGE_TYPES = {
    "BOOL": ("bool", 1, 1), "U8": ("uint8", 1, 1), "I8": ("int8", 1, 1), "U16": ("uint16", 1, 2),
    "I16": ("int16", 1, 2), "U32": ("uint32", 1, 4), "I32": ("int32", 1, 4), "U64": ("uint64", 1, 8),
    "I64": ("int64", 1, 8), "F16": ("float16", 1, 2), "BF16": ("bfloat16", 1, 2), "F32": ("float32", 1, 4),
    "F64": ("float64", 1, 8), "C64": ("complex64", 1, 8), "F8_E5M2": ("float8_e5m2", 1, 1),
    "F8_E4M3": ("float8_e4m3fn", 1, 1), "F8_E8M0": ("float8_e8m0fnu", 1, 1),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 1, 1), "F8_E5M2FNUZ": ("float8_e5m2fnuz", 1, 1),
    "F4": ("float4_e2m1fn_x2", 2, 1),
}  # fmt: skip
SHAPES = [(), (0,), (8,), (4, 0), (4, 6), (3, 2, 8), (1, 1, 1, 1, 2)]


def write_package(path, tensors, metadata=None):
    """Writes {name: (package type, shape in its terms, bytes)} with the package's own serialiser."""
    kept = {name: numpy.frombuffer(data, numpy.uint8) for name, (_, _, data) in tensors.items()}
    specs = {
        name: safetensors.TensorSpec(
            dtype=dtype, shape=shape, data_ptr=kept[name].ctypes.data, data_len=kept[name].nbytes
        )
        for name, (dtype, shape, _) in tensors.items()
    }
    safetensors.serialize_file(specs, path, metadata=metadata)


def every_type(random):
    """One tensor per type and shape, with random bytes (0 and 1 for booleans)."""
    tensors = {}
    for (name, (dtype, elements, size)), shape in itertools.product(PACKAGE_TYPES.items(), SHAPES):
        count = math.prod(shape)
        if count % elements:
            continue
        high = 2 if name == "BOOL" else 256
        data = random.integers(0, high, count // elements * size, numpy.uint8).tobytes()
        # For F4 the package counts pairs when writing, as PyTorch does, but nibbles in the file.
        packed = (*shape[:-1], shape[-1] // elements) if elements > 1 else shape
        tensors[f"{name}.{'x'.join(map(str, shape))}"] = (dtype, packed, data)
    return tensors


def test_every_type_the_package_writes_is_listed_as_it_is(tools, tmp_path, random):
    path = tmp_path / "model.safetensors"
    tensors = every_type(random)
    write_package(path, tensors, {"format": "np", "ünï": "cödé \n\"'\u0001"})
    file = path.read_bytes()
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:start])

    document = tools.json("step3-inspect", "list", path)
    assert document["format"] == "safetensors"
    assert document["metadata"] == {"format": "np", "ünï": "cödé \n\"'\u0001"}
    assert len(document["tensors"]) == len(tensors)
    for tensor in document["tensors"]:
        entry = header[tensor["name"]]
        assert tensor["dtype"] == entry["dtype"]
        assert tensor["shape"] == entry["shape"]
        assert tensor["elements"] == math.prod(entry["shape"])
        assert tensor["offset"] == start + entry["data_offsets"][0]
        assert tensor["bytes"] == entry["data_offsets"][1] - entry["data_offsets"][0]
        data = tensors[tensor["name"]][2]
        assert file[tensor["offset"] : tensor["offset"] + tensor["bytes"]] == data


@pytest.mark.parametrize("shard_size", ["5GB", "1KiB"])
def test_every_type_survives_conversion(tools, tmp_path, random, shard_size):
    path = tmp_path / "model.safetensors"
    tensors = every_type(random)
    write_package(path, tensors)
    before = read_safetensors(path)
    output = tmp_path / "output"
    tools.convert(path, output, "--to", "safetensors", "--max-shard-size", shard_size)
    assert read_checkpoint(output) == before
    assert (len(list(output.glob("*.safetensors"))) > 3) == (shard_size == "1KiB")


@pytest.mark.parametrize("name", [name for name in NUMPY_TYPES if name not in ("C64", "U64", "I64")])
def test_statistics(tools, tmp_path, random, name):
    path = tmp_path / "model.safetensors"
    dtype, _, size = PACKAGE_TYPES[name]
    count = 2 if name == "BOOL" else 256
    data = random.integers(0, count, 4099 * size, numpy.uint8).tobytes()
    write_package(path, {"t": (dtype, (4099,), data)})

    stats = tools.stats(path)["t"]
    assert stats["xxh3"] == xxhash.xxh3_128_hexdigest(data)
    with numpy.errstate(invalid="ignore"):
        values = numpy.frombuffer(data, NUMPY_TYPES[name]).astype(numpy.float64)
    finite = values[numpy.isfinite(values)]
    if name == "F64":
        # Random exponents: sums of squares overflow, so only the order is compared.
        assert (stats["minimum"], stats["maximum"]) == (finite.min(), finite.max())
        return
    assert stats["nan"] == numpy.isnan(values).sum()
    assert stats["infinite"] == numpy.isinf(values).sum()
    assert stats["zeros"] == (values == 0).sum()
    assert (stats["minimum"], stats["maximum"]) == (finite.min(), finite.max())
    magnitude = numpy.abs(finite).max()
    assert stats["mean"] == pytest.approx(finite.mean(), rel=1e-9, abs=1e-9 * magnitude)
    assert stats["rms"] == pytest.approx(numpy.sqrt(numpy.square(finite).mean()), rel=1e-9)


def test_a_sharded_checkpoint_is_read_and_written(tools, tmp_path, random):
    tensors = {f"layer.{i}.weight": random.standard_normal((37, 5 + i)).astype("f4") for i in range(9)}
    weight_map = {}
    for shard in range(3):
        name = f"model-{shard + 1:05}-of-00003.safetensors"
        part = {key: tensors[key] for key in list(tensors)[shard::3]}
        safetensors.numpy.save_file(part, tmp_path / name, {"format": "np"})
        weight_map |= dict.fromkeys(part, name)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    document = tools.json("step3-inspect", "list", tmp_path)
    assert document["bytes"] == total
    assert document["parameters"] == sum(tensor.size for tensor in tensors.values())
    assert {t["name"]: pathlib.Path(t["file"]).name for t in document["tensors"]} == weight_map

    # Not in tmp_path: that is the source, and nothing is written into one.
    output = tmp_path.with_name(tmp_path.name + "-output")
    tools.convert(tmp_path, output, "--to", "safetensors", "--max-shard-size", "1KiB")
    ours = json.loads((output / "model.safetensors.index.json").read_text())
    assert ours["metadata"]["total_size"] == total
    assert set(ours["weight_map"]) == set(tensors)
    for name, shard in ours["weight_map"].items():
        assert numpy.array_equal(safetensors.numpy.load_file(output / shard)[name], tensors[name])


@pytest.mark.parametrize("name", ["F16", "BF16", "F32"])
def test_rounding_matches_ml_dtypes_at_every_tie(tools, tmp_path, name):
    """Every binary16 value and its neighbours in binary32: ties, subnormals, overflow to infinity."""
    halves = numpy.arange(65536, dtype=numpy.uint16).view(numpy.float16).astype(numpy.float32)
    values = halves[numpy.isfinite(halves)]
    ties = (values[1:] / 2 + values[:-1] / 2).astype(numpy.float32)
    brains = (numpy.arange(65536, dtype=numpy.uint32) << 16 | 0x8000).view(numpy.float32)
    brains = brains[numpy.abs(brains) < 60000]
    values = numpy.concatenate([values, ties, brains])
    values = numpy.concatenate([values, numpy.nextafter(values, 1), numpy.nextafter(values, -1)])
    values = values[: values.size // 64 * 64].reshape(-1, 64)
    safetensors.numpy.save_file({"w.weight": values}, tmp_path / "model.safetensors")

    output = tmp_path / "output"
    tools.convert(
        tmp_path / "model.safetensors", output, "--to", "safetensors", "--quantize", name
    )
    ours = read_checkpoint(output)["w.weight"]
    assert ours[0] == name
    expected = values.astype(NUMPY_TYPES[name])
    assert numpy.isfinite(expected.astype(numpy.float32)).all()
    assert ours[2] == expected.tobytes()


def test_extended_types_decode_as_in_ml_dtypes(tools, tmp_path):
    """All 256 bytes of each 8-bit float, through our decoder into float32."""
    codes = numpy.arange(256, dtype=numpy.uint8)
    eight_bit = [name for name in NUMPY_TYPES if name.startswith("F8_")]
    tensors = {}
    for name in eight_bit:
        values = codes.view(NUMPY_TYPES[name]).astype(numpy.float32)
        finite = codes[numpy.isfinite(values)]
        finite = numpy.resize(finite, 256)
        tensors[f"{name}.weight"] = (PACKAGE_TYPES[name][0], (4, 64), finite.tobytes())
    write_package(tmp_path / "model.safetensors", tensors)
    output = tmp_path / "output"
    tools.convert(tmp_path / "model.safetensors", output, "--to", "safetensors", "--quantize", "F32")
    ours = read_checkpoint(output)
    for name in eight_bit:
        raw = tensors[f"{name}.weight"][2]
        expected = numpy.frombuffer(raw, NUMPY_TYPES[name]).astype(numpy.float32)
        assert ours[f"{name}.weight"][0] == "F32"
        assert array(ours[f"{name}.weight"]).tobytes() == expected.tobytes(), name
    assert xxh3(ours["F8_E4M3.weight"][2]) == tools.stats(output)["F8_E4M3.weight"]["xxh3"]
    assert ml_dtypes.finfo(ml_dtypes.float8_e4m3fn).max == array(ours["F8_E4M3.weight"]).max()
