"""Logits files and other programs: dumps read with the safetensors package, and NumPy's files checked by the tools."""

import json

import numpy
import pytest
from safetensors.numpy import load_file, save_file

from conftest import FIXTURES

TINY = FIXTURES / "checkpoints" / "tiny"
TEXT = TINY / "reference" / "text_064.safetensors"


@pytest.mark.parametrize("name", ["tiny", "odd"])
def test_a_dump_matches_the_published_code(tools, tmp_path, name):
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
def test_files_written_by_numpy_are_accepted(tools, tmp_path, dtype, batch):
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


def cluster_error(values, lengths):
    """The standard error of a mean over sequences of these lengths."""
    mean, at, squares = values.mean(), 0, 0.0
    for length in lengths:
        squares += (values[at : at + length] - mean).sum() ** 2
        at += length
    return (len(lengths) / (len(lengths) - 1) * squares) ** 0.5 / len(values)


@pytest.mark.parametrize("lengths", [[64], [20, 7, 37], [1, 1, 40, 22]])
def test_errors_and_comparisons_are_those_of_numpy(tools, tmp_path, random, lengths):
    """Two candidates in one pass: one file of logits, two models."""
    ids = load_file(TEXT)["input_ids"].astype(numpy.int64)
    prompts = [part.tolist() for part in numpy.split(ids, numpy.cumsum(lengths)[:-1])]
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps(prompts))
    other = tmp_path / "other"
    tools.convert(TINY, other, "--to", "gguf", "--quantize", "Q4_0")
    dumps = []
    for name, checkpoint in [("a", TINY), ("b", other)]:
        tools.json("step3-verify", "run", checkpoint, "--tokens-file", tokens, "--dump", tmp_path / name)
        dumps.append(load_file(tmp_path / name)["logits"].astype(numpy.float64))
    expected = (dumps[0] + random.normal(0, 0.3, dumps[0].shape)).astype(numpy.float32)
    file = tmp_path / "logits.safetensors"
    save_file({"input_ids": ids, "logits": expected}, file)
    report = tools.json("step3-verify", "logits", TINY, "--compare", other, "--reference", file, "--tokens-file", tokens)

    def log_softmax(x):
        x = x - x.max(axis=1, keepdims=True)
        return x - numpy.log(numpy.exp(x).sum(axis=1, keepdims=True))

    p, *both = (log_softmax(x) for x in (expected.astype(numpy.float64), *dumps))
    kl = [(numpy.exp(p) * (p - q)).sum(axis=1) for q in both]
    clusters = lengths if len(lengths) > 1 else None
    if clusters is None:
        # A single stretch of 64 tokens has no standard error.
        assert report["kl"].get("standardError") is None
        assert report["compared"]["klDifference"]["value"] == pytest.approx(kl[1].mean() - kl[0].mean(), rel=1e-9)
        return
    assert report["kl"]["standardError"] == pytest.approx(cluster_error(kl[0], lengths), rel=1e-9)
    second = report["compared"]
    assert second["kl"]["mean"] == pytest.approx(kl[1].mean(), rel=1e-9)
    assert second["kl"]["standardError"] == pytest.approx(cluster_error(kl[1], lengths), rel=1e-9)
    assert second["klDifference"]["value"] == pytest.approx(kl[1].mean() - kl[0].mean(), rel=1e-9)
    assert second["klDifference"]["standardError"] == pytest.approx(cluster_error(kl[1] - kl[0], lengths), rel=1e-9)
    # Losses exist for tokens with a next token, so sequences are shorter by one.
    last = set(numpy.cumsum(lengths) - 1)
    rows = numpy.array([row for row in range(len(ids)) if row not in last])
    losses = [-q[rows, ids[rows + 1]] for q in (p, *both)]
    inner = [length - 1 for length in lengths if length > 1]

    def difference(a, b):
        one, two = numpy.exp(a.mean()), numpy.exp(b.mean())
        return two - one, cluster_error(two * (b - b.mean()) - one * (a - a.mean()), inner)

    for estimate, (a, b) in [
        (report["perplexity"]["difference"], losses[:2]), (second["perplexity"]["difference"], losses[::2]),
        (second["perplexityDifference"], losses[1:]),
    ]:
        value, error = difference(a, b)
        assert estimate["value"] == pytest.approx(value, rel=1e-8)
        assert estimate["standardError"] == pytest.approx(error, rel=1e-8)


def test_a_difference_between_candidates_is_significant_or_not(tools, tmp_path):
    trained = FIXTURES / "checkpoints" / "trained"
    held = load_file(trained / "text" / "heldout_tokens.safetensors")["input_ids"][:12]
    tokens = tmp_path / "tokens.safetensors"
    save_file({"input_ids": numpy.ascontiguousarray(held)}, tokens)
    for recipe in ("Q4_0", "Q5_0"):
        tools.convert(trained, tmp_path / recipe, "--to", "gguf", "--quantize", recipe)
    arguments = ("--reference", trained, "--tokens-file", tokens)
    both = tools.json("step3-verify", "logits", tmp_path / "Q4_0", "--compare", tmp_path / "Q5_0", *arguments)
    alone = tools.json("step3-verify", "logits", tmp_path / "Q5_0", *arguments)
    assert both["compared"]["kl"] == alone["kl"] and both["compared"]["perplexity"] == alone["perplexity"]
    assert both["compared"]["klDifference"]["value"] < -3 * both["compared"]["klDifference"]["standardError"]
    text = tools.run("step3-verify", "logits", tmp_path / "Q4_0", "--compare", tmp_path / "Q5_0", *arguments).stdout
    assert "the second candidate" in text and "is closer" in text
    same = tools.run("step3-verify", "logits", tmp_path / "Q5_0", "--compare", tmp_path / "Q5_0", *arguments).stdout
    assert "cannot be told apart" in same


def test_a_broken_limit_exits_with_1(tools, tmp_path):
    logits = load_file(TEXT)
    logits["logits"][3, 7] += 1
    file = tmp_path / "logits.safetensors"
    save_file({key: logits[key] for key in ("input_ids", "logits")}, file)
    result = tools.run("step3-verify", "logits", TINY, "--reference", file, "--max-abs", "0.5", "--json")
    assert result.returncode == 1
    report = json.loads(result.stdout)
    assert not report["ok"] and report["maxAbsError"] == pytest.approx(1, abs=1e-3)
    assert [check["ok"] for check in report["checks"]] == [False]
