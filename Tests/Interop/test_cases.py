"""Problems that users of checkpoint tools have reported, reproduced on small inputs: the right outcome of each, and of at least
one more of its kind."""

import dataclasses
import json
import shutil
import struct
from collections.abc import Callable

import gguf
import numpy
import pytest

from accounting import carried, differences, load_config, looks_finished, tensors_of
from arithmetic import array, load_json, metadata, read_gguf
from case_inputs import (
    BF16, E4M3, E4M3FNUZ, E5M2, E8M0, OTHER_CONFIG, PROJECTION, TEMPLATE, TOKENIZER_CONFIG, Sizes, matrix,
    per_expert, tokenizer, wrapped, write_json, write_model, write_other, write_safetensors, write_step3,
)  # fmt: skip
from independent_decoder import decode_directory
from stored_forms import (
    FLOAT8, FP8, FP8_TILES, FORMS, INT8, NVFP4, compressed_tensors, fp8_matrix, fp8_rows, fp8_tiles, gptq,
    gptq_settings, int8_rows, nvfp4, packed, packed_settings,
)  # fmt: skip

KEEP = ("--to", "safetensors")
PLAIN = ("--to", "safetensors", "--quantize", "BF16")
GGUF = ("--to", "gguf", "--quantize", "Q8_0")
AFD = ("--to", "safetensors", "--partition", "afd", "--ffn-ep", "2")
SQUARE = (128, 128)
UNSUPPORTED = (65,)
UPGATE = "model.layers.1.moe.up_proj.weight"


# Possible outcomes of a conversion


@dataclasses.dataclass
class Outcome:
    """What one command did."""

    tools: object
    source: object
    output: object
    result: object


def refused(*words, codes=UNSUPPORTED):
    """The conversion is refused with these words, and leaves nothing that looks like an output."""

    def check(outcome):
        assert outcome.result.returncode in codes, (outcome.result.returncode, outcome.result.stderr)
        for word in words:
            assert word in outcome.result.stderr, f"no word of {word}: {outcome.result.stderr}"
        assert not looks_finished(outcome.output)

    return check


def converted(*checks):
    """The conversion succeeds, and all of these hold."""

    def check(outcome):
        assert outcome.result.returncode == 0, outcome.result.stderr
        for more in checks:
            more(outcome)

    return check


def either(first, second):
    """The first outcome if it converts, the second if not."""
    return lambda outcome: (first if outcome.result.returncode == 0 else second)(outcome)


def same_values(outcome):
    """Decoded by numpy, source and output agree up to the rounding of the output's types."""
    problems = differences(decode_directory(outcome.source), outcome.output, is_step3(outcome.source))
    assert not problems, "\n".join(problems[:10])


def verified(outcome):
    """`step3-verify tensors` passes."""
    report = outcome.tools.json("step3-verify", "tensors", outcome.output, "--source", outcome.source)
    assert report["ok"]


def a_copy(outcome):
    """Every tensor is copied byte for byte, and every file."""
    problems = carried(outcome.source, outcome.output)
    assert not problems, "\n".join(problems[:10])


def plain(outcome):
    assert "quantization_config" not in load_config(outcome.output)


def lacks(*names):
    def check(outcome):
        found = tensors_of(outcome.output)
        assert not [name for name in names if name in found]

    return check


def says(*words):
    def check(outcome):
        said = outcome.result.stdout + outcome.result.stderr
        for word in words:
            assert word.lower() in said.lower(), f"no word of {word}: {said}"

    return check


def keys(expected, absent=()):
    """The GGUF file has these keys."""

    def check(outcome):
        found = metadata(read_gguf(outcome.output / "model.gguf")[1])
        assert {key: found.get(key) for key in expected} == expected
        assert not [key for key in absent if key in found]

    return check


def settings(**expected):
    def check(outcome):
        config = load_config(outcome.output)
        config = {**config, **(config.get("text_config") or {})}
        assert {key: config.get(key) for key in expected} == expected

    return check


def is_step3(source):
    try:
        return "step3_" in json.loads((source / "config.json").read_text("utf-8-sig"))["model_type"]
    except (OSError, ValueError, KeyError):
        return False


# The table


