"""step3-inspect's distributions, against NumPy, and its Markdown, read by another parser."""

import json
import subprocess

import ml_dtypes
import numpy
import pytest
from markdown_it import MarkdownIt
from safetensors.numpy import save_file

from conftest import ROOT, TOOLS, require_tools

PERCENTILES = {"percentiles": [0.1, 1, 50, 99, 99.9], "magnitudePercentiles": [50, 90, 99, 99.9, 99.99]}


def inspect(*arguments, status=0):
    require_tools()
    result = subprocess.run(
        [TOOLS / "step3-inspect", *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == status, result.stderr
    return result.stdout


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float8_e4m3fn", "int8", "int32", "float64", "uint8"])
@pytest.mark.parametrize("count", [1, 1000, 1_234_567])
def test_percentiles_are_those_of_numpy(tmp_path, random, dtype, count):
    values = random.standard_t(3, count) * (20 if "int" in dtype else 0.05)
    type_ = getattr(ml_dtypes, dtype, None) or numpy.dtype(dtype)
    stored = (numpy.abs(values) if dtype == "uint8" else values).clip(-120, 120).astype(type_)
    save_file({"w": stored}, tmp_path / "w.safetensors")
    tensor = json.loads(inspect("stats", tmp_path / "w.safetensors", "--percentiles", "--json"))["tensors"][0]
    distribution = tensor["distribution"]
    exact = stored.astype(numpy.float64)
    error = distribution["relativeError"]
    assert error == (0 if count == 1 and error == 0 or dtype in ("bfloat16", "float8_e4m3fn", "int8", "uint8", "int32") else 2**-8)
    for key, percents in PERCENTILES.items():
        data = exact if key == "percentiles" else numpy.abs(exact)
        assert list(distribution[key]) == [f"p{percent}" for percent in percents]
        for percent in percents:
            # The nearest rank, as in inverted_cdf, which computes 99.9 % of 1000 as slightly more than 999.
            rank = -(-round(percent * 1000) * count // 100_000)
            expected = numpy.partition(data, rank - 1)[rank - 1]
            assert abs(distribution[key][f"p{percent}"] - expected) <= abs(expected) * error
    counts = distribution["histogram"]["counts"]
    assert len(counts) == 64 and sum(counts) == count
    low, high = distribution["histogram"]["minimum"], distribution["histogram"]["maximum"]
    assert (low, high) == (exact.min(), exact.max())
    # Within what a bin of 2⁻⁷ of its value moves from one column to the next: cumulated, a quarter of a column at the most.
    if count > 100_000 and dtype.startswith("float") and high > low:
        edges = numpy.linspace(low, high, 65)
        reference = numpy.cumsum(numpy.histogram(exact, edges)[0])
        spread = numpy.abs(edges[1:]) * 2**-7
        lower = numpy.searchsorted(numpy.sort(exact), edges[1:] - spread)
        upper = numpy.searchsorted(numpy.sort(exact), edges[1:] + spread, side="right")
        found = numpy.cumsum(counts)
        assert ((lower - 1 <= found) & (found <= upper + 1)).all(), numpy.abs(found - reference).max()


HOSTILE = [
    "plain.name_with_underscores", "a|b", "a\\|b", "`code`", "``", "<img src=x onerror=alert(1)>", "[x](http://y)", "**b**",
    "www.example.org", "https://example.org", "@someone", "#1", "a  b", " lead", "trail ", "~~x~~", "&amp;", "\\", "|", "-", "é.ü", "x`|`y",
    "$x$", ":smile:", "<!--", "| --- |",
]


def test_hostile_names_stay_text_in_markdown(tmp_path):
    save_file({name: numpy.zeros(2, "float32") for name in HOSTILE}, tmp_path / "w.safetensors")
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    for command in (["list"], ["list", "--fold"], ["stats"], ["stats", "--percentiles"]):
        text = inspect(command[0], tmp_path / "w.safetensors", "--markdown", *command[1:])
        shown = set()
        columns = set()
        row = None
        for token in parser.parse(text):
            if token.type == "tr_open":
                row = 0
            elif token.type == "tr_close":
                columns.add(row)
            elif token.type == "inline" and row is not None:
                row += 1
                shown.add(rendered(token.children))
        missing = [name for name in HOSTILE if name not in shown]
        assert not missing, (command, missing)
    # In a directory, the other files that name tensors.
    save_file({"x": numpy.zeros(2, "float32")}, tmp_path / "b.safetensors")
    text = inspect("diff", tmp_path / "w.safetensors", tmp_path / "b.safetensors", "--markdown", status=1)
    items = {rendered(token.children) for token in parser.parse(text) if token.type == "inline"}
    assert set(HOSTILE) <= items


def rendered(children):
    """The text that a reader sees; anything but text, code and the one tag that the tool writes is a fault."""
    text = ""
    for child in children:
        if child.type == "html_inline":
            assert child.content in ("<code>", "</code>"), child.content
        else:
            assert child.type in ("text", "code_inline", "text_special", "strong_open", "strong_close", "softbreak"), child
            text += child.content
    return text
