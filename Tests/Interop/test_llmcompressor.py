"""The toolkit's GPTQ beside llm-compressor's own, with the same second moments and the same scales.

llm-compressor needs older versions of packages that the other tests use, so it has an environment of its own: `make llmcompressor` creates
it and runs this. Elsewhere test_gptq.py compares with a reimplementation of the same arithmetic, which this compares with the
original, bit for bit.
"""

import json
import os
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file

import gptq_reference
from conftest import ROOT
from forward_oracle import weights_of
from test_gptq import SCHEMES, TRAINED, apart, moments, second_moments, some_tokens, tensors  # noqa: F401

PYTHON = os.environ.get("STEP3_LLMCOMPRESSOR")
pytestmark = pytest.mark.skipif(not PYTHON, reason="STEP3_LLMCOMPRESSOR names no Python that has llm-compressor")

ARGUMENTS = {
    "W4A16": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128},
    "W4A16_G32": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32},
    "W8A8_INT8": {"num_bits": 8, "type": "int", "strategy": "channel"},
    "FP8_DYNAMIC": {"num_bits": 8, "type": "float", "strategy": "channel"},
    "FP8_BLOCK": {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]},
    "NVFP4A16": {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
}


@pytest.mark.parametrize("recipe", ARGUMENTS)
def test_codes_are_those_of_llm_compressor(tools, tmp_path, moments, recipe):  # noqa: F811
    group, quantise, suffix, decode, scale_of = SCHEMES[recipe]
    tools.convert(
        TRAINED, tmp_path / "out", "--to", "safetensors", "--quantize", recipe, "--scope", "linear", "--method", "gptq",
        "--calibration-tokens", some_tokens(tmp_path))
    held, source = tensors(tmp_path / "out"), weights_of(TRAINED)
    ours = apart(held, source)
    # As there: products round differently when they are divided among more threads.
    torch.set_num_threads(1)
    jobs, mine, reference, rounded = {}, {}, {}, {}
    for number, (name, expert, h) in enumerate(second_moments(moments)):
        stem = name.removesuffix("weight")
        scale_name = stem + ("weight_scale_inv" if recipe == "FP8_BLOCK" else "weight_scale")
        # A layer with all kinds of matrices, and every other one of its experts.
        if ".layers.2." not in name or scale_name not in ours or (expert or 0) % 2:
            continue
        pick = (lambda t: t) if expert is None else (lambda t: t[expert])
        weight, width = pick(source[name]).float(), group or source[name].shape[-1]
        scale = scale_of(pick(ours[scale_name])).reshape(-1, -(-weight.shape[1] // width)).float()
        job = f"{number}"
        jobs |= {f"{job}.weight": weight, f"{job}.hessian": h.float(), f"{job}.scale": scale}
        if recipe == "NVFP4A16":
            owner = next(n for n in (stem + "weight_global_scale", stem[:-7] + "qkv_proj.weight_global_scale") if n in held)
            jobs[f"{job}.global_scale"] = held[owner].flatten()[expert or 0].float()
            scale = scale / jobs[f"{job}.global_scale"]
        if recipe == "FP8_BLOCK":
            scale = scale.repeat_interleave(128, dim=0)[: len(weight)]
        each = scale.repeat_interleave(width, dim=1)[:, : weight.shape[1]]
        mine[job] = decode(pick(ours[stem + suffix])) * each
        reference[job], usable, *rounded[job] = gptq_reference.gptq(weight, h.float(), gptq_reference.scaled(quantise, scale, width))
        assert usable
    jobs = {name: tensor.contiguous().clone() for name, tensor in jobs.items()}
    save_file(
        jobs, tmp_path / "jobs.safetensors",
        metadata={"arguments": json.dumps(ARGUMENTS[recipe] | {"symmetric": True, "actorder": "static"})})
    subprocess.run(
        [PYTHON, ROOT / "Tests" / "Interop" / "llmcompressor_gptq.py", tmp_path / "jobs.safetensors", tmp_path / "results.safetensors"],
        check=True, capture_output=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    results = load_file(tmp_path / "results.safetensors")
    assert len(mine) > 6
    differing = elements = 0
    distances = []
    for job, values in mine.items():
        its = results[f"{job}.values"]
        assert not results[f"{job}.nearest"].any()
        # The reimplementation gives exactly the original's result.
        assert torch.equal(reference[job], its), (job, int((reference[job] != its).sum()), (reference[job] - its).abs().max())
        differing += int((values != its).sum())
        elements += values.numel()
        distances.append(gptq_reference.distance_to_ties(values, its, *rounded[job]))
        weight, h = jobs[f"{job}.weight"].double(), jobs[f"{job}.hessian"].double()
        a, b = (float((error @ h * error).sum()) for error in (weight - values.double(), weight - its.double()))
        assert a == pytest.approx(b, rel=0.015)
    print(f"{recipe}: {differing} of {elements} codes differ in {len(mine)} matrices")
    distances = torch.cat(distances)
    assert differing < 0.001 * elements
    # Where a row begins to differ, the original rounds a value next to a tie.
    assert len(distances) == 0 or distances.max() < 0.02, distances.max()
