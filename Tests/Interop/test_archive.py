"""Archives: read by an independent reader, tested by zstd, killed and resumed."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time

import ml_dtypes
import numpy
import pytest
import safetensors.numpy
import zstandard

from archive_reader import ArchiveReader
from conftest import FIXTURES, TOOLS


def contents(directory):
    """SHA-256 of every file below a directory, by relative path."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A directory with two weight files of several types, about 70 MB."""
    source = tmp_path_factory.mktemp("weights")
    generator = numpy.random.default_rng(11)
    for number in range(2):
        normal = generator.normal(0, 0.02, (8_000_000,)).astype(numpy.float32)
        safetensors.numpy.save_file(
            {
                "bf16": normal.astype(ml_dtypes.bfloat16),
                "f32": normal[:2_000_001],
                "f16": normal[:1_000_000].astype(numpy.float16),
                "codes": generator.integers(0, 256, 3_000_000, numpy.uint8),
                "zeros": numpy.zeros(1_000_003, numpy.int32),
                "one": normal[:1].astype(ml_dtypes.bfloat16),
            },
            source / f"model-{number}.safetensors",
        )
    (source / "config.json").write_text("{}")
    return source


@pytest.mark.parametrize("name", ["tiny", "odd", "tiny-fp8"])
@pytest.mark.parametrize("form", ["safetensors", "gguf"])
def test_an_independent_reader_decodes_archives(tools, tmp_path, name, form):
    source = FIXTURES / "checkpoints" / name
    if form == "gguf":
        if name == "tiny-fp8":
            pytest.skip("its scheme has no GGUF form as it is")
        tools.convert(source, tmp_path / "gguf", "--to", "gguf")
        source = tmp_path / "gguf"
    summary = tools.json("step3-convert", "archive", source, tmp_path / "archive")
    assert summary["bytes"] > summary["storedBytes"]
    found = 0
    for path in source.rglob(f"*.{form}"):
        stored = tmp_path / "archive" / f"{path.relative_to(source)}.zst"
        original = path.read_bytes()
        reader = ArchiveReader(stored)
        assert reader.read(0, reader.size) == original
        for start in (0, len(original) // 3, len(original) - 5):
            assert reader.read(start, start + 5) == original[start : start + 5]
        assert subprocess.run(["zstd", "-tq", stored], check=False).returncode == 0
        found += 1
    assert found > 0
    tools.json("step3-convert", "restore", tmp_path / "archive", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(source)


def test_killed_runs_are_resumed(tools, weights, tmp_path):
    kills = int(os.environ.get("STEP3_KILLS", "6"))
    generator = random.Random(kills)
    start = time.monotonic()
    tools.json("step3-convert", "archive", weights, tmp_path / "reference")
    duration = {"archive": time.monotonic() - start}
    start = time.monotonic()
    tools.json("step3-convert", "restore", tmp_path / "reference", tmp_path / "restored")
    duration["restore"] = time.monotonic() - start
    expected = {"archive": contents(tmp_path / "reference"), "restore": contents(weights)}
    assert contents(tmp_path / "restored") == expected["restore"]
    output = tmp_path / "output"
    for number in range(kills):
        verb = ("archive", "restore")[number % 2]
        source = (weights, tmp_path / "reference")[number % 2]
        command = [TOOLS / "step3-convert", verb, source, output, "--progress", "none", "--threads", "2"]
        for _ in range(generator.randint(1, 3)):
            child = subprocess.Popen([*command, "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(duration[verb] * generator.uniform(0, 1.05))
            child.send_signal(signal.SIGKILL)
            child.wait()
            if (output / "step3-convert.journal").exists():
                refused = subprocess.run(command, capture_output=True, text=True, check=False)
                assert refused.returncode == 73 and "--resume" in refused.stderr
                opened = tools.run("step3-inspect", "list", output)
                assert opened.returncode in (65, 66)
        # A journal that was killed on its way into place has begun nothing yet.
        begun = output.exists() and any(path.name != "step3-convert.journal.writing" for path in output.iterdir())
        if verb == "archive" or not begun or (output / "step3-convert.journal").exists():
            result = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
            assert result.returncode == 0, result.stderr
        assert contents(output) == expected[verb]
        shutil.rmtree(output)


def test_resume_keeps_only_what_agrees(tools, weights, tmp_path):
    """After a power cut a file may hold anything: zeros, or another file's bytes."""
    tools.json("step3-convert", "archive", weights, tmp_path / "reference")
    output = tmp_path / "output"
    for damage in ("zeros", "flip", "cut", "foreign"):
        command = [TOOLS / "step3-convert", "archive", weights, output, "--progress", "none"]
        child = subprocess.Popen([*command, "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        unfinished = output / "model-0.safetensors.zst.unfinished"
        while not unfinished.exists() or unfinished.stat().st_size < 5_000_000:
            assert child.poll() is None, "it was over before it could be killed"
        child.kill()
        child.wait()
        held = bytearray(unfinished.read_bytes())
        if damage == "zeros":
            held[-2_000_000:] = bytes(2_000_000)
        elif damage == "flip":
            held[3_000_000] ^= 1
        elif damage == "cut":
            del held[4_321_001:]
        else:
            held = bytearray((tmp_path / "reference" / "model-1.safetensors.zst").read_bytes())
        unfinished.write_bytes(held)
        result = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert contents(output) == contents(tmp_path / "reference"), damage
        shutil.rmtree(output)


def test_an_interruption_keeps_what_is_done(weights, tmp_path):
    command = [TOOLS / "step3-convert", "archive", weights, tmp_path / "output", "--progress", "none"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "output" / "model-0.safetensors.zst.unfinished").exists():
        assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, error = child.communicate()
    assert child.returncode == 130 and "--resume" in error


def test_a_changed_source_is_refused(tools, weights, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(weights, source)
    command = [TOOLS / "step3-convert", "archive", source, tmp_path / "output", "--progress", "none"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "output" / "model-0.safetensors.zst.unfinished").exists():
        assert child.poll() is None
    child.kill()
    child.wait()
    (source / "config.json").write_text("{ }")
    result = tools.run("step3-convert", "archive", source, tmp_path / "output", "--resume")
    assert result.returncode == 64 and "a different job was started" in result.stderr


def test_checks_find_damage(tools, weights, tmp_path):
    tools.json("step3-convert", "archive", weights, tmp_path / "archive")
    assert tools.json("step3-convert", "restore", tmp_path / "archive", "--check")["ok"]
    stored = tmp_path / "archive" / "model-1.safetensors.zst"
    damaged = bytearray(stored.read_bytes())
    damaged[len(damaged) // 2] ^= 16
    stored.write_bytes(damaged)
    result = tools.run("step3-convert", "restore", tmp_path / "archive", "--check")
    assert result.returncode == 1 and "model-1.safetensors" in result.stdout and "of the original" in result.stdout
    assert tools.run("step3-convert", "restore", tmp_path / "archive", tmp_path / "output").returncode == 65
    assert tools.run("step3-convert", "restore", tmp_path / "archive").returncode == 64
    assert tools.run("step3-convert", "restore", weights, "--check").returncode == 66


@pytest.mark.parametrize("options", [["--to", "archive"], ["--to", "gguf", "--quantize", "Q8_0", "--archive"]])
def test_archived_outputs_decode_to_plain_ones(tools, tmp_path, options):
    """An archived output decodes to the plain output, by an independent reader."""
    source = FIXTURES / "checkpoints" / "tiny"
    tools.convert(source, tmp_path / "archive", *options)
    plain = [option for option in options if option != "--archive"]
    plain = [option if option != "archive" else "safetensors" for option in plain]
    tools.convert(source, tmp_path / "plain", *plain)
    packed = list((tmp_path / "archive").glob("*.zst"))
    assert packed and len(packed) == len(list((tmp_path / "plain").glob("*.safetensors")) + list((tmp_path / "plain").glob("*.gguf")))
    for path in packed:
        reader = ArchiveReader(path)
        assert reader.read(0, reader.size) == (tmp_path / "plain" / path.name.removesuffix(".zst")).read_bytes()
    for path in (tmp_path / "plain").iterdir():
        if path.suffix == ".json":
            assert (tmp_path / "archive" / path.name).read_bytes() == path.read_bytes()


def test_one_large_frame_is_converted_in_one_pass(tools, weights, tmp_path):
    """A file compressed by the zstd program with defaults is converted in one pass, with any number of threads."""
    plain, packed = weights / "model-0.safetensors", tmp_path / "model-0.safetensors.zst"
    with open(plain, "rb") as source, open(packed, "wb") as target:
        zstandard.ZstdCompressor(level=1).copy_stream(source, target, size=plain.stat().st_size)
    options = ["--to", "safetensors", "--quantize", "F32", "--threads", "8"]
    tools.convert(plain, tmp_path / "plain", *options)
    tools.convert(packed, tmp_path / "packed", *options)
    name = "model.safetensors"
    assert contents(tmp_path / "packed")[name] == contents(tmp_path / "plain")[name]
