"""AFD partitions: the parts together are the model, and each part opens on its own."""

import itertools

import numpy
import pytest

from arithmetic import NUMPY_TYPES, array, decoded, load_json, read_checkpoint, stored, weights
from conftest import FIXTURES
from step3_names import is_vision


def part_of(name):
    """The side a tensor lives on; a router counts as attention although it is called moe.gate."""
    if is_vision(name):
        return "vision"
    if name.endswith(".moe.gate.weight"):
        return "attention"
    return "ffn" if any(word in name for word in (".mlp.", ".moe.", ".share_expert.")) else "attention"


def bfloat16(source, name):
    values = decoded(source, name)
    return "BF16", values.shape, stored(values, "BF16")


@pytest.mark.parametrize(
    ("name", "instances", "recipe"),
    [
        *itertools.product(["tiny", "odd", "tiny-fp8", "odd-fp8"], [1], ["keep"]),
        *itertools.product(["tiny", "odd", "tiny-fp8"], [2], ["keep"]),
        # Cutting its shared experts in two would cut scale tiles in two, so they are decoded.
        ("odd-fp8", 2, "BF16"),
    ],
)
def test_parts_together_are_the_model(tools, tmp_path, name, instances, recipe):
    checkpoint = FIXTURES / "checkpoints" / name
    source = read_checkpoint(checkpoint)
    if recipe != "keep":
        source = {key: bfloat16(source, key) for key in weights(source)}
    output = tmp_path / "output"
    arguments = ["--to", "safetensors", "--quantize", recipe, "--partition", "afd", "--ffn-ep", instances]
    tools.convert(checkpoint, output, *arguments)
    parts = {path.parent.name: load_json(path)["step3_partition"] for path in output.glob("*/config.json")}
    assert sorted(part["role"] for part in parts.values()) == sorted(
        ["attention", "vision"] + ["ffn"] * instances
    )

    together = {}
    covered = {}
    for directory, part in parts.items():
        tensors = read_checkpoint(output / directory)
        assert tools.list(output / directory).keys() == tensors.keys()
        assert tools.json("step3-verify", "checksums", output / directory)["ok"]
        for key, (element_type, shape, data) in tensors.items():
            assert part["role"] == part_of(key), f"{key} is in {directory}"
            whole = part.get("slices", {}).get(key, {"shape": list(shape), "origin": [0] * len(shape)})
            place = tuple(slice(o, o + n) for o, n in zip(whole["origin"], shape, strict=True))
            if key not in together:
                together[key] = numpy.zeros(whole["shape"], NUMPY_TYPES[element_type])
                covered[key] = numpy.zeros(whole["shape"], int)
            together[key][place] = array((element_type, shape, data))
            covered[key][place] += 1
            if ".moe." in key and part["role"] == "ffn":
                assert shape[1:] == source[key][1][1:], "experts stay whole"

    assert together.keys() == source.keys()
    for key, (element_type, shape, data) in source.items():
        assert (covered[key] == 1).all(), f"{key} has holes or is stored twice"
        assert (together[key].shape, together[key].dtype) == (shape, NUMPY_TYPES[element_type])
        assert together[key].tobytes() == data, key


def test_scale_tiles_are_not_cut(tools, tmp_path):
    checkpoint = FIXTURES / "checkpoints" / "odd-fp8"
    arguments = ["--to", "safetensors", "--partition", "afd", "--ffn-ep", 2]
    result = tools.run("step3-convert", checkpoint, tmp_path / "output", *arguments)
    assert result.returncode == 64
    assert "FP8 tile of 128" in result.stderr
    assert not (tmp_path / "output").exists()


def test_too_many_instances_are_refused(tools, tmp_path):
    checkpoint = FIXTURES / "checkpoints" / "tiny"
    arguments = ["--to", "safetensors", "--partition", "afd", "--ffn-ep", 9]
    result = tools.run("step3-convert", checkpoint, tmp_path / "output", *arguments)
    assert result.returncode == 64
    assert "9" in result.stderr and "8" in result.stderr
    assert not (tmp_path / "output").exists()
