"""Quantised releases of Step-3.5-Flash and Step-3.7-Flash as sources, and the family's outputs in the engines' loaders."""

import json
import shutil
import subprocess

import gguf
import ml_dtypes
import numpy
import pytest
from safetensors import safe_open

import step35_checkpoint
import step35_releases
from conftest import FIXTURES, TOOLS

TOKENIZER = FIXTURES / "checkpoints" / "tiny"
LAYERS = step35_checkpoint.LAYERS


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The BF16 releases, with their configurations and tensors, by name."""
    root = tmp_path_factory.mktemp("releases")
    random = numpy.random.default_rng(75)
    flash = step35_checkpoint.language_model(random)
    config = step35_checkpoint.config_of_3p7()
    both = step35_checkpoint.language_model(random) | step35_checkpoint.vision_side(random, config)
    return {
        "step3p5": (step35_checkpoint.write(root / "step3p5", step35_checkpoint.text_config(), flash, TOKENIZER),
                    step35_checkpoint.text_config(), flash),
        "step3p7": (step35_checkpoint.write(root / "step3p7", config, both, TOKENIZER), config, both),
    }


def raw_tensors(directory):
    """Types, shapes and bytes by name, because the safetensors package has no NumPy type for some."""
    found = {}
    for file in sorted(directory.glob("*.safetensors")):
        with open(file, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
            data = stream.read()
        header.pop("__metadata__", None)
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            found[name] = (entry["dtype"], entry["shape"], data[start:end])
    return found


def bf16(values):
    return values.astype(ml_dtypes.bfloat16).tobytes()


def assert_values(directory, tensors, meaning):
    """Every tensor has its published name: experts with the values decoded here, all others unchanged."""
    found = raw_tensors(directory)
    assert found.keys() == tensors.keys()
    for name, values in tensors.items():
        wanted = bf16(meaning[name]) if name in meaning else values.tobytes()
        assert found[name][1] == list(values.shape) and found[name][2] == wanted, name


EXPERTS = {"ffn_gate_exps": "gate_proj", "ffn_up_exps": "up_proj", "ffn_down_exps": "down_proj"}


def assert_gguf(path, meaning, width):
    """The experts in a GGUF file have the values decoded here."""
    seen = 0
    for tensor in gguf.GGUFReader(path).tensors:
        parts = tensor.name.split(".")
        if len(parts) == 4 and parts[2] in EXPERTS:
            values = meaning[f"model.layers.{parts[1]}.moe.{EXPERTS[parts[2]]}.weight"]
            wanted = bf16(values) if width == "BF16" else values.astype(numpy.float32).tobytes()
            assert tensor.data.tobytes() == wanted, tensor.name
            seen += 1
    assert seen == 3 * (LAYERS - 1)


def listed(path):
    return [(t.name, t.tensor_type.name, tuple(map(int, t.shape)), t.data.tobytes()) for t in gguf.GGUFReader(path).tensors]


@pytest.mark.parametrize("spelling", ["StepFun", "transformers"])
@pytest.mark.parametrize("model", ["step3p5", "step3p7"])
def test_fp8_release(tools, tmp_path, sources, model, spelling):
    source, config, tensors = sources[model]
    if spelling == "transformers":
        config = step35_releases.transformers_spelling(config)
    release, meaning = step35_releases.write_fp8(tmp_path / "fp8", source, config, tensors)
    tools.convert(release, tmp_path / "bf16", "--to", "safetensors", "--quantize", "BF16")
    assert_values(tmp_path / "bf16", tensors, meaning)
    assert "quantization_config" not in json.loads((tmp_path / "bf16" / "config.json").read_text())
    tools.convert(release, tmp_path / "gguf", "--to", "gguf", "--quantize", "BF16")
    assert_gguf(tmp_path / "gguf" / "model.gguf", meaning, "BF16")
    # Converting by way of BF16 gives the same file.
    tools.convert(tmp_path / "bf16", tmp_path / "again", "--to", "gguf", "--quantize", "BF16")
    assert sorted(listed(tmp_path / "again" / "model.gguf")) == sorted(listed(tmp_path / "gguf" / "model.gguf"))
    # Codes that may stay are kept as they are.
    tools.convert(release, tmp_path / "kept", "--to", "safetensors", "--quantize", "FP8_BLOCK", "--scope", "experts")
    before, after = raw_tensors(release), raw_tensors(tmp_path / "kept")
    assert before == after
    report = tools.json("step3-verify", "tensors", tmp_path / "gguf", "--source", release)
    assert report["ok"], report


@pytest.mark.parametrize("spelling", ["StepFun", "transformers"])
def test_nvfp4_release(tools, tmp_path, sources, spelling):
    source, config, tensors = sources["step3p7"]
    if spelling == "transformers":
        config = step35_releases.transformers_spelling(config)
    release, meaning = step35_releases.write_nvfp4(tmp_path / "nvfp4", source, config, tensors, LAYERS)
    tools.convert(release, tmp_path / "bf16", "--to", "safetensors", "--quantize", "BF16")
    assert_values(tmp_path / "bf16", tensors, meaning)
    tools.convert(release, tmp_path / "gguf", "--to", "gguf", "--quantize", "BF16")
    assert_gguf(tmp_path / "gguf" / "model.gguf", meaning, "BF16")
    assert (tmp_path / "gguf" / "mmproj.gguf").exists()
    # The same settings in ModelOpt's own file, where config.json has none.
    stated = json.loads((release / "config.json").read_text())
    stated.pop("quantization_config")
    (release / "config.json").write_text(json.dumps(stated))
    tools.convert(release, tmp_path / "beside", "--to", "safetensors", "--quantize", "BF16")
    assert_values(tmp_path / "beside", tensors, meaning)


# Outputs in the replayed loaders, which share nothing with the code that wrote them.

# The schemes that vLLM and SGLang load for these members, from their loaders.
SCHEMES = {
    "BF16": "both", "FP8_BLOCK": "both", "FP8_DYNAMIC": "both", "W4A16": "both", "NVFP4A16": "both",
    "NVFP4A16_MODELOPT": "both", "MXFP4": "vllm", "MXFP4A16": "vllm", "W8A8_INT8": "vllm", "W8A8_INT8_SGLANG": "sglang",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Members with settings that engines accept, by name."""
    root = tmp_path_factory.mktemp("served")
    random = numpy.random.default_rng(4)
    count = LAYERS + step35_checkpoint.PREDICTING
    limits = {"swiglu_limits": [7.0 if n == LAYERS - 1 else 0.0 for n in range(count)]}
    flash = step35_checkpoint.write_3p5(root / "step3p5", random, TOKENIZER, **limits)
    config = step35_checkpoint.config_of_3p7()
    config["text_config"] |= limits
    tensors = step35_checkpoint.language_model(random) | step35_checkpoint.vision_side(random, config)
    both = step35_checkpoint.write(root / "step3p7", config, tensors, TOKENIZER)
    preview = step35_checkpoint.write_step5(
        root / "step5", random, TOKENIZER, heads=8, groups=2, head=192, indexers=8, proxy=256, vision=True
    )
    return {"step3p5": flash, "step3p7": both, "step5": preview}


