"""The schemes that engines load: outputs against compressed-tensors, byte for byte and bit for bit."""

import functools
import json
import shutil
import tempfile

import numpy
import pytest
import torch
from compressed_tensors.compressors.format import infer_module_format
from compressed_tensors.quantization import QuantizationConfig, QuantizationStatus, preset_name_to_scheme
from compressed_tensors.utils.match import is_match

import scheme_arithmetic
from arithmetic import load_json, read_checkpoint
from conftest import FIXTURES
from scheme_arithmetic import matrices, quantised, same_bits, weights_of

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
LAYERS, EXPERTS = {"tiny": 4, "odd": 3}, {"tiny": 8, "odd": 5}
FUSES = ["W4A16", "W4A16_G64", "W4A16_G32", "NVFP4A16", "NVFP4A16_MODELOPT"]
SCOPES = ["experts", "linear"]
# Rows of odd are not multiples of 64; those of its o_proj are none of 32 either, so that it stays as it is.
CASES = [
    (checkpoint, recipe, scope)
    for checkpoint in LAYERS
    for recipe, (_, group) in COMPRESSED.items()
    for scope in SCOPES
    if checkpoint == "tiny" or group not in (64, 128)
]


@pytest.fixture(scope="module")
def convert(tools, tmp_path_factory):
    """Conversions by recipe, scope, search and checkpoint, each made once."""

    @functools.cache
    def convert(recipe, scope, search=None, checkpoint="tiny"):
        output = tmp_path_factory.mktemp(recipe) / scope
        searching = ["--scale-search", search] if search else []
        source = FIXTURES / "checkpoints" / checkpoint
        tools.convert(source, output, "--to", "safetensors", "--quantize", recipe, "--scope", scope, *searching)
        return output

    return convert


@pytest.fixture(scope="module")
def decode(tools):
    """Decodes a checkpoint by converting it to a plain type."""

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


def stays(checkpoint, recipe, module):
    return checkpoint == "odd" and COMPRESSED[recipe][1] == 32 and module.endswith("self_attn.o_proj")


def expected_modules(recipe, scope, checkpoint="tiny"):
    """How many modules have codes: three stacks of experts in each of two layers; of all layers q, k, v (which may be
    one), wq and o, and gate, up and down of either the shared expert or the dense layer."""
    attention = 3 if recipe in FUSES else 5
    if (checkpoint, GROUPS.get(recipe)) == ("odd", 32):
        attention -= 1
    return 2 * 3 + (LAYERS[checkpoint] * (attention + 3) if scope == "linear" else 0)


# The files


@pytest.mark.parametrize("search", ["absmax", "mse"])
@pytest.mark.parametrize("checkpoint, recipe, scope", CASES)
def test_the_package_decompresses_what_we_decode(convert, decode, checkpoint, recipe, scope, search):
    """Each matrix as decompressed by the package, and the same without its rounding to BF16."""
    output = convert(recipe, scope, search, checkpoint)
    modules, scheme = quantised(read_checkpoint(output)), scheme_of(output)
    assert len(modules) == expected_modules(recipe, scope, checkpoint)
    ours = {torch.float32: decode(output, "F32"), torch.bfloat16: decode(output, "BF16")}
    for module, components in modules.items():
        single = matrices(components)
        assert len(single) == (EXPERTS[checkpoint] if ".moe." in module else 1)
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


@pytest.mark.parametrize("checkpoint, recipe, scope", CASES)
def test_the_package_compresses_to_our_bytes(convert, checkpoint, recipe, scope):
    """Every component of every matrix, from the same weights in BF16."""
    output = convert(recipe, scope, "absmax", checkpoint)
    modules, scheme = quantised(read_checkpoint(output)), scheme_of(output)
    source = read_checkpoint(FIXTURES / "checkpoints" / checkpoint)
    assert len(modules) == expected_modules(recipe, scope, checkpoint)
    for module, components in modules.items():
        weights = weights_of(source, module)
        together = [module] if "self_attn" in module else engines_share(module)
        for index, ours in enumerate(matrices(components)):
            shared = None
            if scheme.weights.strategy == "tensor_group":
                shared = scheme_arithmetic.shared_scale([weights_of(source, name)[index] for name in together])
            theirs = scheme_arithmetic.compressed(weights[index], scheme, shared)
            if scheme.weights.strategy == "channel":
                # The package uses the weights' type, engines and the toolkit F32; the numbers are the same.
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
    """Schemes that the package lacks, by numpy arithmetic."""
    output = convert(recipe, scope, search)
    modules, ours = quantised(read_checkpoint(output)), decode(output, "F32")
    assert len(modules) == expected_modules(recipe, scope)
    for module, components in modules.items():
        theirs = torch.from_numpy(numpy.ascontiguousarray(PLAIN[recipe](components), numpy.float32))
        assert same_bits(weights_of(ours, module).reshape(theirs.shape), theirs), module


