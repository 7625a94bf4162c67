"""Small quantised releases of Step-3.5-Flash and Step-3.7-Flash, written from the published layouts alone, and their values.

Nothing here is shared with the toolkit or with `independent_decoder.py`: codes are encoded and decoded by separate
tables. In both releases only the routed experts are quantised, stacked as in the BF16 ones.
"""

import json
import shutil

import ml_dtypes
import numpy

import step35_checkpoint

# E2M1 by code: sign, two bits of exponent, one of mantissa.
E2M1 = numpy.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=numpy.float32)
E4M3 = numpy.dtype(ml_dtypes.float8_e4m3fn)


def is_expert(name):
    return ".moe." in name and name.endswith("_proj.weight")


def fp8(values, tile=128):
    """Codes and scales [experts, ceil(rows / 128), ceil(columns / 128)] of a stack, and the decoded values."""
    experts, rows, columns = values.shape
    scales = numpy.zeros((experts, -(-rows // tile), -(-columns // tile)), dtype=numpy.float32)
    codes = numpy.zeros(values.shape, dtype=E4M3)
    decoded = numpy.zeros(values.shape, dtype=numpy.float32)
    for row in range(scales.shape[1]):
        for column in range(scales.shape[2]):
            box = numpy.s_[:, row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
            part = values[box].astype(numpy.float32)
            scale = numpy.abs(part).max((1, 2)) / numpy.float32(448)
            scales[:, row, column] = scale
            codes[box] = (part / scale[:, None, None]).astype(E4M3)
            decoded[box] = codes[box].astype(numpy.float32) * scale[:, None, None]
    return codes, scales, decoded


def nvfp4(values, largest):
    """Codes [experts, rows, columns / 2], the even column in the low half; scales of 16 columns; a scale for each expert,
    of the largest magnitude of all that shares it."""
    experts, rows, columns = values.shape
    groups = values.astype(numpy.float32).reshape(experts, rows, columns // 16, 16)
    second = (largest / numpy.float32(6 * 448)).astype(numpy.float32)
    scales = (numpy.abs(groups).max(3) / 6 / second[:, None, None]).astype(E4M3)
    unit = scales.astype(numpy.float32)[..., None] * second[:, None, None, None]
    ratio = numpy.divide(groups, unit, out=numpy.zeros_like(groups), where=unit > 0)
    magnitude = numpy.abs(numpy.abs(ratio)[..., None] - E2M1).argmin(-1).astype(numpy.uint8)
    codes = magnitude | ((ratio < 0).astype(numpy.uint8) << 3)
    # The product of both scales first, in F32, as in the published kernels.
    decoded = numpy.where(codes & 8, -1, 1) * E2M1[codes & 7] * unit
    codes = codes.reshape(experts, rows, columns)
    return codes[..., 0::2] | (codes[..., 1::2] << 4), scales, second, decoded.reshape(values.shape)


def write(directory, source, config, shards):
    """Writes shards, {file: tensors}, with an index, and copies everything else from a BF16 release."""
    directory.mkdir(parents=True)
    for file in source.iterdir():
        if file.suffix != ".safetensors" and file.name != "model.safetensors.index.json":
            shutil.copy(file, directory)
    index = {}
    for name, tensors in shards.items():
        step35_checkpoint.save(directory / name, tensors)
        index.update(dict.fromkeys(tensors, name))
    size = sum(values.nbytes for tensors in shards.values() for values in tensors.values())
    (directory / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": size}, "weight_map": index})
    )
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    return directory


def plain_modules(tensors):
    """Modules with plain matrices of the language model, and the fused modules that engines form from them."""
    names = set()
    for name, values in tensors.items():
        if name.endswith(".weight") and values.ndim == 2 and name.startswith(("model.layers.", "lm_head")):
            module = name.removesuffix(".weight")
            names.add(module)
            parent, _, last = module.rpartition(".")
            if last in ("q_proj", "k_proj", "v_proj"):
                names.add(f"{parent}.qkv_proj")
            if last in ("gate_proj", "up_proj"):
                names.add(f"{parent}.gate_up_proj")
    return sorted(names)


def vision_modules(tensors):
    blocks = {name.split(".attn.")[0] for name in tensors if ".attn.in_proj_weight" in name}
    names = [f"{b}.{m}" for b in blocks for m in ("attn.qkv_proj", "attn.out_proj", "mlp.fc1", "mlp.fc2")]
    return sorted(names) + (["vit_large_projector"] if blocks else [])


def write_fp8(directory, source, config, tensors):
    """The FP8 release. Returns the directory and the values of its experts in F32."""
    stored, meaning = {}, {}
    for name, values in tensors.items():
        if is_expert(name):
            codes, scales, meaning[name] = fp8(values)
            stored[name], stored[f"{name}_scale_inv"] = codes, scales
        else:
            stored[name] = values
    config = dict(config)
    config["quantization_config"] = {
        "quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [128, 128],
        "modules_to_not_convert": plain_modules(tensors) + vision_modules(tensors),
    }
    names = list(stored)
    half = len(names) // 2
    shards = {
        "model-00001-of-00002.safetensors": {name: stored[name] for name in names[:half]},
        "model-00002-of-00002.safetensors": {name: stored[name] for name in names[half:]},
    }
    return write(directory, source, config, shards), meaning


def write_nvfp4(directory, source, config, tensors, layers):
    """ModelOpt's NVFP4 release of Step-3.7-Flash: names are wrapped, and prediction layers are in a file of their own."""
    body, prediction, meaning = {}, {}, {}

    def wrapped(name):
        if name.startswith(("vision_model.", "vit_")):
            return f"model.{name}"
        return name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name

    for name, values in tensors.items():
        if name.startswith("model.layers.") and int(name.split(".")[2]) >= layers:
            prediction[wrapped(name)] = values
        elif is_expert(name):
            # Gate and up of an expert share a scale.
            shared = {name.replace("up_proj", "gate_proj"), name.replace("gate_proj", "up_proj")}
            largest = numpy.max([numpy.abs(tensors[n].astype(numpy.float32)).max((1, 2)) for n in shared], 0)
            codes, scales, second, meaning[name] = nvfp4(values, largest)
            stem = wrapped(name)
            body[stem], body[f"{stem}_scale"], body[f"{stem}_scale_2"] = codes, scales, second
            body[stem.replace(".weight", ".input_scale")] = numpy.full(len(second), 0.01, numpy.float32)
        else:
            body[wrapped(name)] = values
    excluded = ["lm_head", "*self_attn*", "*share_expert*", "*.mlp.gate_up_proj", "*.mlp.down_proj", "*.mlp.gate_proj",
                "*.mlp.up_proj", "model.vision_model*", "model.vit_large_projector*"]
    quantization = {
        "quant_algo": "NVFP4", "kv_cache_quant_algo": None, "group_size": 16, "exclude_modules": excluded,
    }
    config = dict(config)
    config["quantization_config"] = {"quant_method": "modelopt", "ignore": excluded} | quantization
    shards = {"model-00001-of-00001.safetensors": body, "model-mtp-bf16.safetensors": prediction}
    write(directory, source, config, shards)
    (directory / "hf_quant_config.json").write_text(
        json.dumps({"producer": {"name": "modelopt"}, "quantization": quantization})
    )
    return directory, meaning


def transformers_spelling(config):
    """The same configuration as saved by transformers: by kinds of layers, with prediction layers listed separately."""
    text = dict(config.get("text_config", config))
    count = text["num_hidden_layers"]
    full = {"rope_theta": 5000000.0, "partial_rotary_factor": 0.5} | text.pop("rope_scaling")
    text["rope_parameters"] = {
        "full_attention": full,
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
    }
    kinds = text.pop("layer_types")
    text["layer_types"], text["mtp_layer_types"] = kinds[:count], kinds[count:]
    experts = {int(layer) for layer in text.pop("moe_layers_enum").split(",")}
    text["mlp_layer_types"] = ["sparse" if layer in experts else "dense" for layer in range(count)]
    text["num_sliding_attention_heads"] = text.pop("attention_other_setting")["num_attention_heads"]
    text["swiglu_limits"] = text["swiglu_limits"][:count]
    text["swiglu_limits_shared"] = text["swiglu_limits_shared"][:count]
    for key in ("rope_theta", "partial_rotary_factors", "yarn_only_types", "use_moe", "att_impl_type"):
        text.pop(key)
    return config | {"text_config": text} if "text_config" in config else text
