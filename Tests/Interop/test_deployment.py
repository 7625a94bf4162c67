"""`step3-convert plan` with cards: the Step-3 report's figures, memory worked out by hand, and refusals."""

import json
import os
import shlex
import subprocess

import pytest

from built_tools import FIXTURES, ROOT, TOOLS

EXAMPLES = ROOT / "Manuals/examples"
TINY = FIXTURES / "checkpoints/tiny"


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The whole Step-3 at full size, with the published config.json, without content."""
    path = tmp_path_factory.mktemp("full") / "step3"
    subprocess.run([TOOLS / "checkpoint-generator", "full", path], check=True, capture_output=True)
    return path


def manuals_examples():
    """The commands of the manual, each with the output below it, up to a line of dots."""
    lines = iter([*(ROOT / "Manuals/deployment.md").read_text().splitlines(), "end"])
    line = next(lines)
    while line != "end":
        if not line.startswith("    $ "):
            line = next(lines)
            continue
        command = line[6:]
        while command.endswith("\\"):
            command = command[:-1] + next(lines)
        output, line = [], next(lines)
        while not line or line.startswith("    "):
            output.append(line[4:])
            line = next(lines)
        text = "\n".join(output).rstrip("\n")
        yield command, text.removesuffix("...")


def rounds_to(value, printed):
    mantissa, _, exponent = printed.partition("e")
    unit = 10 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(value - float(printed)) <= unit / 2 * (1 + 1e-9)


@pytest.mark.parametrize("context, table, column", [
    ("8K", "Table 2", "attention_8k"), ("32K", "Table 3", "attention_32k")])
def test_the_reports_figures(tools, full, context, table, column):
    answer = tools.json("step3-convert", "plan", full, "--deployment", EXAMPLES / "report.yaml", "--context",
                        context, "--compare")
    tables = json.loads((FIXTURES / "deployment/tables.json").read_text())
    plans = [answer["plan"], *answer["comparison"]]
    assert {plan["model"] for plan in plans} == set(tables[table])
    for plan in plans:
        work, printed = plan["work"], tables[table][plan["model"]]
        for key, cell in [("cacheBytes", "kv_bytes"), ("attentionFLOPs", "attn_flops"),
                          ("projectionFLOPs", "linear_flops"), ("feedForwardFLOPs", "ffn_flops")]:
            assert rounds_to(work[key], printed[cell]), (plan["model"], cell)
        for cost in plan["costs"]:
            cells = tables["Table 6"][plan["model"]]
            assert rounds_to(cost["attentionCost"], cells[column][cost["accelerator"]])
            assert rounds_to(cost["feedForwardCost"], cells["ffn"][cost["accelerator"]])
    assert any("74 % faster, not 174 %" in finding for finding in answer["findings"])
    assert any("65536 tokens of context" in finding for finding in answer["findings"])


def test_the_measured_deployment(tools, full):
    instances = tools.json("step3-convert", "plan", full, "--deployment", EXAMPLES / "2A2F.yaml")["plan"]["instances"]
    assert (instances["attention"]["machines"], instances["feedForward"]["machines"]) == (2, 2)
    assert instances["microBatch"] == 2048 and instances["tokensPerSecondPerCard"] == 3840


def test_memory_of_ranks(tools, full):
    """FP8 on 16 cards of 141 GB: the cache of each group's sequences, and weights that add up."""
    answer = tools.json("step3-convert", "plan", full, "--to", "safetensors", "--quantize", "FP8_BLOCK",
                        "--gpu-memory", "141GB", "--context", "32K", "--batch", "64", "--gpus", "16")
    assert answer["fits"] and answer["cacheBytesPerSequence"] == 61 * 512 * 2 * 32768
    side = answer["asked"]["sides"][0]
    layout = side["layout"]
    assert layout["tensorParallel"] * layout["dataParallel"] == 16 == side["cards"]
    assert side["rank"]["sequences"] == 64 // layout["dataParallel"]
    assert side["rank"]["cache"] == side["rank"]["sequences"] * answer["cacheBytesPerSequence"]
    assert side["rank"]["total"] <= answer["usableBytes"] == 0.9 * 141e9
    assert answer["smallest"]["cards"] <= 16


