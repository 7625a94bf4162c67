"""The memory for reading a document is a small multiple of its size, whatever it contains; Manuals/reliability.md states the factors.

Memory and not time is measured, so a busy machine makes no difference."""

import json
import shutil
import struct
import subprocess
import sys

import pytest

from conftest import FIXTURES, TOOLS

# A generous bound on the tools' memory with almost nothing to read, in bytes.
STANDING = 64 << 20
SIZE = 24 << 20


# Run in a small process of its own: a child's peak is counted from its parent's size.
METER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def peak(*command):
    """(exit code, peak of resident bytes) of a command."""
    words = [sys.executable, "-c", METER, TOOLS / command[0], *command[1:]]
    code, size = subprocess.run(map(str, words), capture_output=True, check=True).stdout.split()
    return int(code), int(size)


@pytest.fixture
def source(tmp_path):
    """A checkpoint of two tensors, whose documents are small."""
    path = tmp_path / "source"
    path.mkdir()
    header = json.dumps(
        {
            "a.weight": {"dtype": "F32", "shape": [2, 8], "data_offsets": [0, 64]},
            "b.weight": {"dtype": "F32", "shape": [8], "data_offsets": [64, 96]},
        }
    ).encode()
    header += b" " * (-len(header) % 8)
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(96))
    return path


def repeated(make, size):
    """As many of make(0), make(1), ... as fill a given size in JSON."""
    each = len(json.dumps(make(100_000))) + 2
    return [make(index) for index in range(size // each)]


def manifest(tmp_path, source, tools):
    output = tmp_path / "output"
    tools.convert(source, output, "--to", "safetensors")
    document = json.loads((output / "manifest.json").read_bytes())
    (record, *_) = document["tensors"]
    document["tensors"] += repeated(lambda index: {**record, "name": f"t{index}"}, SIZE)
    (output / "manifest.json").write_text(json.dumps(document))
    return output / "manifest.json", ["step3-verify", "checksums", output]


def plan(tmp_path, source, tools):
    path = tmp_path / "plan.json"
    assert tools.run("step3-convert", "plan", source, "--to", "safetensors", "--output", path).returncode == 0
    document = json.loads(path.read_bytes())
    tensors = document["plan"]["parts"][0]["files"][0]["tensors"]
    (record, *_) = tensors
    tensors += repeated(lambda index: {**record, "name": f"t{index}"}, SIZE)
    path.write_text(json.dumps(document))
    return path, ["step3-convert", "run", path, tmp_path / "output"]


def index(tmp_path, source, tools):
    entries = repeated(lambda index: f"model.layers.{index}.weight", SIZE // 2)
    path = source / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(entries, "model-00001.safetensors")}))
    return path, ["step3-inspect", "list", source]


def header(tmp_path, source, tools):
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    names = repeated(lambda index: [f"model.layers.{index}.weight", entry], SIZE)
    text = json.dumps(dict(names)).encode()
    path = source / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path, ["step3-inspect", "list", source, "--summary"]


def tokenizer(tmp_path, source, tools):
    model = tmp_path / "model"
    shutil.copytree(FIXTURES / "checkpoints" / "tiny", model)
    path = model / "tokenizer.json"
    document = json.loads(path.read_bytes())
    vocabulary = document["model"]["vocab"]
    document["model"]["merges"] = []
    for number in range(SIZE // 20):
        vocabulary.setdefault(f"token{number}", len(vocabulary))
    path.write_text(json.dumps(document))
    return path, ["step3-verify", "run", model, "--prompt", "a"]


def journal(tmp_path, source, tools):
    output = tmp_path / "output"
    output.mkdir()
    path = output / "step3-convert.journal"
    path.write_bytes(b"step3-convert journal 4: this directory is unfinished; the same command with --resume goes on.\n" + bytes(SIZE))
    return path, ["step3-convert", source, output, "--to", "safetensors", "--resume"]


def configuration(tmp_path, source, tools):
    path = source / "config.json"
    path.write_text(json.dumps({"model_type": "step3", "x": repeated(lambda index: {f"k{index}": [index]}, 15 << 20)}))
    return path, ["step3-verify", "engine", source, "--engine", "vllm"]


def recipe(tmp_path, source, tools):
    path = tmp_path / "recipe.yaml"
    path.write_text("rules:\n" + "- {name: 'a*', format: Q8_0}\n" * ((1 << 20) // 31))
    return path, ["step3-convert", source, tmp_path / "output", "--to", "safetensors", "--quantize", path]


# Multiples of the file's size, above the base. Not measurements but limits.
LIMITS = {manifest: 8, plan: 8, index: 8, header: 12, tokenizer: 8, journal: 4, configuration: 12, recipe: 64}


@pytest.mark.parametrize("make", LIMITS, ids=lambda make: make.__name__)
def test_memory_is_a_small_multiple_of_the_file(make, tmp_path, source, tools, closing_table):
    path, command = make(tmp_path, source, tools)
    code, bytes_ = peak(*command)
    size = path.stat().st_size
    times = max(0, bytes_ - 16_000_000) / size
    closing_table(
        "Memory of readers",
        {"document": make.__name__, "MB": f"{size / 1e6:.1f}", "peak MB": f"{bytes_ / 1e6:.0f}", "times": f"{times:.1f}"},
    )
    assert code in (0, 1, 64, 65, 66, 73, 74), code
    assert bytes_ <= STANDING + LIMITS[make] * size, (bytes_, size)
