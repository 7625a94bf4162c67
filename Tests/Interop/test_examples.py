"""Runs the examples of Tests/Examples and reads their outputs with other packages."""

import json
import re
import subprocess

import gguf
import numpy
import pytest
import torch
from safetensors import safe_open

from conftest import FIXTURES, ROOT, TOOLS, require_tools

TINY = FIXTURES / "checkpoints" / "tiny"


def example(name, *arguments):
    require_tools()
    result = subprocess.run([TOOLS / name, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_the_package_has_the_same_examples():
    """The toolkit's own package builds the same examples for the tests as Tests/Examples does."""
    pattern = re.compile(r'^ +example\((.+)\),$', re.MULTILINE)
    own = pattern.findall((ROOT / "Tests/Examples/Package.swift").read_text())
    assert own == pattern.findall((ROOT / "Package.swift").read_text()) and len(own) == 7
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


def test_read_rows():
    name = "model.layers.1.moe.up_proj.weight"
    lines = example("read-rows", TINY, name, 2)
    shard = json.loads((TINY / "model.safetensors.index.json").read_text())["weight_map"][name]
    with safe_open(TINY / shard, "pt") as file:
        largest = file.get_tensor(name)[2].float().abs().amax(dim=1)
    assert [line.split()[0] for line in lines] == [str(row) for row in range(len(largest))]
    assert (numpy.float32([line.split()[1] for line in lines]) == largest.numpy()).all()


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


def test_encode_scheme():
    found = {}
    for line in example("encode-scheme"):
        search, sizes, error = re.fullmatch(r"(\w+) (.+), relative error (\S+)", line).groups()
        assert sizes == "256 bytes of codes, 8 of scales"
        found[search] = float(error)
    # The scale from the largest magnitude, computed as in compressed-tensors.
    row = (numpy.arange(512) % 97 / numpy.float32(48) - 1).astype(numpy.float32).reshape(-1, 128)
    scale = torch.tensor(numpy.abs(row).max(axis=1, keepdims=True) / numpy.float32(7.5)).bfloat16().float().numpy()
    restored = numpy.clip(torch.tensor(row / scale).bfloat16().float().numpy().round(), -8, 7) * scale
    error = numpy.linalg.norm((restored - row).astype(numpy.float64)) / numpy.linalg.norm(row.astype(numpy.float64))
    assert abs(found["absmax"] - error) < 1e-5 * error and found["mse"] < found["absmax"]


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


# The documentation's code is the code that is built and run here.

PRODUCTS = re.findall(r'\.library\(name: "(\w+)"', (ROOT / "Package.swift").read_text())
CATALOGUES = [ROOT / "Sources" / name / f"{name}.docc" for name in PRODUCTS]


def test_code_in_articles_is_that_of_the_examples():
    programs = [path.read_text() for path in (ROOT / "Tests/Examples/Sources").glob("*/main.swift")]
    blocks = [
        (article, block)
        for catalogue in CATALOGUES
        for article in catalogue.glob("*.md")
        for block in re.findall(r"^```swift\n(.*?)^```$", article.read_text(), re.DOTALL | re.MULTILINE)
    ]
    assert len(blocks) >= len(programs)
    for article, block in blocks:
        assert any(block.rstrip() in program for program in programs), f"{article} shows what no example has:\n{block}"


@pytest.mark.parametrize("product", PRODUCTS)
def test_every_public_type_is_on_the_page_of_its_library(product):
    page = (ROOT / "Sources" / product / f"{product}.docc" / f"{product}.md").read_text()
    assert page.startswith(f"# ``{product}``\n")
    listed = re.findall(r"^- ``(?:\w+/)?(\w+)``$", page, re.MULTILINE)
    declared = {
        name
        for path in (ROOT / "Sources" / product).rglob("*.swift")
        for name in re.findall(
            r"^(?:@\w+ )*public (?:final )?(?:indirect )?(?:struct|enum|class|protocol|actor|let|func) (\w+)", path.read_text(), re.MULTILINE)
    }
    assert sorted(listed) == sorted(declared)