def test_mxfp4_is_for_experts(tools, tmp_path):
    """quant_method mxfp4 applies to experts only, so other layers are never quantised."""
    result = tools.run(
        "step3-convert", TINY, tmp_path / "output", "--to", "safetensors", "--quantize", "MXFP4",
        "--scope", "linear")  # fmt: skip
    assert result.returncode != 0 and "MXFP4A16" in result.stderr


@pytest.mark.parametrize("recipe", GROUPS)
def test_a_search_is_never_worse(convert, decode, recipe):
    """Squared errors of every group of every matrix, in F64. Four bits are searched unless told otherwise."""
    source = read_checkpoint(TINY)
    searched = convert(recipe, "experts", "mse")
    default = convert(recipe, "experts")
    expected = searched if "4" in recipe else convert(recipe, "experts", "absmax")
    assert read_checkpoint(default) == read_checkpoint(expected)

    modules = quantised(read_checkpoint(searched))
    assert len(modules) == expected_modules(recipe, "experts")
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


# The configuration


def named_modules(checkpoint):
    """Modules under the names of the files, of vLLM (fused only) and of SGLang, with the kind of their weights."""
    path = FIXTURES / "checkpoints" / checkpoint
    layers = load_json(path / "config.json")["text_config"]["moe_layers_enum"]
    experts = {int(layer) for layer in layers.split(",")}
    for layer in range(LAYERS[checkpoint]):
        attention = ["self_attn.wq", "self_attn.o_proj"]
        kinds = dict.fromkeys([*attention, "self_attn.qkv_proj"], "linear")
        if layer in experts:
            kinds |= {"share_expert.gate_up_proj": "linear", "share_expert.down_proj": "linear", "moe.gate": "plain"}
            kinds |= {f"moe.experts.0.{name}_proj": "experts" for name in ("gate", "up", "down")}
        else:
            kinds |= {"mlp.gate_up_proj": "linear", "mlp.down_proj": "linear"}
        for name, kind in kinds.items():
            yield f"language_model.model.layers.{layer}.{name}", kind
            yield f"model.layers.{layer}.{name.replace('moe.experts', 'mlp.experts')}", kind
    for name, (_, shape, _) in read_checkpoint(path).items():
        if name.endswith(".weight") and len(shape) > 1 and "embed" not in name:
            is_plain = name.startswith(("vision_model.", "vit_", "lm_head")) or name.endswith("moe.gate.weight")
            kind = "plain" if is_plain else "experts" if ".moe." in name else "linear"
            yield name.removesuffix(".weight"), kind


@pytest.mark.parametrize("checkpoint, recipe, scope", CASES)
def test_the_package_reads_our_configuration(convert, checkpoint, recipe, scope):
    """The scheme is the package's preset of that name, and is requested exactly where there are codes."""
    output = convert(recipe, scope, "absmax", checkpoint)
    config, scheme = configuration(output), scheme_of(output)
    assert config.quant_method == "compressed-tensors"
    assert config.quantization_status == QuantizationStatus.COMPRESSED
    assert list(config.config_groups) == ["group_0"] and scheme.targets == ["Linear"]
    linear = torch.nn.Linear(8, 8, device="meta")
    assert config.format == scheme.format == infer_module_format(type(linear), scheme).value

    name, group = COMPRESSED[recipe]
    preset = preset_name_to_scheme(name, ["Linear"])
    fields = ["num_bits", "type", "strategy", "symmetric", "dynamic", "block_structure", "actorder", "scale_dtype"]
    for ours, theirs in [
        (scheme.weights, preset.weights),
        (scheme.input_activations, preset.input_activations),
        (scheme.output_activations, preset.output_activations),
    ]:
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert [getattr(ours, field) for field in fields] == [getattr(theirs, field) for field in fields]
    assert scheme.weights.group_size == group

    modules = dict(named_modules(checkpoint))
    kinds = ["experts"] if scope == "experts" else ["experts", "linear"]
    found = {module: is_match(module, linear, scheme.targets, config.ignore) for module in modules}
    assert found == {
        module: kind in kinds and not stays(checkpoint, recipe, module) for module, kind in modules.items()
    }
    assert all(found.get(module, True) for module in quantised(read_checkpoint(output)))


# The model's logits

