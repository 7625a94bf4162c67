"""Encodes and decodes matrices with compressed-tensors, and with numpy for the schemes that it lacks."""

import numpy
import torch
from compressed_tensors.compressors.base import BaseCompressor
from compressed_tensors.compressors.mx_utils import decompress_mx_scale
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from compressed_tensors.quantization.lifecycle.forward import dequantize
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

from arithmetic import array

# The matrices are small: more threads would spend longer waiting than computing.
torch.set_num_threads(1)

TORCH_TYPES = {
    "BF16": torch.bfloat16, "F32": torch.float32, "F8_E4M3": torch.float8_e4m3fn, "U8": torch.uint8,
    "I8": torch.int8, "I32": torch.int32, "I64": torch.int64,
}  # fmt: skip
E2M1 = numpy.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], numpy.float32)
FUSED = ["q_proj", "k_proj", "v_proj"]


# Tensors


def tensor(stored):
    """A (type, shape, bytes) triple as a tensor."""
    element_type, shape, data = stored
    return torch.frombuffer(bytearray(data), dtype=TORCH_TYPES[element_type]).reshape(shape)


def quantised(tensors):
    """The components of each quantised module by their own names: {module: {"weight_packed": (type, shape, bytes)}}."""
    scales = (".weight_scale", ".weight_scale_inv")
    names = [name.rpartition(".")[0] for name in tensors if name.endswith(scales)]
    return {
        module: {
            name.removeprefix(f"{module}."): stored
            for name, stored in tensors.items()
            if name.startswith(f"{module}.weight")
        }
        for module in names
    }


def matrices(components):
    """The components of each single matrix, in the package's form: one per expert, or one."""
    whole = {name: tensor(stored) for name, stored in components.items()}
    if whole["weight_scale"].dim() == 2:
        return [whole]
    count = len(whole["weight_scale"])
    assert all(len(value) == count for value in whole.values())
    single = [{name: value[index] for name, value in whole.items()} for index in range(count)]
    for state in single:
        if "weight_global_scale" in state:
            state["weight_global_scale"] = state["weight_global_scale"].reshape(1)
    return single


def weights_of(tensors, module):
    """The plain weights of a module, [matrices, rows, columns]; for a fused one, all rows in order."""
    parent, _, last = module.rpartition(".")
    if last == "qkv_proj":
        value = torch.cat([tensor(tensors[f"{parent}.{part}.weight"]) for part in FUSED])
    else:
        value = tensor(tensors[f"{module}.weight"])
    return value if value.dim() == 3 else value[None]


def same_bits(ours, theirs):
    """Equal type, shape and bytes, so that the signs of zeros count."""
    return (
        ours.dtype == theirs.dtype
        and ours.shape == theirs.shape
        and torch.equal(ours.contiguous().view(torch.uint8), theirs.contiguous().view(torch.uint8))
    )


# compressed-tensors


def decompressed(state, scheme):
    """One matrix as the package decompresses it: in F32 if its scales are, else in BF16."""
    compressor = BaseCompressor.get_value_from_registry(scheme.format)
    return compressor.decompress(state, scheme)["weight"]


def decompressed_in_f32(state, scheme):
    """The same from the package's parts, in F32 throughout."""
    scales = state["weight_scale"]
    match scheme.format:
        case "pack-quantized":
            codes = unpack_from_int32(state["weight_packed"], 4, torch.Size(state["weight_shape"]))
        case "nvfp4-pack-quantized" | "mxfp4-pack-quantized":
            rows, half = state["weight_packed"].shape
            codes = unpack_fp4_from_uint8(state["weight_packed"], rows, 2 * half, dtype=torch.float32)
        case _:
            codes = state["weight"]
    if scales.dtype == torch.uint8:
        scales = decompress_mx_scale(scales)
    shared = state.get("weight_global_scale")
    return dequantize(
        codes, scales.to(torch.float32), None, scheme.weights, dtype=torch.float32, global_scale=shared
    )


def shared_scale(matrices):
    """The package's global scale for matrices that share one in engines."""
    lowest = torch.stack([matrix.amin() for matrix in matrices]).amin()
    largest = torch.stack([matrix.amax() for matrix in matrices]).amax()
    return generate_gparam(lowest, largest)


def compressed(matrix, scheme, shared=None):
    """The components of a matrix in BF16, with scales from the package's own rule for the extremes of each group."""
    groups = matrix.unflatten(-1, (-1, scheme.weights.group_size or matrix.shape[-1]))
    scales, zeros = calculate_qparams(groups.amin(-1), groups.amax(-1), scheme.weights, global_scale=shared)
    state = {"weight": matrix.clone(), "weight_scale": scales, "weight_zero_point": zeros}
    if shared is not None:
        state["weight_global_scale"] = shared
    return BaseCompressor.get_value_from_registry(scheme.format).compress(state, scheme)


# numpy


def four_bits(codes):
    """E2M1 values of packed bytes, the even column in the low half."""
    packed = array(codes)
    return E2M1[numpy.stack([packed & 15, packed >> 4], axis=-1)].reshape(*packed.shape[:-1], -1)


def decoded_modelopt(components):
    """ModelOpt's NVFP4: the scale of 16 times the scale of the matrix, which is a factor here."""
    scales = array(components["weight_scale"]).astype(numpy.float32)
    shared = array(components["weight_scale_2"])
    shared = shared.reshape(*shared.shape, 1, 1) if scales.ndim == 3 else shared.reshape(1, 1)
    return four_bits(components["weight"]) * (scales * shared).repeat(16, axis=-1)


def decoded_mxfp4(components):
    """OCP's MXFP4: 32 codes times a power of two, stored as its exponent plus 127."""
    exponents = array(components["weight_scale"]).astype(numpy.int32) - 127
    return numpy.ldexp(four_bits(components["weight"]), exponents.repeat(32, axis=-1))


def decoded_rows(components):
    """One factor per row."""
    return array(components["weight"]).astype(numpy.float32) * array(components["weight_scale"])
