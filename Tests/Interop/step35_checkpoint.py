"""Small checkpoints of Step-3.5-Flash and Step-3.7-Flash, as StepFun publishes them, of random weights.

Written independently of the toolkit: names, shapes and the configuration's spelling are those of the published files. Weights
have the magnitudes of trained ones, so that every layer matters and nothing overflows.
"""

import json
import pathlib
import shutil
import struct

import ml_dtypes
import numpy

LAYERS, PREDICTING = 5, 2
HIDDEN, INNER, EXPERT_INNER, SHARED_INNER = 256, 512, 256, 256
EXPERTS, CHOSEN = 8, 3
HEAD, HEADS, SLIDING_HEADS, GROUPS = 64, 4, 6, 2
VOCABULARY, WINDOW = 512, 8


def is_sliding(layer):
    return layer % 4 != 0


def text_config(**changes):
    """The language model's configuration: lists have an entry for each layer, those of prediction included."""
    count = LAYERS + PREDICTING
    config = {
        "architectures": ["Step3p5ForCausalLM"],
        "model_type": "step3p5",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_nextn_predict_layers": PREDICTING,
        "num_attention_heads": HEADS,
        "num_attention_groups": GROUPS,
        "head_dim": HEAD,
        "vocab_size": VOCABULARY,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 4096,
        "max_seq_len": 4096,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention" if is_sliding(n) else "full_attention" for n in range(count)],
        "attention_other_setting": {
            "attention_type": "sliding_attention",
            "num_attention_heads": SLIDING_HEADS,
            "num_attention_groups": GROUPS,
            "head_dim": HEAD,
        },
        "rope_theta": [10000.0 if is_sliding(n) else 5000000.0 for n in range(count)],
        "partial_rotary_factors": [1.0 if is_sliding(n) else 0.5 for n in range(count)],
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 2.0,
            "original_max_position_embeddings": 131072,
            "low_freq_factor": 1.0,
            "high_freq_factor": 32.0,
        },
        "yarn_only_types": ["full_attention"],
        "use_head_wise_attn_gate": True,
        "att_impl_type": "GQA",
        "use_moe": True,
        "moe_layers_enum": ",".join(str(n) for n in range(1, LAYERS)),
        "moe_num_experts": EXPERTS,
        "moe_top_k": CHOSEN,
        "moe_intermediate_size": EXPERT_INNER,
        "share_expert_dim": SHARED_INNER,
        "moe_router_activation": "sigmoid",
        "use_moe_router_bias": True,
        "moe_router_scaling_factor": 3.0,
        "norm_expert_weight": True,
        "need_fp32_gate": True,
        "swiglu_limits": [0.5 if n == LAYERS - 1 else 0.0 for n in range(count)],
        "swiglu_limits_shared": [1.5 if n == LAYERS - 2 else 0.0 for n in range(count)],
        "use_qk_norm": True,
        "sink": False,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 0,
        "eos_token_id": [1, 2],
    }
    config.update(changes)
    return config


def config_of_3p7(vision_layers=2, width=96):
    """Step-3.7-Flash: the same language model beside a vision side."""
    return {
        "architectures": ["Step3p7ForConditionalGeneration"],
        "model_type": "step3p7",
        "text_config": text_config(),
        "vision_config": {
            "model_type": "perception_encoder",
            "image_size": 56,
            "patch_size": 14,
            "width": width,
            "layers": vision_layers,
            "heads": 2,
            "mlp_ratio": 8960 / 1536,
            "hidden_act": "quick_gelu",
            "use_cls_token": False,
            "use_ln_post": False,
        },
        "image_token_id": 511,
        "understand_projector_stride": 2,
        "projector_bias": False,
        "bos_token_id": 0,
        "eos_token_id": [1, 2],
        "torch_dtype": "bfloat16",
    }


