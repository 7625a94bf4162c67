"""The decoder that outputs are compared with, itself compared with compressed-tensors, gguf and vectors worked out by hand."""

import numpy
import pytest
import torch
from compressed_tensors.compressors.base import BaseCompressor
from compressed_tensors.quantization import QuantizationScheme

from arithmetic import load_json, read_safetensors
from case_inputs import BF16, E4M3, E8M0, TYPE_NAMES, write_safetensors
from conftest import FIXTURES
from independent_decoder import Decoded, Unclear, decode, first_difference, unpacked
from make_definition_vectors import vectors
from stored_forms import FORMS, words

STEM = "model.layers.0.mlp.up_proj"


def stored(values):
    return TYPE_NAMES[values.dtype], values.shape, values.tobytes()


def meaning(parts, settings=None):
    tensors = {f"{STEM}.{suffix}": stored(values) for suffix, values in parts.items()}
    config = None if settings is None else {"quantization_config": settings}
    return decode(tensors, config).weights[f"{STEM}.weight"].values


# By hand: every number below was worked out from the format's definition.


def test_gptq_by_hand():
    """Two outputs of eight inputs, one word each; group 0 is inputs 0 to 3, group 1 the others. A stored zero point
    is one less than what it means."""
    # Nibbles from the low end: input 0 first.
    qweight = numpy.array([[0x76543210, 0x0FEDCBA9]], numpy.uint32).view(numpy.int32)
    # Outputs from the low end. Group 0: 7 and 3, meaning 8 and 4; group 1: 0 and 14, meaning 1 and 15.
    qzeros = numpy.array([[0x37], [0xE0]], numpy.uint32).view(numpy.int32)
    scales = numpy.array([[0.5, 2], [0.25, 1]], numpy.float16)
    parts = {"qweight": qweight, "qzeros": qzeros, "scales": scales, "g_idx": numpy.array([0] * 4 + [1] * 4, numpy.int32)}
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 4}
    with pytest.raises(Unclear):
        meaning(parts, settings)  # two outputs do not fill a word of zero points
    eight = {
        "qweight": numpy.tile(qweight, 4),
        # 7 3 7 3 7 3 7 3 and 0 E 0 E 0 E 0 E from the low end.
        "qzeros": numpy.array([[0x37373737], [0xE0E0E0E0]], numpy.uint32).view(numpy.int32),
        "scales": numpy.tile(scales, 4), "g_idx": parts["g_idx"],
    }  # fmt: skip
    first = [(0 - 8) * 0.5, (1 - 8) * 0.5, (2 - 8) * 0.5, (3 - 8) * 0.5, (4 - 1) * 0.25, 1, 1.25, 1.5]
    second = [(9 - 4) * 2, (10 - 4) * 2, (11 - 4) * 2, (12 - 4) * 2, 13 - 15, 14 - 15, 15 - 15, 0 - 15]
    numpy.testing.assert_array_equal(meaning(eight, settings), [first, second] * 4)
    # Version 2 stores zero points without the offset, so every value is larger by one scale.
    newer = meaning(eight, {**settings, "checkpoint_format": "gptq_v2"})
    numpy.testing.assert_array_equal(newer[0], numpy.add(first, [0.5] * 4 + [0.25] * 4))
    # With another order: input 0 belongs to group 1.
    moved = {**eight, "g_idx": numpy.array([1, 0, 0, 0, 0, 1, 1, 1], numpy.int32)}
    numpy.testing.assert_array_equal(
        meaning(moved, settings)[0], [(0 - 1) * 0.25, *first[1:4], (4 - 8) * 0.5, *first[5:]])


def test_awq_by_hand():
    """One input, eight outputs in a word: its nibbles are outputs 0, 2, 4, 6, 1, 3, 5, 7. Zero points are stored without an offset."""
    qweight = numpy.array([[0x7531_6420]], numpy.uint32).view(numpy.int32)
    qzeros = numpy.array([[0x1111_0000]], numpy.uint32).view(numpy.int32)
    parts = {"qweight": qweight, "qzeros": qzeros, "scales": numpy.full((1, 8), 0.5, numpy.float16)}
    values = meaning(parts, {"quant_method": "awq", "bits": 4, "group_size": 1})
    # The code of output n is n; odd outputs have the zero point 1.
    numpy.testing.assert_array_equal(values[:, 0], [0, 0, 1, 1, 2, 2, 3, 3])


def test_packed_integers_by_hand():
    """Codes and zero points are stored with a bias of eight; columns 0, 2, 4, ... belong to group 1."""
    packed = numpy.array([[0x0F8_76543], [0x0123_4567]], numpy.uint32).view(numpy.int32)
    parts = {
        "weight_packed": packed, "weight_scale": numpy.array([[1, 2], [4, 8]], BF16),
        "weight_shape": numpy.array([2, 8], numpy.int64),
        # Rows from the low end: group 0 has 8 and 9, meaning 0 and 1; group 1 has 7 and 8, meaning -1 and 0.
        "weight_zero_point": numpy.array([[0x98, 0x87]], numpy.uint32).view(numpy.int32),
        "weight_g_idx": numpy.array([1, 0] * 4, numpy.int32),
    }  # fmt: skip
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 4, "symmetric": False}
    settings = {"quant_method": "compressed-tensors", "config_groups": {"g": {"targets": ["Linear"], "weights": weights}}}
    expected = [
        # codes 3 4 5 6 7 8 15 0, less eight, less the zero point, times the scale of the group
        [(-5 + 1) * 2, -4, (-3 + 1) * 2, -2, (-1 + 1) * 2, 0, (7 + 1) * 2, -8],
        # codes 7 6 5 4 3 2 1 0
        [-1 * 8, (-2 - 1) * 4, -3 * 8, (-4 - 1) * 4, -5 * 8, (-6 - 1) * 4, -7 * 8, (-8 - 1) * 4],
    ]
    numpy.testing.assert_array_equal(meaning(parts, settings), expected)


