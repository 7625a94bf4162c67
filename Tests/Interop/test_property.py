"""Random checkpoints, randomly damaged, converted with random options: either a refusal that names its subject, or
an output with every tensor of the source and its values, as decoded by an independent decoder.

`STEP3_PROPERTY_SEEDS=2000` tries more of them; `STEP3_PROPERTY_SEEDS=17:18` is seed 17 alone."""

import collections
import dataclasses
import json
import os

import numpy
import pytest

from accounting import carried, differences, load_config, looks_finished, published, stacked
from case_inputs import (
    BF16, E4M3, OTHER_CONFIG, TOKENIZER_CONFIG, TYPE_NAMES, Sizes, is_quantisable, per_expert, tokenizer, wrapped, write_json,
    write_safetensors,
)  # fmt: skip
from independent_decoder import Unclear, decode
from stored_forms import FORMS

FIRST, _, LAST = os.environ.get("STEP3_PROPERTY_SEEDS", "60").rpartition(":")
SEEDS = range(int(FIRST or 0), int(LAST))
# So that tiles, groups and words are whole, and some are not.
SIZES = Sizes(hidden=128, dense=256, inner=128, query=128, head=64, heads=2, experts=4, vocabulary=128)
COUNTS = collections.Counter()


@dataclasses.dataclass
class Source:
    """A checkpoint before it is written."""

    random: numpy.random.Generator
    # Pairs, as a name may occur twice.
    tensors: list
    config: dict
    is_step3: bool
    # Whether everything is well-formed, so that a refusal would be a fault.
    is_sound: bool = True
    notes: list = dataclasses.field(default_factory=list)

    @property
    def is_readable(self):
        """Whether no name occurs twice."""
        return len(dict(self.tensors)) == len(self.tensors)

    def pick(self, items):
        items = list(items)
        return items[self.random.integers(len(items))] if items else None

    def names(self, *words):
        return [name for name, _ in self.tensors if any(word in name for word in words)]

    def replace(self, old, *pairs):
        place = next(index for index, (name, _) in enumerate(self.tensors) if name == old)
        self.tensors[place : place + 1] = pairs

    def __getitem__(self, wanted):
        return next(values for name, values in self.tensors if name == wanted)


# What is sound


def make(random):
    """A Step-3 or another model, plain or with some layers in one of the forms."""
    is_step3 = bool(random.integers(2))
    kind = [BF16, numpy.float32, numpy.float16][random.integers(3)]
    if is_step3:
        plain, config = SIZES.weights(random, kind), SIZES.config()
    else:
        shapes = {"model.norm.weight": (128,), "lm_head.weight": (64, 128), "model.embed_tokens.weight": (64, 128)}
        for name in ("q_proj", "o_proj"):
            shapes[f"model.layers.0.self_attn.{name}.weight"] = (128, 128)
        shapes |= {"model.layers.0.mlp.up_proj.weight": (96, 128), "model.layers.0.experts.weight": (3, 64, 128)}
        plain = {name: (random.standard_normal(shape) * 0.05).astype(kind) for name, shape in shapes.items()}
        config = dict(OTHER_CONFIG)
    source = Source(random, [], config, is_step3)
    form = None if random.random() < 0.2 else source.pick(FORMS)
    experts_only = bool(random.integers(2))
    for name, values in plain.items():
        quantise = form is not None and values.ndim > 1 and (
            is_quantisable(name) if is_step3 else ".layers." in name
        ) and (not experts_only or ".moe." in name or "experts" in name)  # fmt: skip
        if not quantise:
            source.tensors.append((name, values))
            continue
        parts = FORMS[form][0](random, values.shape)
        source.tensors += [(name.removesuffix("weight") + suffix, part) for suffix, part in parts.items()]
    if form is not None:
        config["quantization_config"] = json.loads(json.dumps(FORMS[form][1]))
        ignored = "ignore" if "config_groups" in config["quantization_config"] else "modules_to_not_convert"
        config["quantization_config"][ignored] = [
            name.removesuffix(".weight") for name, values in source.tensors
            if name.endswith(".weight") and values.dtype in (BF16, numpy.float32, numpy.float16)
        ]  # fmt: skip
    if random.random() < 0.3:
        source.tensors = [source.tensors[index] for index in random.permutation(len(source.tensors))]
    source.notes.append(f"{'step3' if is_step3 else 'other'} {numpy.dtype(kind).name} {form}")
    return source