# Mean KL divergence in nats and share of the same likeliest tokens on tiny's prompt of 64 tokens, measured. Its weights
# are random, so that these are far above a trained model's.
MEASURED = {
    ("FP8_BLOCK", "experts"): (0.0018, 0.953), ("FP8_BLOCK", "linear"): (0.0700, 0.609),
    ("FP8_DYNAMIC", "experts"): (0.0028, 0.953), ("FP8_DYNAMIC", "linear"): (0.0597, 0.688),
    ("W8A8_INT8", "experts"): (0.0002, 0.984), ("W8A8_INT8", "linear"): (0.0113, 0.906),
    ("W8A8_INT8_SGLANG", "experts"): (0.0002, 0.984), ("W8A8_INT8_SGLANG", "linear"): (0.0119, 0.859),
    ("W4A16", "experts"): (0.0382, 0.750), ("W4A16", "linear"): (0.5666, 0.219),
    ("W4A16_G64", "experts"): (0.0362, 0.734), ("W4A16_G64", "linear"): (0.5320, 0.141),
    ("W4A16_G32", "experts"): (0.0257, 0.688), ("W4A16_G32", "linear"): (0.3955, 0.266),
    ("NVFP4A16", "experts"): (0.0213, 0.781), ("NVFP4A16", "linear"): (0.3679, 0.219),
    ("NVFP4A16_MODELOPT", "experts"): (0.0205, 0.812), ("NVFP4A16_MODELOPT", "linear"): (0.3775, 0.281),
    ("MXFP4", "experts"): (0.0363, 0.766),
    ("MXFP4A16", "experts"): (0.0371, 0.750), ("MXFP4A16", "linear"): (0.5223, 0.266),
}  # fmt: skip
VLLM_ONLY, SGLANG_ONLY = ["W8A8_INT8", "MXFP4", "MXFP4A16"], ["W8A8_INT8_SGLANG"]


def bits(path):
    """Bits per weight of all quantised modules, scales included."""
    size = count = 0
    for components in quantised(read_checkpoint(path)).values():
        size += sum(len(data) for _, _, data in components.values())
        element_type, shape, _ = components.get("weight_packed") or components["weight"]
        count += numpy.prod(shape) * {"I32": 8, "U8": 2}.get(element_type, 1)
    return 8 * size / count


@pytest.mark.parametrize("recipe, scope", MEASURED)
def test_logits_stay_within_the_measured_divergence(tools, convert, closing_table, recipe, scope):
    """In the toolkit's runtime, with default scale search: no further from BF16 than measured earlier."""
    output = convert(recipe, scope)
    mean, top1 = MEASURED[recipe, scope]
    limits = {"--max-mean-kl": 1.5 * mean + 0.001, "--min-top1": top1 - 0.05}
    prompt = TINY / "reference" / "text_064.safetensors"
    report = tools.json(
        "step3-verify", "logits", output, "--reference", TINY, "--tokens-file", prompt,
        *(item for limit in limits.items() for item in limit))  # fmt: skip
    assert [check["ok"] for check in report["checks"]] == [True, True] and report["tokens"] == 64
    assert report["kl"]["mean"] > mean / 2, "closer than codes of so few bits can be"
    agreement = [layer["agreement"] for layer in report["expertAgreement"]]
    closing_table(
        "Logits of quantised tiny against BF16, 64 tokens",
        {
            "recipe": recipe, "scope": scope, "bits": f"{bits(output):.2f}", "KL": f"{report['kl']['mean']:.4f}",
            "largest KL": f"{report['kl']['max']:.3f}", "top 1": f"{report['top1Agreement']:.0%}",
            "top 5": f"{report['top5Overlap']:.0%}", "experts": f"{sum(agreement) / len(agreement):.0%}",
        },
    )  # fmt: skip


@pytest.mark.parametrize("recipe, scope", MEASURED)
def test_engines_load_the_documented_schemes(tools, convert, recipe, scope):
    """Which engine loads which scheme, as stated in Manuals/serving.md and Manuals/schemes.md."""
    result = tools.run("step3-verify", "engine", convert(recipe, scope), "--json")
    engines = {report["engine"]: report for report in json.loads(result.stdout)["engines"]}
    codes = {
        name: {finding["code"] for finding in report["findings"]} for name, report in engines.items()
    }
    if (recipe, scope) == ("FP8_BLOCK", "linear"):
        # Tiny's heads have 64 columns, so that a block of 128 covers keys and values; Step-3's have 256.
        expected = {"vllm": {"block-misaligned"}, "sglang": {"block-misaligned"}}
    else:
        expected = {
            "vllm": {"scheme-unsupported"} if recipe in SGLANG_ONLY else set(),
            "sglang": {"scheme-unsupported"} if recipe in VLLM_ONLY else set(),
        }
    assert codes == expected
    assert {name: report["ok"] for name, report in engines.items()} == {
        name: not findings for name, findings in expected.items()
    }
    assert result.returncode == (1 if any(expected.values()) else 0)