def test_a_model_that_does_not_fit_fails(tools, full):
    arguments = ["plan", full, "--to", "safetensors", "--gpu-memory", "80GB", "--context", "32K", "--batch", "64",
                 "--gpus", "2"]
    result = tools.run("step3-convert", *arguments)
    assert result.returncode == 1 and "NO" in result.stdout
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    result = tools.run("step3-convert", *arguments, "--json")
    assert result.returncode == 1 and json.loads(result.stdout)["fits"] is False


def test_a_partition_by_instances(tools, full):
    answer = tools.json("step3-convert", "plan", full, "--to", "safetensors", "--quantize", "FP8_BLOCK", "--partition",
                        "afd", "--ffn-ep", "4", "--ffn-tp", "2", "--gpu-memory", "80GB", "--context", "32K",
                        "--batch", "256", "--kv-cache", "fp8")
    sides = {side["side"]: side for side in answer["asked"]["sides"]}
    assert sides["ffn"]["cards"] == 8 and sides["ffn"]["machines"] == 1
    assert sides["attention"]["replicas"] == 5
    assert answer["asked"]["cards"] == 13


def test_without_a_format_the_sources_own_is_used(tools):
    answer = tools.json("step3-convert", "plan", TINY, "--gpu-memory", "1GB", "--context", "64", "--batch", "1",
                        "--prefill-tokens", "64")
    assert answer["fits"] and answer["smallest"]["cards"] == 1


@pytest.mark.parametrize("command, printed", list(manuals_examples()))
def test_the_manuals_examples(tools, full, tmp_path, command, printed):
    (tmp_path / "step3").symlink_to(full)
    (tmp_path / "report.yaml").symlink_to(EXAMPLES / "report.yaml")
    tool, *arguments = shlex.split(command)
    result = tools.run(tool, *arguments, cwd=tmp_path)
    assert result.returncode in (0, 1), result.stderr
    assert result.stdout.startswith(printed) and len(printed) > 400


def test_the_manual_has_examples():
    assert len(list(manuals_examples())) == 3


@pytest.mark.parametrize("name", ["report", "h200", "2A2F"])
def test_text_fits_80_columns(tools, full, name):
    result = tools.run("step3-convert", "plan", full, "--deployment", EXAMPLES / f"{name}.yaml", "--compare")
    assert result.returncode == 0, result.stderr
    assert all(len(line) <= 80 for line in result.stdout.splitlines()), result.stdout
    assert "74 % faster" in " ".join(result.stdout.split())


@pytest.mark.parametrize("arguments, code, message", [
    ([], 64, "Missing expected argument '--to <to>'"),
    (["--gpu-memory", "80GB", "--batch", "1"], 64, "--gpu-memory needs --context"),
    (["--gpu-memory", "80GB", "--context", "8K"], 64, "--gpu-memory needs --batch"),
    (["--gpu-memory", "80GB", "--context", "8K", "--batch", "0"], 64, "--batch must be from 1"),
    (["--gpu-memory", "80", "--context", "8 K", "--batch", "1"], 64, "The value '8 K' is invalid"),
    (["--gpu-memory", "0", "--context", "8K", "--batch", "1"], 64, "--gpu-memory must be more than 0"),
    (["--gpu-memory", "80GB", "--context", "8K", "--batch", "1", "--memory-share", "1.5"], 64, "--memory-share"),
    (["--context", "8K", "--to", "gguf"], 64, "--context needs --gpu-memory or --deployment"),
    (["--gpus", "8", "--to", "gguf"], 64, "--gpus needs --gpu-memory"),
    (["--compare", "--to", "gguf"], 64, "--compare needs --deployment"),
    (["--gpu-memory", "80GB", "--context", "8K", "--batch", "1", "--deployment", "x"], 64, "give only one of them"),
    (["--gpu-memory", "1GB", "--context", "8K", "--batch", "1", "--tp", "3"], 64, "--tp 3: 4 heads cannot be divided"),
    (["--gpu-memory", "1GB", "--context", "8K", "--batch", "1", "--tp", "2", "--gpus", "3"], 64, "groups of 2"),
    (["--gpu-memory", "1GB", "--context", "8K", "--batch", "1", "--tp", "2", "--to", "safetensors", "--partition",
      "afd"], 64, "--tp is for an unpartitioned model"),
    (["--deployment", "nowhere.yaml"], 66, "nowhere.yaml"),
    (["--deployment", "x", "--quantize", "FP8_BLOCK"], 64, "--quantize cannot be combined with --deployment"),
    (["--deployment", "x", "--to", "gguf"], 64, "--to cannot be combined with --deployment"),
    (["--deployment", "x", "--kv-cache", "fp8"], 64, "--kv-cache needs --gpu-memory"),
    (["--deployment", "x", "--tp", "2"], 64, "--tp needs --gpu-memory"),
    (["--to", "gguf", "--memory-share", "0.5"], 64, "--memory-share needs --gpu-memory"),
])
def test_refusals(tools, arguments, code, message):
    result = tools.run("step3-convert", "plan", TINY, *arguments)
    assert result.returncode == code, result.stderr
    assert message in result.stderr and result.stdout == ""