# What goes wrong

MUTATIONS = []


def mutation(function):
    MUTATIONS.append(function)
    return function


SCALES = ("scale", "absmax")
CODES = (".weight_packed", ".qweight")


def codes(source):
    return [
        name for name, values in source.tensors
        if name.endswith(CODES) or (name.endswith(".weight") and values.dtype.itemsize == 1)
    ]  # fmt: skip


@mutation
def scale_under_another_name(source):
    old = source.pick(source.names(*SCALES))
    if old is None:
        return None
    new = old.rpartition(".")[0] + "." + source.pick(
        ["scale", "scales", "scale_inv", "weight_scale", "weight_scale_inv", "weight_scaling", "s", "scale_weight"])  # fmt: skip
    if new in source.names(new):
        return None
    source.replace(old, (new, source[old]))
    return f"{old} is now {new}"


@mutation
def a_companion_is_missing(source):
    name = source.pick(source.names(*SCALES, "zero", "qzeros", "g_idx", "weight_shape"))
    if name is None:
        return None
    source.replace(name)
    return f"without {name}"


@mutation
def codes_of_another_type(source):
    name = source.pick(codes(source))
    if name is None:
        return None
    values = source[name]
    kinds = {1: [numpy.int8, numpy.uint8, E4M3, numpy.bool_], 4: [numpy.uint32, numpy.float32]}[values.dtype.itemsize]
    kind = source.pick(kind for kind in kinds if kind != values.dtype)
    if kind is numpy.bool_:
        values = values.view(numpy.uint8) & 1
    source.replace(name, (name, values.view(kind)))
    return f"{name} as {numpy.dtype(kind).name}"


@mutation
def an_odd_companion(source):
    owner = source.pick(name for name in source.names(".weight", ".qweight") if ".layers." in name)
    stem = owner.rpartition(".")[0]
    suffix, values = source.pick([
        ("weight_scale", numpy.full((4, 1), 0.5, numpy.float32)), ("weight_zero_point", numpy.zeros((4, 1), numpy.int8)),
        ("weight_g_idx", numpy.zeros(128, numpy.int32)), ("weight_quantizer._amax", numpy.ones(1, numpy.float32)),
        ("scale", numpy.ones(1, numpy.float32)), ("weight_scale_2", numpy.ones(1, numpy.float32)),
        ("weight_shape", numpy.array([7, 7])), ("SCB", numpy.ones(4, numpy.float32)),
        ("qzeros", numpy.zeros((1, 16), numpy.int32)), ("weight_offset", numpy.ones(1, numpy.float16)),
        ("input_scale", numpy.ones((), numpy.float32)), ("weight_packed", numpy.zeros((4, 4), numpy.int32)),
    ])  # fmt: skip
    name = f"{stem}.{suffix}"
    if name in source.names(name):
        return None
    source.tensors.append((name, values))
    return f"with {name}"


@mutation
def a_companion_of_another_shape(source):
    name = source.pick(name for name in source.names(*SCALES, "zero", "g_idx") if source[name].size > 1)
    if name is None:
        return None
    values = source[name]
    way = source.pick(["flat", "short", "turned", "doubled", "one"])
    values = {
        "flat": values.reshape(-1), "short": values.reshape(-1)[:-1], "turned": numpy.swapaxes(values, 0, -1),
        "doubled": numpy.concatenate([values, values], -1), "one": values.reshape(-1)[:1],
    }[way]  # fmt: skip
    source.replace(name, (name, numpy.ascontiguousarray(values)))
    return f"{name} {way}"


@mutation
def a_tensor_is_missing(source):
    name = source.pick(name for name, _ in source.tensors)
    source.replace(name)
    return f"without {name}"


@mutation
def a_tensor_more(source):
    name, values = source.pick([
        ("model.layers.1.moe.router_bias", numpy.ones(3, numpy.float32)),
        ("model.layers.2.eh_proj.weight", numpy.ones((8, 8), BF16)),
        ("model.rotary.inv_freq", numpy.ones(32, numpy.float32)), ("extra", numpy.arange(5)),
        ("model.layers.0.experts_scales", numpy.ones((3, 8), numpy.uint8)),
        ("model.layers.0.mlp.mask", numpy.ones(8, numpy.bool_)),
    ])  # fmt: skip
    source.tensors.append((name, values))
    return f"with {name}"