class Weights:
    """Random tensors by published name, BF16 unless published as F32."""

    def __init__(self, random):
        self.random = random
        self.tensors = {}

    def add(self, name, *shape, scale, dtype=ml_dtypes.bfloat16):
        values = self.random.standard_normal(shape, dtype=numpy.float32) * numpy.float32(scale)
        self.tensors[name] = values.astype(dtype)

    def matrix(self, name, rows, columns, *stack):
        self.add(name, *stack, rows, columns, scale=columns**-0.5)

    def norm(self, name, size):
        # Around zero. Some elements are so small that adding one loses some of their bits, and one is zero.
        self.add(name, size, scale=0.2)
        values = self.tensors[name]
        values[:3] = numpy.array([2.0**-17 * 1.0078125, -(2.0**-20) * 1.5, 0.0], dtype=values.dtype)


def language_model(random):
    weights = Weights(random)
    weights.add("model.embed_tokens.weight", VOCABULARY, HIDDEN, scale=0.6)
    for layer in range(LAYERS + PREDICTING):
        stem = f"model.layers.{layer}."
        if layer >= LAYERS:
            weights.matrix(stem + "eh_proj.weight", HIDDEN, 2 * HIDDEN)
            weights.norm(stem + "enorm.weight", HIDDEN)
            weights.norm(stem + "hnorm.weight", HIDDEN)
            weights.norm(stem + "transformer.shared_head.norm.weight", HIDDEN)
            weights.matrix(stem + "transformer.shared_head.output.weight", VOCABULARY, HIDDEN)
        heads = SLIDING_HEADS if is_sliding(layer) else HEADS
        weights.norm(stem + "input_layernorm.weight", HIDDEN)
        weights.matrix(stem + "self_attn.q_proj.weight", heads * HEAD, HIDDEN)
        weights.matrix(stem + "self_attn.k_proj.weight", GROUPS * HEAD, HIDDEN)
        weights.matrix(stem + "self_attn.v_proj.weight", GROUPS * HEAD, HIDDEN)
        weights.matrix(stem + "self_attn.o_proj.weight", HIDDEN, heads * HEAD)
        weights.matrix(stem + "self_attn.g_proj.weight", heads, HIDDEN)
        weights.norm(stem + "self_attn.q_norm.weight", HEAD)
        weights.norm(stem + "self_attn.k_norm.weight", HEAD)
        weights.norm(stem + "post_attention_layernorm.weight", HIDDEN)
        if 1 <= layer < LAYERS:
            weights.matrix(stem + "moe.gate.weight", EXPERTS, HIDDEN)
            weights.add(stem + "moe.router_bias", EXPERTS, scale=0.2, dtype=numpy.float32)
            weights.matrix(stem + "moe.gate_proj.weight", EXPERT_INNER, HIDDEN, EXPERTS)
            weights.matrix(stem + "moe.up_proj.weight", EXPERT_INNER, HIDDEN, EXPERTS)
            weights.matrix(stem + "moe.down_proj.weight", HIDDEN, EXPERT_INNER, EXPERTS)
            ffn, inner = "share_expert.", SHARED_INNER
        else:
            ffn, inner = "mlp.", INNER
        weights.matrix(stem + ffn + "gate_proj.weight", inner, HIDDEN)
        weights.matrix(stem + ffn + "up_proj.weight", inner, HIDDEN)
        weights.matrix(stem + ffn + "down_proj.weight", HIDDEN, inner)
    weights.norm("model.norm.weight", HIDDEN)
    weights.matrix("lm_head.weight", VOCABULARY, HIDDEN)
    return weights.tensors


