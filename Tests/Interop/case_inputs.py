"""Small generated checkpoints: a Step-3 of 90 kB, one projection of an unknown model, and their files."""

import dataclasses
import json
import struct

import ml_dtypes
import numpy

from arithmetic import NUMPY_TYPES

BF16, E4M3, E5M2 = ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2
E8M0 = ml_dtypes.float8_e8m0fnu
E4M3FNUZ, E5M2FNUZ = ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2fnuz
TYPE_NAMES = {numpy.dtype(kind): name for name, kind in NUMPY_TYPES.items()}
PROJECTION = "model.layers.0.mlp.up_proj"


# Files


def write_safetensors(path, tensors, metadata=None):
    """Writes arrays by name as one file; in a list of pairs a name may occur twice."""
    pairs = list(tensors.items()) if isinstance(tensors, dict) else list(tensors)
    entries, body = [], bytearray()
    if metadata is not None:
        entries.append(("__metadata__", metadata))
    for name, values in pairs:
        data = numpy.ascontiguousarray(values).tobytes()
        place = [len(body), len(body) + len(data)]
        entries.append(
            (name, {"dtype": TYPE_NAMES[values.dtype], "shape": list(values.shape), "data_offsets": place})
        )
        body += data
    inside = ",".join(f"{json.dumps(name)}:{json.dumps(entry)}" for name, entry in entries)
    header = f"{{{inside}}}".encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(body))


def write_json(path, value, byte_order_mark=False):
    path.write_bytes((b"\xef\xbb\xbf" if byte_order_mark else b"") + json.dumps(value, indent=1).encode())


def write_model(
    directory, tensors, config=None, *, tokenizer=None, tokenizer_config=None, generation=None, shards=1,
    metadata=None,
):  # fmt: skip
    """Writes a checkpoint as one file or as numbered ones with an index. Returns its directory."""
    directory.mkdir(parents=True)
    files = {
        "config.json": config, "tokenizer.json": tokenizer, "tokenizer_config.json": tokenizer_config,
        "generation_config.json": generation,
    }  # fmt: skip
    for name, value in files.items():
        if value is not None:
            write_json(directory / name, value)
    metadata = {"format": "pt"} if metadata is None else metadata
    if shards == 1:
        write_safetensors(directory / "model.safetensors", tensors, metadata)
        return directory
    places, names = {}, list(tensors)
    for number, part in enumerate(numpy.array_split(numpy.arange(len(names)), shards), 1):
        file = f"model-{number:05}-of-{shards:05}.safetensors"
        chosen = [names[index] for index in part]
        write_safetensors(directory / file, {name: tensors[name] for name in chosen}, metadata)
        places |= dict.fromkeys(chosen, file)
    total = sum(values.nbytes for values in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    write_json(directory / "model.safetensors.index.json", index)
    return directory


# A Step-3


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The dimensions of a Step-3 of two layers, of which the second has experts."""

    hidden: int = 32
    dense: int = 64
    inner: int = 32
    query: int = 32
    head: int = 32
    heads: int = 2
    experts: int = 4
    vocabulary: int = 96

    def config(self, **more):
        return {
            "architectures": ["Step3TextForCausalLM"], "model_type": "step3_text", "hidden_size": self.hidden,
            "intermediate_size": self.dense, "num_hidden_layers": 2, "num_attention_heads": self.heads,
            "num_attention_groups": 1, "head_dim": self.head, "share_q_dim": self.query,
            "vocab_size": self.vocabulary, "moe_layers_enum": "1", "moe_num_experts": self.experts,
            "moe_top_k": 2, "moe_intermediate_size": self.inner, "share_expert_dim": self.inner,
            "norm_expert_weight": False, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "rope_scaling": None,
            "max_position_embedding": 4096, "torch_dtype": "bfloat16", "bos_token_id": 0, "eos_token_id": 1,
            "pad_token_id": 2, "tie_word_embeddings": False, **more,
        }  # fmt: skip

    def shapes(self):
        """Every tensor's shape by its published name."""
        hidden, shapes = self.hidden, {"model.embed_tokens.weight": (self.vocabulary, self.hidden)}

        def gated(parent, inner, *outer):
            for name in ("gate_proj", "up_proj"):
                shapes[f"{parent}.{name}.weight"] = (*outer, inner, hidden)
            shapes[f"{parent}.down_proj.weight"] = (*outer, hidden, inner)

        for layer in (0, 1):
            prefix = f"model.layers.{layer}"
            shapes[f"{prefix}.input_layernorm.weight"] = (hidden,)
            shapes[f"{prefix}.post_attention_layernorm.weight"] = (hidden,)
            attention = f"{prefix}.self_attn"
            shapes[f"{attention}.inter_norm.weight"] = (self.query,)
            shapes[f"{attention}.q_proj.weight"] = (self.query, hidden)
            shapes[f"{attention}.k_proj.weight"] = shapes[f"{attention}.v_proj.weight"] = (self.head, hidden)
            shapes[f"{attention}.wq.weight"] = (self.heads * self.head, self.query)
            shapes[f"{attention}.o_proj.weight"] = (hidden, self.heads * self.head)
            if layer == 0:
                gated(f"{prefix}.mlp", self.dense)
            else:
                shapes[f"{prefix}.moe.gate.weight"] = (self.experts, hidden)
                gated(f"{prefix}.moe", self.inner, self.experts)
                gated(f"{prefix}.share_expert", self.inner)
        shapes["model.norm.weight"] = (hidden,)
        shapes["lm_head.weight"] = (self.vocabulary, hidden)
        return shapes

    def weights(self, random, kind=BF16):
        """Random weights; norms are about one."""
        return {
            name: ((1 if len(shape) == 1 else 0) + random.standard_normal(shape) * 0.05).astype(kind)
            for name, shape in self.shapes().items()
        }


def is_quantisable(name):
    """Whether checkpoints quantise a Step-3 tensor: linear layers except router, embedding and output."""
    return "_proj." in name or ".wq." in name


def per_expert(tensors):
    """Every expert under a name of its own, as most trainers write them."""
    single = {}
    for name, values in tensors.items():
        parent, found, rest = name.partition(".moe.")
        if not found or rest.startswith("gate."):
            single[name] = values
            continue
        single |= {f"{parent}.moe.experts.{index}.{rest}": matrix for index, matrix in enumerate(values)}
    return single


def wrapped(tensors, prefix):
    """Names with the prefix of a vision-language class: `model.language_model.` or `language_model.model.`."""
    outer = {
        "model.language_model.": ("model.language_model.", "language_model."),
        "language_model.model.": ("language_model.model.", "language_model."),
    }[prefix]

    def name(old):
        return outer[0] + old.removeprefix("model.") if old.startswith("model.") else outer[1] + old

    return {name(old): values for old, values in tensors.items()}


def write_step3(directory, random, *, sizes=Sizes(), tensors=None, config=None, words=True, **more):
    """A whole Step-3 with its tokenizer."""
    tensors = sizes.weights(random) if tensors is None else tensors
    more = {"tokenizer": tokenizer(sizes.vocabulary), "tokenizer_config": TOKENIZER_CONFIG, **more} if words else more
    return write_model(directory, tensors, sizes.config() if config is None else config, **more)


# A tokenizer

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False, "bos_token": "<bos>",
    "eos_token": "<eos>", "pad_token": "<pad>", "chat_template": TEMPLATE,
}  # fmt: skip


