"""Weights in the forms that quantisers store: random codes and scales, packed as each format's definition says,
with the `quantization_config` that goes with them.

A form gives the tensors of one module, by their suffixes to its name. Values do not matter, so nothing is
quantised: decoding a form is up to `independent_decoder`."""

import numpy

from case_inputs import BF16, E4M3, E4M3FNUZ, E5M2, E5M2FNUZ, E8M0


def floats(random, shape, kind):
    """Finite codes of an eight-bit floating-point type, all of them equally likely."""
    codes = random.integers(0, 256, shape, numpy.uint8)
    values = codes.view(kind).astype(numpy.float32)
    return numpy.where(numpy.isfinite(values), codes, 0).astype(numpy.uint8).view(kind)


def scales(random, shape, kind=numpy.float32, size=1e-3):
    return (size * random.uniform(0.5, 2, shape)).astype(kind)


def powers(random, shape, low=110, high=124):
    """Exponents as MX formats store them, with a bias of 127."""
    return random.integers(low, high, shape, numpy.uint8)


def words(codes, bits, axis=-1, dense=True):
    """Packs codes of the given width into 32-bit words along an axis, the first in the lowest bits. Dense words have no gaps; the
    others hold whole codes only."""
    codes = numpy.moveaxis(numpy.asarray(codes, numpy.uint8), axis, -1)
    if not dense:
        per_word = 32 // bits
        padding = -codes.shape[-1] % per_word
        codes = numpy.concatenate([codes, numpy.zeros((*codes.shape[:-1], padding), numpy.uint8)], -1)
        codes = codes.reshape(*codes.shape[:-1], -1, per_word)
    digits = numpy.unpackbits(codes[..., None], axis=-1, bitorder="little")[..., :bits]
    digits = digits.reshape(*codes.shape[:-1], -1)
    padding = -digits.shape[-1] % 32
    digits = numpy.concatenate([digits, numpy.zeros((*digits.shape[:-1], padding), numpy.uint8)], -1)
    packed = numpy.packbits(digits, axis=-1, bitorder="little").view(numpy.int32)
    if not dense:
        packed = packed[..., 0]
    return numpy.ascontiguousarray(numpy.moveaxis(packed, -1, axis))


def awq_order(codes):
    """Eight neighbours in the order in which AWQ puts them into a word: the even ones first."""
    shape = codes.shape
    return codes.reshape(*shape[:-1], -1, 8)[..., [0, 2, 4, 6, 1, 3, 5, 7]].reshape(shape)


