"""Conversions of Step-3 checkpoints, with every tensor compared with numpy's arithmetic on the source."""

import json

import numpy
import pytest

from arithmetic import decoded, load_json, metadata, read_checkpoint, read_gguf, stored, weights
from conftest import FIXTURES
from step3_names import gguf_name, is_vision, stays_precise

CHECKPOINTS = ["tiny", "odd", "tiny-fp8", "odd-fp8"]


@pytest.fixture(params=CHECKPOINTS)
def checkpoint(request):
    return FIXTURES / "checkpoints" / request.param


@pytest.mark.parametrize("recipe", ["BF16", "F16", "F32", "Q8_0", "Q4_0"])
def test_gguf_values_are_numpys(tools, tmp_path, checkpoint, recipe):
    source = read_checkpoint(checkpoint)
    output = tmp_path / "output"
    tools.convert(checkpoint, output, "--to", "gguf", "--quantize", recipe)
    language, _ = read_gguf(output / "model.gguf")
    vision, _ = read_gguf(output / "mmproj.gguf")
    names = weights(source)
    assert language.keys() == {gguf_name(name) for name in names if not is_vision(name)}
    assert vision.keys() == {gguf_name(name) for name in names if is_vision(name)}

    quantised = 0
    for name in names:
        values = decoded(source, name)
        element_type, shape, data = (vision if is_vision(name) else language)[gguf_name(name)]
        assert shape == values.shape, name
        if stays_precise(name, shape):
            assert element_type == "F32", name
        elif not is_vision(name) and (not recipe.startswith("Q") or shape[-1] % 32 == 0):
            assert element_type == recipe, name
            quantised += 1
        if element_type == "F16" and recipe != "F16":
            # The recipe chooses a fallback's type; its values must still be right.
            assert numpy.abs(values).max() < 65504
        assert data == stored(values, element_type), f"{name} as {element_type}"
    assert quantised > 20


def test_gguf_without_quantisation(tools, tmp_path, checkpoint):
    """Without --quantize: BF16 stays BF16; FP8, which GGUF does not have, becomes a nearly lossless type."""
    source = read_checkpoint(checkpoint)
    output = tmp_path / "output"
    tools.convert(checkpoint, output, "--to", "gguf")
    language, _ = read_gguf(output / "model.gguf")
    for name in weights(source):
        if is_vision(name):
            continue
        element_type, shape, data = language[gguf_name(name)]
        if source[name][0] == "BF16" and not stays_precise(name, shape):
            assert element_type == "BF16" and data == source[name][2], name
        else:
            assert data == stored(decoded(source, name), element_type), name


@pytest.mark.parametrize("recipe", ["BF16", "F16", "F32"])
def test_safetensors_values_are_numpys(tools, tmp_path, checkpoint, recipe):
    source = read_checkpoint(checkpoint)
    output = tmp_path / "output"
    tools.convert(checkpoint, output, "--to", "safetensors", "--quantize", recipe)
    result = read_checkpoint(output)
    assert result.keys() == set(weights(source)), "scales are used up, names are kept"
    for name, (element_type, shape, data) in result.items():
        values = decoded(source, name)
        assert shape == values.shape
        if recipe != "F16" and not is_vision(name) and not stays_precise(name, shape):
            assert element_type == recipe, name
        assert data == stored(values, element_type), f"{name} as {element_type}"
    config = load_json(output / "config.json")
    assert "quantization_config" not in config, "nothing is FP8 any more"


def test_safetensors_without_quantisation_is_a_copy(tools, tmp_path, checkpoint):
    source = read_checkpoint(checkpoint)
    output = tmp_path / "output"
    tools.convert(checkpoint, output, "--to", "safetensors", "--max-shard-size", "500KB")
    assert read_checkpoint(output) == source
    index = load_json(output / "model.safetensors.index.json")
    assert index["weight_map"].keys() == source.keys()
    assert index["metadata"]["total_size"] == sum(len(tensor[2]) for tensor in source.values())
    assert load_json(output / "config.json") == load_json(checkpoint / "config.json")
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"]:
        assert (output / name).read_bytes() == (checkpoint / name).read_bytes()