def vision_side(random, config):
    weights = Weights(random)
    vision = config["vision_config"]
    width, patch = vision["width"], vision["patch_size"]
    grid = vision["image_size"] // patch
    inner = round(width * vision["mlp_ratio"])

    def both(name, *shape):
        weights.add(name + ".weight", *shape, scale=shape[-1] ** -0.5)
        weights.add(name + ".bias", shape[0], scale=0.1)

    weights.add("vision_model.conv1.weight", width, 3, patch, patch, scale=0.05)
    weights.add("vision_model.positional_embedding", grid * grid, width, scale=0.1)
    both("vision_model.ln_pre", width)
    for layer in range(vision["layers"]):
        stem = f"vision_model.transformer.resblocks.{layer}."
        both(stem + "ln_1", width)
        weights.add(stem + "attn.in_proj_weight", 3 * width, width, scale=width**-0.5)
        weights.add(stem + "attn.in_proj_bias", 3 * width, scale=0.1)
        both(stem + "attn.out_proj", width, width)
        both(stem + "ln_2", width)
        both(stem + "mlp.c_fc", inner, width)
        both(stem + "mlp.c_proj", width, inner)
        weights.add(stem + "ls_1.gamma", width, scale=0.1)
        weights.add(stem + "ls_2.gamma", width, scale=0.1)
    both("vision_model.vit_downsampler1", 2 * width, width, 3, 3)
    both("vision_model.vit_downsampler2", 4 * width, 2 * width, 3, 3)
    weights.matrix("vit_large_projector.weight", HIDDEN, 4 * width)
    return weights.tensors


