"""Size budgets instead of formats: whether they are kept, their benefit on a trained model, and the recipe they write."""

import json
import re
import signal
import subprocess
import time

import gguf
import pytest

from conftest import FIXTURES, TOOLS

TRAINED = FIXTURES / "checkpoints" / "trained"
TINY = FIXTURES / "checkpoints" / "tiny"
HELD_OUT = TRAINED / "text" / "heldout_tokens.safetensors"


@pytest.fixture(scope="module")
def matrix(tools, tmp_path_factory):
    file = tmp_path_factory.mktemp("matrix") / "trained.imatrix.gguf"
    tools.json(
        "step3-convert", "calibrate", TRAINED, file, "--tokens-file", TRAINED / "text" / "calibration_tokens.safetensors")
    return file


def size(folder):
    return sum(file.stat().st_size for file in folder.glob("*.gguf"))


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "manifest.json"}


def types(folder):
    """Types by name, from another GGUF reader."""
    return {t.name: t.tensor_type.name for t in gguf.GGUFReader(folder / "model.gguf").tensors}


@pytest.mark.parametrize("mixture", ["Q4_K_M", "Q3_K_M"])
@pytest.mark.parametrize("importance", [False, True])
def test_a_budget_loses_less_than_a_mixture_of_the_same_size(tools, tmp_path, matrix, mixture, importance):
    options = ("--to", "gguf", *(("--imatrix", matrix) if importance else ()))
    tools.convert(TRAINED, tmp_path / "fixed", *options, "--quantize", mixture)
    target = size(tmp_path / "fixed")
    summary = tools.convert(TRAINED, tmp_path / "budget", *options, "--target-size", target)
    assert 0 <= target - size(tmp_path / "budget") < 20_000
    report = tools.json(
        "step3-verify", "logits", tmp_path / "budget", "--compare", tmp_path / "fixed", "--reference", TRAINED,
        "--tokens-file", HELD_OUT)
    ours, theirs = report["kl"]["mean"], report["compared"]["kl"]["mean"]
    assert ours < 0.8 * theirs
    assert report["compared"]["klDifference"]["value"] > 5 * report["compared"]["klDifference"]["standardError"]
    # The estimate is close to the measurement.
    assert 0.5 < summary["budget"]["estimatedKL"] / ours < 2


def test_the_written_recipe_gives_the_same_bytes(tools, tmp_path, matrix):
    recipe = tmp_path / "mine.yaml"
    options = ("--to", "gguf", "--imatrix", matrix)
    tools.convert(
        TRAINED, tmp_path / "a", *options, "--target-bpw", 4.3, "--tensor-type", r"attn_v=Q8_0", "--write-recipe", recipe)
    tools.convert(TRAINED, tmp_path / "b", *options, "--quantize", recipe)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert {kind for name, kind in types(tmp_path / "a").items() if "attn_v" in name} == {"Q8_0"}
    assert len(set(types(tmp_path / "a").values())) > 3
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["plan"]["request"]["budget"]["recipe"] == recipe.read_text()
    # The plan is the same for any number of threads, and a stored one is run like any other.
    recipe.unlink()
    plans = [
        tools.json(
            "step3-convert", "plan", TRAINED, *options, "--target-bpw", 4.3, "--tensor-type", "attn_v=Q8_0", "--threads", n,
            "--output", tmp_path / f"{n}.json")
        for n in (1, 3)
    ]
    assert plans[0] == plans[1] and plans[0]["request"]["budget"] == manifest["plan"]["request"]["budget"]
    tools.json("step3-convert", "run", tmp_path / "1.json", tmp_path / "c")
    assert files(tmp_path / "c") == files(tmp_path / "a")
    assert (tmp_path / "c" / "manifest.json").read_bytes() == (tmp_path / "a" / "manifest.json").read_bytes()


def test_the_plan_explains_the_choice(tools, tmp_path):
    command = ("step3-convert", "plan", TRAINED, "--to", "gguf", "--target-size", "5.5MB")
    budget = tools.json(*command)["request"]["budget"]
    assert budget["target"] == {"bytes": {"_0": 5_500_000}}
    assert budget["bytes"] <= 5_500_000 and budget["sampledRows"] > 1000
    assert sum(choice["estimatedKL"] for choice in budget["choices"]) == pytest.approx(budget["estimatedKL"])
    assert budget["fixed"] and all(entry["estimatedKL"] > budget["estimatedKL"] for entry in budget["fixed"])
    text = tools.run(*command).stdout
    for part in ("Size budget: 5.50 MB", "estimated KL divergence", "Lagrange multiplier", "blk.*.ffn_down_exps.weight", "Q4_K_S"):
        assert part in text
    assert "sampling" in tools.run(*command, "--progress", "json").stderr


