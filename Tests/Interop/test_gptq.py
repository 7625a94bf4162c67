"""Codes made by GPTQ: the arithmetic on single matrices against a reference in PyTorch, and what they are worth on a trained model."""

import json
import os
import signal
import subprocess
import time

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

import gptq_reference
from conftest import FIXTURES, TOOLS
from forward_oracle import Model, is_quantised, weights_of

TRAINED = FIXTURES / "checkpoints" / "trained"
CALIBRATION = TRAINED / "text" / "calibration_tokens.safetensors"
HELD_OUT = TRAINED / "text" / "heldout_tokens.safetensors"


@pytest.fixture(scope="module")
def moments():
    """Name or (name, expert) -> (sum of x x^T in F64, rows), over a part of the calibration text."""
    sums = {}

    def seen(name, expert, rows):
        key = name if expert is None else (name, expert)
        total, count = sums.get(key, (0, 0))
        sums[key] = (total + rows.T @ rows, count + len(rows))

    with torch.no_grad():
        Model(TRAINED)(load_file(CALIBRATION)["input_ids"][:24], seen)
    return sums


def some_tokens(tmp_path, count=24):
    file = tmp_path / "tokens.safetensors"
    save_file({"input_ids": load_file(CALIBRATION)["input_ids"][:count].contiguous()}, file)
    return file


def tensors(path):
    return {name: tensor for file in sorted(path.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def unpack(packed):
    """I32 [..., C / 8] -> codes [..., C]."""
    return torch.stack([(packed >> shift & 15) - 8 for shift in range(0, 32, 4)], dim=-1).flatten(-2)


def apart(held, source):
    """With queries, keys and values by themselves, where they are stored as the one matrix that engines make of them."""
    out = {}
    for name, tensor in held.items():
        if "layers" not in name or "vision" in name or ".qkv_proj." not in name or tensor.dim() != 2:
            out[name] = tensor
            continue
        members = [name.replace("qkv_proj", f"{part}_proj") for part in "qkv"]
        rows = [len(source[member.rpartition(".")[0] + ".weight"]) for member in members]
        out |= zip(members, tensor.split(rows))
    return out


E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])

SCHEMES = {
    # recipe: (group, quantise, suffix of codes, what codes are, what scales are)
    "W4A16": (128, gptq_reference.int4, "weight_packed", lambda c: unpack(c).float(), lambda s: s.float()),
    "W4A16_G32": (32, gptq_reference.int4, "weight_packed", lambda c: unpack(c).float(), lambda s: s.float()),
    "W8A8_INT8": (None, gptq_reference.int8, "weight", lambda c: c.float(), lambda s: s.float()),
    "FP8_DYNAMIC": (None, gptq_reference.e4m3, "weight", lambda c: c.float(), lambda s: s.float()),
    "MXFP4A16": (
        32, gptq_reference.e2m1, "weight_packed",
        lambda c: E2M1[torch.stack([c & 15, c >> 4], dim=-1).flatten(-2).long()], lambda s: 2.0 ** (s.float() - 127),
    ),
}  # fmt: skip


@pytest.mark.parametrize("recipe", SCHEMES)
def test_codes_are_those_of_the_reference(tools, tmp_path, moments, recipe):
    group, quantise, suffix, decode, scale_of = SCHEMES[recipe]
    scope = () if recipe == "MXFP4A16" else ("--scope", "linear")
    tools.convert(
        TRAINED, tmp_path / "out", "--to", "safetensors", "--quantize", recipe, *scope, "--method", "gptq",
        "--calibration-tokens", some_tokens(tmp_path),
    )
    ours, source = apart(tensors(tmp_path / "out"), weights_of(TRAINED)), weights_of(TRAINED)
    differing = elements = matrices = 0
    for key, (total, rows) in moments.items():
        name, expert = key if isinstance(key, tuple) else (key, None)
        stem = name.removesuffix("weight")
        if f"{stem}weight_scale" not in ours:
            assert not is_quantised(name, "linear") or recipe == "MXFP4A16"
            continue
        pick = (lambda t: t) if expert is None else (lambda t: t[expert])
        scales = scale_of(pick(ours[f"{stem}weight_scale"]))
        codes = decode(pick(ours[stem + suffix]))
        weight = pick(source[name]).float()
        expected, usable = gptq_reference.gptq(
            weight, total / rows, scales.reshape(len(weight), -1), group or weight.shape[1], quantise)
        assert usable
        differing += int((codes != expected).sum())
        elements += codes.numel()
        matrices += 1
        # What a code near a tie starts stays within its row; all in all the error on the text is the same.
        h = total / rows

        def loss(values):
            error = weight.double() - values.double() * scales.reshape(len(weight), -1).repeat_interleave(
                group or weight.shape[1], dim=1).double()
            return float((error @ h * error).sum())

        assert loss(codes) == pytest.approx(loss(expected), rel=0.01)
    assert matrices > 70
    # F32 here and there: sums in another order move a quotient across a tie now and then, and what follows in the row.
    assert differing < 0.02 * elements, differing / elements