def served_by(model, recipe):
    engines = {"both": {"vllm", "sglang"}}.get(SCHEMES[recipe], {SCHEMES[recipe]})
    return engines - {"sglang"} if model == "step5" else engines


@pytest.mark.parametrize("recipe", SCHEMES)
@pytest.mark.parametrize("model", ["step3p5", "step3p7", "step5"])
def test_outputs_pass_the_loaders(tools, tmp_path, served, model, recipe):
    output = tmp_path / "output"
    summary = tools.convert(served[model], output, "--to", "safetensors", "--quantize", recipe)
    planned = {verdict["engine"].lower(): verdict["ok"] for verdict in summary["engines"]}
    for engine in ("vllm", "sglang"):
        result = tools.run("step3-verify", "engine", output, "--engine", engine, "--json")
        report = json.loads(result.stdout)["engines"][0]
        assert report["ok"] == (engine in served_by(model, recipe)), (engine, report["findings"][:3])
        assert planned[engine] == report["ok"]
        if report["ok"]:
            # What is not replayed is reported.
            assert any("predict further tokens" in check for check in report["checksSkipped"])
    for engine in ("vllm", "sglang"):
        forced = tools.run(
            "step3-convert", "plan", served[model], "--to", "safetensors", "--quantize", recipe,
            "--for-engine", engine,
        )
        assert forced.returncode == (0 if engine in served_by(model, recipe) else 64), forced.stderr


@pytest.fixture(scope="session")
def dense(tmp_path_factory):
    """Step3-VL-10B at full size, as sparse files."""
    path = tmp_path_factory.mktemp("dense") / "step3-vl-10b"
    subprocess.run([TOOLS / "checkpoint-generator", "full", path, "--model", path.name], check=True, capture_output=True)
    return path