def test_other_sources_are_measured_too(tools, tmp_path):
    """Block-FP8 and block-quantised GGUF, which are lossless where they are kept."""
    tools.convert(FIXTURES / "checkpoints" / "tiny-fp8", tmp_path / "fp8", "--to", "gguf", "--target-bpw", 5)
    assert size(tmp_path / "fp8") > 0
    tools.convert(TINY, tmp_path / "q6", "--to", "gguf", "--quantize", "Q6_K")
    before = types(tmp_path / "q6")
    tools.convert(tmp_path / "q6", tmp_path / "less", "--to", "gguf", "--target-bpw", 5.5)
    kept = [name for name, kind in types(tmp_path / "less").items() if kind == before[name] == "Q6_K"]
    readers = [gguf.GGUFReader(tmp_path / folder / "model.gguf") for folder in ("q6", "less")]
    a, b = ({t.name: t.data.tobytes() for t in reader.tensors} for reader in readers)
    assert kept and all(a[name] == b[name] for name in kept)


def test_resuming_does_not_choose_again(tools, tmp_path):
    options = ("--to", "gguf", "--target-size", "6MB", "--progress", "json")
    tools.json("step3-convert", TRAINED, tmp_path / "whole", *options)
    # Ended by a file-size limit in the middle of the output.
    command = [str(TOOLS / "step3-convert"), str(TRAINED), str(tmp_path / "out"), *options]
    limited = subprocess.run(
        ["bash", "-c", 'ulimit -f 3000; exec "$@"', "bash", *command], capture_output=True, text=True, check=False)
    assert limited.returncode == 74 and "sampling" in limited.stderr and (tmp_path / "out").exists()
    other = tools.run(*command[:1], *command[1:3], "--to", "gguf", "--target-size", "5MB", "--resume")
    assert other.returncode == 64 and "budget" in other.stderr
    result = tools.run("step3-convert", *command[1:], "--resume")
    assert result.returncode == 0, result.stderr
    assert "sampling" not in result.stderr and "converting" in result.stderr
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    again = tools.run("step3-convert", *command[1:], "--resume")
    assert again.returncode == 0 and "sampling" not in again.stderr and "was already complete" in again.stdout


def test_impossible_budgets_are_refused(tools, tmp_path):
    taken = tmp_path / "taken.yaml"
    taken.write_text("x")
    plan = ("step3-convert", "plan", TRAINED)
    for arguments, code, says in [
        (("--to", "gguf", "--target-size", "1MB"), 64, r"range from \d+ bytes to \d+ bytes"),
        (("--to", "gguf", "--target-size", "1TB"), 64, r"range from \d+ bytes to \d+ bytes"),
        (("--to", "gguf", "--target-bpw", "1.5"), 64, "range from"),
        (("--to", "gguf", "--max-kl", "1e-9"), 64, "range from"),
        (("--to", "gguf", "--target-bpw=-1"), 64, "more than 0"),
        (("--to", "gguf", "--target-bpw", "nan"), 64, "more than 0"),
        (("--to", "gguf", "--target-size", "5MB", "--target-bpw", "4"), 64, "are mutually exclusive"),
        (("--to", "safetensors", "--target-bpw", "4"), 64, "--to gguf"),
        (("--to", "gguf", "--target-bpw", "4", "--partition", "afd"), 64, "partition"),
        (("--to", "gguf", "--candidates", "Q4_K"), 64, "--target-size"),
        (("--to", "gguf", "--target-bpw", "4", "--candidates", "Q4_K,W4A16"), 64, "W4A16"),
        (("--to", "gguf", "--target-bpw", "4", "--candidates", "IQ2_XXS"), 64, "nothing to choose"),
        (("--to", "gguf", "--target-bpw", "4", "--quantize", "BF16"), 64, "nothing to choose"),
        (("--to", "gguf", "--target-bpw", "4", "--write-recipe", taken), 73, "already exists"),
        (("--to", "gguf", "--target-bpw", "4", "--tensor-type", "nothing=Q8_0"), 64, "decide no tensor"),
    ]:
        result = tools.run(*plan, *arguments)
        assert result.returncode == code, (arguments, result.stderr)
        assert re.search(says, result.stderr), (arguments, result.stderr)
    assert taken.read_text() == "x"


def test_it_can_be_interrupted_while_it_samples(tools, tmp_path):
    command = [TOOLS / "step3-convert", TRAINED, tmp_path / "out", "--to", "gguf", "--target-bpw", "4.5", "--threads", "1"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.15)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) in (0, 130, -signal.SIGINT)
    tools.convert(TRAINED, tmp_path / "out", "--to", "gguf", "--target-bpw", "4.5", "--resume")
