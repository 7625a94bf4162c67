"""Sound containers with changed contents, read by every command: documented exit codes, bounded time and memory,
and no output that `checksums` then refuses. `make torture` runs thousands of cases; these are the same few each time."""

import pathlib
import sys

import pytest

FUZZ = pathlib.Path(__file__).resolve().parents[1] / "Fuzz" / "Structured"
sys.path.insert(0, str(FUZZ))

import campaign  # noqa: E402
import containers  # noqa: E402
import mutations  # noqa: E402
from conftest import TOOLS  # noqa: E402



def test_promises_hold(tools):
    broken, commands = campaign.run_campaign(TOOLS, 60, 1000)
    assert broken == []
    assert commands >= 9 * 60


# Found by such cases: planning took 2^33 steps for a tensor of 33 dimensions, and one with a dimension of 2^62 beside one
# of 0 was written and then refused.
@pytest.mark.parametrize("shape", [[1] * 31 + [4, 8], [1] * 70 + [32], [2**62, 0], [0] * 40])
def test_odd_shapes_are_copied_or_refused(tools, tmp_path, shape):
    source, output = tmp_path / "source", tmp_path / "output"
    source.mkdir()
    data = bytes(2 * mutations.product(shape))
    tensors = [{"name": "a.weight", "dtype": "BF16", "shape": shape, "data": data}]
    containers.write_safetensors(source / "model.safetensors", None, tensors)
    listed = tools.json("step3-inspect", "list", source)["tensors"]
    assert [tensor["shape"] for tensor in listed] == [shape]
    result = campaign.run(TOOLS, ["step3-convert", source, output, "--to", "safetensors"])
    assert campaign.broken_promise(*result) is None, result
    if result[0] == 0:
        assert tools.run("step3-verify", "checksums", output, "--require-manifest").returncode == 0
        assert containers.read_safetensors(output / "model.safetensors")[1] == tensors
    else:
        assert result[0] == 65 and b"a.weight" in result[3] and not output.exists()


def test_a_broken_promise_is_reported():
    """Checks the judge itself: each promise is broken once."""
    good = (0, 1.0, 1 << 20, b"all is well\n")
    assert campaign.broken_promise(*good) is None
    for bad in [
        (-4, 1.0, 1 << 20, b"x"),
        (2, 1.0, 1 << 20, b"x"),
        (0, 11.0, 1 << 20, b"x"),
        (0, 1.0, 2 << 30, b"x"),
        (0, 1.0, 1 << 20, b"\x1b[31mred"),
        (65, 1.0, 1 << 20, b" \n"),
    ]:
        assert campaign.broken_promise(*bad) is not None, bad


def test_changes_have_an_effect_and_are_deterministic(tmp_path, tools):
    import random
    import shutil

    bases = tmp_path / "bases"
    bases.mkdir()
    changed = 0
    for base in campaign.make_bases(TOOLS, bases):
        original = {path.relative_to(base): path.read_bytes() for path in base.rglob("*") if path.is_file()}
        for seed in range(4):
            results = []
            for _ in range(2):
                copy = tmp_path / "copy"
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(base, copy)
                target = next(copy.glob("*/*.safetensors")).parent if base.name == "parts" else copy
                mutations.mutate(random.Random(seed), target)
                results.append({path.relative_to(copy): path.read_bytes() for path in copy.rglob("*") if path.is_file()})
            assert results[0] == results[1]
            changed += results[0] != original
    # A value may be exchanged with its equal.
    assert changed >= 20, changed
