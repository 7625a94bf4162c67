"""Step-3.5-Flash and Step-3.7-Flash against llama.cpp's converter, llama.cpp itself, transformers and an oracle of our own."""

import json
import shutil

import gguf
import ml_dtypes  # noqa: F401  (teaches NumPy what BF16 is)
import numpy
import pytest
from safetensors.numpy import load_file

import llama_cpp_source
import step35_checkpoint
from conftest import FIXTURES

torch = pytest.importorskip("torch", reason="the oracle is written in PyTorch: requirements-schemes.txt has it")
import step35_oracle  # noqa: E402

TOKENIZER = FIXTURES / "checkpoints" / "tiny"
PROMPT = [5, 60, 77, 200, 301, 17, 44, 91, 333, 420, 12, 7, 99, 450, 3, 250, 251, 18, 19]
VOCABULARY = step35_checkpoint.VOCABULARY
# Keys that the converter derives from directory names and model cards, and the toolkit from the family's name.
CALLED = {"general.name", "general.basename", "general.size_label", "general.finetune", "general.version"}


@pytest.fixture(scope="module")
def flash(tmp_path_factory):
    """Step-3.5-Flash, small."""
    directory = tmp_path_factory.mktemp("family") / "step3p5"
    return step35_checkpoint.write_3p5(directory, numpy.random.default_rng(35), TOKENIZER)


@pytest.fixture(scope="module")
def flash_with_vision(tmp_path_factory):
    """Step-3.7-Flash, small."""
    directory = tmp_path_factory.mktemp("family") / "step3p7"
    return step35_checkpoint.write_3p7(directory, numpy.random.default_rng(37), TOKENIZER)


def tensors_of(directory):
    tensors = {}
    for file in sorted(directory.glob("*.safetensors")):
        tensors.update(load_file(file))
    return tensors


def keys(path):
    """Keys in the order of the file, with types and bytes."""
    found = {}
    for field in gguf.GGUFReader(path).fields.values():
        if not field.name.startswith("GGUF."):
            parts = [bytes(field.parts[index].tobytes()) for index in field.data]
            found[field.name] = (tuple(map(int, field.types)), parts)
    return found


def listed(path):
    """Tensors in the order of the file."""
    return [
        (tensor.name, tensor.tensor_type.name, tuple(map(int, tensor.shape)), tensor.data.tobytes())
        for tensor in gguf.GGUFReader(path).tensors
    ]


def assert_same_file(ours, theirs):
    left, right = listed(ours), listed(theirs)
    assert [tensor[:3] for tensor in left] == [tensor[:3] for tensor in right]
    assert [tensor[0] for tensor, other in zip(left, right) if tensor != other] == []
    mine, its = keys(ours), keys(theirs)
    for called in CALLED:
        mine.pop(called, None)
        its.pop(called, None)
    assert list(mine) == list(its)
    assert {key: value for key, value in mine.items() if value != its[key]} == {}


@pytest.mark.parametrize("outtype", ["bf16", "f16", "f32"])
def test_gguf_is_what_the_converter_writes(tools, tmp_path, flash_with_vision, outtype):
    theirs = llama_cpp_source.convert(flash_with_vision, tmp_path / "theirs.gguf", outtype)
    ours = tmp_path / "ours"
    tools.convert(flash_with_vision, ours, "--to", "gguf", "--quantize", outtype.upper())
    assert_same_file(ours / "model.gguf", theirs)
    mmproj = llama_cpp_source.convert(flash_with_vision, tmp_path / "mmproj.gguf", outtype, "--mmproj")
    assert_same_file(ours / "mmproj.gguf", mmproj)


@pytest.mark.parametrize("outtype", ["bf16", "f16", "f32"])
@pytest.mark.parametrize("option", [[], ["--no-mtp"], ["--mtp"]])
def test_prediction_layers_are_what_the_converter_writes(tools, tmp_path, flash, option, outtype):
    theirs = llama_cpp_source.convert(flash, tmp_path / "theirs.gguf", outtype, *option)
    ours = tmp_path / "ours"
    tools.convert(flash, ours, "--to", "gguf", "--quantize", outtype.upper(), *option)
    assert_same_file(ours / "model.gguf", theirs)