@dataclasses.dataclass(frozen=True)
class Case:
    kind: str
    instance: str
    make: Callable
    runs: tuple


CASES = []


def case(kind, instance, make, *runs):
    """`make(directory, random)` writes the source; each run is arguments and the right outcome."""
    CASES.append(Case(kind, instance, make, runs))


def other(make_tensors, quantisation=None, **more):
    return lambda directory, random: write_other(directory, make_tensors(random), quantisation, **more)


def step3(change=lambda tensors: tensors, **more):
    def make(directory, random):
        sizes = more.get("sizes", Sizes())
        return write_step3(directory, random, tensors=change(sizes.weights(random)), **more)

    return make


def with_files(make, files):
    def both(directory, random):
        make(directory, random)
        for name, content in files.items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return directory

    return both


read = converted(same_values, plain, verified)

# activation-scale-left-behind: meaningless beside plain weights
for name, parts, config in [
    ("fp8", lambda r: {**fp8_matrix(r, SQUARE), "input_scale": numpy.float32([0.02])},
     {**FP8, "activation_scheme": "static"}),
    ("nvfp4", lambda r: {**nvfp4(r, SQUARE), "input_global_scale": numpy.float32([300])}, NVFP4),
]:  # fmt: skip
    case(
        "activation-scale-left-behind", name, other(parts, config),
        (PLAIN, converted(
            same_values, plain, lacks(f"{PROJECTION}.input_scale", f"{PROJECTION}.input_global_scale"))),
        (KEEP, converted(a_copy)),
    )  # fmt: skip

# afd-experts-on-attention: read, or refused where the side is not known
for name, change in {
    "per expert": per_expert,
    "model.language_model.": lambda t: wrapped(t, "model.language_model."),
    "language_model.model.": lambda t: wrapped(t, "language_model.model."),
    "both": lambda t: wrapped(per_expert(t), "model.language_model."),
}.items():
    case("afd-experts-on-attention", name, step3(change), (AFD, converted(same_values)), (GGUF, converted(same_values)))
case(
    "afd-experts-on-attention", "a tensor of no known side",
    step3(lambda t: {**t, "model.layers.1.moe.router_bias": numpy.ones(4, numpy.float32)}),
    (AFD, refused("model.layers.1.moe.router_bias")),
)  # fmt: skip

# chat-template-lost
WITHOUT = {key: value for key, value in TOKENIZER_CONFIG.items() if key != "chat_template"}
TEMPLATES = [{"name": "default", "template": TEMPLATE}, {"name": "tool_use", "template": "TOOLS"}]
ONE = keys({"tokenizer.chat_template": TEMPLATE})
case(
    "chat-template-lost", "chat_template.jinja",
    with_files(step3(tokenizer_config=WITHOUT), {"chat_template.jinja": TEMPLATE}), (GGUF, converted(ONE)))  # fmt: skip
case(
    "chat-template-lost", "a list", step3(tokenizer_config={**WITHOUT, "chat_template": TEMPLATES}),
    (GGUF, converted(keys({"tokenizer.chat_template": TEMPLATE, "tokenizer.chat_template.tool_use": "TOOLS"}))))  # fmt: skip
case(
    "chat-template-lost", "chat_template.json",
    with_files(step3(tokenizer_config=WITHOUT), {"chat_template.json": json.dumps({"chat_template": TEMPLATE})}),
    (GGUF, converted(ONE)))  # fmt: skip
case(
    "chat-template-lost", "a list without a default",
    step3(tokenizer_config={**WITHOUT, "chat_template": TEMPLATES[1:]}),
    (GGUF, converted(keys({"tokenizer.chat_template.tool_use": "TOOLS"}))))  # fmt: skip

# config-python-json
case(
    "config-python-json", "byte order mark",
    lambda d, r: mark(step3()(d, r)), (GGUF, converted(same_values)), (KEEP, converted(same_values)))  # fmt: skip
case("config-python-json", "NaN", step3(config=Sizes().config(loss=float("nan"))), (GGUF, converted(same_values)))
case(
    "config-python-json", "Infinity", other(lambda r: {}, config={"limit": [0.0, float("inf")]}),
    (KEEP, converted(same_values)))  # fmt: skip
