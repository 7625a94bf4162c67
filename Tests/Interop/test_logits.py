"""Logits as other programs write and read them: our dumps with the safetensors package, our checks of what NumPy wrote."""

import json

import numpy
import pytest
from safetensors.numpy import load_file, save_file

from conftest import FIXTURES

TINY = FIXTURES / "checkpoints" / "tiny"
TEXT = TINY / "reference" / "text_064.safetensors"


@pytest.mark.parametrize("name", ["tiny", "odd"])
def test_a_dump_is_what_the_published_code_computes(tools, tmp_path, name):
    checkpoint = FIXTURES / "checkpoints" / name
    reference = load_file(checkpoint / "reference" / "text_064.safetensors")
    dump = tmp_path / "dump.safetensors"
    tools.json(
        "step3-verify", "run", checkpoint, "--tokens-file", checkpoint / "reference" / "text_064.safetensors",
        "--dump", dump, "--hidden-states",
    )
    ours = load_file(dump)
    assert ours["input_ids"].dtype == numpy.int64 and ours["logits"].dtype == numpy.float32
    assert numpy.array_equal(ours["input_ids"], reference["input_ids"])
    assert numpy.abs(ours["logits"] - reference["logits"]).max() < 2e-4
    layers = sum(key.startswith("hidden.") for key in reference) - 2
    names = ["hidden.embed", *(f"hidden.{layer}" for layer in range(layers)), "hidden.norm"]
    assert {key for key in ours if key.startswith("hidden")} == {f"hidden_states.{n}" for n in range(len(names))}
    for number, key in enumerate(names):
        assert numpy.abs(ours[f"hidden_states.{number}"] - reference[key]).max() < 2e-4


@pytest.mark.parametrize("dtype", [numpy.float16, numpy.float32, numpy.float64])
@pytest.mark.parametrize("batch", [False, True])
def test_what_numpy_wrote_is_accepted(tools, tmp_path, dtype, batch):
    reference = load_file(TEXT)
    logits = reference["logits"].astype(dtype)
    file = tmp_path / "logits.npy"
    numpy.save(file, logits[None] if batch else logits)
    tokens = ",".join(map(str, reference["input_ids"]))
    limit = "5e-3" if dtype == numpy.float16 else "2e-4"
    report = tools.json(
        "step3-verify", "logits", TINY, "--reference", file, "--tokens", tokens, "--max-abs", limit, "--max-kl", "1e-5",
    )
    assert report["ok"] and report["tokens"] == 64


def test_the_measures_are_those_of_numpy(tools, tmp_path, random):
    reference = load_file(TEXT)
    ids = reference["input_ids"].astype(numpy.int64)
    expected = (reference["logits"] + random.normal(0, 0.3, reference["logits"].shape)).astype(numpy.float32)
    file, dump = tmp_path / "logits.safetensors", tmp_path / "dump.safetensors"
    save_file({"input_ids": ids, "logits": expected}, file)
    report = tools.json("step3-verify", "logits", TINY, "--reference", file, "--dump", dump)
    ours = load_file(dump)["logits"].astype(numpy.float64)

    def log_softmax(x):
        x = x - x.max(axis=1, keepdims=True)
        return x - numpy.log(numpy.exp(x).sum(axis=1, keepdims=True))

    p, q = log_softmax(expected.astype(numpy.float64)), log_softmax(ours)
    kl = (numpy.exp(p) * (p - q)).sum(axis=1)
    for key, value in {
        "mean": kl.mean(), "median": numpy.median(kl), "p99": numpy.quantile(kl, 0.99), "max": kl.max(),
    }.items():
        assert report["kl"][key] == pytest.approx(value, rel=1e-9)
    assert report["maxAbsError"] == pytest.approx(numpy.abs(expected - ours).max(), rel=1e-9)
    assert report["meanAbsError"] == pytest.approx(numpy.abs(expected - ours).mean(), rel=1e-9)
    assert report["top1Agreement"] == pytest.approx((p.argmax(1) == q.argmax(1)).mean())
    top = [set(row[:5]) for row in numpy.argsort(-p, axis=1)], [set(row[:5]) for row in numpy.argsort(-q, axis=1)]
    assert report["top5Overlap"] == pytest.approx(numpy.mean([len(a & b) / 5 for a, b in zip(*top)]))
    rows = numpy.arange(len(ids) - 1)
    for side, values in {"reference": p, "candidate": q}.items():
        assert report["perplexity"][side] == pytest.approx(numpy.exp(-values[rows, ids[1:]].mean()), rel=1e-9)


def test_a_broken_limit_is_exit_code_1(tools, tmp_path):
    logits = load_file(TEXT)
    logits["logits"][3, 7] += 1
    file = tmp_path / "logits.safetensors"
    save_file({key: logits[key] for key in ("input_ids", "logits")}, file)
    result = tools.run("step3-verify", "logits", TINY, "--reference", file, "--max-abs", "0.5", "--json")
    assert result.returncode == 1
    report = json.loads(result.stdout)
    assert not report["ok"] and report["maxAbsError"] == pytest.approx(1, abs=1e-3)
    assert [check["ok"] for check in report["checks"]] == [False]