def alone(directory, files):
    """Copies these files to a directory of their own, so that nothing else describes them."""
    directory.mkdir()
    for file in files:
        shutil.copy(file, directory)
    return directory


@pytest.mark.parametrize("with_vision", [False, True])
def test_gguf_is_converted_back(tools, tmp_path, flash, flash_with_vision, with_vision):
    source = flash_with_vision if with_vision else flash
    summary = tools.convert(source, tmp_path / "gguf", "--to", "gguf", "--quantize", "BF16")
    originals = tensors_of(source)
    norms = {name for name in originals if "norm" in name and not name.startswith("vision")}
    # In each, one element is such that adding one rounds it.
    assert {entry["tensor"]: entry["elements"] for entry in summary["rounded"]} == dict.fromkeys(
        norms, 1
    ) | {name: count for name, count in rounded(originals, norms).items() if count != 1}
    files = alone(tmp_path / "alone", (tmp_path / "gguf").glob("*.gguf"))
    summary = tools.convert(files, tmp_path / "back", "--to", "safetensors", "--quantize", "BF16")
    assert {entry["tensor"] for entry in summary["rounded"]} == norms
    tensors = tensors_of(tmp_path / "back")
    assert tensors.keys() == originals.keys()
    for name, values in originals.items():
        other = tensors[name]
        assert other.dtype == values.dtype and other.shape == values.shape, name
        if name in norms:
            # That element after adding and subtracting one, and everything else exactly.
            left = (values.astype(numpy.float32) + numpy.float32(1)) - numpy.float32(1)
            assert other.tobytes() == left.astype(values.dtype).tobytes(), name
        else:
            assert other.tobytes() == values.tobytes(), name
    verdict = tools.json("step3-verify", "tensors", tmp_path / "back", "--source", files)
    assert verdict["ok"], verdict
    # Converted once more: the written configuration is equivalent to the published one.
    tools.convert(tmp_path / "back", tmp_path / "again", "--to", "gguf", "--quantize", "BF16")
    first, second = listed(tmp_path / "gguf" / "model.gguf"), listed(tmp_path / "again" / "model.gguf")
    assert sorted(first) == sorted(second)
    mine, its = keys(tmp_path / "gguf" / "model.gguf"), keys(tmp_path / "again" / "model.gguf")
    assert {key: value for key, value in mine.items() if its.get(key) != value} == {}


def test_split_files_are_converted_back(tools, tmp_path, flash_with_vision):
    """In F32, where only norms can change, and in files of limited size."""
    size = ["--max-shard-size", "8MB"]
    tools.convert(flash_with_vision, tmp_path / "gguf", "--to", "gguf", "--quantize", "F32", *size)
    split = sorted((tmp_path / "gguf").glob("model-*-of-*.gguf"))
    assert len(split) > 3
    tools.convert(flash_with_vision, tmp_path / "one", "--to", "gguf", "--quantize", "F32")
    together = [tensor for file in split for tensor in listed(file)]
    assert sorted(together) == sorted(listed(tmp_path / "one" / "model.gguf"))
    files = alone(tmp_path / "alone", (tmp_path / "gguf").glob("*.gguf"))
    tools.convert(files, tmp_path / "back", "--to", "safetensors", "--quantize", "BF16", *size)
    originals, tensors = tensors_of(flash_with_vision), tensors_of(tmp_path / "back")
    assert tensors.keys() == originals.keys()
    for name, values in originals.items():
        if "norm" in name and not name.startswith("vision"):
            values = ((values.astype(numpy.float32) + numpy.float32(1)) - numpy.float32(1)).astype(values.dtype)
        assert tensors[name].tobytes() == values.tobytes(), name


