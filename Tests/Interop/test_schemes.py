"""The schemes that engines load: our files against compressed-tensors, byte for byte and bit for bit."""

import functools
import shutil
import tempfile

import numpy
import pytest
import torch
from compressed_tensors.quantization import QuantizationConfig, QuantizationStatus, preset_name_to_scheme
from compressed_tensors.utils.match import is_match

import scheme_arithmetic
from arithmetic import array, load_json, read_checkpoint
from conftest import FIXTURES
from scheme_arithmetic import matrices, quantised, same_bits, tensor, weights_of

TINY = FIXTURES / "checkpoints" / "tiny"
# By recipe: the package's own name for the scheme, and how many weights share a scale.
COMPRESSED = {
    "FP8_DYNAMIC": ("FP8_DYNAMIC", None), "W8A8_INT8": ("W8A8", None), "W4A16": ("W4A16", 128),
    "W4A16_G64": ("W4A16", 64), "W4A16_G32": ("W4A16", 32), "NVFP4A16": ("NVFP4A16", 16),
    "MXFP4A16": ("MXFP4A16", 32),
}  # fmt: skip
PLAIN = {
    "NVFP4A16_MODELOPT": scheme_arithmetic.decoded_modelopt, "MXFP4": scheme_arithmetic.decoded_mxfp4,
    "W8A8_INT8_SGLANG": scheme_arithmetic.decoded_rows,
}  # fmt: skip
GROUPS = {recipe: group for recipe, (_, group) in COMPRESSED.items()} | {"NVFP4A16_MODELOPT": 16, "MXFP4": 32}
# Quantised modules of tiny: three stacks of experts in each of two layers, and with all linear layers in each of four
# layers q, k, v, wq and o, and in each three of either the shared expert or the dense layer. q, k and v may be one.
EXPERTS, LINEAR, LINEAR_FUSED = 2 * 3, 2 * 3 + 4 * (5 + 3), 2 * 3 + 4 * (3 + 3)
FUSES = ["W4A16", "W4A16_G64", "W4A16_G32", "NVFP4A16", "NVFP4A16_MODELOPT"]
SCOPES = ["experts", "linear"]


@pytest.fixture(scope="module")
def convert(tools, tmp_path_factory):
    """Conversions of tiny by recipe, scope and search, each made once."""

    @functools.cache
    def convert(recipe, scope, search=None):
        output = tmp_path_factory.mktemp(recipe) / scope
        searching = ["--scale-search", search] if search else []
        tools.convert(TINY, output, "--to", "safetensors", "--quantize", recipe, "--scope", scope, *searching)
        return output

    return convert


@pytest.fixture(scope="module")
def decode(tools):
    """Reads a checkpoint by way of a conversion to a plain type."""

    def decode(path, element_type):
        directory = tempfile.mkdtemp()
        try:
            output = f"{directory}/output"
            tools.convert(path, output, "--to", "safetensors", "--quantize", element_type)
            return read_checkpoint(output)
        finally:
            shutil.rmtree(directory)

    return decode


def configuration(path):
    return QuantizationConfig.model_validate(load_json(path / "config.json")["quantization_config"])


def scheme_of(path):
    return configuration(path).config_groups["group_0"]


def expected_modules(recipe, scope):
    return EXPERTS if scope == "experts" else LINEAR_FUSED if recipe in FUSES else LINEAR


# What is in the files


@pytest.mark.parametrize("search", ["absmax", "mse"])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("recipe", COMPRESSED)
def test_the_package_decompresses_what_we_decode(convert, decode, recipe, scope, search):
    """Of each matrix: what the package makes of it, and the same without rounding to BF16 on the way."""
    output = convert(recipe, scope, search)
    modules, scheme = quantised(read_checkpoint(output)), scheme_of(output)
    assert len(modules) == expected_modules(recipe, scope)
    ours = {torch.float32: decode(output, "F32"), torch.bfloat16: decode(output, "BF16")}
    for module, components in modules.items():
        single = matrices(components)
        assert len(single) == (8 if ".moe." in module else 1)
        for index, state in enumerate(single):
            theirs = scheme_arithmetic.decompressed(state, scheme)
            assert same_bits(weights_of(ours[theirs.dtype], module)[index], theirs), (module, index)
            exact = scheme_arithmetic.decompressed_in_f32(state, scheme)
            assert same_bits(weights_of(ours[torch.float32], module)[index], exact), (module, index)
            assert exact.count_nonzero() > 0.5 * exact.numel()