def test_blocks_that_cannot_be_cut(tools, full):
    """Blocks of 256 do not divide between 8 ranks; the possible numbers are named, and whole experts work anyway."""
    arguments = ["plan", full, "--to", "gguf", "--quantize", "Q4_K_M", "--gpu-memory", "80GB", "--context", "32K",
                 "--batch", "64"]
    result = tools.run("step3-convert", *arguments, "--tp", "8")
    assert result.returncode == 64 and "whole blocks of 256" in result.stderr and "--tp 1, 2, 4 would work" in result.stderr
    answer = tools.json("step3-convert", *arguments)
    assert answer["smallest"]["sides"][0]["layout"]["expertParallel"]


def test_engine_says_a_thing_once(tools, full):
    """The text gives three reasons for a refusal once; the document has every finding."""
    arguments = ["engine", full, "--engine", "vllm", "--tp", "3"]
    text = tools.run("step3-verify", *arguments)
    document = tools.run("step3-verify", *arguments, "--json")
    assert text.returncode == document.returncode == 1
    assert text.stdout.count("vLLM stops at --tp 3") == 1 and "3 errors" in text.stdout
    for reason, more in [("64 heads", 182), ("5120 rows", 111), ("5120 columns", 55)]:
        lines = [line for line in text.stdout.splitlines() if reason in line]
        assert len(lines) == 1 and f"and {more} more like it" in lines[0]
    assert "--tp 1, 2, 4, 8, 16 would work" in text.stdout
    findings = json.loads(document.stdout)["engines"][0]["findings"]
    assert len(findings) == 7 and {finding["code"] for finding in findings} == {"tensor-parallel"}


def test_a_file_with_a_typo_gets_a_suggestion(tools, tmp_path):
    path = tmp_path / "d.yaml"
    path.write_text((EXAMPLES / "report.yaml").read_text().replace("stages:", "stage:"))
    result = tools.run("step3-convert", "plan", TINY, "--deployment", path)
    assert result.returncode == 65
    assert "d.yaml: line" in result.stderr and "did you mean stages?" in result.stderr


def test_an_unknown_model_is_refused(tools, tmp_path):
    source = tmp_path / "model"
    source.mkdir()
    for name in os.listdir(TINY):
        if name.endswith(".safetensors") or name == "model.safetensors.index.json":
            (source / name).symlink_to(TINY / name)
    (source / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    for arguments in (["--deployment", EXAMPLES / "report.yaml"],
                      ["--to", "safetensors", "--gpu-memory", "80GB", "--context", "8K", "--batch", "1"]):
        result = tools.run("step3-convert", "plan", source, *arguments)
        assert result.returncode == 65 and "not in the Step family" in result.stderr, result.stderr