def rounded(tensors, names):
    """How many elements of each tensor are changed by adding one and subtracting it again."""
    one = numpy.float32(1)
    values = {name: tensors[name].astype(numpy.float32) for name in names}
    return {name: int(((v + one) - one != v).sum()) for name, v in values.items()}


@pytest.mark.parametrize("recipe", ["BF16", "Q8_0", "Q4_K_M"])
def test_verify_tensors_accepts_the_gguf_and_finds_a_fault(tools, tmp_path, flash, recipe):
    ours = tmp_path / "ours"
    tools.convert(flash, ours, "--to", "gguf", "--quantize", recipe)
    verdict = tools.json("step3-verify", "tensors", ours, "--source", flash)
    assert verdict["ok"], verdict
    # A norm without the added one is found.
    model = ours / "model.gguf"
    reader = gguf.GGUFReader(model, "r+")
    norm = next(tensor for tensor in reader.tensors if tensor.name == "blk.1.attn_norm.weight")
    norm.data[:] -= 1
    del norm, reader
    result = tools.run("step3-verify", "tensors", ours, "--source", flash, "--json")
    assert result.returncode == 1 and "model.layers.1.input_layernorm.weight" in result.stdout


def test_factors_of_another_rule_are_not_guessed(tools, tmp_path, flash):
    ours = tmp_path / "ours"
    tools.convert(flash, ours, "--to", "gguf", "--quantize", "BF16")
    files = alone(tmp_path / "alone", [ours / "model.gguf"])
    reader = gguf.GGUFReader(files / "model.gguf", "r+")
    factors = next(tensor for tensor in reader.tensors if tensor.name == "rope_freqs.weight")
    factors.data[3] *= 1.5
    del factors, reader
    result = tools.run("step3-convert", files, tmp_path / "back", "--to", "safetensors", "--quantize", "BF16")
    assert result.returncode == 65 and "rope_freqs.weight" in result.stderr


# The forward pass.


def our_logits(tools, tmp_path, checkpoint, tokens):
    dump = tmp_path / f"{checkpoint.name}.dump.safetensors"
    tools.json("step3-verify", "run", checkpoint, "--tokens", ",".join(map(str, tokens)), "--dump", dump)
    return load_file(dump)["logits"].astype(numpy.float64)


def oracle_logits(checkpoint, tokens):
    config = json.loads((checkpoint / "config.json").read_text())
    return step35_oracle.logits(tensors_of(checkpoint), config, tokens).numpy()


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - numpy.log(numpy.exp(shifted).sum(-1, keepdims=True))


@pytest.mark.parametrize("with_vision", [False, True])
def test_our_logits_are_the_oracles(tools, tmp_path, flash, flash_with_vision, with_vision):
    source = flash_with_vision if with_vision else flash
    assert numpy.abs(our_logits(tools, tmp_path, source, PROMPT) - oracle_logits(source, PROMPT)).max() < 2e-4


def test_our_logits_of_gguf_are_the_oracles(tools, tmp_path, flash):
    tools.convert(flash, tmp_path / "gguf", "--to", "gguf", "--quantize", "BF16")
    files = alone(tmp_path / "alone", [tmp_path / "gguf" / "model.gguf"])
    assert numpy.abs(our_logits(tools, tmp_path, files, PROMPT) - oracle_logits(flash, PROMPT)).max() < 2e-4


@pytest.mark.parametrize(
    "change",
    [
        {"sliding_window": 4}, {"moe_router_scaling_factor": 1.0}, {"rope_theta": [10000.0] * 7},
        {"swiglu_limits": [0.0] * 7}, {"swiglu_limits_shared": [0.0] * 7},
    ],
)
def test_every_setting_changes_the_logits(tools, tmp_path, flash, change):
    other = tmp_path / "other"
    shutil.copytree(flash, other)
    config = json.loads((other / "config.json").read_text()) | change
    (other / "config.json").write_text(json.dumps(config))
    ours = our_logits(tools, tmp_path, other, PROMPT)
    assert numpy.abs(ours - oracle_logits(other, PROMPT)).max() < 2e-4
    assert numpy.abs(ours - oracle_logits(flash, PROMPT)).max() > 1e-3