def tiles(shape, height, width):
    return (*shape[:-2], -(-shape[-2] // height), -(-shape[-1] // width))


def compressed_tensors(layout, **weights):
    return {
        "quant_method": "compressed-tensors", "format": layout, "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {"targets": ["Linear"], "weights": {"symmetric": True, "dynamic": False, **weights}}
        },
    }  # fmt: skip


FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
FP8_TILES = {**FP8, "fmt": "e4m3", "weight_block_size": [128, 128]}
FLOAT8 = compressed_tensors("float-quantized", num_bits=8, type="float", strategy="channel")
INT8 = compressed_tensors("int-quantized", num_bits=8, type="int", strategy="channel")


# FP8


def fp8_tiles(random, shape, *, codes=E4M3, kind=numpy.float32, name="weight_scale_inv", side=(128, 128)):
    count = tiles(shape, *side)
    factor = powers(random, count).view(E8M0) if kind is E8M0 else scales(random, count, kind)
    return {"weight": floats(random, shape, codes), name: factor}


def fp8_rows(random, shape, *, codes=E4M3, kind=numpy.float32, keep_axis=True):
    rows = (*shape[:-1], 1) if keep_axis else shape[:-1]
    return {"weight": floats(random, shape, codes), "weight_scale": scales(random, rows, kind)}


def fp8_matrix(random, shape, *, codes=E4M3, name="weight_scale", kind=numpy.float32, scalar=()):
    count = shape[:-2] or scalar
    return {"weight": floats(random, shape, codes), name: scales(random, count, kind)}


def mxfp8(random, shape, *, name="weight_scale"):
    return {"weight": floats(random, shape, E4M3), name: powers(random, (*shape[:-1], shape[-1] // 32))}


# Integers


def int8_rows(random, shape, *, zero=False, keep_axis=True, kind=numpy.float32):
    rows = (*shape[:-1], 1) if keep_axis else shape[:-1]
    tensors = {
        "weight": random.integers(-128, 128, shape).astype(numpy.int8), "weight_scale": scales(random, rows, kind)
    }  # fmt: skip
    if zero:
        tensors["weight_zero_point"] = random.integers(-20, 20, rows).astype(numpy.int8)
    return tensors


def packed(
    random, shape, *, bits=4, group=32, zero=False, order=False, kind=BF16, with_shape=True, dense=True
):  # fmt: skip
    """compressed-tensors' pack-quantized; `group` 0 is one scale per row."""
    count = shape[-1] // group if group else 1
    tensors = {
        "weight_packed": words(random.integers(0, 1 << bits, shape), bits, dense=dense),
        "weight_scale": scales(random, (*shape[:-1], count), kind, 0.01),
    }
    if with_shape:
        whole = numpy.array(shape[-2:], numpy.int64)
        tensors["weight_shape"] = numpy.tile(whole, (*shape[:-2], 1)) if len(shape) > 2 else whole
    if zero:
        points = random.integers(0, 1 << bits, (*shape[:-1], count))
        tensors["weight_zero_point"] = words(points, bits, axis=-2, dense=dense)
    if order:
        index = numpy.repeat(numpy.arange(count), shape[-1] // count)
        tensors["weight_g_idx"] = numpy.broadcast_to(
            random.permutation(index).astype(numpy.int32), (*shape[:-2], shape[-1])
        ).copy()
    return tensors


def packed_settings(bits=4, group=32, zero=False, order=False):
    return compressed_tensors(
        "pack-quantized", num_bits=bits, type="int", symmetric=not zero,
        strategy="group" if group else "channel", group_size=group or None, actorder="group" if order else None,
    )  # fmt: skip


def gptq(random, shape, *, bits=4, group=32, order=False, kind=numpy.float16):
    """Rows and columns are transposed: the inputs come first."""
    rows, columns = shape[-2:]
    count = columns // group
    turned = (*shape[:-2], columns, rows)
    # 0 to 2^bits - 2: the largest value would stand for a zero point of 0, which readers treat differently.
    points = random.integers(0, (1 << bits) - 1, (*shape[:-2], count, rows))
    index = numpy.arange(columns) // group
    index = random.permutation(index) if order else index
    return {
        "qweight": words(random.integers(0, 1 << bits, turned), bits, axis=-2),
        "qzeros": words(points, bits),
        "scales": scales(random, (*shape[:-2], count, rows), kind, 0.01),
        "g_idx": numpy.broadcast_to(index.astype(numpy.int32), (*shape[:-2], columns)).copy(),
    }


def gptq_settings(bits=4, group=32, order=False, version=None):
    settings = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": order, "sym": False}
    return settings | ({"checkpoint_format": version} if version else {})


def awq(random, shape, *, group=32, kind=numpy.float16):
    rows, columns = shape[-2:]
    points = random.integers(0, 16, (*shape[:-2], columns // group, rows))
    return {
        "qweight": words(awq_order(random.integers(0, 16, (*shape[:-2], columns, rows))), 4),
        "qzeros": words(awq_order(points), 4),
        "scales": scales(random, (*shape[:-2], columns // group, rows), kind, 0.01),
    }


def awq_settings(group=32):
    return {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}


# Four-bit floats


def nvfp4(random, shape):
    """compressed-tensors': the scale of the matrix is a divisor."""
    half = (*shape[:-1], shape[-1] // 2)
    return {
        "weight_packed": random.integers(0, 256, half, numpy.uint8),
        "weight_scale": random.uniform(1, 400, (*shape[:-1], shape[-1] // 16)).astype(E4M3),
        "weight_global_scale": random.uniform(5e3, 2e4, shape[:-2] or (1,)).astype(numpy.float32),
    }


def modelopt_nvfp4(random, shape):
    """ModelOpt's: the scale of the matrix is a factor."""
    tensors = nvfp4(random, shape)
    factor = (1 / tensors.pop("weight_global_scale").reshape(shape[:-2])).astype(numpy.float32)
    return {"weight": tensors.pop("weight_packed"), **tensors, "weight_scale_2": factor}


def mxfp4(random, shape, *, name="weight_packed"):
    half = (*shape[:-1], shape[-1] // 2)
    return {
        name: random.integers(0, 256, half, numpy.uint8),
        "weight_scale": powers(random, (*shape[:-1], shape[-1] // 32)),
    }


NVFP4 = compressed_tensors(
    "nvfp4-pack-quantized", num_bits=4, type="float", strategy="tensor_group", group_size=16)  # fmt: skip
MXFP4 = compressed_tensors("mxfp4-pack-quantized", num_bits=4, type="float", strategy="group", group_size=32)
MODELOPT = {"quant_method": "modelopt", "quant_algo": "W4A16_NVFP4", "group_size": 16, "exclude_modules": ["lm_head"]}


# All forms: the tensors of a module of a shape, and the configuration


def forms():
    """Every supported form, by a name for messages: (make(random, shape), quantization_config)."""
    found = {
        "fp8-tiles": (fp8_tiles, FP8_TILES),
        "fp8-tiles-bf16": (lambda r, s: fp8_tiles(r, s, kind=BF16), FP8_TILES),
        "fp8-tiles-e8m0": (lambda r, s: fp8_tiles(r, s, kind=E8M0), FP8_TILES),
        "fp8-tiles-64": (
            lambda r, s: fp8_tiles(r, s, side=(64, 64)), {**FP8_TILES, "weight_block_size": [64, 64]}),
        "fp8-tiles-by-another-name": (lambda r, s: fp8_tiles(r, s, name="weight_scale"), FP8_TILES),
        "fp8-rows": (fp8_rows, FLOAT8),
        "fp8-rows-f16": (lambda r, s: fp8_rows(r, s, kind=numpy.float16), FLOAT8),
        "fp8-rows-flat": (lambda r, s: fp8_rows(r, s, keep_axis=False), FLOAT8),
        "fp8-matrix": (fp8_matrix, FP8),
        "fp8-matrix-inverse": (lambda r, s: fp8_matrix(r, s, name="weight_scale_inv", scalar=(1,)), FP8),
        "e5m2-matrix": (lambda r, s: fp8_matrix(r, s, codes=E5M2, scalar=(1,)), {**FP8, "fmt": "e5m2"}),
        "e4m3fnuz-matrix": (lambda r, s: fp8_matrix(r, s, codes=E4M3FNUZ), FP8),
        "e5m2fnuz-rows": (lambda r, s: fp8_rows(r, s, codes=E5M2FNUZ), FLOAT8),
        "mxfp8": (mxfp8, {"quant_method": "mxfp8"}),
        "int8-rows": (int8_rows, INT8),
        "int8-rows-flat": (lambda r, s: int8_rows(r, s, keep_axis=False), INT8),
        "int8-rows-bf16": (lambda r, s: int8_rows(r, s, kind=BF16), INT8),
        "int8-zero": (
            lambda r, s: int8_rows(r, s, zero=True),
            compressed_tensors("int-quantized", num_bits=8, type="int", strategy="channel", symmetric=False)),
        "awq": (awq, awq_settings()),
        "gptq": (gptq, gptq_settings()),
        "gptq-order": (lambda r, s: gptq(r, s, order=True), gptq_settings(order=True)),
        "gptq-8": (lambda r, s: gptq(r, s, bits=8), gptq_settings(8)),
        "gptq-2-v2": (lambda r, s: gptq(r, s, bits=2), gptq_settings(2, version="gptq_v2")),
        "nvfp4": (nvfp4, NVFP4),
        "nvfp4-modelopt": (modelopt_nvfp4, MODELOPT),
        "mxfp4": (mxfp4, MXFP4),
    }  # fmt: skip
    for bits in range(2, 9):
        found[f"packed-{bits}"] = (lambda r, s, bits=bits: packed(r, s, bits=bits), packed_settings(bits))
    for name, more in {
        "zero": {"zero": True}, "order": {"order": True}, "order-zero": {"order": True, "zero": True},
        "rows": {"group": 0}, "f16": {"kind": numpy.float16},
    }.items():  # fmt: skip
        settings = {key: value for key, value in more.items() if key != "kind"}
        found[f"packed-4-{name}"] = (lambda r, s, more=more: packed(r, s, **more), packed_settings(**settings))
    found["packed-8-rows-zero"] = (
        lambda r, s: packed(r, s, bits=8, group=0, zero=True), packed_settings(8, 0, True))  # fmt: skip
    found["packed-4-no-shape"] = (lambda r, s: packed(r, s, with_shape=False), packed_settings())
    return found


FORMS = forms()