@mutation
def a_tensor_twice(source):
    name = source.pick(name for name, _ in source.tensors)
    source.tensors.append((name, source[name].copy()))
    return f"{name} twice"


@mutation
def rows_are_missing(source):
    name = source.pick(name for name, values in source.tensors if values.ndim > 1 and len(values) > 1)
    source.replace(name, (name, source[name][:-1].copy()))
    return f"{name} without its last row"


@mutation
def the_configuration_says_nothing(source):
    return "no quantization_config" if source.config.pop("quantization_config", None) else None


@mutation
def the_configuration_says_something_else(source):
    stated = source.config.get("quantization_config")
    if stated is None:
        source.config["quantization_config"] = json.loads(json.dumps(source.pick(FORMS.values())[1]))
        return f"quantization_config of nothing: {source.config['quantization_config'].get('quant_method')}"
    weights = stated.get("config_groups", {}).get("group_0", {}).get("weights")
    ways = ["method"] + (["bits", "group", "symmetric"] if weights else []) + [
        key for key in ("bits", "group_size", "weight_block_size") if key in stated]  # fmt: skip
    way = source.pick(ways)
    match way:
        case "method":
            stated["quant_method"] = source.pick(["fp8", "awq", "gptq", "bitsandbytes", "quark", "torchao"])
        case "bits" if weights:
            weights["num_bits"] = source.pick({2, 3, 4, 5, 8} - {weights["num_bits"]})
        case "bits":
            stated["bits"] = source.pick({2, 3, 4, 8} - {stated["bits"]})
        case "group":
            weights.update(strategy="group", group_size=source.pick({16, 64, 128} - {weights.get("group_size")}))
        case "symmetric":
            weights["symmetric"] = not weights["symmetric"]
        case "group_size":
            stated["group_size"] = source.pick({16, 64, 128} - {stated["group_size"]})
        case "weight_block_size":
            stated["weight_block_size"] = source.pick([[64, 128], [32, 32], [256, 256]])
    return f"quantization_config: another {way}"


# Variations that do not change the meaning


def harmless(source):
    """Variant names that are supported, for a Step-3 without codes per module."""
    if not source.is_step3:
        return
    way = source.random.integers(6)
    tensors = dict(source.tensors)
    if way == 0 and not any(name.endswith(("weight_shape", "g_idx", "global_scale", "scale_2")) for name in tensors):
        tensors = per_expert(tensors)
        source.notes.append("per expert")
    elif way == 1:
        tensors = wrapped(tensors, source.pick(["model.language_model.", "language_model.model."]))
        source.notes.append("wrapped")
    source.tensors = list(tensors.items())