# llama.cpp itself.

# How far its log probabilities may be from ours on the same file: it rounds activations to
# the weights' type, for block formats to eight bits. Measured: 0.003, 0.03, and up to 0.2.
BOUNDS = {"F32": 0.01, "BF16": 0.08, "Q8_0": 0.4, "Q4_K_M": 0.4, "IQ4_XS": 0.4, "MXFP4": 0.4}


@pytest.fixture(scope="module")
def flash_of_all_experts(tmp_path_factory):
    """The same, but every token is routed to all experts: with near ties, rounding could change the choice."""
    directory = tmp_path_factory.mktemp("family") / "step3p5-all"
    random = numpy.random.default_rng(35)
    return step35_checkpoint.write_3p5(directory, random, TOKENIZER, moe_top_k=step35_checkpoint.EXPERTS)


@pytest.mark.parametrize("recipe", BOUNDS)
def test_llama_cpp_computes_the_same_logits(
    tools, tmp_path, flash, flash_of_all_experts, recipe, closing_table
):
    pytest.importorskip("xllamacpp", reason="requirements.txt has it where there is a wheel for the platform")
    import llama_cpp_runtime

    exact = recipe in ("F32", "BF16")
    source = flash if exact else flash_of_all_experts
    tools.convert(source, tmp_path / "gguf", "--to", "gguf", "--quantize", recipe)
    files = alone(tmp_path / "alone", [tmp_path / "gguf" / "model.gguf"])
    prompt = ",".join(map(str, PROMPT))
    answer = tools.json("step3-verify", "run", files, "--tokens", prompt, "--generate", 12)
    tokens = PROMPT + answer["prompts"][0]["generated"]
    ours = log_softmax(our_logits(tools, tmp_path, files, tokens))[len(PROMPT) - 1 :]
    steps = llama_cpp_runtime.next_tokens(files / "model.gguf", tokens, len(PROMPT), VOCABULARY)
    assert len(steps) == len(ours)
    distances = []
    for step, row in zip(steps, ours):
        if step is None:
            continue
        theirs = numpy.array([step[token] for token in range(VOCABULARY)])
        distances.append(numpy.abs(theirs - row).max())
        if exact:
            assert theirs.argmax() == row.argmax()
    assert len(distances) >= 6
    closing_table(
        "Step-3.5-Flash: our logits beside llama.cpp's",
        {"recipe": recipe, "steps": str(len(distances)), "largest distance of log-probabilities": f"{max(distances):.4f}"},
    )
    assert max(distances) < BOUNDS[recipe]


def test_llama_cpp_drafts_with_the_prediction_layers(tools, tmp_path, flash):
    pytest.importorskip("xllamacpp")
    import llama_cpp_runtime

    for name, options in [("model", ["--no-mtp"]), ("draft", ["--mtp"])]:
        tools.convert(flash, tmp_path / name, "--to", "gguf", "--quantize", "BF16", *options)
    model, draft = (tmp_path / name / "model.gguf" for name in ("model", "draft"))
    text, drafted = llama_cpp_runtime.continued(model, 12, PROMPT)
    assert drafted == 0
    with_draft, drafted = llama_cpp_runtime.continued(model, 12, PROMPT, draft)
    # The model checks the drafted tokens, so the text stays the same.
    assert with_draft == text and drafted > 0


def test_a_file_that_llama_cpp_does_not_load_is_reported(tools, tmp_path, flash):
    pytest.importorskip("xllamacpp")
    import llama_cpp_runtime

    tools.convert(flash, tmp_path / "gguf", "--to", "gguf", "--quantize", "BF16", "--no-mtp")
    model = tmp_path / "gguf" / "model.gguf"
    short = tmp_path / "short.gguf"
    short.write_bytes(model.read_bytes()[:-4096])
    other = tmp_path / "other.gguf"
    other.write_bytes(model.read_bytes().replace(b"blk.2.attn_gate.weight", b"blk.2.attn_gone.weight"))
    refused = llama_cpp_runtime.refused([str(short), str(model), str(other), str(model)], at_once=3)
    assert refused.keys() == {str(short), str(other)}