def test_gguf_metadata(tools, tmp_path, checkpoint):
    output = tmp_path / "output"
    tools.convert(checkpoint, output, "--to", "gguf", "--quantize", "Q8_0")
    ours = metadata(read_gguf(output / "model.gguf")[1])
    config = load_json(checkpoint / "config.json")
    text = config["text_config"]
    layers = text["moe_layers_enum"]
    layers = [int(layer) for layer in layers.split(",")] if isinstance(layers, str) else layers
    expected = {
        "general.architecture": "step3",
        "general.file_type": 7,
        "general.quantization_version": 2,
        "step3.block_count": text["num_hidden_layers"],
        "step3.context_length": text["max_position_embedding"],
        "step3.embedding_length": text["hidden_size"],
        "step3.feed_forward_length": text["intermediate_size"],
        "step3.attention.head_count": text["num_attention_heads"],
        "step3.attention.head_count_kv": 1,
        "step3.attention.key_length": text["head_dim"],
        "step3.attention.value_length": text["head_dim"],
        "step3.attention.q_lora_rank": text["share_q_dim"],
        "step3.attention.layer_norm_rms_epsilon": numpy.float32(text["rms_norm_eps"]),
        "step3.rope.freq_base": numpy.float32(text["rope_theta"]),
        "step3.rope.dimension_count": text["head_dim"],
        "step3.expert_count": text["moe_num_experts"],
        "step3.expert_used_count": text["moe_top_k"],
        "step3.expert_feed_forward_length": text["moe_intermediate_size"],
        "step3.expert_shared_count": 1,
        "step3.expert_shared_feed_forward_length": text["share_expert_dim"],
        "step3.expert_weights_norm": text["norm_expert_weight"],
        "step3.expert_gating_func": 1,
        "step3.leading_dense_block_count": min(layers),
        "step3.moe_layers": layers,
        "step3.vocab_size": text["vocab_size"],
    }
    assert {key: ours[key] for key in expected} == expected
    scaling = text.get("rope_scaling")
    if scaling is None:
        assert not any(key.startswith("step3.rope.scaling.") for key in ours)
    else:
        assert ours["step3.rope.scaling.type"] == scaling.get("rope_type", scaling.get("type"))
        assert ours["step3.rope.scaling.factor"] == numpy.float32(scaling["factor"])

    vision = metadata(read_gguf(output / "mmproj.gguf")[1])
    tower = config["vision_config"]
    assert vision["general.architecture"] == "clip"
    assert vision["general.type"] == "mmproj"
    for key, name in [
        ("image_size", "image_size"), ("patch_size", "patch_size"), ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"), ("block_count", "num_hidden_layers"),
        ("attention.head_count", "num_attention_heads"),
    ]:  # fmt: skip
        assert vision[f"clip.vision.{key}"] == tower[name]


def test_gguf_tokenizer(tools, tmp_path, checkpoint):
    output = tmp_path / "output"
    tools.convert(checkpoint, output, "--to", "gguf")
    ours = metadata(read_gguf(output / "model.gguf")[1])
    tokenizer = load_json(checkpoint / "tokenizer.json")
    size = load_json(checkpoint / "config.json")["text_config"]["vocab_size"]
    normal, control, user_defined, unused = 1, 3, 4, 5
    tokens = [f"[PAD{index}]" for index in range(size)]
    types = [unused] * size
    for token, index in tokenizer["model"]["vocab"].items():
        tokens[index], types[index] = token, normal
    for token in tokenizer["added_tokens"]:
        tokens[token["id"]] = token["content"]
        types[token["id"]] = control if token["special"] else user_defined
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    assert ours["tokenizer.ggml.model"] == "gpt2"
    assert ours["tokenizer.ggml.pre"] == "deepseek-v3"
    assert ours["tokenizer.ggml.tokens"] == tokens
    assert ours["tokenizer.ggml.token_type"] == types
    assert ours["tokenizer.ggml.merges"] == merges
    generation = load_json(checkpoint / "generation_config.json")
    assert ours["tokenizer.ggml.bos_token_id"] == generation["bos_token_id"]
    ends = generation["eos_token_id"]
    assert ours["tokenizer.ggml.eos_token_id"] == (ends[0] if isinstance(ends, list) else ends)
    template = json.loads((checkpoint / "tokenizer_config.json").read_text()).get("chat_template")
    assert ours.get("tokenizer.chat_template") == template


@pytest.mark.parametrize("name", ["tiny", "odd"])
def test_a_round_trip_through_gguf_keeps_the_weights(tools, tmp_path, name):
    """To GGUF in BF16 with norms and router in F32, and back to BF16: the same weights under the same names."""
    source = read_checkpoint(FIXTURES / "checkpoints" / name)
    there, back = tmp_path / "there", tmp_path / "back"
    tools.convert(FIXTURES / "checkpoints" / name, there, "--to", "gguf", "--quantize", "BF16")
    tools.convert(there, back, "--to", "safetensors", "--quantize", "BF16")
    result = read_checkpoint(back)
    assert result.keys() == source.keys()
    for key, (element_type, shape, data) in result.items():
        assert shape == source[key][1]
        assert data == stored(decoded(source, key), element_type), key
    assert sum(tensor[0] == "BF16" for tensor in result.values()) > len(result) / 2
