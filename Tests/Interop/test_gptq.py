"""GPTQ: single matrices against a reference in PyTorch, and the benefit on a trained model."""

import json
import os
import shutil
import signal
import subprocess
import time

import gguf
import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

import gptq_reference
from conftest import FIXTURES, TOOLS
from forward_oracle import Model, is_quantised, weights_of
from step3_names import gguf_name

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
    """Separates queries, keys and values where they are stored as the one matrix that engines fuse them into."""
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
    "FP8_BLOCK": (128, gptq_reference.e4m3, "weight", lambda c: c.float(), lambda s: s.float()),
    "NVFP4A16": (
        16, gptq_reference.e2m1, "weight_packed",
        lambda c: E2M1[torch.stack([c & 15, c >> 4], dim=-1).flatten(-2).long()], lambda s: s.float(),
    ),
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
    compared = Compared()
    suffix_of_scale = "weight_scale_inv" if recipe == "FP8_BLOCK" else "weight_scale"
    for name, expert, h in second_moments(moments):
        stem = name.removesuffix("weight")
        if f"{stem}{suffix_of_scale}" not in ours:
            assert not is_quantised(name, "linear") or recipe == "MXFP4A16"
            continue
        pick = (lambda t: t) if expert is None else (lambda t: t[expert])
        weight = pick(source[name]).float()
        scales = scale_of(pick(ours[f"{stem}{suffix_of_scale}"])).reshape(-1, -(-weight.shape[1] // (group or weight.shape[1])))
        if recipe == "FP8_BLOCK":
            scales = scales.repeat_interleave(128, dim=0)[: len(weight)]
        if recipe == "NVFP4A16":
            # Queries, keys and values share one, under the fused matrix's name.
            owner = next(n for n in (f"{stem}weight_global_scale" for stem in (stem, stem[:-7] + "qkv_proj.")) if n in ours)
            scales = scales / ours[owner].flatten()[expert or 0]
        each = scales.repeat_interleave(group or weight.shape[1], dim=1)[:, : weight.shape[1]]
        compared.add(
            weight, h, decode(pick(ours[stem + suffix])) * each,
            gptq_reference.scaled(quantise, scales, group or weight.shape[1]))
    compared.check()


def second_moments(moments):
    for key, (total, rows) in moments.items():
        name, expert = key if isinstance(key, tuple) else (key, None)
        yield name, expert, total / rows


class Compared:
    """Our values of many matrices beside the reference's."""

    def __init__(self):
        self.differing = self.elements = self.matrices = 0
        self.distances = []

    def add(self, weight, h, values, nearest, exact=0.0):
        expected, usable, entered, order = gptq_reference.gptq(weight, h, nearest)
        assert usable
        same = (values - expected).abs() <= exact * expected.abs().max()
        self.differing += int((~same).sum())
        self.distances.append(gptq_reference.distance_to_ties(torch.where(same, expected, values), expected, entered, order))
        self.elements += values.numel()
        self.matrices += 1
        # A flipped tie only affects its own row; overall the error on the text is the same.
        ours, its = (float((error @ h * error).sum()) for error in (weight.double() - values.double(), weight.double() - expected.double()))
        assert ours == pytest.approx(its, rel=0.015)

    def check(self):
        assert self.matrices > 70
        # Both use F32: another order of summation occasionally moves a quotient across a tie, and changes the rest of the row.
        assert self.differing < 0.02 * self.elements, self.differing / self.elements
        # Rows begin to differ at a tie, except for columns of nearly equal mean square, whose order other moments can change.
        distances = torch.cat(self.distances)
        assert len(distances) < 50 or distances.median() < 0.02, distances.median()


# type: (group, levels, the bytes of a block that hold levels, and their values where every level is the lowest or the second)
BLOCKS = {
    "Q4_0": (32, 16, [(2, 18, 0x00, 0x11)]),
    "Q5_1": (32, 32, [(4, 8, 0, 0), (8, 24, 0x00, 0x11)]),
    "Q8_0": (32, 255, [(2, 34, 0x81, 0x82)]),
    "Q2_K": (16, 4, [(16, 80, 0x00, 0x55)]),
    "Q3_K": (16, 8, [(0, 32, 0, 0), (32, 96, 0x00, 0x55)]),
    "Q4_K": (32, 16, [(16, 144, 0x00, 0x11)]),
    "Q5_K": (32, 32, [(16, 48, 0, 0), (48, 176, 0x00, 0x11)]),
    "Q6_K": (16, 64, [(0, 128, 0x00, 0x11), (128, 192, 0, 0)]),
}


def block_grid(data, kind):
    """The values of the lowest level and of a step in blocks [R, bytes], by the package's decoder: both [R, C / group]."""
    group, levels, places = BLOCKS[kind.name]
    size = gguf.GGML_QUANT_SIZES[kind][1]
    values = []
    for which in (2, 3):
        blocks = data.reshape(-1, size).copy()
        for place in places:
            blocks[:, place[0] : place[1]] = place[which]
        values.append(torch.from_numpy(gguf.quants.dequantize(blocks.reshape(len(data), -1), kind))[:, ::group])
    return values[0], values[1] - values[0], group, levels - 1


EVERY = ["ffn_gate=Q4_0", "ffn_up=Q5_1", "ffn_down=Q2_K", "attn_q_b=Q3_K", "attn_output=Q8_0", "attn_k=Q5_K", "attn_v=Q6_K"]


@pytest.mark.parametrize("types", [[], EVERY])
def test_blocks_are_those_of_the_reference(tools, tmp_path, moments, types):
    """Levels by the GPTQ sweep, with the blocks' own scales."""
    tools.convert(
        TRAINED, tmp_path / "out", "--to", "gguf", "--quantize", "Q4_K_M", *(word for t in types for word in ("--tensor-type", t)),
        "--method", "gptq", "--calibration-tokens", some_tokens(tmp_path), "--allow-fallback")
    ours = {t.name: t for file in (tmp_path / "out").glob("*.gguf") for t in gguf.GGUFReader(file).tensors}
    source, compared, kinds = weights_of(TRAINED), Compared(), set()
    for name, expert, h in second_moments(moments):
        tensor = ours[gguf_name(name)]
        kind = tensor.tensor_type
        if kind.name not in BLOCKS:
            continue
        kinds.add(kind.name)
        data = tensor.data if expert is None else tensor.data[expert]
        weight = (source[name] if expert is None else source[name][expert]).float()
        values = torch.from_numpy(gguf.quants.dequantize(data, kind))
        # The steps are differences of decoded values, so values agree up to rounding.
        compared.add(weight, h, values, gptq_reference.levelled(*block_grid(data, kind)), exact=1e-5)
    compared.check()
    assert kinds >= ({entry.rpartition("=")[2] for entry in types} or {"Q4_K", "Q6_K"}), kinds


@pytest.mark.parametrize("scope, limit, today", [("experts", 0.00056, 0.00109), ("linear", 0.00350, 0.00600)])
def test_gptq_lowers_the_divergence(tools, tmp_path, scope, limit, today):
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


def test_only_codes_and_scales_differ(tools, tmp_path):
    """Names, shapes, files and everything that is not encoded equal those of the conversion without GPTQ."""
    arguments = ("--to", "safetensors", "--quantize", "W4A16")
    tools.convert(TRAINED, tmp_path / "a", *arguments, "--method", "gptq", "--calibration-tokens", some_tokens(tmp_path, 8))
    tools.convert(TRAINED, tmp_path / "b", *arguments)
    a, b = tensors(tmp_path / "a"), tensors(tmp_path / "b")
    assert {n: (t.shape, t.dtype) for n, t in a.items()} == {n: (t.shape, t.dtype) for n, t in b.items()}
    other = {name for name in a if not torch.equal(a[name].view(torch.uint8), b[name].view(torch.uint8))}
    assert other and all(".moe." in name and "_proj.weight_" in name for name in other)
    assert (tmp_path / "a" / "config.json").read_bytes() == (tmp_path / "b" / "config.json").read_bytes()


@pytest.mark.parametrize("recipe", ["W4A16", "W4A16_G32", "FP8_DYNAMIC", "W8A8_INT8"])
def test_verify_tensors_accepts_gptq_and_finds_faults(tools, tmp_path, recipe):
    """Codes a few steps from the nearest are accepted where the manifest states GPTQ, and real faults are still found."""
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


def test_a_killed_run_is_resumed(tools, tmp_path):
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
    # Damaged intermediate results are found and not used.
    codes = state.parent / "layer-0.codes"
    good = codes.read_bytes()
    codes.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    refused = tools.run("step3-convert", TRAINED, out, *arguments, "--resume")
    assert refused.returncode == 65 and "layer-0.codes" in refused.stderr and not out.exists()
    codes.write_bytes(good)
    tools.convert(TRAINED, out, *arguments, "--resume")
    for file in (tmp_path / "whole").glob("*.safetensors"):
        assert file.read_bytes() == (out / file.name).read_bytes()
    # Complete: nothing is calibrated again.
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


def test_unsupported_uses_of_gptq_are_refused(tools, tmp_path):
    tokens = some_tokens(tmp_path, 1)
    base = ("step3-convert", TRAINED, tmp_path / "out", "--to", "safetensors")
    for arguments, code in [
        (("--quantize", "BF16", "--method", "gptq", "--calibration-tokens", tokens), 64),
        (("--quantize", "IQ3_S", "--to", "gguf", "--method", "gptq", "--calibration-tokens", tokens), 65),
        (("--quantize", "W4A16", "--method", "gptq"), 64),
        (("--quantize", "W4A16", "--calibration-tokens", tokens), 64),
        (("--quantize", "W4A16", "--method", "gptq", "--calibration-tokens", tokens, "--damping", "0"), 64),
    ]:
        assert tools.run(*base, *arguments).returncode == code, arguments
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.calibrating").exists()
    (tmp_path / "out").mkdir()
    refused = tools.run(*base, "--quantize", "W4A16", "--method", "gptq", "--calibration-tokens", tokens)
    assert refused.returncode == 73 and not (tmp_path / "out.calibrating").exists()


def stated(entry):
    """Without members that are null in --json and left out of manifests."""
    return {key: value for key, value in entry.items() if value is not None}


def all_weights(folder):
    return tensors(folder), json.loads((folder / "manifest.json").read_text())


def test_singular_moments_fall_back_and_are_reported(tools, tmp_path):
    """Three tokens span three directions: with negligible damping GPTQ is impossible, and every output says so."""
    tokens = tmp_path / "tokens.json"
    tokens.write_text("[[0, 17, 99]]")
    arguments = (
        "--to", "safetensors", "--quantize", "W4A16_G32", "--scope", "linear", "--method", "gptq", "--calibration-tokens", tokens,
        "--damping", "1e-30", "--min-expert-tokens", "0")
    result = tools.run("step3-convert", TRAINED, tmp_path / "out", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    listed = json.loads(result.stdout)["roundedToNearest"]
    assert {entry["reason"] for entry in listed} == {"notPositiveDefinite"}
    assert result.stderr.count("its second moments are not positive definite") == len(listed)
    ours, manifest = all_weights(tmp_path / "out")
    assert manifest["roundedToNearest"] == [stated(entry) for entry in listed]
    text = tools.run("step3-convert", TRAINED, tmp_path / "text", *arguments)
    assert f"{len(listed)} matrices rounded to nearest" in text.stdout
    # Complete: reported again, without a calibration.
    again = tools.json("step3-convert", TRAINED, tmp_path / "out", *arguments, "--resume")
    assert again["wasComplete"] and again["roundedToNearest"] == listed
    # Experts that no token chose are among them, and all of attention is.
    names = {entry["tensor"] for entry in listed}
    assert {f"model.layers.{n}.self_attn.o_proj.weight" for n in range(5)} <= names
    source = weights_of(TRAINED)
    for name in ("model.layers.1.self_attn.o_proj.", "model.layers.3.self_attn.wq."):
        scales = ours[name + "weight_scale"].float().repeat_interleave(32, dim=1)
        nearest = gptq_reference.int4(source[name + "weight"].float() / scales)
        assert (unpack(ours[name + "weight_packed"]).float() != nearest).float().mean() < 0.001
    assert tools.json("step3-verify", "tensors", tmp_path / "out", "--source", TRAINED)["ok"]


def changed(tmp_path, name, change):
    """A copy of the trained model with one weight changed."""
    folder = tmp_path / "model"
    shutil.copytree(TRAINED, folder, ignore=shutil.ignore_patterns("reference", "text"))
    for file in folder.glob("*.safetensors"):
        held = load_file(file)
        if name in held:
            change(held[name])
            save_file(held, file)
    return folder


def test_columns_without_activations_keep_their_weights(tools, tmp_path):
    """A norm that is zero in some channels causes no fallback, and the weights of these columns stay as rounded."""
    dead = [3, 40, 41, 200]
    model = changed(tmp_path, "model.layers.2.input_layernorm.weight", lambda norm: norm.index_fill_(0, torch.tensor(dead), 0))
    out = tmp_path / "out"
    for arguments in (("--to", "safetensors", "--quantize", "W4A16", "--scope", "linear"), ("--to", "gguf", "--quantize", "Q4_K")):
        summary = tools.convert(
            model, out, *arguments, "--method", "gptq", "--calibration-tokens", some_tokens(tmp_path, 8), "--min-expert-tokens", 1,
            "--overwrite")
        assert not [entry for entry in summary["roundedToNearest"] if "layers.2.self_attn" in entry["tensor"]]
        assert tools.json("step3-verify", "tensors", out, "--source", model)["ok"]
        source = weights_of(model)["model.layers.2.self_attn.q_proj.weight"].float()
        if arguments[1] == "gguf":
            tensor = next(
                t for f in out.glob("*.gguf") for t in gguf.GGUFReader(f).tensors if t.name == "blk.2.attn_q_a.weight")
            values = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type))
        else:
            ours = apart(tensors(out), weights_of(model))
            values = unpack(ours["model.layers.2.self_attn.q_proj.weight_packed"]) * ours[
                "model.layers.2.self_attn.q_proj.weight_scale"].float().repeat_interleave(128, dim=1)
        error = (values - source)[:, dead].norm() / source[:, dead].norm()
        assert error < 0.25, error


def test_non_finite_activations_are_an_error(tools, tmp_path):
    model = changed(tmp_path, "model.layers.1.post_attention_layernorm.weight", lambda norm: norm.fill_(float("nan")))
    refused = tools.run(
        "step3-convert", model, tmp_path / "out", "--to", "safetensors", "--quantize", "W4A16", "--method", "gptq",
        "--calibration-tokens", some_tokens(tmp_path, 1))
    assert refused.returncode == 65 and "layer 1" in refused.stderr, refused.stderr
    assert not (tmp_path / "out").exists()


def test_a_mixture_lists_tensors_encoded_without_gptq(tools, tmp_path):
    """Lattice formats encode eight elements in one code: those tensors are encoded without GPTQ, and listed."""
    arguments = ("--to", "gguf", "--quantize", "Q4_K", "--tensor-type", "ffn_gate_exps=IQ3_S")
    summary = tools.convert(
        TRAINED, tmp_path / "a", *arguments, "--method", "gptq", "--calibration-tokens", some_tokens(tmp_path, 8),
        "--min-expert-tokens", 1)
    listed = [entry for entry in summary["roundedToNearest"] if entry["reason"] == "format"]
    assert {entry["tensor"] for entry in listed} == {name for name in weights_of(TRAINED) if name.endswith("moe.gate_proj.weight")}
    assert all(stated(entry).keys() == {"tensor", "reason"} for entry in listed)
    tools.convert(TRAINED, tmp_path / "b", *arguments)
    a, b = ({t.name: t.data for f in (tmp_path / x).glob("*.gguf") for t in gguf.GGUFReader(f).tensors} for x in "ab")
    assert a.keys() == b.keys()
    for name in a:
        encoded = "ffn_gate_exps" not in name and "norm" not in name and name.startswith("blk") and "gate_inp" not in name
        assert (a[name] == b[name]).all() != encoded, name
    assert tools.json("step3-verify", "tensors", tmp_path / "a", "--source", TRAINED)["ok"]


def test_blocks_are_the_same_for_any_threads_memory_and_cut(tools, tmp_path):
    tokens = some_tokens(tmp_path, 10)
    common = ("--method", "gptq", "--calibration-tokens", tokens)
    arguments = ("--to", "gguf", "--quantize", "Q4_0", *common)
    outputs = []
    for threads, memory in [(1, "128MiB"), (3, "2GiB")]:
        tools.convert(TRAINED, tmp_path / f"{threads}", *arguments, "--threads", threads, "--memory", memory)
        outputs.append([file.read_bytes() for file in sorted((tmp_path / f"{threads}").glob("*.gguf"))])
    assert outputs[0] == outputs[1]
    tools.json("step3-convert", TRAINED, tmp_path / "cut", *arguments, "--partition", "afd", "--ffn-tp", 2, "--ffn-ep", 2)
    tools.json("step3-convert", tmp_path / "cut", tmp_path / "merged", "--to", "gguf")
    a, b = ({t.name: t.data for f in (tmp_path / x).glob("*.gguf") for t in gguf.GGUFReader(f).tensors} for x in ("1", "merged"))
    assert a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)
    # Tiles and scales of whole matrices, cut and whole.
    for recipe, scope in (("FP8_BLOCK", "experts"), ("NVFP4A16", "linear")):
        arguments = ("--to", "safetensors", "--quantize", recipe, "--scope", scope, *common)
        tools.convert(TRAINED, tmp_path / f"{recipe}-whole", *arguments)
        assert tools.json("step3-verify", "tensors", tmp_path / f"{recipe}-whole", "--source", TRAINED)["ok"]
        tools.json(
            "step3-convert", TRAINED, tmp_path / f"{recipe}-cut", *arguments, "--partition", "afd", "--ffn-ep", 2, "--threads", 1)
        tools.json("step3-convert", tmp_path / f"{recipe}-cut", tmp_path / f"{recipe}-merged", "--to", "safetensors")
        a, b = tensors(tmp_path / f"{recipe}-whole"), tensors(tmp_path / f"{recipe}-merged")
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name].view(torch.uint8), b[name].view(torch.uint8)) for name in a)