def save(path, tensors):
    """Writes a safetensors file whose tensors lie in the order of their names.

    llama.cpp's converter reads them in that order and the toolkit in that of their bytes, which the `safetensors` package sorts by
    type first.
    """
    header, position = {"__metadata__": {"format": "pt"}}, 0
    types = {"BF16": ml_dtypes.bfloat16, "F32": numpy.float32, "F8_E4M3": ml_dtypes.float8_e4m3fn, "U8": numpy.uint8}
    names = {numpy.dtype(dtype): name for name, dtype in types.items()}
    for name, values in sorted(tensors.items()):
        end = position + values.nbytes
        header[name] = {"dtype": names[values.dtype], "shape": values.shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, values in sorted(tensors.items()):
            file.write(values.tobytes())


def write(directory, config, tensors, tokenizer, shards=2):
    """Writes shards with an index, the configuration, and the tokenizer of a fixture."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True)
    names = list(tensors)
    index = {}
    for number in range(shards):
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = names[number * len(names) // shards : (number + 1) * len(names) // shards]
        save(directory / name, {key: tensors[key] for key in part})
        index.update(dict.fromkeys(part, name))
    size = sum(tensor.nbytes for tensor in tensors.values())
    (directory / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": size}, "weight_map": index})
    )
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(pathlib.Path(tokenizer) / name, directory / name)
    return directory


def write_3p5(directory, random, tokenizer, **changes):
    return write(directory, text_config(**changes), language_model(random), tokenizer)


def write_3p7(directory, random, tokenizer):
    config = config_of_3p7()
    return write(directory, config, language_model(random) | vision_side(random, config), tokenizer)


def write_step5(directory, random, tokenizer, heads=HEADS, groups=2, head=48, indexers=4, proxy=32, vision=False):
    """Step-5-Preview in the spelling of its BF16 copies: every fourth layer has full attention, beginning with the fourth."""
    count = LAYERS + PREDICTING
    full = [layer % 4 == 3 and layer < LAYERS for layer in range(count)]
    text = text_config(
        architectures=["Step4ForCausalLM"], model_type="step4", head_dim=head, num_attention_heads=heads,
        num_attention_groups=groups,
        layer_types=["full_attention" if f else "sliding_attention" for f in full],
        rope_theta=[10000000.0 if f else 10000.0 for f in full] * 3,
        partial_rotary_factors=[1 / 3 if f else 1.0 for f in full] * 3,
        num_sliding_attention_heads=heads, head_dim_sliding_attention=head,
        num_attention_groups_sliding_attention=groups,
        attention_other_setting={"num_attention_heads": heads, "num_attention_groups": groups, "head_dim": head},
        rope_scaling={
            "rope_type": "llama3", "factor": 1.0, "original_max_position_embeddings": 1048576,
            "low_freq_factor": 1.0, "high_freq_factor": 32.0,
        },
        swiglu_limits=[7.0] * LAYERS, swiglu_limits_shared=[7.0] * LAYERS,
        sparse_config={
            "enabled": True, "proxy_dim": proxy, "sparse_indexer_rope_dim": 16, "sparse_indexer_use_rope": True,
            "sparse_indexer_num_heads": indexers,
            "num_provider_groups": groups, "sparse_indexer_num_k_heads": 1, "sparse_indexer_q_norm_type": "rmsnorm",
            "sparse_indexer_k_norm_type": "layernorm", "sparse_indexer_csa_z_norm_type": "none",
            "sparse_indexer_softmax_variant": "ssmax", "sparse_indexer_ssmax_s_granularity": "q_head", "topk": 512,
            "region_block_size": 8, "compression_method": "csa_block_compress", "attention_impl": "sparse_gqa",
            "apply_to_layer_types": ["full_attention"],
        },
    )
    tensors = {}
    for name, values in language_model(random).items():
        stem, _, last = name.removesuffix(".weight").rpartition(".")
        rows = {"q_proj": heads * head, "k_proj": groups * head, "v_proj": groups * head, "g_proj": heads}
        other = Weights(random)
        if last in rows:
            other.matrix(name, rows[last], HIDDEN)
        elif last == "o_proj":
            other.matrix(name, HIDDEN, heads * head)
        elif last in ("q_norm", "k_norm"):
            other.norm(name, head)
        values = other.tensors.get(name, values)
        tensors[name] = values.astype(numpy.float32) if "norm" in last else numpy.ascontiguousarray(values)
    indexer = Weights(random)
    for layer in [layer for layer in range(LAYERS) if full[layer]]:
        stem = f"model.layers.{layer}.self_attn."
        indexer.matrix(stem + "sparse_indexer_q.weight", indexers * proxy, HIDDEN)
        indexer.matrix(stem + "sparse_indexer_k.weight", proxy, HIDDEN)
        indexer.matrix(stem + "sparse_indexer_z.weight", proxy, HIDDEN)
        indexer.add(stem + "sparse_indexer_w.weight", indexers, HIDDEN, scale=0.1, dtype=numpy.float32)
        for name, size in [("q_norm.weight", proxy), ("k_norm.weight", proxy), ("k_norm.bias", proxy)]:
            indexer.add(f"{stem}sparse_indexer_{name}", size, scale=0.1, dtype=numpy.float32)
        indexer.add(stem + "ssmax_s", heads, scale=0.1, dtype=numpy.float32)
    config = {"architectures": ["MMGPTStepRoboticsForCausalLM"], "model_type": "step3p5v", "text_config": text}
    config |= {"bos_token_id": 0, "eos_token_id": [1, 2]}
    tensors |= indexer.tensors
    if vision:
        other = config_of_3p7()
        config = other | config
        tensors |= vision_side(random, other)
    return write(directory, config, tensors, tokenizer)


def write_vl(directory, random, tokenizer, transformers):
    """Step3-VL-10B: transformers' Qwen3 beside a vision side. Returns the directory and the language model."""
    import torch

    torch.manual_seed(int(random.integers(1 << 30)))
    config = transformers.Qwen3Config(
        hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        head_dim=64, vocab_size=VOCABULARY, rms_norm_eps=1e-6, max_position_embeddings=4096, rope_theta=1000000.0,
        tie_word_embeddings=False, initializer_range=0.06, attn_implementation="eager",
    )
    model = transformers.Qwen3ForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.normal_(1, 0.2)
        parameter.data = parameter.data.to(torch.bfloat16).float()
    tensors = {name: value.numpy().astype(ml_dtypes.bfloat16) for name, value in model.state_dict().items()}
    text = {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 64, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-6, "max_position_embeddings": 4096,
        "rope_theta": 1000000.0, "hidden_act": "silu", "attention_bias": False, "use_sliding_window": False,
        "sliding_window": None, "rope_scaling": None, "torch_dtype": "bfloat16", "tie_word_embeddings": False,
    }
    whole = config_of_3p7() | {
        "architectures": ["StepVLForConditionalGeneration"], "model_type": "step_robotics", "text_config": text,
    }
    return write(directory, whole, tensors | vision_side(random, whole), tokenizer), model
