"""Whether an output holds its source's weights: every tensor, nothing else, each as close as its format allows."""

import pathlib
import re

import numpy

from arithmetic import load_json, read_checkpoint
from independent_decoder import Decoded, Meaning, decode_directory, decode_gguf, decode_partition, first_difference
from step3_names import gguf_name

WRAPPERS = [
    ("model.language_model.", "model."), ("language_model.model.", "model."), ("language_model.", ""),
    ("model.vision_model.", "vision_model."), ("model.vit_", "vit_"),
]  # fmt: skip
FUSED = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")
}  # fmt: skip


def published(name):
    """A Step-3 tensor's name without the prefixes that other libraries' classes add."""
    for prefix, instead in WRAPPERS:
        if name.startswith(prefix):
            return instead + name.removeprefix(prefix)
    return name


def stacked(meaning):
    """The same with published names, and experts of one layer in one tensor."""
    found, experts = Meaning({}, meaning.others, meaning.activations, {}), {}
    for name, weight in meaning.weights.items():
        name = published(name)
        if match := re.fullmatch(r"(.+\.moe)\.(?:experts\.)?(\d+)\.(\w+_proj\.weight)", name):
            experts.setdefault(f"{match[1]}.{match[3]}", {})[int(match[2])] = weight
        else:
            found.weights[name] = weight
    for name, matrices in experts.items():
        assert sorted(matrices) == list(range(len(matrices))), f"experts of {name} are missing"
        parts = [matrices[index] for index in range(len(matrices))]
        found.weights[name] = Decoded(numpy.stack([part.values for part in parts]), parts[0].form)
    return found


def output_meaning(output):
    """An output's weights; for GGUF under its own names."""
    output = pathlib.Path(output)
    if files := sorted(output.glob("*.gguf")):
        weights = {}
        for file in files:
            weights |= decode_gguf(file)
        return Meaning(weights, {}, {}, {})
    if any(output.glob("*/config.json")):
        return decode_partition(output)
    return decode_directory(output)


def differences(source, output, is_step3=True):
    """What an output lost, added or changed, in words. `source` holds the source's weights."""
    source = stacked(source) if is_step3 else source
    found = output_meaning(output)
    is_gguf = any(pathlib.Path(output).glob("*.gguf"))
    problems, seen = [], set()
    for name, weight in source.weights.items():
        place = gguf_name(name) if is_gguf else name
        theirs = found.weights.get(place)
        if theirs is None:
            place, theirs = inside_fused(name, source, found)
        if theirs is None:
            problems.append(f"{name} is not in the output")
            continue
        seen.add(place)
        if difference := first_difference(weight, theirs, name):
            problems.append(difference)
    problems += [f"{name} is in the output only" for name in found.weights if name not in seen]
    if not is_gguf:
        for name, stored in source.others.items():
            if found.others.get(name) != stored:
                problems.append(f"{name} is not what it was")
        more = found.others.keys() - source.others.keys()
        more |= found.activations.keys() - source.activations.keys()
        problems += [f"{name} is in the output only" for name in sorted(more)]
    return problems


def inside_fused(name, source, found):
    """The rows of a fused module that belong to one of its members."""
    parent, _, last = name.removesuffix(".weight").rpartition(".")
    for fused, members in FUSED.items():
        whole = found.weights.get(f"{parent}.{fused}.weight")
        if whole is None or last not in members:
            continue
        first = 0
        for member in members:
            rows = source.weights[f"{parent}.{member}.weight"].values.shape[-2]
            if member == last:
                rows_of = whole.values[..., first : first + rows, :]
                return f"{parent}.{fused}.weight", Decoded(rows_of, whole.form)
            first += rows
    return name, None


def tensors_of(directory):
    """The tensors of a checkpoint, or of every part of a set, by name."""
    return read_checkpoint(directory)


def carried(source, output):
    """What a copy did not keep byte for byte, in words: tensors and side files."""
    before, after = tensors_of(source), tensors_of(output)
    problems = [f"{name} was dropped" for name in before.keys() - after.keys()]
    problems += [f"{name} was added" for name in after.keys() - before.keys()]
    problems += [f"{name} was changed" for name in before.keys() & after.keys() if before[name] != after[name]]
    for path in pathlib.Path(source).iterdir():
        if path.suffix == ".safetensors" or path.name.endswith(".index.json") or not path.is_file():
            continue
        copy = pathlib.Path(output) / path.name
        if not copy.exists():
            problems.append(f"{path.name} was dropped")
        elif path.name != "config.json" and copy.read_bytes() != path.read_bytes():
            problems.append(f"{path.name} was changed")
    settings = [load_config(directory).get("quantization_config") for directory in (source, output)]
    if settings[0] != settings[1]:
        problems.append("quantization_config was changed")
    return problems


def load_config(directory):
    path = pathlib.Path(directory) / "config.json"
    return load_json(path) if path.exists() else {}


def looks_finished(output):
    """Whether a directory could be taken for a checkpoint."""
    output = pathlib.Path(output)
    if not output.is_dir():
        return output.exists()
    found = [path.name for path in output.rglob("*")]
    return any(name == "manifest.json" or name.endswith((".safetensors", ".gguf")) for name in found)
