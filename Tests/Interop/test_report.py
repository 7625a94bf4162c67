"""step3-inspect report, in a real browser: the script runs, names stay text, nothing is loaded."""

import html
import json
import re
import shutil
import subprocess
import urllib.parse

import numpy
import pytest
from safetensors.numpy import save_file

from built_tools import FIXTURES, ROOT

TRAINED = FIXTURES / "checkpoints" / "trained"
BROWSER = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")


def run(tool, *arguments):
    return subprocess.run(
        [ROOT / ".build/release" / tool, *map(str, arguments)], capture_output=True, text=True)


def report(path, output, *options):
    done = run("step3-inspect", "report", path, "--output", output, *options)
    assert done.returncode == 0, done.stderr
    return output.read_text()


def opened(page, fragment=""):
    """The page as it is when its script has run."""
    address = page.as_uri() + ("#" + urllib.parse.quote(fragment) if fragment else "")
    done = subprocess.run(
        [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000",
         "--enable-logging=stderr", f"--user-data-dir={page.parent / 'profile'}", "--dump-dom", address],
        capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    messages = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, messages


def data(text):
    return json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', text, re.S).group(1))


def rows(dom):
    body = re.search(r'<tbody id="tensors">(.*?)</tbody>', dom, re.S).group(1)
    return [html.unescape(name) for name in re.findall(r'<td class="name">(.*?)</td>', body, re.S)]


@pytest.fixture(scope="module")
def converted(tools, tmp_path_factory):
    output = tmp_path_factory.mktemp("report") / "q4"
    done = run("step3-convert", TRAINED, output, "--to", "gguf", "--quantize", "Q4_K_M")
    assert done.returncode == 0, done.stderr
    return output


def test_it_loads_nothing(converted, tmp_path):
    text = report(converted, tmp_path / "report.html", "--manifest")
    addresses = set(re.findall(r"https?://[^\s\"'<]*", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    assert not re.search(r"\s(src|href|style|on\w+)\s*=", markup)
    assert "default-src 'none'" in text


def test_figures_match_the_other_commands(converted, tmp_path):
    page = data(report(converted, tmp_path / "report.html", "--against", TRAINED))
    listed = json.loads(run("step3-inspect", "stats", converted, "--json").stdout)["tensors"]
    assert [tensor[0] for tensor in page["tensors"]] == [tensor["name"] for tensor in listed]
    for mine, theirs in zip(page["tensors"], listed):
        assert mine[3] == theirs["bytes"]
        assert mine[8]["rms"] == pytest.approx(theirs["rms"], rel=1e-3)
        counts = mine[8].get("counts")
        assert counts is None or sum(counts) == numpy.prod(theirs["shape"])
    compared = json.loads(run("step3-verify", "tensors", converted, "--source", TRAINED, "--json").stdout)
    errors = {tensor["name"]: tensor for tensor in compared["tensors"]}
    layers, *experts = page["grids"]
    seen = 0
    for row, values in zip(layers["rows"], layers["values"]):
        for column, value in zip(layers["columns"], values):
            if value is None:
                continue
            assert value == pytest.approx(errors[f"model.layers.{column}.{row}.weight"]["relativeRMSE"], rel=1e-3)
            seen += 1
    assert seen > 40
    assert len(experts) == 3
    for grid, name in zip(experts, ["gate_proj", "up_proj", "down_proj"]):
        for expert, values in zip(grid["rows"], grid["values"]):
            for column, value in zip(grid["columns"], values):
                single = {
                    matrix["matrix"]: matrix["relativeRMSE"]
                    for matrix in errors[f"model.layers.{column}.moe.{name}.weight"]["matrices"]}
                assert value == pytest.approx(single[int(expert)], rel=1e-3)


@needs_browser
def test_the_script_runs(converted, tmp_path):
    output = tmp_path / "report.html"
    report(converted, output, "--against", TRAINED)
    dom, messages = opened(output)
    assert messages == []
    assert len(rows(dom)) == 91
    dom, _ = opened(output, "filter=ffn_up exps")
    assert rows(dom) == [f"blk.{layer}.ffn_up_exps.weight" for layer in (1, 2, 3)]
    dom, _ = opened(output, "tensor=blk.1.ffn_up_exps.weight")
    details = re.search(r'<div id="details">(.*?)</table>', dom, re.S).group(1)
    assert "blk.1.ffn_up_exps.weight" in details and details.count('class="bar"') > 20


@needs_browser
def test_logits_and_layers(converted, tmp_path):
    logits = tmp_path / "logits.json"
    done = run("step3-verify", "logits", converted, "--reference", TRAINED, "--tokens",
               ",".join(map(str, range(1, 33))), "--bisect", "--per-token", "--json")
    logits.write_text(done.stdout)
    document = json.loads(done.stdout)
    assert len(document["kl"]["perToken"]) == 32
    assert numpy.mean(document["kl"]["perToken"]) == pytest.approx(document["kl"]["mean"])
    output = tmp_path / "report.html"
    report(converted, output, "--manifest", "--logits", logits)
    dom, messages = opened(output)
    assert messages == []
    points = re.search(r'class="points" d="([^"]*)"', dom).group(1)
    assert points.count("M") == 32
    assert "Error that each layer adds" in dom


HOSTILE = [
    "</script><script>document.title='taken'</script>", "\"><img src=x onerror=document.title='taken'>",
    "<!--<script>", "a\u202eb", "']]>&amp;", "model.layers.0.<b>.weight", "\n\t\u2028",
]


@needs_browser
def test_hostile_names_stay_text(tools, tmp_path):
    path = tmp_path / "<i>.safetensors"
    save_file({name: numpy.arange(8, dtype=numpy.float32) for name in HOSTILE}, path)
    output = tmp_path / "report.html"
    text = report(path, output, "--against", path)
    assert text.count("<script") == 2 and "<img" not in text
    dom, messages = opened(output)
    assert messages == []
    assert "<title>&lt;i&gt;.safetensors - step3-inspect report</title>" in dom
    names = rows(dom)
    assert len(names) == len(HOSTILE)
    assert {HOSTILE[0], HOSTILE[1], HOSTILE[4]} <= set(names)
    assert "a\\u{202e}b" in names


@needs_browser
def test_the_policy_keeps_other_scripts_out(converted, tmp_path):
    output = tmp_path / "report.html"
    text = report(converted, output)
    output.write_text(text.replace("</body>", "<script>document.title='taken'</script></body>"))
    dom, messages = opened(output)
    assert "<title>taken" not in dom
    assert any("Content Security Policy" in message for message in messages)


@needs_browser
def test_a_whole_model_is_small_and_usable(tools, tmp_path, random):
    """As many tensors as Step-3, with histograms, and an error in each of 48 experts of 56 layers."""
    names = {"model.embed_tokens.weight": (64, 32), "lm_head.weight": (64, 32), "model.norm.weight": (32,)}
    for layer in range(61):
        for name in ["q_proj", "k_proj", "v_proj", "o_proj", "wq"]:
            names[f"model.layers.{layer}.self_attn.{name}.weight"] = (32, 32)
        for name in ["input_layernorm", "post_attention_layernorm", "self_attn.inter_norm"]:
            names[f"model.layers.{layer}.{name}.weight"] = (32,)
        if 4 <= layer < 60:
            for name in ["moe.gate_proj", "moe.up_proj", "moe.down_proj"]:
                names[f"model.layers.{layer}.{name}.weight"] = (48, 8, 16)
            for name in ["share_expert.gate_proj", "share_expert.up_proj", "share_expert.down_proj"]:
                names[f"model.layers.{layer}.{name}.weight"] = (32, 32)
            names[f"model.layers.{layer}.moe.gate.weight"] = (48, 32)
        else:
            for name in ["gate_proj", "up_proj", "down_proj"]:
                names[f"model.layers.{layer}.mlp.{name}.weight"] = (32, 32)
    while len(names) < 1663:
        names[f"vision_model.transformer.resblocks.{len(names)}.mlp.c_fc.weight"] = (32, 32)
    first = {name: random.standard_normal(shape).astype(numpy.float32) for name, shape in names.items()}
    second = {
        name: (values * (1 + 0.01 * random.standard_normal(values.shape))).astype(numpy.float32)
        for name, values in first.items()}
    save_file(first, tmp_path / "a.safetensors")
    save_file(second, tmp_path / "b.safetensors")
    output = tmp_path / "report.html"
    text = report(tmp_path / "b.safetensors", output, "--against", tmp_path / "a.safetensors")
    assert len(text.encode()) < 2_000_000
    dom, messages = opened(output)
    assert messages == []
    assert "1663 of 1663" in dom and len(rows(dom)) == 200
    assert [len(grid["rows"]) for grid in data(text)["grids"]][1:] == [48, 48, 48]


def test_impossible_reports_are_refused(converted, tmp_path):
    output = tmp_path / "report.html"
    report(converted, output)
    before = output.read_bytes()
    done = run("step3-inspect", "report", converted, "--output", output)
    assert done.returncode == 73 and "--overwrite" in done.stderr and output.read_bytes() == before
    assert run("step3-inspect", "report", converted, "--output", output, "--overwrite").returncode == 0
    weights = tmp_path / "weights.safetensors"
    save_file({"a": numpy.zeros(3, numpy.float32)}, weights)
    kept = weights.read_bytes()
    for taken in [weights, tmp_path]:
        done = run("step3-inspect", "report", converted, "--output", taken, "--overwrite")
        assert done.returncode == 73 and "is not a report" in done.stderr and weights.read_bytes() == kept
    other = tmp_path / "other.html"
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    for arguments, code in [
        (["--logits", bad], 65), (["--logits", tmp_path / "none.json"], 66), (["--against", tmp_path / "none"], 66),
        (["--against", TRAINED, "--manifest"], 64),
    ]:
        done = run("step3-inspect", "report", converted, "--output", other, *arguments)
        assert (done.returncode, other.exists()) == (code, False), done.stderr
    done = run("step3-inspect", "report", TRAINED, "--manifest", "--output", other)
    assert done.returncode == 66 and not other.exists()