case(
    "config-python-json", "-Infinity, byte order mark",
    lambda d, r: mark(other(lambda r: {"weight": matrix(r).astype(BF16)}, config={"limit": float("-inf")})(d, r)),
    (PLAIN, converted(same_values)))  # fmt: skip


def mark(directory):
    path = directory / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    return directory


# empty-weight-crash: an empty tensor is copied empty, or an error names it
def write_empty(shape):
    def make(directory, random):
        tensors = {"a_proj.weight": numpy.zeros(shape, BF16), "b_proj.weight": matrix(random).astype(BF16)}
        write_model(directory, tensors)
        for recipe in ("W4A16", "NVFP4A16", "FP8_DYNAMIC", "W8A8_INT8", "MXFP4A16", "FP8_BLOCK"):
            (directory.parent / f"{recipe}.yaml").write_text(f"rules: [{{regex: weight, format: {recipe}}}]\n")
        return directory

    return make


def still_empty(outcome):
    found = tensors_of(outcome.output)
    assert any(name.startswith("a_proj.weight") and 0 in shape for name, (_, shape, _) in found.items()), found.keys()


empty = either(converted(still_empty), refused("a_proj.weight", codes=(64, 65)))
for shape in [(0, 128), (128, 0), (4, 0, 128), (4, 128, 0), (0, 128, 128)]:
    case(
        "empty-weight-crash", "x".join(map(str, shape)), write_empty(shape),
        *[(("--to", "safetensors", "--quantize", f"@/{recipe}.yaml"), empty)
          for recipe in ("W4A16", "NVFP4A16", "FP8_DYNAMIC", "W8A8_INT8", "MXFP4A16", "FP8_BLOCK")],
    )  # fmt: skip

# errors-without-a-file
DOWN = "model.layers.1.moe.down_proj.weight"


def dead_expert(tensors):
    shape = tensors.pop(DOWN).shape
    parts = nvfp4(numpy.random.default_rng(1), shape)
    parts["weight_global_scale"][1] = numpy.inf
    return {**tensors, **{f"{DOWN.removesuffix('weight')}{suffix}": values for suffix, values in parts.items()}}


DEAD = compressed_tensors("nvfp4-pack-quantized", num_bits=4, type="float", strategy="tensor_group", group_size=16)
DEAD["config_groups"]["group_0"]["targets"] = ["re:.*moe.*"]
case(
    "errors-without-a-file", "a scale of infinity",
    step3(dead_expert, config=Sizes().config(quantization_config=DEAD)),
    (GGUF, refused("model.safetensors", "down_proj.weight")))  # fmt: skip
case(
    "errors-without-a-file", "config.json is an error message",
    with_files(step3(), {"config.json": "Entry not found"}), (KEEP, refused("config.json")))  # fmt: skip
case(
    "errors-without-a-file", "config.json is HTML",
    with_files(other(lambda r: {}), {"config.json": "<!doctype html><html></html>"}), (PLAIN, refused("config.json")))  # fmt: skip
case(
    "errors-without-a-file", "tokenizer.json is cut off", with_files(step3(), {"tokenizer.json": '{"model": {'}),
    (GGUF, refused("tokenizer.json")))  # fmt: skip

