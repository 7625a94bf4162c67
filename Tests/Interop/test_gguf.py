"""GGUF files between the package from PyPI and our tools, in both directions."""

import math

import gguf
import numpy
import pytest
from gguf import GGMLQuantizationType, GGUFEndian, GGUFValueType

from arithmetic import metadata, read_gguf, xxh3

# One value and one array of each type; extremes, because they show a wrong width or sign.
VALUES = {
    GGUFValueType.UINT8: [0, 255], GGUFValueType.INT8: [-128, 127], GGUFValueType.UINT16: [1, 65535],
    GGUFValueType.INT16: [-32768, 32767], GGUFValueType.UINT32: [2, 2**32 - 1],
    GGUFValueType.INT32: [-(2**31), 2**31 - 1], GGUFValueType.UINT64: [3, 2**64 - 1],
    GGUFValueType.INT64: [-(2**63), 2**63 - 1], GGUFValueType.FLOAT32: [-0.5, 3.0517578125e-05],
    GGUFValueType.FLOAT64: [0.1, -1.7976931348623157e308], GGUFValueType.BOOL: [False, True],
    GGUFValueType.STRING: ["plain", "ünï \"\\\n\t\u0001 漢 🦶"],
}  # fmt: skip
# Without Q8_1, whose blocks have 36 bytes in GGML but 40 in the package, which therefore writes broken files.
BLOCK_TYPES = [
    kind
    for kind in GGMLQuantizationType
    if gguf.GGML_QUANT_SIZES[kind][0] > 1 and kind != GGMLQuantizationType.Q8_1
]
SCALARS = {
    kind: name
    for kind, name in [
        (GGMLQuantizationType.F64, "f8"), (GGMLQuantizationType.F32, "f4"), (GGMLQuantizationType.F16, "f2"),
        (GGMLQuantizationType.I64, "i8"), (GGMLQuantizationType.I32, "i4"), (GGMLQuantizationType.I16, "i2"),
        (GGMLQuantizationType.I8, "i1"),
    ]
}  # fmt: skip


def add_values(writer):
    expected = {}
    for kind, values in VALUES.items():
        writer.add_key_value(f"value.{kind.name}", values[1], kind)
        writer.add_key_value(f"array.{kind.name}", values, GGUFValueType.ARRAY, sub_type=kind)
        expected[f"value.{kind.name}"] = values[1]
        expected[f"array.{kind.name}"] = values
    return expected


def as_written(key, value):
    """A value from the document in the file's type: binary32 is printed with as many digits as it needs."""
    if not key.endswith("FLOAT32"):
        return value
    return [float(numpy.float32(v)) for v in value] if isinstance(value, list) else float(numpy.float32(value))


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def raw_blocks(random, kind, rows, blocks):
    """Random bytes of whole blocks, as the package takes quantised rows."""
    return random.integers(0, 256, (rows, blocks * gguf.GGML_QUANT_SIZES[kind][1]), numpy.uint8)


@pytest.mark.parametrize("order", [GGUFEndian.LITTLE, GGUFEndian.BIG])
def test_every_value_type_is_read(tools, tmp_path, order):
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama", endianess=order)
    expected = add_values(writer)
    writer.add_tensor("t", numpy.zeros(1, "f4"))
    finish(writer)
    document = tools.json("step3-inspect", "metadata", tmp_path / "model.gguf")
    assert document["architecture"] == "llama"
    values = document["files"][0]["metadata"]
    assert values.pop("general.architecture") == "llama"
    assert {key: as_written(key, value) for key, value in values.items()} == expected
    assert all(type(values[key]) is type(expected[key]) for key in expected)


@pytest.mark.parametrize("order", [GGUFEndian.LITTLE, GGUFEndian.BIG])
@pytest.mark.parametrize("alignment", [32, 8, 4096])
def test_every_tensor_type_is_listed(tools, tmp_path, random, order, alignment):
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama", endianess=order)
    if alignment != 32:
        writer.add_custom_alignment(alignment)
    expected = {}
    for kind, name in SCALARS.items():
        for shape in [(5,), (3, 7), (2, 3, 5), (2, 1, 3, 2)]:
            values = random.integers(-100, 100, shape).astype(name)
            key = f"{kind.name}.{len(shape)}"
            writer.add_tensor(key, values)
            expected[key] = (kind.name, shape)
    # The package treats a block's bytes as one unit and never swaps them: only for this machine's byte order.
    for kind in BLOCK_TYPES if order == GGUFEndian.LITTLE else []:
        writer.add_tensor(f"{kind.name}.2", raw_blocks(random, kind, 3, 2), raw_dtype=kind)
        expected[f"{kind.name}.2"] = (kind.name, (3, 2 * gguf.GGML_QUANT_SIZES[kind][0]))
    finish(writer)

    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    ours = tools.list(path)
    assert ours.keys() == expected.keys()
    for name, tensor in ours.items():
        assert (tensor["dtype"], tuple(tensor["shape"])) == expected[name]
        assert tensor["elements"] == math.prod(tensor["shape"])
        assert tensor["offset"] == theirs[name].data_offset and tensor["offset"] % alignment == 0
        assert tensor["bytes"] == theirs[name].n_bytes


