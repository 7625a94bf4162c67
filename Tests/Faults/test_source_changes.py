"""The source is truncated, grows, is replaced or is changed while it is read, at every stage from the first header to the end.

The tool is stopped at a call, the source changed, and the tool continued. Detectable changes are refused: another size or another
time of change. A change that size and time do not show (because the time was set back) is seen from the file's status as
long as the file is open, and reported.
"""

import os
import shutil

import pytest

import scenarios
from injection import Fault, contents

OPTIONS = [*scenarios.GGUF, "--sync-every", "1MiB"]
SHARD = "model-00002-of-00004.safetensors"


@pytest.fixture(scope="module")
def reference(tools, tmp_path_factory):
    output = tmp_path_factory.mktemp("reference") / "output"
    tools.convert(scenarios.TINY, output, *OPTIONS)
    return contents(output)


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def cut_by_a_byte(path):
    os.truncate(path, path.stat().st_size - 1)


def grow(path):
    with open(path, "ab") as file:
        file.write(bytes(100))


def change(path):
    """Changes one byte in each thousand of the second half."""
    with open(path, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        for place in range(size // 2, size, 1000):
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1]))


def change_back_in_time(path):
    """The same, of the same size and with the old time of change."""
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def exchange(path):
    """Replaces the file by one of the same name, size and time, as a download does."""
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    change_back_in_time(copy)
    os.replace(copy, path)


CHANGES = [cut, cut_by_a_byte, grow, change, change_back_in_time, exchange]


def stages(injector, tmp_path):
    """Where the tool is stopped: at the reads of this file, and after the last one."""
    source = tmp_path / "counted"
    shutil.copytree(scenarios.TINY, source)
    calls = {}
    trace = injector.trace("step3-convert", source, tmp_path / "counted-output", *OPTIONS)
    for call, path in trace:
        if path.endswith(SHARD) and call in ("open", "pread"):
            calls[call] = calls.get(call, 0) + 1
    reads = [Fault("pread", "stop", number, SHARD) for number in range(calls["pread"])]
    renames = sum(call == "rename" for call, _ in trace)
    return reads, [Fault("rename", "stop", number) for number in (renames // 2, renames - 1)]


@pytest.mark.parametrize("alter", CHANGES, ids=lambda alter: alter.__name__)
def test_a_changing_source_is_refused_or_reported(tools, injector, reference, tmp_path, held, alter):
    reads, late = stages(injector, tmp_path)
    assert len(reads) > 10
    torture = os.environ.get("STEP3_FAULTS") == "all"
    step = 1 if torture else max(1, len(reads) // 4)
    tried = seen = 0
    for number, fault in enumerate(reads[::step] + late):
        source, output = tmp_path / f"source{number}", tmp_path / f"output{number}"
        shutil.copytree(scenarios.TINY, source)
        outcome = injector.pausing(
            fault, lambda source=source: alter(source / SHARD), "step3-convert", source, output, *OPTIONS)
        place = f"{alter.__name__} before {fault}: {outcome.status} {outcome.errors[-400:]}"
        assert outcome.hit, place
        tried += 1
        warned = "while it was read" in outcome.errors
        if fault in late:
            # Everything had been read before the change.
            assert outcome.status in (0, 65), place
        elif alter in (cut, cut_by_a_byte, grow, change):
            assert outcome.status == 65 and SHARD in outcome.errors, place
        elif alter is change_back_in_time:
            # The size and the time are unchanged; the status is not.
            assert outcome.status == 65 or warned, place
        else:
            # The opened file is read to its end, whatever has its name now.
            assert outcome.status in (0, 65), place
            assert outcome.status == 65 or contents(output) == reference, place
        if outcome.status == 0:
            assert warned or contents(output) == reference, place
        else:
            assert not (output / "manifest.json").exists(), place
            check = tools.run("step3-verify", "checksums", output)
            assert check.returncode == 65, place
        seen += 1
        # With the old source restored the same command continues, or finds that part of the output was made from other bytes.
        shutil.rmtree(source)
        shutil.copytree(scenarios.TINY, source)
        if outcome.status != 0:
            again = tools.run("step3-convert", source, output, *OPTIONS, "--resume")
            if again.returncode == 65 and alter in (change, change_back_in_time):
                assert "start afresh with --overwrite" in again.stderr, place
                again = tools.run("step3-convert", source, output, *OPTIONS, "--overwrite")
            assert again.returncode == 0, f"{place}\nafterwards: {again.returncode} {again.stderr}"
            assert contents(output) == reference, place
        shutil.rmtree(source)
        shutil.rmtree(output)
    held(f"the source, while it is read: {alter.__name__.replace('_', ' ')}", tried, seen, "before reads from first to last, and after")