# foreign-quantisation-replaced: decoded correctly, or neither quantised further nor described differently
right_or_refused = either(converted(same_values), refused(PROJECTION, codes=(64, 65)))
PLAIN_Q = "model.layers.0.self_attn.q_proj.weight"
for name, parts, config in [
    ("gptq", lambda r: gptq(r, SQUARE, group=128), gptq_settings(group=128)),
    ("gptq, marlin names", lambda r: {"B": numpy.zeros((8, 256), numpy.int32), "s": numpy.ones((1, 128), numpy.float16)},
     {"quant_method": "marlin", "group_size": 128}),
    ("bitsandbytes",
     lambda r: {"weight": r.integers(0, 256, (8192, 1), numpy.uint8), "weight.absmax": numpy.ones(256, numpy.float32),
                "weight.quant_map": numpy.linspace(-1, 1, 16, dtype=numpy.float32),
                "weight.quant_state.bitsandbytes__nf4": r.integers(0, 256, 80, numpy.uint8)},
     {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
    ("blocks and scales",
     lambda r: {"model.layers.0.mlp.experts.up_proj_blocks": r.integers(0, 256, (2, 64, 4, 16), numpy.uint8),
                "model.layers.0.mlp.experts.up_proj_scales": r.integers(110, 124, (2, 64, 4), numpy.uint8)},
     {"quant_method": "mxfp4"}),
]:  # fmt: skip
    case(
        "foreign-quantisation-replaced", name,
        other(lambda r, parts=parts: {**parts(r), PLAIN_Q: matrix(r).astype(BF16)}, config),
        (("--to", "safetensors", "--quantize", "FP8_BLOCK"),
         right_or_refused if name == "gptq" else refused("model.layers.0.mlp", codes=(64, 65))),
        (PLAIN, right_or_refused if name == "gptq" else refused("model.layers.0.mlp")),
        (KEEP, converted(a_copy)),
    )  # fmt: skip

# fp8-e5m2-with-scale
for name, parts, config in [
    ("e5m2", lambda r: fp8_matrix(r, SQUARE, codes=E5M2, scalar=(1,)), {**FP8, "fmt": "e5m2"}),
    ("e4m3fnuz", lambda r: fp8_matrix(r, SQUARE, codes=E4M3FNUZ), FP8),
    ("e5m2 by rows", lambda r: fp8_rows(r, SQUARE, codes=E5M2), FLOAT8),
]:
    case("fp8-e5m2-with-scale", name, other(parts, config), (PLAIN, read), (KEEP, converted(a_copy)))

# fp8-scale-under-another-name
never_raw = either(read, refused(f"{PROJECTION}.weight"))
for name in ("scale", "scale_inv", "weight_dequant", "weight_s", "descale"):
    case(
        "fp8-scale-under-another-name", name, other(lambda r, name=name: fp8_tiles(r, SQUARE, name=name), FP8_TILES),
        (PLAIN, never_raw if name.startswith("scale") else refused(f"{PROJECTION}.weight", f"{PROJECTION}.{name}")),
        (KEEP, converted(a_copy)),
    )  # fmt: skip
EXPERTS = "model.layers.0.mlp.experts.gate_up_proj"
case(
    "fp8-scale-under-another-name", "codes without .weight",
    other(lambda r: {
        EXPERTS: fp8_tiles(r, (2, 256, 128))["weight"],
        f"{EXPERTS}_scale_inv": numpy.full((2, 2, 1), 1e-3, numpy.float32)}, FP8_TILES),
    (PLAIN, refused(EXPERTS)), (KEEP, converted(a_copy)))  # fmt: skip
case(
    "fp8-scale-under-another-name", "no scale at all",
    other(lambda r: {"weight": fp8_tiles(r, SQUARE)["weight"]}, FP8_TILES),
    (PLAIN, refused(f"{PROJECTION}.weight")), (KEEP, converted(a_copy)))  # fmt: skip


# imatrix-of-another-model
def legacy_imatrix(name="blk.70.attn_q.weight"):
    raw = name.encode()
    body = struct.pack("<ii", 1, len(raw)) + raw + struct.pack("<ii", 10, 64)
    return body + numpy.ones(64, numpy.float32).tobytes() + struct.pack("<ii", 10, 5) + b"a.txt"


def with_imatrix(directory, random):
    write_step3(directory, random)
    (directory.parent / "other.dat").write_bytes(legacy_imatrix())
    writer = gguf.GGUFWriter(directory.parent / "other.gguf", "llama")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["a.txt"])
    writer.add_uint32("imatrix.chunk_count", 10)
    writer.add_uint32("imatrix.chunk_size", 512)
    writer.add_tensor("enc.70.q.weight.in_sum2", numpy.ones((1, 64), numpy.float32))
    writer.add_tensor("enc.70.q.weight.counts", numpy.ones((1, 1), numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return directory


for file in ("other.dat", "other.gguf"):
    case(
        "imatrix-of-another-model", file, with_imatrix,
        (("--to", "gguf", "--quantize", "IQ4_NL", "--imatrix", f"@/{file}"), refused(file, codes=(64, 65))))  # fmt: skip


# incomplete-model-converts
def without(name):
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


def cut(name, rows):
    return lambda tensors: {**tensors, name: tensors[name][:rows].copy()}


EMBEDDING = "model.embed_tokens.weight"


def lose_a_shard(directory, random, index=False):
    write_step3(directory, random, shards=3)
    (directory / "model-00002-of-00003.safetensors").unlink()
    if not index:
        (directory / "model.safetensors.index.json").unlink()
    return directory


for name, make, word in [
    ("no up_proj", step3(without(UPGATE)), UPGATE),
    ("three of four experts", step3(cut(UPGATE, 3)), UPGATE),
    ("rows of the embedding",
     step3(lambda t: {**t, EMBEDDING: numpy.concatenate([t[EMBEDDING]] * 2)[:128]}), EMBEDDING),
    ("no final norm", step3(without("model.norm.weight")), "model.norm.weight"),
    ("a narrower projection", step3(cut("model.layers.0.self_attn.wq.weight", 32)), "self_attn.wq.weight"),
    ("one expert of four", step3(lambda t: without("model.layers.1.moe.experts.2.up_proj.weight")(per_expert(t))),
     "moe"),
]:  # fmt: skip
    runs = [(GGUF, refused(word)), (AFD, refused(word))]
    if "expert of" not in name:
        runs.append((KEEP, converted(a_copy, says(word))))
    case("incomplete-model-converts", name, make, *runs)
case(
    "incomplete-model-converts", "a shard is not there", lose_a_shard,
    (GGUF, refused("00002-of-00003", codes=(65, 66))), (AFD, refused("00002-of-00003", codes=(65, 66))))  # fmt: skip
case(
    "incomplete-model-converts", "a shard of the index is not there",
    lambda d, r: lose_a_shard(d, r, index=True), (GGUF, refused("00002-of-00003", codes=(65, 66))))  # fmt: skip

# keep-drops-companions
for name, parts, config in [
    ("a scale beside BF16",
     lambda r: {"weight": matrix(r).astype(BF16), "weight_scale": numpy.full((128, 1), 0.25, numpy.float32)}, None),
    ("zero points beside BF16",
     lambda r: {"weight": matrix(r).astype(BF16), "weight_zero_point": numpy.zeros((128, 1), numpy.int8)}, None),
    ("a shape beside BF16",
     lambda r: {"weight": matrix(r).astype(BF16), "weight_shape": numpy.array([128, 128])}, None),
    ("two scales beside FP8",
     lambda r: {**fp8_tiles(r, SQUARE), "weight_scale": numpy.ones(1, numpy.float32)}, FP8_TILES),
    ("a scale of nothing", lambda r: {"weight_scale_inv": numpy.ones((1, 1), numpy.float32)}, None),
]:  # fmt: skip
    case("keep-drops-companions", name, other(parts, config), (KEEP, converted(a_copy)))

# metadata-lost
META = {"format": "pt", "license": "apache-2.0", "training": "step 5"}


def has_metadata(outcome):
    for path in outcome.output.glob("*.safetensors"):
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        assert META.items() <= header["__metadata__"].items()


def plain_model(directory, random, **more):
    return write_other(directory, {"weight": matrix(random).astype(BF16)}, metadata=META, **more)


case("metadata-lost", "one file", plain_model, (KEEP, converted(has_metadata)), (PLAIN, converted(has_metadata)))
case(
    "metadata-lost", "several files", lambda d, r: write_step3(d, r, shards=2, metadata=META),
    (KEEP, converted(has_metadata, a_copy)))  # fmt: skip

# no-tokenizer-no-word
case(
    "no-tokenizer-no-word", "tekken.json", with_files(step3(words=False), {"tekken.json": "{}"}),
    (GGUF, converted(says("tokenizer"), same_values)))  # fmt: skip
case(
    "no-tokenizer-no-word", "tokenizer.model", with_files(step3(words=False), {"tokenizer.model": b"\n\x0e\n\x05<unk>"}),
    (GGUF, converted(says("tokenizer"))))  # fmt: skip
case("no-tokenizer-no-word", "nothing", step3(words=False), (GGUF, converted(says("tokenizer"))))

# pad-minus-one
no_padding = converted(keys({}, absent=["tokenizer.ggml.padding_token_id"]), same_values)
case("pad-minus-one", "config.json", step3(config=Sizes().config(pad_token_id=-1)), (GGUF, converted(same_values)))
case(
    "pad-minus-one", "generation_config.json", step3(generation={"eos_token_id": 1, "pad_token_id": -1}),
    (GGUF, converted(same_values)))  # fmt: skip
case(
    "pad-minus-one", "nothing else says it",
    step3(config=Sizes().config(pad_token_id=-1),
          tokenizer_config={k: v for k, v in TOKENIZER_CONFIG.items() if k != "pad_token"}),
    (GGUF, no_padding))  # fmt: skip

# step35-all-conversions-refused
for name in ("step3p5", "step3_audio", "step4"):
    case(
        "step35-all-conversions-refused", name,
        other(lambda r: {"weight": matrix(r).astype(BF16)},
              config={"model_type": name, "architectures": [f"{name}ForCausalLM"]}),
        (KEEP, converted(a_copy)),
        # A member of the family by name without its dimensions is copied, but not run or converted.
        (("--to", "safetensors", "--quantize", "F32"),
         converted(same_values) if name == "step3_audio" else refused("config.json", "num_attention_groups")))  # fmt: skip

# torch-dtype-of-other-models
for name, config, expected in [
    ("torch_dtype", {"torch_dtype": "float32"}, {"torch_dtype": "bfloat16"}),
    ("dtype", {"torch_dtype": None, "dtype": "float32"}, {"dtype": "bfloat16"}),
    ("text_config", {"text_config": {"torch_dtype": "float32"}, "torch_dtype": "float32"}, {"torch_dtype": "bfloat16"}),
]:
    config = {key: value for key, value in config.items() if value is not None}
    case(
        "torch-dtype-of-other-models", name, other(lambda r: {"weight": matrix(r)}, config=config),
        (PLAIN, converted(settings(**expected), same_values)))  # fmt: skip

# w4a16-act-order
for name in ("packed-4-order", "packed-4-order-zero", "gptq-order"):
    case("w4a16-act-order", name, other(lambda r, name=name: FORMS[name][0](r, SQUARE), FORMS[name][1]),
         (PLAIN, read), (KEEP, converted(a_copy)))  # fmt: skip

# w4a16-f16-scales
for name, parts, config in [
    ("packed, rows", lambda r: packed(r, SQUARE, group=128, kind=numpy.float16), packed_settings(4, 128)),
    ("packed, groups", lambda r: packed(r, SQUARE, kind=numpy.float16), packed_settings()),
    ("packed, F32", lambda r: packed(r, SQUARE, kind=numpy.float32), packed_settings()),
    ("fp8", lambda r: fp8_rows(r, SQUARE, kind=numpy.float16), FLOAT8),
    ("int8", lambda r: int8_rows(r, SQUARE, kind=numpy.float16), INT8),
]:
    case("w4a16-f16-scales", name, other(parts, config), (PLAIN, read), (KEEP, converted(a_copy)))

# wish-exclude-tensors
K_SCALE = "model.layers.0.self_attn.k_proj.k_scale"
DRAFT = "model.layers.2.eh_proj.weight"
for name, values, pattern in [
    (K_SCALE, numpy.ones(1, numpy.float32), r"k_proj\.k_scale"),
    (DRAFT, numpy.ones((32, 64), BF16), r"layers\.2\."),
]:

    def left_out(outcome, name=name):
        whole = decode_directory(outcome.source)
        for found in (whole.weights, whole.activations, whole.others):
            found.pop(name, None)
        problems = differences(whole, outcome.output)
        assert not problems, "\n".join(problems[:10])
        assert name in (outcome.output / "manifest.json").read_text()

    case(
        "wish-exclude-tensors", name.rpartition("layers.")[2],
        step3(lambda t, name=name, values=values: {**t, name: values}),
        (GGUF, refused(name, "--exclude")), ((*GGUF, "--exclude", pattern), converted(left_out)),
        ((*PLAIN, "--exclude", pattern), converted(left_out)),
        ((*GGUF, "--exclude", "no such tensor"), refused("no such tensor", codes=(64, 65))))  # fmt: skip

# Every supported form, which used to be refused
WISHES = {
    "fp8-tiles-e8m0": "wish-fp8-e8m0-scales", "mxfp8": "wish-fp8-e8m0-scales",
    "fp8-matrix-inverse": "wish-fp8-scalar-scale-inv", "fp8-matrix": "wish-fp8-scalar-scale-inv",
    "int8-rows-flat": "wish-int8-scale-vector", "fp8-rows-flat": "wish-int8-scale-vector",
}  # fmt: skip
for name, (make_form, config) in FORMS.items():
    kind = WISHES.get(name, "forms that are read")
    case(kind, name, other(lambda r, make_form=make_form: make_form(r, (64, 128)), config),
         (PLAIN, read), (KEEP, converted(a_copy)))  # fmt: skip
    case(kind, f"{name}, stacked", other(lambda r, make_form=make_form: make_form(r, (3, 64, 128)), config),
         (PLAIN, read), (KEEP, converted(a_copy)))  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.instance}")
def test_case(tools, tmp_path, random, case):
    source = case.make(tmp_path / "in", random)
    before = snapshot(source)
    for number, (arguments, check) in enumerate(case.runs):
        output = tmp_path / f"out-{number}"
        arguments = [argument.replace("@/", f"{tmp_path}/") for argument in arguments]
        check(Outcome(tools, source, output, tools.run("step3-convert", source, output, *arguments)))
    assert snapshot(source) == before


def test_every_kind_has_two_instances():
    kinds = [case.kind for case in CASES]
    assert not [kind for kind in kinds if kinds.count(kind) < 2]


# Situations of more than one step


def snapshot(directory):
    """Every file below a directory."""
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("where", ["itself", "link to it", "link in the way", "file in it", "part of it", "parent of it"])
def test_a_source_is_never_overwritten(tools, tmp_path, random, where):
    """overwrite-own-source: however source and output coincide."""
    work = tmp_path / "outer" / "work"
    write_step3(tmp_path / "in", random)
    (tmp_path / "outer").mkdir()
    made = tools.run("step3-convert", tmp_path / "in", work, *(AFD if where == "part of it" else PLAIN))
    assert made.returncode == 0, made.stderr
    (tmp_path / "link").symlink_to(work)
    (tmp_path / "way").symlink_to(tmp_path / "outer")
    source, output = {
        "itself": (work, work),
        "link to it": (tmp_path / "link", work),
        "link in the way": (work, tmp_path / "way" / "work"),
        "file in it": (work / "model.safetensors", work),
        "part of it": (work / "ffn-ep0", work),
        "parent of it": (work, tmp_path / "outer"),
    }[where]
    if where == "parent of it":
        shutil.copy(work / "manifest.json", tmp_path / "outer")
    before = snapshot(tmp_path / "outer")
    for more in (["--overwrite"], []):
        result = tools.run("step3-convert", source, output, *GGUF, *more)
        assert result.returncode in (64, 73), (result.returncode, result.stderr)
        assert str(output) in result.stderr or str(source) in result.stderr
        assert snapshot(tmp_path / "outer") == before


@pytest.mark.parametrize("manifest", ['{"name": "a web app", "icons": []}', "[]", "not JSON", '{"files": ["papers"]}'])
def test_a_foreign_directory_is_not_replaced(tools, tmp_path, random, manifest):
    """overwrite-foreign-manifest: another program's manifest.json gives no right to remove the files beside it."""
    source = write_step3(tmp_path / "in", random)
    work = tmp_path / "work"
    (work / "papers").mkdir(parents=True)
    for name, text in {"manifest.json": manifest, "papers/thesis.txt": "mine", "other.bin": "mine"}.items():
        (work / name).write_text(text)
    before = snapshot(work)
    result = tools.run("step3-convert", source, work, *GGUF, "--overwrite")
    assert result.returncode in (64, 65, 73), result.stderr
    assert "manifest.json" in result.stderr
    assert snapshot(work) == before


def test_overwriting_removes_only_what_the_manifest_lists(tools, tmp_path, random):
    """overwrite-foreign-manifest: files put into an output by hand stay."""
    source, work = write_step3(tmp_path / "in", random), tmp_path / "work"
    assert tools.run("step3-convert", source, work, *PLAIN).returncode == 0
    (work / "notes").mkdir()
    (work / "notes" / "mine.txt").write_text("mine")
    (work / "mine.bin").write_text("mine")
    result = tools.run("step3-convert", source, work, *GGUF, "--overwrite")
    if result.returncode == 0:
        assert not (work / "model.safetensors").exists() and (work / "model.gguf").exists()
        assert "mine" in result.stderr
    else:
        assert result.returncode == 73 and (work / "model.safetensors").exists()
    assert (work / "mine.bin").read_text() == (work / "notes" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("cut_into", [("--ffn-ep", "2"), ("--ffn-ep", "2", "--ffn-tp", "2", "--attention-tp", "2")])
def test_the_advice_for_a_partition_set_can_be_followed(tools, tmp_path, random, cut_into):
    """remedy-that-does-not-exist: the advice of `step3-verify engine` about a set works."""
    source, parts = write_step3(tmp_path / "in", random), tmp_path / "parts"
    result = tools.run(
        "step3-convert", source, parts, "--to", "safetensors", "--partition", "afd", *cut_into)  # fmt: skip
    assert result.returncode == 0, result.stderr
    for path in [parts, *(config.parent for config in sorted(parts.glob("*/config.json")))]:
        report = json.loads(tools.run("step3-verify", "engine", path, "--json").stdout)
        assert not report["ok"]
        for engine in report["engines"]:
            (finding,) = engine["findings"]
            assert finding["code"] == "partition" and "step3-convert SET OUTPUT --to safetensors" in finding["remedy"]
    together = tmp_path / "together"
    result = tools.run("step3-convert", parts, together, *KEEP)
    assert result.returncode == 0, result.stderr
    assert tensors_of(together) == tensors_of(source)
    assert load_config(together) == load_config(source)
    result = tools.run("step3-convert", parts, tmp_path / "model", *GGUF)
    assert result.returncode == 0, result.stderr
    assert not differences(decode_directory(source), tmp_path / "model")


def test_a_non_finite_number_in_gguf_names_the_file(tools, tmp_path, random):
    """errors-without-a-file: also for a GGUF file."""
    source = write_step3(tmp_path / "in", random)
    assert tools.run("step3-convert", source, tmp_path / "gguf", *GGUF).returncode == 0
    path = tmp_path / "gguf" / "model.gguf"
    data = path.read_bytes()
    key = b"tokenizer.ggml.bos_token_id"
    place = data.index(key) + len(key) + 4
    path.write_bytes(data[:place] + struct.pack("<I", 4_000_000_000) + data[place + 4 :])
    result = tools.run("step3-convert", path, tmp_path / "out", "--to", "safetensors", "--quantize", "BF16")
    assert result.returncode == 65, result.stderr
    assert "model.gguf" in result.stderr and "bos_token_id" in result.stderr


@pytest.mark.parametrize("form", FORMS)
def test_four_kinds_of_misdescribed_codes_are_refused(tools, tmp_path, random, form):
    """Codes whose companions are dropped, truncated or extended, or that the configuration misdescribes."""
    make, config = FORMS[form]
    parts = make(random, SQUARE)
    scale = next(suffix for suffix in parts if "scale" in suffix)
    ways = {
        "without its scale": ({k: v for k, v in parts.items() if k != scale}, config),
        "with one more": ({**parts, "weight_residual_codes_scale": numpy.ones(3, numpy.float32)}, config),
    }
    if parts[scale].size > 1:
        ways["with a shorter scale"] = ({**parts, scale: parts[scale].reshape(-1)[:-1].copy()}, config)
    for number, (way, (tensors, settings)) in enumerate(ways.items()):
        source = write_other(tmp_path / f"in-{number}", tensors, settings)
        outcome = Outcome(tools, source, tmp_path / f"out-{number}", None)
        outcome.result = tools.run("step3-convert", source, outcome.output, *PLAIN)
        assert outcome.result.returncode == 65, f"{way}: {outcome.result.returncode}: {outcome.result.stderr}"
        refused(PROJECTION)(outcome)
        copy = Outcome(tools, source, tmp_path / f"copy-{number}", None)
        copy.result = tools.run("step3-convert", source, copy.output, *KEEP)
        converted(a_copy)(copy)
