"""manifest.json against digests of the files computed in Python."""

import hashlib
import os

import pytest

from arithmetic import load_json, read_checkpoint, read_gguf, read_safetensors, sha256, xxh3
from conftest import FIXTURES


@pytest.mark.parametrize(
    "arguments",
    [
        ["--to", "gguf", "--quantize", "Q8_0"],
        ["--to", "safetensors", "--max-shard-size", "2MB"],
        ["--to", "safetensors", "--quantize", "BF16", "--partition", "afd", "--ffn-ep", "2"],
    ],
    ids=["gguf", "shards", "partition"],
)
@pytest.mark.parametrize("name", ["tiny", "odd-fp8"])
def test_digests(tools, tmp_path, name, arguments):
    source = FIXTURES / "checkpoints" / name
    output = tmp_path / "output"
    tools.convert(source, output, *arguments)
    manifest = load_json(output / "manifest.json")

    present = {str(p.relative_to(output)) for p in output.rglob("*") if p.is_file() and p.name != "manifest.json"}
    assert {file["path"] for file in manifest["files"]} == present
    for file in manifest["files"]:
        data = (output / file["path"]).read_bytes()
        assert (file["bytes"], file["sha256"], file["xxh3"]) == (len(data), sha256(data), xxh3(data))

    shards = {path.name for path in source.glob("*.safetensors")}
    assert {file["path"] for file in manifest["sources"]} >= shards
    for file in manifest["sources"]:
        data = (source / file["path"]).read_bytes()
        assert (file["bytes"], file["sha256"], file["xxh3"]) == (len(data), sha256(data), xxh3(data))

    originals = read_checkpoint(source)
    stored = {}
    for path in present:
        if path.endswith(".safetensors"):
            tensors = read_safetensors(output / path)
        elif path.endswith(".gguf"):
            tensors, _ = read_gguf(output / path)
        else:
            continue
        stored |= {(path, tensor): triple for tensor, triple in tensors.items()}
    assert {(tensor["file"], tensor["name"]) for tensor in manifest["tensors"]} == stored.keys()
    for tensor in manifest["tensors"]:
        assert tensor["xxh3"] == xxh3(stored[tensor["file"], tensor["name"]][2])
        assert tensor["sources"] and set(tensor["sources"]) <= originals.keys()
    assert {s for tensor in manifest["tensors"] for s in tensor["sources"]} == originals.keys()


def test_the_same_command_gives_the_same_bytes(tools, tmp_path):
    """Whatever the number of threads and the memory."""
    source = FIXTURES / "checkpoints" / "odd"
    outputs = []
    for index, more in enumerate([["--threads", "1"], ["--threads", "5", "--memory", "128MiB"]]):
        outputs.append(tmp_path / str(index))
        tools.convert(source, outputs[-1], "--to", "gguf", "--quantize", "Q8_0", *more)
    first, second = ({p.name: p.read_bytes() for p in output.iterdir()} for output in outputs)
    assert first == second


def root_digest(path):
    """As defined in the manual: SHA-256 of every byte after the second line."""
    return hashlib.sha256(path.read_bytes().split(b"\n", 2)[2]).hexdigest()


def test_the_root_digest(tools, tmp_path):
    """The root digest is printed, is in the file, and can be pinned; a partition's parts have their own."""
    output = tmp_path / "output"
    summary = tools.convert(
        FIXTURES / "checkpoints/tiny", output, "--to", "safetensors", "--partition", "afd", "--ffn-ep", "2")
    roots = set()
    for directory in [output, output / "attention", output / "ffn-ep1"]:
        digest = root_digest(directory / "manifest.json")
        roots.add(digest)
        assert load_json(directory / "manifest.json")["digest"] == digest
        report = tools.json("step3-verify", "checksums", directory, "--pin", digest)
        assert report["ok"] and report["rootDigest"] == digest and report["sha256"]
        for pin, code in [("0" * 64, 1), ("0" * 63, 64), ("x" * 64, 64)]:
            assert tools.run("step3-verify", "checksums", directory, "--pin", pin).returncode == code
    # The text about the digest concerns the digest alone, whatever else is wrong.
    checks = lambda pin: tools.run("step3-verify", "checksums", output, "--pin", pin).stdout
    assert f"root digest, as pinned: {summary['rootDigest']}\n" in checks(summary["rootDigest"])
    assert f"root digest, not the pinned one: {summary['rootDigest']}\n" in checks("0" * 64)
    config = output / "attention" / "config.json"
    content = config.read_bytes()
    config.write_bytes(content[:-1] + b" ")
    damaged = checks(summary["rootDigest"])
    assert "FAILED" in damaged and f"root digest, as pinned: {summary['rootDigest']}\n" in damaged
    config.write_bytes(content)
    assert len(roots) == 3 and summary["rootDigest"] == root_digest(output / "manifest.json")
    text = tools.run("step3-convert", FIXTURES / "checkpoints/tiny", output, "--to", "safetensors", "--partition",
                     "afd", "--ffn-ep", "2", "--resume").stdout
    assert f"root digest: {summary['rootDigest']}\n" in text
    fast = tools.run("step3-verify", "checksums", output, "--fast")
    assert fast.returncode == 0 and "XXH3 only" in fast.stdout


def test_a_missing_or_foreign_manifest_is_reported(tools, tmp_path):
    """A manifest missing where there must be one fails the check; a foreign file of that name is reported as such."""
    output = tmp_path / "output"
    tools.convert(FIXTURES / "checkpoints/tiny", output, "--to", "gguf")
    manifest = output / "manifest.json"
    digest = root_digest(manifest)
    manifest.unlink()
    assert tools.run("step3-verify", "checksums", output).returncode == 0
    for arguments in [["--require-manifest"], ["--pin", digest]]:
        assert tools.run("step3-verify", "checksums", output, *arguments).returncode == 1
    for make, word in [(os.mkfifo, "pipe"), (os.mkdir, "directory")]:
        make(manifest)
        result = tools.run("step3-verify", "checksums", output)
        assert result.returncode == 65 and word in result.stderr
        manifest.rmdir() if word == "directory" else manifest.unlink()