def engines_share(module):
    """The modules that an engine keeps one global scale per matrix for together with this one."""
    parent, _, last = module.rpartition(".")
    return [f"{parent}.{name}" for name in ("gate_proj", "up_proj")] if last != "down_proj" else [module]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("recipe", COMPRESSED)
def test_the_package_compresses_to_our_bytes(convert, recipe, scope):
    """Every component of every matrix, from the same weights in BF16."""
    output = convert(recipe, scope, "absmax")
    modules, scheme, source = quantised(read_checkpoint(output)), scheme_of(output), read_checkpoint(TINY)
    assert len(modules) == expected_modules(recipe, scope)
    for module, components in modules.items():
        weights = weights_of(source, module)
        together = [module] if "self_attn" in module else engines_share(module)
        for index, ours in enumerate(matrices(components)):
            shared = None
            if scheme.weights.strategy == "tensor_group":
                shared = scheme_arithmetic.shared_scale([weights_of(source, name)[index] for name in together])
            theirs = scheme_arithmetic.compressed(weights[index], scheme, shared)
            if scheme.weights.strategy == "channel":
                # Of the weights' type in the package, F32 in engines and in our files; the numbers are the same.
                theirs["weight_scale"] = theirs["weight_scale"].to(torch.float32)
            assert ours.keys() == theirs.keys()
            for name in theirs:
                assert same_bits(ours[name], theirs[name]), (module, index, name)


@pytest.mark.parametrize("search", ["absmax", "mse"])
@pytest.mark.parametrize(
    "recipe, scope",
    [(recipe, scope) for recipe in PLAIN for scope in SCOPES if (recipe, scope) != ("MXFP4", "linear")],
)
def test_numpy_decodes_what_we_decode(convert, decode, recipe, scope, search):
    """Schemes that the package does not have, by arithmetic of our own."""
    output = convert(recipe, scope, search)
    modules, ours = quantised(read_checkpoint(output)), decode(output, "F32")
    assert len(modules) == expected_modules(recipe, scope)
    for module, components in modules.items():
        theirs = torch.from_numpy(numpy.ascontiguousarray(PLAIN[recipe](components), numpy.float32))
        assert same_bits(weights_of(ours, module).reshape(theirs.shape), theirs), module


def test_mxfp4_is_for_experts(tools, tmp_path):
    """quant_method mxfp4 leaves all other layers alone, whatever their tensors are."""
    result = tools.run(
        "step3-convert", TINY, tmp_path / "output", "--to", "safetensors", "--quantize", "MXFP4",
        "--scope", "linear")  # fmt: skip
    assert result.returncode != 0 and "MXFP4A16" in result.stderr


@pytest.mark.parametrize("recipe", GROUPS)
def test_a_search_is_never_worse(convert, decode, recipe):
    """Squared errors of every group of every matrix, in F64; and a search is what four bits get unless told otherwise."""
    source = read_checkpoint(TINY)
    searched = convert(recipe, "experts", "mse")
    default = convert(recipe, "experts")
    expected = searched if "4" in recipe else convert(recipe, "experts", "absmax")
    assert read_checkpoint(default) == read_checkpoint(expected)

    modules = quantised(read_checkpoint(searched))
    assert len(modules) == EXPERTS
    ours = {"mse": decode(searched, "F32"), "absmax": decode(convert(recipe, "experts", "absmax"), "F32")}
    totals = dict.fromkeys(ours, 0.0)
    for module in modules:
        exact = weights_of(source, module).to(torch.float64)
        errors = {}
        for search, tensors in ours.items():
            squares = (weights_of(tensors, module).to(torch.float64) - exact) ** 2
            errors[search] = squares.unflatten(-1, (-1, GROUPS[recipe] or exact.shape[-1])).sum(-1)
            totals[search] += errors[search].sum().item()
        assert (errors["mse"] <= errors["absmax"] * (1 + 1e-6)).all(), module
    assert 0 < totals["mse"] < totals["absmax"]
