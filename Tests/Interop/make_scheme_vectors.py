"""Writes Fixtures/golden/schemes/*.safetensors: BF16 weights as encoded by the schemes' own libraries.

    pip install compressed-tensors==0.20.0 nvidia-modelopt==0.47.0 torchao==0.18.0 torch safetensors numpy
    python Tests/Interop/make_scheme_vectors.py Fixtures/golden/schemes

`inputs.safetensors` has the weights `x` [matrices, rows, columns]. Each other file has, for one scheme, `codes` and
`scales` as the library stores them, `global` (one per matrix, where the scheme has it), `values` (the library's
decoding in F32) and `rows`: which of all rows it speaks for. Rows are left out only where the library divides by zero
or the documentation of RowScheme names a difference.

compressed-tensors takes the scales from its own rule for the smallest and largest weight (calculate_qparams,
generate_gparam), as observers in front of it do, in the weight's type.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from compressed_tensors.compressors.base import BaseCompressor
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import dequantize
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from safetensors.torch import save_file

COLUMNS, ROWS = 256, 4
BF16, F32 = torch.bfloat16, torch.float32


def inputs():
    """[matrices, rows, columns]: each matrix of a different kind."""
    rng = np.random.default_rng(20261125)
    shape = (ROWS, COLUMNS)
    gauss = lambda: rng.standard_normal(shape)
    sparse = lambda share: rng.random(shape) < share
    kinds = [
        gauss() * 0.02,
        gauss() * 0.3,
        gauss() / np.maximum(0.02, rng.random(shape)) * 0.01,  # outliers
        np.ldexp(rng.uniform(-1, 1, shape), rng.integers(-40, 20, shape)),
        rng.integers(-24, 25, shape) * 0.25,  # ties of four-bit floats
        rng.integers(-255, 256, shape) * 0.5,  # ties of integers
        np.abs(gauss()) * 0.1 + 0.001,
        -np.abs(gauss()) * 0.1 - 0.001,
        np.full(shape, 0.37) * np.array([[1], [-1], [1e-3], [1e3]]),  # constant
        np.where(sparse(0.03), gauss(), np.where(sparse(0.5), -0.0, 0.0)),  # groups of zeros, signed
        np.zeros(shape),
        np.where(rng.random((ROWS, 1)) < 0.6, 0.0, gauss()),  # whole rows of zeros
        gauss() * 1e-12,
        gauss() * 1e-30,
        rng.integers(-127, 128, shape) * 2.0**-133,  # subnormal
        rng.uniform(-1, 1, shape) * 1e38,
        np.where(sparse(0.01), 1e4, 1e-4) * gauss(),
        gauss() * np.logspace(-6, 2, COLUMNS),
        gauss() * np.array([[1e-9], [1e-3], [1.0], [300.0]]),
    ]
    # 7/4 of a power of two, and its neighbours, where the exponent of MXFP4 changes.
    edge = gauss() * 0.25
    for group in range(COLUMNS // 32):
        edge[:, 32 * group] = [1.75, 1.7421875, 1.7578125, -1.75]
    kinds.append(edge)
    x = torch.tensor(np.stack(kinds), dtype=torch.float64).to(F32).to(BF16)
    assert torch.isfinite(x).all()
    return x.contiguous()


def extremes(x, group):
    """The smallest and largest weight of each group, [rows, groups]."""
    grouped = x.unflatten(-1, (-1, group or x.shape[-1]))
    return grouped.amin(-1), grouped.amax(-1)


def compressed_tensors(x, name, weights, activations=None, group=None):
    """Every matrix of x through one compressor; codes, scales, values, and global scales."""
    args = QuantizationArgs(**weights)
    inputs = QuantizationArgs(**activations) if activations else None
    scheme = QuantizationScheme(targets=["Linear"], weights=args, input_activations=inputs, format=name)
    compressor = BaseCompressor.get_value_from_registry(name)
    found = {"codes": [], "scales": [], "values": [], "global": []}
    for matrix in x:
        low, high = extremes(matrix, group)
        state = {"weight": matrix.clone()}
        shared = None
        if args.strategy == "tensor_group":
            shared = generate_gparam(matrix.amin(), matrix.amax())
            state["weight_global_scale"] = shared
            found["global"].append(shared[0])
        scale, zero_point = calculate_qparams(low, high, args, global_scale=shared)
        state["weight_scale"], state["weight_zero_point"] = scale, zero_point
        stored = compressor.compress(state, scheme)
        packed = stored.get("weight_packed", stored.get("weight"))
        if name == "pack-quantized":
            codes = unpack_from_int32(packed, 4, matrix.shape)
        elif packed.dtype == torch.uint8:
            codes = unpack_fp4_from_uint8(packed, *matrix.shape, dtype=F32)
        else:
            codes = packed
        scales = stored["weight_scale"]
        numbers = torch.exp2(scales.to(F32) - 127) if scales.dtype == torch.uint8 else scales.to(F32)
        found["codes"].append(packed)
        found["scales"].append(scales)
        found["values"].append(dequantize(codes, numbers, None, args, dtype=F32, global_scale=shared))
    return {key: torch.stack(tensors) for key, tensors in found.items() if tensors}


def model_opt(x):
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    found = {"codes": [], "scales": [], "values": [], "global": []}
    rows = []
    for index, matrix in enumerate(x):
        codes, scales, shared = NVFP4QTensor.quantize(matrix.clone(), 16)
        values = codes.dequantize(F32, scale=scales, double_scale=shared, block_sizes={-1: 16})
        found["codes"].append(codes._quantized_data)
        found["scales"].append(scales)
        found["values"].append(values)
        found["global"].append(shared)
        # The library divides by the scale: a zero scale, or one too small for F32, gives NaN.
        if shared > 0 and (scales.to(F32) * shared > 0).all():
            rows += range(index * ROWS, (index + 1) * ROWS)
    return {key: torch.stack(tensors) for key, tensors in found.items()} | {"rows": torch.tensor(rows)}


def microscaling(x):
    from torchao.prototype.mx_formats.config import ScaleCalculationMode
    from torchao.prototype.mx_formats.mx_tensor import to_mx

    scales, codes = to_mx(x, torch.float4_e2m1fn_x2, 32, ScaleCalculationMode.FLOOR)
    scales, codes = scales.view(torch.uint8), codes.view(torch.uint8).reshape(*x.shape[:2], -1)
    numbers = unpack_fp4_from_uint8(codes.flatten(0, 1), x.shape[0] * ROWS, COLUMNS, dtype=F32)
    factors = torch.exp2(scales.flatten(0, 1).to(F32) - 127).repeat_interleave(32, dim=-1)
    # torchao divides by 2^-126 where it stores 2^-127.
    exact = ((scales > 0) | (x.unflatten(-1, (-1, 32)) == 0).all(-1)).all(-1)
    return {
        "codes": codes, "scales": scales, "values": (numbers * factors).view(x.shape),
        "rows": exact.flatten().nonzero().flatten(),
    }


def int8_of_sglang(x):
    """The arithmetic of the converter published with DeepSeek-R1-Channel-INT8, on BF16."""
    scales = x.abs().amax(-1, keepdim=True) / 127.0
    codes = (x / scales).round().clamp(-127, 127)
    exact = (scales != 0).flatten().nonzero().flatten()
    codes = torch.where(scales == 0, torch.zeros_like(codes), codes).to(torch.int8)
    return {"codes": codes, "scales": scales.to(F32), "values": codes.to(F32) * scales.to(F32), "rows": exact}


def main(directory):
    x = inputs()
    token = {"strategy": "token", "symmetric": True, "dynamic": True, "num_bits": 8}
    int4 = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group"}
    eight = {"num_bits": 8, "symmetric": True, "strategy": "channel"}
    fp4 = {"num_bits": 4, "type": "float", "symmetric": True}
    found = {
        "fp8-channel": compressed_tensors(
            x, "float-quantized", eight | {"type": "float"}, token | {"type": "float"}),
        "int8-channel": compressed_tensors(x, "int-quantized", eight | {"type": "int"}, token | {"type": "int"}),
        "w8a8-int8": int8_of_sglang(x),
        "nvfp4": compressed_tensors(
            x, "nvfp4-pack-quantized",
            fp4 | {"strategy": "tensor_group", "group_size": 16, "scale_dtype": torch.float8_e4m3fn}, group=16),
        "nvfp4-modelopt": model_opt(x),
        "mxfp4": compressed_tensors(
            x, "mxfp4-pack-quantized",
            fp4 | {"strategy": "group", "group_size": 32, "scale_dtype": torch.uint8}, group=32),
        "mxfp4-ocp": microscaling(x),
    }
    for group in (32, 64, 128):
        found[f"int4-{group}"] = compressed_tensors(
            x, "pack-quantized", int4 | {"group_size": group}, group=group)
    everything = torch.arange(x.shape[0] * ROWS)
    save_file({"x": x}, directory / "inputs.safetensors")
    for name, tensors in found.items():
        tensors = {"rows": everything} | tensors
        # Scales of whole rows are F32 in our files and in the engines; BF16 numbers are F32 numbers.
        if name.endswith("channel"):
            tensors["scales"] = tensors["scales"].to(F32)
        save_file({key: value.contiguous() for key, value in tensors.items()}, directory / f"{name}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
