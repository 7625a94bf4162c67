"""The examples of Tests/Examples, run, and what they make read by packages of others."""

import json
import re
import subprocess

import gguf
import numpy
from safetensors import safe_open

from conftest import FIXTURES, ROOT, TOOLS, require_tools

TINY = FIXTURES / "checkpoints" / "tiny"


def example(name, *arguments):
    require_tools()
    result = subprocess.run([TOOLS / name, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_the_package_has_the_same_examples():
    """What the toolkit's own package builds for the tests is what the package of its own builds."""
    pattern = re.compile(r'^ +example\((.+)\),$', re.MULTILINE)
    own = pattern.findall((ROOT / "Tests/Examples/Package.swift").read_text())
    assert own == pattern.findall((ROOT / "Package.swift").read_text()) and len(own) == 5
    sources = sorted(path.name for path in (ROOT / "Tests/Examples/Sources").iterdir())
    assert sources == sorted(re.match(r'"([^"]+)"', line)[1] for line in own)


def test_read_checkpoint():
    name = "model.layers.1.moe.up_proj.weight"
    counted, line = example("read-checkpoint", TINY, name)
    assert counted == "88 tensors in 4 files"
    shard = json.loads((TINY / "model.safetensors.index.json").read_text())["weight_map"][name]
    with safe_open(TINY / shard, "pt") as file:
        tensor = file.get_tensor(name)
    found = re.fullmatch(re.escape(name) + r" (\[.*\]) (\[.*\])", line)
    assert json.loads(found[1]) == list(tensor.shape)
    assert (numpy.float32(json.loads(found[2])) == tensor.float().flatten()[:4].numpy()).all()


def test_encode_tensor():
    row = (numpy.arange(256, dtype=numpy.float32) / numpy.float32(127.5) - 1).reshape(1, -1)
    for name in ("Q8_0", "Q4_0"):
        kind = gguf.GGMLQuantizationType[name]
        blocks = gguf.quants.quantize(row, kind)
        restored = gguf.quants.dequantize(blocks, kind).astype(numpy.float64)
        error = numpy.linalg.norm(restored - row) / numpy.linalg.norm(row.astype(numpy.float64))
        (line,) = example("encode-tensor", name)
        found = re.fullmatch(rf"{name}: 256 values in (\d+) bytes, relative error (\S+)", line)
        assert int(found[1]) == blocks.nbytes and abs(float(found[2]) - error) < 1e-6 * error


def test_write_gguf(tmp_path):
    (line,) = example("write-gguf", tmp_path / "a.gguf")
    assert line == f"{(tmp_path / 'a.gguf').stat().st_size} bytes"
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    assert reader.fields["general.architecture"].contents() == "example"
    (tensor,) = reader.tensors
    values = numpy.arange(128, dtype=numpy.float32).reshape(2, 64) - 64
    assert tensor.name == "blk.0.weight"
    assert (tensor.data == gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)).all()


def test_convert_checkpoint(tmp_path):
    sizes, summary = example("convert-checkpoint", TINY, tmp_path / "out", "Q8_0")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    source, output = map(int, re.fullmatch(r"(\d+) bytes -> (\d+) bytes", sizes).groups())
    assert source == sum(path.stat().st_size for path in TINY.glob("*.safetensors"))
    assert output == sum(path.stat().st_size for path in (tmp_path / "out").glob("*.gguf"))
    assert summary == f"88 tensors, root digest {manifest['digest']}"
    check = subprocess.run([TOOLS / "step3-verify", "checksums", tmp_path / "out"], capture_output=True, check=False)
    assert check.returncode == 0


def test_run_logits(tools):
    text = "The lighthouse keeper"
    found = [line.split(" ", 2) for line in example("run-logits", TINY, text)]
    (prompt,) = tools.json("step3-verify", "run", TINY, "--prompt", text)["prompts"]
    assert [int(token) for token, *_ in found] == [successor["token"] for successor in prompt["next"]]
    for (_, logit, word), successor in zip(found, prompt["next"]):
        assert abs(float(logit) - successor["logit"]) < 1e-4 and word == successor["text"]