def test_our_logits_are_those_of_transformers(tools, tmp_path, flash_with_vision):
    transformers = pytest.importorskip("transformers", minversion="5.24", reason="earlier ones do not know step3p7")
    config = transformers.AutoConfig.from_pretrained(flash_with_vision)
    vision = json.loads((flash_with_vision / "config.json").read_text())["vision_config"]
    # It hard-codes the released model's positions.
    config.vision_config.max_position_embeddings = (vision["image_size"] // vision["patch_size"]) ** 2
    model = transformers.AutoModelForImageTextToText.from_pretrained(
        flash_with_vision, config=config, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        theirs = model(input_ids=torch.tensor([PROMPT])).logits[0].double().numpy()
    assert numpy.abs(our_logits(tools, tmp_path, flash_with_vision, PROMPT) - theirs).max() < 2e-4


# The other members.


@pytest.fixture(scope="module")
def preview(tmp_path_factory):
    """Step-5-Preview, small."""
    directory = tmp_path_factory.mktemp("family") / "step5"
    return step35_checkpoint.write_step5(directory, numpy.random.default_rng(5), TOKENIZER)


def test_step_5_in_dense_form(tools, tmp_path, preview):
    assert numpy.abs(our_logits(tools, tmp_path, preview, PROMPT) - oracle_logits(preview, PROMPT)).max() < 2e-4
    # All tensors are known, indexers included, but no GGUF reader computes them.
    listing = tools.json("step3-inspect", "list", preview)["tensors"]
    assert {tensor["role"] for tensor in listing if "sparse_indexer" in tensor["name"]} == {"attention"}
    result = tools.run("step3-convert", preview, tmp_path / "gguf", "--to", "gguf", "--quantize", "BF16")
    assert result.returncode == 65 and "sparse attention" in result.stderr
    # Two regions of four tokens and the open one: no longer text is possible.
    config = json.loads((preview / "config.json").read_text())
    config["text_config"]["sparse_config"] |= {"topk": 2, "region_block_size": 4}
    (tmp_path / "short").mkdir()
    for file in preview.iterdir():
        shutil.copy(file, tmp_path / "short")
    (tmp_path / "short" / "config.json").write_text(json.dumps(config))
    for count, code in [(12, 0), (13, 65)]:
        tokens = ",".join(map(str, PROMPT[:count]))
        assert tools.run("step3-verify", "run", tmp_path / "short", "--tokens", tokens).returncode == code


def test_step_5_survives_a_conversion(tools, tmp_path, preview):
    tools.convert(preview, tmp_path / "ours", "--to", "safetensors", "--quantize", "BF16")
    originals, tensors = tensors_of(preview), tensors_of(tmp_path / "ours")
    assert tensors.keys() == originals.keys()
    # Norms, the indexer's head weights and the router's bias are F32 on disk, and stay F32.
    assert {values.dtype.name for values in originals.values()} == {"float32", "bfloat16"}
    for name, values in originals.items():
        assert tensors[name].dtype == values.dtype and tensors[name].tobytes() == values.tobytes(), name


@pytest.fixture(scope="module")
def vision_language(tmp_path_factory):
    """Step3-VL-10B, small, and transformers' Qwen3 with its language model."""
    transformers = pytest.importorskip("transformers")
    directory = tmp_path_factory.mktemp("family") / "vl"
    return step35_checkpoint.write_vl(directory, numpy.random.default_rng(10), TOKENIZER, transformers)


def test_step3_vl_computes_as_qwen3(tools, tmp_path, vision_language):
    directory, model = vision_language
    with torch.no_grad():
        theirs = model(input_ids=torch.tensor([PROMPT])).logits[0].double().numpy()
    assert numpy.abs(our_logits(tools, tmp_path, directory, PROMPT) - theirs).max() < 2e-4


def test_step3_vl_in_gguf(tools, tmp_path, vision_language):
    directory, _ = vision_language
    tools.convert(directory, tmp_path / "ours", "--to", "gguf", "--quantize", "BF16")
    theirs = llama_cpp_source.convert(directory, tmp_path / "theirs.gguf", "bf16")
    assert_same_file(tmp_path / "ours" / "model.gguf", theirs)
    mmproj = llama_cpp_source.convert(directory, tmp_path / "mmproj.gguf", "bf16", "--mmproj")
    assert_same_file(tmp_path / "ours" / "mmproj.gguf", mmproj)
    # Only the vision side's file identifies the family.
    verdict = tools.json("step3-verify", "all", tmp_path / "ours", "--source", directory, "--tokens", "1,2,3")
    assert {check["name"]: check["ok"] for check in verdict["checks"]} == {
        "engine": None, "checksums": True, "tensors": True, "logits": True,
    }
    files = alone(tmp_path / "alone", (tmp_path / "ours").glob("*.gguf"))
    tools.convert(files, tmp_path / "back", "--to", "safetensors", "--quantize", "BF16")
    originals, tensors = tensors_of(directory), tensors_of(tmp_path / "back")
    assert {name: values.tobytes() for name, values in tensors.items()} == {
        name: values.tobytes() for name, values in originals.items()
    }


@pytest.mark.parametrize("router", ["attention", "ffn"])
def test_attention_and_ffn_run_disaggregated(tools, tmp_path, flash, router):
    parts = tmp_path / "parts"
    tools.convert(
        flash, parts, "--to", "safetensors", "--partition", "afd", "--ffn-ep", 2, "--attention-tp", 2, "--router",
        router,
    )
    dump = tmp_path / "dump.safetensors"
    tokens = ",".join(map(str, PROMPT))
    tools.json("step3-verify", "run", parts, "--afd", "--tokens", tokens, "--dump", dump)
    assert numpy.abs(load_file(dump)["logits"] - oracle_logits(flash, PROMPT)).max() < 2e-2


@pytest.mark.parametrize("member", ["flash_with_vision", "preview", "vision_language"])
def test_every_member_runs_in_parts(tools, tmp_path, request, member):
    """Experts, shared expert and dense layers on one side, attention on the other; Step3-VL-10B has only dense layers."""
    source = request.getfixturevalue(member)
    source = source[0] if member == "vision_language" else source
    parts = tmp_path / "parts"
    experts = [] if member == "vision_language" else ["--ffn-ep", 2]
    tools.convert(
        source, parts, "--to", "safetensors", "--partition", "afd", *experts, "--ffn-tp", 2, "--attention-tp", 2
    )
    names = {}
    for part in sorted(file.parent.name for file in parts.glob("*/model*.safetensors")):
        names[part] = tools.list(parts / part)
    kinds = {part: {tensor["role"] for tensor in tensors.values()} for part, tensors in names.items()}
    ffn = {"dense_ffn"} if member == "vision_language" else {"dense_ffn", "shared_expert", "routed_experts"}
    for part, roles in kinds.items():
        if part.startswith("ffn"):
            assert roles == ffn, part
        elif part.startswith("attention"):
            assert not roles & ffn and "attention" in roles, part
        else:
            assert part == "vision" and roles <= {"vision", "projector"}
    dump = tmp_path / "dump.safetensors"
    tokens = ",".join(map(str, PROMPT))
    tools.json("step3-verify", "run", parts, "--afd", "--tokens", tokens, "--dump", dump)
    whole = our_logits(tools, tmp_path, source, PROMPT)
    assert numpy.abs(load_file(dump)["logits"] - whole).max() < 1e-4
    # Merged, it is the original model, byte for byte.
    tools.convert(parts, tmp_path / "whole", "--to", "safetensors")
    again, originals = tensors_of(tmp_path / "whole"), tensors_of(source)
    assert {name: values.tobytes() for name, values in again.items()} == {
        name: values.tobytes() for name, values in originals.items()
    }