def test_three_bits_with_and_without_gaps():
    codes = numpy.arange(64, dtype=numpy.uint8)[None] % 8
    for dense, count in ((True, 6), (False, 7)):
        packed = words(codes, 3, dense=dense)
        assert packed.shape == (1, count)
        numpy.testing.assert_array_equal(unpacked(packed, 3, 64), codes)
    # Element 10 of dense words is two bits of the first word and one of the second.
    first = numpy.array([[1 << 30, 1]], numpy.uint32).view(numpy.int32)
    with pytest.raises(ValueError):
        unpacked(first, 3, 20)
    assert unpacked(numpy.concatenate([first] * 3, -1), 3, 64)[0, 10] == 5


def test_exponents_by_hand():
    codes = numpy.array([[0x38] * 32], numpy.uint8)
    one = codes.view(E4M3)
    for scale in (numpy.array([[130]], numpy.uint8), numpy.array([[130]], numpy.uint8).view(E8M0)):
        numpy.testing.assert_array_equal(meaning({"weight": one, "weight_scale": scale}), [[8.0] * 32])


# compressed-tensors' own decompression

PACKAGE = [
    name for name, (_, settings) in FORMS.items()
    if settings.get("quant_method") == "compressed-tensors" and "order" not in name and "flat" not in name
    and "fnuz" not in name and name != "packed-4-no-shape"
]  # fmt: skip


@pytest.mark.parametrize("name", PACKAGE)
def test_the_package_decompresses_to_the_same(random, name):
    make, settings = FORMS[name]
    parts = make(random, (64, 128))
    scheme = dict(settings["config_groups"]["group_0"])
    scheme["weights"] = {key: value for key, value in scheme["weights"].items() if value is not None}
    scheme["format"] = settings["format"]
    scheme = QuantizationScheme.model_validate(scheme)

    def tensor(values):
        kinds = {"bfloat16": torch.bfloat16, "float8_e4m3fn": torch.float8_e4m3fn}
        kind = kinds.get(values.dtype.name)
        bits = {2: numpy.int16, 1: numpy.uint8}
        if kind is None:
            return torch.from_numpy(values.copy())
        return torch.from_numpy(values.view(bits[values.itemsize]).copy()).view(kind)

    state = {suffix: tensor(values) for suffix, values in parts.items()}
    if "weight_global_scale" not in parts and state["weight_scale"].dtype.is_floating_point:
        state["weight_scale"] = state["weight_scale"].to(torch.float32)
    theirs = BaseCompressor.get_value_from_registry(settings["format"]).decompress(state, scheme)["weight"]
    kind = {torch.float32: "F32", torch.bfloat16: "BF16"}[theirs.dtype]
    ours = meaning(parts, settings)
    assert numpy.count_nonzero(ours) > ours.size / 2
    assert first_difference(Decoded(ours, "?"), Decoded(theirs.double().numpy(), kind), name) is None


def test_the_vectors_are_those_of_the_decoder(tmp_path):
    """Fixtures/golden/definitions, with which step3-verify's decoder is compared."""
    tensors, settings = vectors()
    write_safetensors(tmp_path / "forms.safetensors", tensors, {"format": "pt"})
    golden = FIXTURES / "golden" / "definitions"
    assert read_safetensors(golden / "forms.safetensors") == read_safetensors(tmp_path / "forms.safetensors")
    assert load_json(golden / "settings.json") == settings


# Unclear tensors are not decoded


@pytest.mark.parametrize("form", FORMS)
def test_stacks_decode_like_their_matrices(random, form):
    """A stack of three matrices decodes like each of them alone."""
    make, settings = FORMS[form]
    shape = (3, 128, 128)
    parts = make(random, shape)
    together = meaning(parts, settings)
    assert together.shape == shape
    for index in range(3):
        alone = {suffix: values[index] if values.shape[:1] == (3,) else values for suffix, values in parts.items()}
        numpy.testing.assert_array_equal(meaning(alone, settings), together[index])


@pytest.mark.parametrize("form", FORMS)
def test_missing_and_mismatching_companions_are_unclear(random, form):
    make, settings = FORMS[form]
    parts = make(random, (128, 128))
    for suffix in parts:
        if suffix in ("weight", "weight_packed", "qweight", "weight_shape", "g_idx", "weight_g_idx"):
            continue
        if suffix == "weight_zero_point" and "packed" not in form:
            continue
        with pytest.raises(Unclear):
            meaning({name: values for name, values in parts.items() if name != suffix}, settings)
        if parts[suffix].size > 1:
            with pytest.raises(Unclear):
                meaning({**parts, suffix: parts[suffix].reshape(-1)[:-1].copy()}, settings)
    with pytest.raises(Unclear):
        meaning({**parts, "weight_quantizer_amax": numpy.ones(1, numpy.float32)}, settings)