@pytest.mark.parametrize("order", [GGUFEndian.LITTLE, GGUFEndian.BIG])
def test_statistics(tools, tmp_path, random, order):
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama", endianess=order)
    arrays = {}
    for kind, name in SCALARS.items():
        arrays[kind.name] = random.integers(-100, 100, (13, 17)).astype(name)
        writer.add_tensor(kind.name, arrays[kind.name])
    finish(writer)
    stats = tools.stats(path)
    for name, values in arrays.items():
        stored = values if order == GGUFEndian.LITTLE else values.byteswap()
        assert stats[name]["xxh3"] == xxh3(stored.tobytes())
        assert (stats[name]["minimum"], stats[name]["maximum"]) == (values.min(), values.max())
        assert stats[name]["mean"] == pytest.approx(values.astype("f8").mean(), rel=1e-12)
        assert stats[name]["zeros"] == (values == 0).sum()


@pytest.mark.parametrize("small_first", [False, True])
def test_a_split_set_is_read_merged_and_written(tools, tmp_path, random, small_first):
    writer = gguf.GGUFWriter(
        tmp_path / "model.gguf", "llama", split_max_tensors=3, small_first_shard=small_first
    )
    expected = add_values(writer)
    arrays = {f"blk.{i}.ffn_up.weight": random.standard_normal((8, 32)).astype("f4") for i in range(8)}
    for name, values in arrays.items():
        writer.add_tensor(name, values)
    finish(writer)
    parts = sorted(tmp_path.glob("model-0*.gguf"))
    assert len(parts) == 3 + small_first

    ours = tools.list(parts[0])
    stats = tools.stats(parts[0])
    assert ours.keys() == arrays.keys()
    for name, values in arrays.items():
        assert stats[name]["xxh3"] == xxh3(values.tobytes())
    values = tools.json("step3-inspect", "metadata", parts[0])["files"][0]["metadata"]
    assert {key: as_written(key, values[key]) for key in expected} == expected

    # And back: one file with the same tensors and without split keys.
    output = tmp_path / "output"
    tools.convert(parts[0], output, "--to", "gguf")
    tensors, reader = read_gguf(output / "model.gguf")
    assert {name: tensor[2] for name, tensor in tensors.items()} == {
        name: values.tobytes() for name, values in arrays.items()
    }
    assert not any(key.startswith("split.") for key in metadata(reader))
    assert {key: metadata(reader)[key] for key in expected} == expected


def test_kept_tensors_are_read_back_unchanged(tools, tmp_path, random):
    """Every type is kept, from the package's file to the toolkit's, split and not."""
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    expected = add_values(writer)
    for kind, name in SCALARS.items():
        values = random.integers(-100, 100, (6, 5)).astype(name)
        writer.add_tensor(f"blk.{kind.value}.{kind.name}.weight", values)
    for kind in BLOCK_TYPES:
        values = raw_blocks(random, kind, 3, 2)
        writer.add_tensor(f"blk.{kind.value}.{kind.name}.weight", values, raw_dtype=kind)
    finish(writer)
    before, _ = read_gguf(path)

    whole = tmp_path / "whole"
    tools.convert(path, whole, "--to", "gguf")
    after, reader = read_gguf(whole / "model.gguf")
    assert after == before
    kept = metadata(reader)
    assert {key: kept[key] for key in expected} == expected
    theirs = gguf.GGUFReader(path)
    for key in expected:
        assert theirs.fields[key].types == reader.fields[key].types, key

    split = tmp_path / "split"
    tools.convert(path, split, "--to", "gguf", "--max-shard-size", "1KiB")
    parts = sorted(split.glob("*.gguf"))
    assert len(parts) > 3
    together = {}
    for number, part in enumerate(parts):
        tensors, reader = read_gguf(part)
        assert metadata(reader)["split.no"] == number
        assert metadata(reader)["split.count"] == len(parts)
        assert metadata(reader)["split.tensors.count"] == len(before)
        together |= tensors
    assert together == before