@pytest.mark.parametrize("scope, limit, today", [("experts", 0.00056, 0.00109), ("linear", 0.00350, 0.00600)])
def test_what_it_is_worth(tools, tmp_path, scope, limit, today):
    arguments = ("--to", "safetensors", "--quantize", "W4A16", "--scope", scope)
    summary = tools.convert(
        TRAINED, tmp_path / "gptq", *arguments, "--method", "gptq", "--calibration-tokens", CALIBRATION)
    assert summary["roundedToNearest"] == [] and summary["calibration"]["tokens"] == 32768
    tools.convert(TRAINED, tmp_path / "nearest", *arguments)
    gptq, nearest = (
        tools.json("step3-verify", "logits", tmp_path / name, "--reference", TRAINED, "--tokens-file", HELD_OUT)["kl"]["mean"]
        for name in ("gptq", "nearest")
    )
    assert gptq < limit and nearest == pytest.approx(today, rel=0.03)
    assert not (tmp_path / "gptq.calibrating").exists()
    manifest = json.loads((tmp_path / "gptq" / "manifest.json").read_text())
    assert manifest["plan"]["request"]["calibration"]["method"] == "gptq"


def test_only_codes_and_scales_are_other(tools, tmp_path):
    """Names, shapes, files and everything that is not encoded are those of the conversion without a method."""
    arguments = ("--to", "safetensors", "--quantize", "W4A16")
    tools.convert(TRAINED, tmp_path / "a", *arguments, "--method", "gptq", "--calibration-tokens", some_tokens(tmp_path, 8))
    tools.convert(TRAINED, tmp_path / "b", *arguments)
    a, b = tensors(tmp_path / "a"), tensors(tmp_path / "b")
    assert {n: (t.shape, t.dtype) for n, t in a.items()} == {n: (t.shape, t.dtype) for n, t in b.items()}
    other = {name for name in a if not torch.equal(a[name].view(torch.uint8), b[name].view(torch.uint8))}
    assert other and all(".moe." in name and "_proj.weight_" in name for name in other)
    assert (tmp_path / "a" / "config.json").read_bytes() == (tmp_path / "b" / "config.json").read_bytes()


@pytest.mark.parametrize("recipe", ["W4A16", "W4A16_G32", "FP8_DYNAMIC", "W8A8_INT8"])
def test_tensors_are_verified_by_what_calibration_makes(tools, tmp_path, recipe):
    """Codes some steps from the nearest are no fault where the manifest says why, and a fault is one all the same."""
    out = tmp_path / "out"
    tools.convert(
        TRAINED, out, "--to", "safetensors", "--quantize", recipe, "--scope", "linear", "--method", "gptq",
        "--calibration-tokens", some_tokens(tmp_path))
    report = tools.json("step3-verify", "tensors", out, "--source", TRAINED)
    assert report["ok"] and report["findings"] == []
    # One group of zeros in one row, and one scale that is doubled.
    file = next(file for file in sorted(out.glob("*.safetensors")) if "model.layers.1.self_attn.wq.weight_scale" in load_file(file))
    held = load_file(file)
    suffix = "weight_packed" if recipe.startswith("W4") else "weight"
    codes, scales = held[f"model.layers.1.self_attn.wq.{suffix}"], held["model.layers.1.self_attn.wq.weight_scale"]
    codes[3, : 16 if suffix == "weight_packed" else 128].view(torch.uint8)[:] = 0x88 if suffix == "weight_packed" else 0
    scales[9] *= 2
    save_file(held, file)
    result = tools.run("step3-verify", "tensors", out, "--source", TRAINED, "--json")
    findings = json.loads(result.stdout)["findings"]
    assert result.returncode == 1 and {finding["tensor"] for finding in findings} == {"model.layers.1.self_attn.wq.weight"}


def test_threads_memory_and_cuts_change_nothing(tools, tmp_path):
    tokens = some_tokens(tmp_path, 10)
    arguments = ("--to", "safetensors", "--quantize", "W4A16_G32", "--scope", "linear", "--method", "gptq", "--calibration-tokens", tokens)
    outputs = []
    for threads, memory in [(1, "128MiB"), (2, "1GiB"), (5, "4GiB")]:
        out = tmp_path / f"{threads}"
        tools.convert(TRAINED, out, *arguments, "--threads", threads, "--memory", memory)
        outputs.append({file.name: file.read_bytes() for file in out.glob("*.safetensors")})
    assert outputs[0] == outputs[1] == outputs[2]
    cut = tmp_path / "cut"
    tools.json("step3-convert", TRAINED, cut, *arguments, "--partition", "afd", "--ffn-tp", 2, "--ffn-ep", 2)
    tools.json("step3-convert", cut, tmp_path / "merged", "--to", "safetensors")
    a, b = tensors(tmp_path / "1"), tensors(tmp_path / "merged")
    for name in a:
        assert torch.equal(a[name].view(torch.uint8), b[name].view(torch.uint8)), name


