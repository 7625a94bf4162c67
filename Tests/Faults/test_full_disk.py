"""A full file system: what is left does not look finished, and the same command continues when there is space."""

import json
import os
import pathlib
import resource
import signal
import subprocess
import sys

import pytest

import scenarios
from built_tools import TOOLS
from full_disk import digests
from injection import contents

RUNS = {
    "conversion": [scenarios.TINY, "output", *scenarios.GGUF],
    "partition": [scenarios.TINY, "output", *scenarios.PARTITION],
    "to archive": [scenarios.TINY, "output", *scenarios.ARCHIVE],
    "archive": ["archive", scenarios.TINY, "output", *scenarios.TWO],
}


def can_mount():
    return sys.platform == "linux" and os.geteuid() == 0 and subprocess.run(
        ["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="mounting takes root on Linux")
@pytest.mark.parametrize("name", RUNS)
def test_a_disk_filled_to_the_last_page(tools, tmp_path, held, name):
    command = [str(word) for word in RUNS[name]]
    reference = tmp_path / "reference"
    reference.mkdir()
    assert tools.run("step3-convert", *command, cwd=reference).returncode == 0
    expected = digests(reference / "output")
    needed = sum(path.stat().st_size for path in (reference / "output").iterdir() if path.is_file())
    torture = os.environ.get("STEP3_FAULTS") == "all"
    # No space, some of it, and around the last pages: journals, documents, the manifest.
    steps = 64 if torture else 4
    amounts = {needed * step // steps for step in range(steps)} | {0, 4096, 8192, 65536}
    amounts |= {needed + offset * 4096 for offset in range(-4, 60) if torture or offset in (-2, -1, 0, 1, 2, 5)}
    cases = [[amount, command, [*command, "--resume"]] for amount in sorted(amounts) if amount >= 0]
    directory = tmp_path / "disk"
    directory.mkdir()
    result = subprocess.run(
        ["unshare", "-m", sys.executable, str(pathlib.Path(__file__).with_name("full_disk.py")), "64m",
         str(TOOLS / "step3-convert"), str(directory)],
        input=json.dumps(cases), capture_output=True, text=True, check=True, timeout=900)
    failed = 0
    for case in json.loads(result.stdout):
        first, left = case["first"], f"{case['left']} bytes left: {case['first']['errors'][-300:]}"
        assert first["status"] in (0, 74), f"{first['status']}, {left}"
        assert (first["status"] == 0) == (case["between"] == expected), left
        if first["status"] == 74:
            failed += 1
            assert "No space left" in first["errors"] or "are free" in first["errors"], left
            between = case["between"]
            assert not between or any(key.endswith("step3-convert.journal") for key in between), left
            assert "manifest.json" not in between, left
        assert case["second"]["status"] == 0, f"{left}\n{case['second']['errors']}"
        assert case["end"] == expected, left
    assert failed > len(cases) / 3
    held(f"a full file system: {name}", failed, failed, "filled to the page, then freed and resumed")


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("limit", [0, 1 << 16, 1 << 20])
@pytest.mark.parametrize("ignoring", [False, True])
def test_a_file_size_limit_exits_with_74(tools, tmp_path, name, limit, ignoring):
    """`ulimit -f`, with and without the signal that would otherwise end the process."""

    def bound():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN if ignoring else signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [str(TOOLS / "step3-convert"), *map(str, RUNS[name])]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path, preexec_fn=bound)
    reference = tmp_path / "reference"
    reference.mkdir()
    assert tools.run("step3-convert", *command[1:], cwd=reference).returncode == 0
    expected = contents(reference / "output")
    if max(map(len, expected.values())) <= limit and result.returncode == 0:
        assert contents(tmp_path / "output") == expected
        return
    assert result.returncode == 74, result.stderr
    assert "File too large" in result.stderr and "ulimit -f" in result.stderr
    assert not (tmp_path / "output" / "manifest.json").exists()
    assert not (tmp_path / "output" / "archive.json").exists()
    again = tools.run("step3-convert", *command[1:], "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert contents(tmp_path / "output") == expected


@pytest.mark.skipif(not can_mount(), reason="mounting takes root on Linux")
def test_the_old_output_is_not_removed_for_a_refused_conversion(tools, tmp_path):
    """Without space for both, the old output is removed first, but not for a conversion that is going to be refused."""
    directory = tmp_path / "disk"
    directory.mkdir()
    script = f"""
      set -e; mount -t tmpfs -o size=11m none {directory}; cd {directory}
      run() {{ {TOOLS / "step3-convert"} {scenarios.TINY} output --to gguf --progress none "$@"; }}
      run --quantize Q8_0 --allow-nonfinite >/dev/null; cp -r output {tmp_path}/copy
      set +e
      run --quantize Q8_0 --max-shard-size 2MB --overwrite 2>{tmp_path}/said; echo $? >{tmp_path}/status
      diff -r output {tmp_path}/copy >{tmp_path}/difference; echo $? >>{tmp_path}/status
      run --quantize Q8_0 --max-shard-size 2MB --overwrite --allow-nonfinite 2>{tmp_path}/replaced; echo $? >>{tmp_path}/status
    """
    subprocess.run(["unshare", "-m", "sh", "-c", script], check=True, timeout=120)
    said = (tmp_path / "said").read_text()
    assert "--allow-nonfinite" in said and (tmp_path / "status").read_text().split() == ["64", "0", "0"], said
    assert "which is removed first" in (tmp_path / "replaced").read_text()