@pytest.mark.parametrize("recipe", [name for name in SCHEMES if name != "MXFP4"])
def test_a_dense_member_passes_the_loaders(tools, dense, recipe):
    """No experts: all linear layers of the language model, and none of the vision side, whose modules each engine fuses differently."""
    for engine in ("vllm", "sglang"):
        arguments = ["--to", "safetensors", "--quantize", recipe, "--for-engine", engine]
        arguments += [] if recipe == "BF16" else ["--scope", "linear"]
        result = tools.run("step3-convert", "plan", dense, *arguments)
        expected = 0 if engine in served_by("step3-vl-10b", recipe) else 64
        assert result.returncode == expected, (engine, result.stderr)


@pytest.mark.parametrize("recipe", ["FP8_BLOCK", "W4A16", "NVFP4A16"])
def test_step_5_as_vllm_wants_it(tools, tmp_path, served, recipe):
    """All linear layers quantised except those beside an indexer, under vLLM's names; stray copies are not read."""
    source = tmp_path / "source"
    shutil.copytree(served["step5"], source)
    # The last layers once more, as in the published directory: other bytes under the same names, not in the index.
    originals = raw_tensors(source)
    stray = {"model.layers.5.eh_proj.weight": numpy.zeros((256, 512), ml_dtypes.bfloat16)}
    step35_checkpoint.save(source / "model-mtp3-00001.safetensors", stray)
    output = tmp_path / "output"
    arguments = ["--to", "safetensors", "--quantize", recipe, "--scope", "linear", "--for-engine", "vllm"]
    tools.convert(source, output, *arguments)
    for result in (tools.run("step3-inspect", "list", source), tools.run("step3-convert", "plan", source, *arguments)):
        assert "not in the index and ignored: model-mtp3-00001.safetensors" in result.stderr
    config = json.loads((output / "config.json").read_text())
    assert (config["architectures"], config["model_type"]) == (["Step5ForConditionalGeneration"], "step5_vl")
    assert config["text_config"]["architectures"] == ["Step5ForCausalLM"]
    assert config["text_config"]["model_type"] == "step5"
    assert config["text_config"]["attention_other_setting"]["attention_type"] == "sliding_attention"
    found = raw_tensors(output)
    weights = {
        name.replace("weight_packed", "weight"): entry[0] for name, entry in found.items()
        if not name.endswith(("weight_scale", "weight_scale_inv", "weight_global_scale", "weight_shape"))
    }
    assert weights.keys() == originals.keys()
    linear = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    for name, (dtype, _, data) in originals.items():
        parts = name.split(".")
        beside_indexer = parts[:3] == ["model", "layers", "3"] and parts[-2] in ("q_proj", "k_proj", "v_proj")
        predicting = parts[:2] == ["model", "layers"] and int(parts[2]) >= LAYERS
        if parts[-2] in linear and not beside_indexer and not predicting:
            assert weights[name] not in ("BF16", "F32"), name
        else:
            # Byte for byte, indexers and their F32 weights too.
            assert found[name][0] == dtype and found[name][2] == data, name
    assert tools.json("step3-verify", "engine", output, "--engine", "vllm")["ok"]
    assert tools.json("step3-verify", "tensors", output, "--source", source)["ok"]


def test_step_5_is_not_written_as_gguf(tools, tmp_path, served):
    for arguments in ([served["step5"], tmp_path / "gguf"], ["plan", served["step5"]]):
        result = tools.run("step3-convert", *arguments, "--to", "gguf", "--quantize", "BF16")
        assert result.returncode == 65 and "sparse attention" in result.stderr


def test_releases_pass_the_loaders(tools, tmp_path, sources, served):
    for model in ("step3p5", "step3p7"):
        config = json.loads((served[model] / "config.json").read_text())
        source, _, tensors = sources[model]
        release, _ = step35_releases.write_fp8(tmp_path / model, source, config, tensors)
        assert tools.json("step3-verify", "engine", release)["ok"]
    release, _ = step35_releases.write_nvfp4(tmp_path / "nvfp4", source, config, tensors, LAYERS)
    assert tools.json("step3-verify", "engine", release)["ok"]
    # vLLM also accepts transformers' spelling, SGLang does not.
    spelled = step35_releases.transformers_spelling(config)
    (release / "config.json").write_text(json.dumps(spelled | {"quantization_config": json.loads(
        (release / "config.json").read_text())["quantization_config"]}))
    reports = json.loads(tools.run("step3-verify", "engine", release, "--json").stdout)["engines"]
    assert [report["ok"] for report in reports] == [True, False]
    assert {f["code"] for f in reports[1]["findings"] if f["severity"] == "error"} == {"moe-layers-enum", "setting"}