def write(directory, source):
    """Writes one file or two, with or without a correct index."""
    directory.mkdir()
    write_json(directory / "config.json", source.config)
    if source.is_step3:
        write_json(directory / "tokenizer.json", tokenizer(SIZES.vocabulary))
        write_json(directory / "tokenizer_config.json", TOKENIZER_CONFIG)
    (directory / "chat_template.jinja").write_text("{{ messages }}")
    if source.random.random() < 0.5:
        write_safetensors(directory / "model.safetensors", source.tensors, {"format": "pt"})
        return
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    half = len(source.tensors) // 2
    places = {}
    for file, part in zip(files, (source.tensors[:half], source.tensors[half:]), strict=True):
        write_safetensors(directory / file, part, {"format": "pt"})
        places |= {name: file for name, _ in part}
    size = sum(values.nbytes for _, values in source.tensors)
    write_json(
        directory / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": places})  # fmt: skip


# What is asked for


@dataclasses.dataclass
class Request:
    container: str
    recipe: str
    partition: tuple

    @property
    def arguments(self):
        return ("--to", self.container, "--quantize", self.recipe, *self.partition)

    @property
    def is_copy(self):
        return (self.container, self.recipe, self.partition) == ("safetensors", "keep", ())


def request(source):
    container = source.pick(["safetensors", "safetensors", "gguf"])
    if container == "gguf":
        return Request("gguf", source.pick(["F32", "BF16", "Q8_0"]), ())
    recipes = ["keep", "BF16", "F32", "F16"] + (["FP8_BLOCK", "W4A16_G32"] if source.is_step3 else [])
    partition = ()
    if source.random.random() < 0.35:
        partition = ("--partition", "afd", "--ffn-ep", source.pick(["1", "2"]))
    return Request("safetensors", source.pick(recipes), partition)


# The property


def meaning_of(source):
    """The decoded source, or None where its meaning is unclear."""
    stored = {name: (TYPE_NAMES[values.dtype], values.shape, values.tobytes()) for name, values in source.tensors}
    try:
        return decode(stored, source.config)
    except Unclear as unclear:
        source.notes.append(f"unclear: {unclear}")
        return None


def is_whole(source, meaning):
    """Whether a Step-3 has exactly the tensors of its configuration."""
    if meaning is None:
        return False
    try:
        found = {name: weight.values.shape for name, weight in stacked(meaning).weights.items()}
    except (AssertionError, ValueError):
        return False
    return found == SIZES.shapes() and not meaning.others


def names_something(message, source):
    """Whether a message says which tensor or file it is about."""
    names = [published(name).rpartition(".")[0] for name, _ in source.tensors] + [name for name, _ in source.tensors]
    parents = {name.rpartition(".")[0] for name in names if "." in name}
    words = [*names, *parents, "config.json", ".safetensors", "quantization_config", "quant_method", "' is missing"]
    return any(word and word in message for word in words)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_conversion_is_refused_or_right(tools, tmp_path, seed):
    random = numpy.random.default_rng([20261127, seed])
    source = make(random)
    for _ in range(random.choice([0, 1, 1, 1, 2, 3])):
        note = source.pick(MUTATIONS)(source)
        if note is not None:
            source.notes.append(note)
            source.is_sound = False
    if source.is_readable:
        harmless(source)
    asked = request(source)
    write(tmp_path / "in", source)
    story = f"seed {seed}: {'; '.join(source.notes)}; {' '.join(asked.arguments)}"
    meaning = meaning_of(source) if source.is_readable else None
    whole = is_whole(source, meaning)

    output = tmp_path / "out"
    result = tools.run("step3-convert", tmp_path / "in", output, *asked.arguments)
    story += f"\nended with {result.returncode}: {result.stderr.strip() or 'no word'}"
    COUNTS["tried"] += 1
    if result.returncode == 0:
        COUNTS["converted"] += 1
        judge_output(source, meaning, whole, asked, tmp_path / "in", output, story)
    else:
        judge_refusal(source, meaning, whole, asked, result, output, story)


def judge_output(source, meaning, whole, asked, directory, output, story):
    assert source.is_readable, f"a name that occurs twice was taken\n{story}"
    if asked.is_copy:
        problems = carried(directory, output)
        assert not problems, f"{problems[:5]}\n{story}"
        return
    if source.is_step3 and (asked.container == "gguf" or asked.partition):
        assert whole, f"not all of a Step-3, and it was taken\n{story}"
    assert meaning is not None, f"what has no one meaning was converted\n{story}"
    try:
        problems = differences(meaning, output, source.is_step3)
    except Unclear as unclear:
        problems = [f"the output has no one meaning: {unclear}"]
    assert not problems, f"{problems[:5]}\n{story}"
    if asked.recipe in ("BF16", "F32", "F16") and asked.container == "safetensors" and not asked.partition:
        assert "quantization_config" not in load_config(output), story


def judge_refusal(source, meaning, whole, asked, result, output, story):
    assert result.returncode in (64, 65, 73), story
    assert not looks_finished(output), f"{sorted(output.rglob('*'))}\n{story}"
    if not source.is_step3 and (asked.container == "gguf" or asked.partition):
        return  # A refusal of the whole model: it has no GGUF names, or no sides
    assert names_something(result.stderr, source), f"it says of nothing what is wrong\n{story}"
    if asked.is_copy:
        assert not source.is_readable, f"a copy needs no understanding\n{story}"
        return
    can_be_cut = not asked.partition or asked.recipe in ("BF16", "F32", "F16")
    assert not (source.is_sound and can_be_cut), f"there is nothing wrong with it\n{story}"


def test_some_were_converted_and_some_refused():
    """Otherwise the seeds prove nothing."""
    if COUNTS["tried"] < 40:
        pytest.skip("too few seeds to say")
    share = COUNTS["converted"] / COUNTS["tried"]
    assert 0.25 < share < 0.95, f"{share:.0%} of {COUNTS['tried']} were converted"