def tokenizer(count):
    """A byte-level BPE of that many tokens, three of them special."""
    special = ["<bos>", "<eos>", "<pad>"]
    words = ["Ġ", "he", "ll", "llo", "hello", "th", "the"]
    letters = [chr(code) for code in range(33, 33 + count - len(special) - len(words))]
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    split = {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}"}, "behavior": "Isolated", "invert": False}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [
            {"id": index, "content": word, "special": True, **flags} for index, word in enumerate(special)
        ],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes_]},
        "decoder": {**bytes_, "add_prefix_space": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "vocab": {word: index for index, word in enumerate(special + letters + words)},
            "merges": ["h e", "l l", "ll o", "he llo", "t h", "th e"],
        },
    }  # fmt: skip


# An unknown model

OTHER_CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 128, "intermediate_size": 256,
    "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 128, "torch_dtype": "bfloat16",
}  # fmt: skip


def write_other(directory, tensors, quantisation=None, *, config=None, **more):
    """Writes one projection, `PROJECTION`, and a norm: `tensors` are those of the projection, by the suffix to its name
    or by whole names."""
    named = {"model.norm.weight": numpy.ones(128, BF16)}
    for name, values in tensors.items():
        named[name if name.startswith(("model.", "lm_head")) else f"{PROJECTION}.{name}"] = values
    settings = {**OTHER_CONFIG, **(config or {})}
    if quantisation is not None:
        settings["quantization_config"] = quantisation
    return write_model(directory, named, settings, **more)


def matrix(random, rows=128, columns=128):
    return (random.standard_normal((rows, columns)) * 0.05).astype(numpy.float32)
