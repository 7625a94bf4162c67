"""GPTQ by llm-compressor itself, on single matrices: run by test_llmcompressor.py in an environment that has it.

Usage: llmcompressor_gptq.py JOBS RESULTS

JOBS is a safetensors file with N.weight [R, C], N.hessian [C, C], N.scale and, for NVFP4, N.global_scale for each N, and under
`arguments` in its metadata what QuantizationArgs takes.  RESULTS gets N.values [R, C] and N.nearest, 1 where H was not usable.
"""

import json
import sys

import torch
from compressed_tensors.quantization import QuantizationArgs
from llmcompressor.modifiers.gptq.gptq_quantize import quantize_weight
from safetensors import safe_open
from safetensors.torch import save_file


def main(jobs, results):
    # Products round differently when they are divided among more threads.
    torch.set_num_threads(1)
    out = {}
    with safe_open(jobs, "pt") as held:
        arguments = QuantizationArgs(**json.loads(held.metadata()["arguments"]))
        names = set(held.keys())
        for stem in sorted(name.removesuffix(".weight") for name in names if name.endswith(".weight")):
            scale = held.get_tensor(f"{stem}.scale")
            world = held.get_tensor(f"{stem}.global_scale") if f"{stem}.global_scale" in names else None
            values, _, nearest = quantize_weight(
                held.get_tensor(f"{stem}.weight")[None].clone(), held.get_tensor(f"{stem}.hessian")[None].clone(), scale[None],
                torch.zeros_like(scale)[None], None if world is None else world.reshape(1), arguments)
            out[f"{stem}.values"] = values[0].contiguous()
            out[f"{stem}.nearest"] = nearest.to(torch.uint8)
    save_file(out, results)


if __name__ == "__main__":
    main(*sys.argv[1:])
