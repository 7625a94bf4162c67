"""One system call fails, a different one each time: what is left is complete or marked unfinished."""

import errno
import os
import shutil
import subprocess

import pytest

from built_tools import FIXTURES, TOOLS
from injection import Fault, contents

TINY = FIXTURES / "checkpoints" / "tiny"
CONVERSION = ["--to", "gguf", "--quantize", "Q8_0", "--max-shard-size", "2MB", "--threads", "2"]


@pytest.fixture(scope="module")
def reference(tools, tmp_path_factory):
    output = tmp_path_factory.mktemp("reference") / "output"
    tools.convert(TINY, output, *CONVERSION)
    return contents(output)


@pytest.mark.parametrize("call", ["fsync", "pwrite", "rename"])
def test_a_failed_write_is_never_taken_for_a_success(tools, injector, reference, tmp_path, call):
    """Even where a second attempt would report success, as fsync does on Linux."""
    # There are many writes; test_matrix.py tries them in other runs as well.
    for number in range(0, 200, 7 if call == "pwrite" else 1):
        output = tmp_path / str(number)
        # Files of the output have distinctive names; a directory's path ends in the output's.
        place = output if call == "fsync" else ""
        result = injector.run(Fault(call, errno.EIO, number, str(place)), "step3-convert", TINY, output, *CONVERSION)
        if not result.hit:
            assert result.status == 0 and number > 3
            return
        assert result.status == 74, f"{call} {number}: {result.errors}"
        # An output that looks complete is complete.
        if (output / "manifest.json").exists():
            assert tools.run("step3-verify", "checksums", output).returncode == 0, f"{call} {number}"
        resumed = tools.run("step3-convert", TINY, output, *CONVERSION, "--resume")
        assert resumed.returncode == 0, f"{call} {number}: {resumed.stderr}"
        assert contents(output) == reference, f"{call} {number}"
        shutil.rmtree(output)
    pytest.fail(f"{call} is called without end")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["mkdir", "create"])
def test_a_full_disk_exits_with_74(injector, tmp_path, call, code):
    """Exits with 74 wherever it occurs, not with 73, which means that something is in the way."""
    arguments = ["--to", "safetensors", "--quantize", "BF16", "--partition", "afd", "--ffn-ep", "2"]
    for number in range(100):
        output = tmp_path / str(number)
        # Journals are created relative to the directory, by name.
        result = injector.run(Fault(call, code, number), "step3-convert", TINY, output, *arguments)
        if not result.hit:
            assert result.status == 0 and number > 2
            return
        assert result.status == 74, f"{call} {number}: {result.errors}"
        assert os.strerror(code) in result.errors and "free some space" in result.errors
        shutil.rmtree(output, ignore_errors=True)
    pytest.fail(f"{call} is called without end")


@pytest.mark.parametrize("call", ["open", "pread", "opendir", "readdir"])
def test_a_device_error_is_not_a_difference(tools, injector, tmp_path, call):
    """checksums reports neither unreadable files as changed nor an unreadable manifest as missing."""
    output = tmp_path / "output"
    tools.convert(TINY, output, *CONVERSION)
    for number in range(200):
        result = injector.run(Fault(call, errno.EIO, number, str(output)), "step3-verify", "checksums", output)
        if not result.hit:
            assert result.status == 0 and number > 0
            return
        assert result.status == 74, f"{call} {number}: {result.output}{result.errors}"
        assert os.strerror(errno.EIO) in result.output + result.errors
    pytest.fail(f"{call} is called without end")


def test_overwrite_checks_before_removing(tools, reference, tmp_path):
    """A list of digests that does not match, or too small a disk, leaves the old output as it was."""
    output = tmp_path / "output"
    tools.convert(TINY, output, *CONVERSION)
    expected = tmp_path / "SHA256SUMS"
    for text, code in [("0" * 64 + "  model-99999.safetensors\n", 66), ("no list\n", 65)]:
        expected.write_text(text)
        for options in [["--overwrite"], ["--overwrite", "--quantize", "Q4_K"]]:
            result = tools.run("step3-convert", TINY, output, *CONVERSION, *options, "--expect-sha256", expected)
            assert result.returncode == code, result.stderr
            assert contents(output) == reference


def test_resuming_a_complete_output_checks_it(tools, reference, tmp_path):
    output = tmp_path / "output"
    tools.convert(TINY, output, *CONVERSION)
    again = ["step3-convert", TINY, output, *CONVERSION, "--resume"]
    assert "already complete and intact" in tools.run(*again).stdout
    weights = max(output.glob("*.gguf"), key=lambda path: path.stat().st_size)
    whole = weights.read_bytes()
    for spoilt in [None, whole[:-1], whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2)]:
        weights.unlink()
        if spoilt is not None:
            weights.write_bytes(spoilt)
        result = tools.run(*again)
        assert result.returncode in (65, 73) and weights.name in result.stderr
        weights.write_bytes(whole)
    assert contents(output) == reference


def test_a_trailing_slash_after_the_output(tools, reference, tmp_path):
    tools.convert(TINY, f"{tmp_path}/output/", *CONVERSION)
    assert contents(tmp_path / "output") == reference


def test_a_name_that_is_not_utf8_is_refused(tools, tmp_path):
    """Names must be UTF-8; others are refused as such, not as missing files."""
    name = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(name)
    for tool in [["step3-inspect", "list"], ["step3-convert", "plan"], ["step3-verify", "checksums"]]:
        result = subprocess.run([TOOLS / tool[0], tool[1], name], capture_output=True, check=False, timeout=60)
        assert result.returncode == 64 and b"UTF-8" in result.stderr