def test_it_goes_on_after_a_kill(tools, tmp_path):
    arguments = ("--to", "safetensors", "--quantize", "W4A16", "--scope", "linear", "--method", "gptq", "--calibration-tokens", CALIBRATION)
    tools.convert(TRAINED, tmp_path / "whole", *arguments)
    out = tmp_path / "out"
    command = [TOOLS / "step3-convert", TRAINED, out, *map(str, arguments), "--progress", "none"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    state = tmp_path / "out.calibrating" / "state.json"
    while process.poll() is None and not (state.exists() and json.loads(state.read_text())["layersDone"] >= 2):
        time.sleep(0.001)
    assert process.poll() is None, "it was over before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    refused = tools.run("step3-convert", TRAINED, out, *arguments)
    assert refused.returncode == 73 and "--resume" in refused.stderr
    refused = tools.run("step3-convert", TRAINED, out, *arguments, "--damping", "0.02", "--resume")
    assert refused.returncode == 64 or "other options" in refused.stderr
    # What was kept is damaged: it is found, and not used.
    codes = state.parent / "layer-0.codes"
    good = codes.read_bytes()
    codes.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    refused = tools.run("step3-convert", TRAINED, out, *arguments, "--resume")
    assert refused.returncode == 65 and "layer-0.codes" in refused.stderr and not out.exists()
    codes.write_bytes(good)
    tools.convert(TRAINED, out, *arguments, "--resume")
    for file in (tmp_path / "whole").glob("*.safetensors"):
        assert file.read_bytes() == (out / file.name).read_bytes()
    # Complete: there is nothing to do, and nothing is calibrated again.
    again = tools.json("step3-convert", TRAINED, out, *arguments, "--resume")
    assert again["wasComplete"] and not state.parent.exists()


def test_scarce_experts_are_rounded_to_nearest_and_listed(tools, tmp_path):
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps(load_file(CALIBRATION)["input_ids"][:1, :24].tolist()))
    result = tools.run(
        "step3-convert", TRAINED, tmp_path / "out", "--to", "safetensors", "--quantize", "W4A16", "--method", "gptq",
        "--calibration-tokens", tokens, "--min-expert-tokens", 12, "--json")
    assert result.returncode == 0, result.stderr
    listed = json.loads(result.stdout)["roundedToNearest"]
    assert listed and all(entry["reason"] == "fewTokens" and entry["tokens"] < 12 for entry in listed)
    assert {entry["tensor"].split(".")[-2] for entry in listed} == {"gate_proj", "up_proj", "down_proj"}
    assert result.stderr.count("rounded to nearest") == len(listed)
    ours, source = tensors(tmp_path / "out"), weights_of(TRAINED)
    for entry in listed:
        stem = entry["tensor"].removesuffix("weight")
        scales = ours[stem + "weight_scale"][entry["expert"]].float().repeat_interleave(128, dim=1)
        codes = unpack(ours[stem + "weight_packed"][entry["expert"]]).float()
        nearest = gptq_reference.int4(source[entry["tensor"]][entry["expert"]].float() / scales)
        assert (codes != nearest).float().mean() < 0.001


def test_what_gptq_is_not_for_is_refused(tools, tmp_path):
    tokens = some_tokens(tmp_path, 1)
    base = ("step3-convert", TRAINED, tmp_path / "out", "--to", "safetensors")
    for arguments, code in [
        (("--quantize", "BF16", "--method", "gptq", "--calibration-tokens", tokens), 64),
        (("--quantize", "NVFP4A16", "--method", "gptq", "--calibration-tokens", tokens), 65),
        (("--quantize", "W4A16", "--method", "gptq"), 64),
        (("--quantize", "W4A16", "--calibration-tokens", tokens), 64),
        (("--quantize", "W4A16", "--method", "gptq", "--calibration-tokens", tokens, "--damping", "0"), 64),
    ]:
        assert tools.run(*base, *arguments).returncode == code, arguments
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.calibrating").exists()
    (tmp_path / "out").mkdir()
    refused = tools.run(*base, "--quantize", "W4A16", "--method", "gptq", "--calibration-tokens", tokens)
    assert refused.returncode == 73 and not (tmp_path / "out.calibrating").exists()
