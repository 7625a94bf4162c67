"""The toolkit's decoders on every block type that the gguf package can decode, bit for bit, in models other than Step-3."""

import gguf
import numpy
import pytest
from gguf import GGMLQuantizationType

from arithmetic import metadata, read_gguf, stored
from test_gguf import finish

DECODABLE = [*gguf.quants._type_traits, GGMLQuantizationType.F16]
ENCODABLE = ["BF16", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4"]

# The offsets of a block's binary16 scales; the other bytes may be anything.
SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "TQ1_0": [52], "TQ2_0": [64], "IQ2_XXS": [0],
    "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0], "IQ4_NL": [0], "IQ4_XS": [0],
}  # fmt: skip


def blocks(random, kind, rows, count):
    """Rows of random blocks with finite scales: normal, subnormal and zero, of both signs."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    data = random.integers(0, 256, (rows * count, size), numpy.uint8)
    scales = (random.standard_normal(data.shape[0]) * 0.02).astype(numpy.float16)
    scales[::17] = numpy.float16(5.9604644775390625e-08) * random.integers(-9, 9, scales[::17].shape)
    for offset in SCALES.get(kind.name, []):
        data[:, offset : offset + 2] = random.permutation(scales).view(numpy.uint8).reshape(-1, 2)
    match kind.name:
        case "BF16" | "F16":
            wide = random.standard_normal(data.shape[0]).astype(numpy.float32)
            half = wide.astype(numpy.float16).view(numpy.uint16)
            short = half if kind.name == "F16" else (wide.view(numpy.uint32) >> 16).astype(numpy.uint16)
            data[:] = short.view(numpy.uint8).reshape(-1, 2)
        case "IQ1_M":
            # The scale's four nibbles are the high ones of the last four 16-bit words.
            words = data[:, 48:56].view(numpy.uint16)
            bits = scales.view(numpy.uint16)
            for index in range(4):
                words[:, index] = words[:, index] & 0x0FFF | (bits >> (4 * index) & 0xF) << 12
        case "MXFP4":
            # Twelve halves of the power of two, the largest element, are infinity from code 253 on.
            data[:, 0] = random.integers(0, 253, data.shape[0])
        case "NVFP4":
            # UE4M3: the sign bit is unused, 127 is NaN.
            data[:, :4] = random.integers(0, 127, (data.shape[0], 4))
    return data.reshape(rows, count * size)


@pytest.mark.parametrize("kind", DECODABLE, ids=lambda kind: kind.name)
def test_decoding_to_f32(tools, tmp_path, random, kind):
    elements, _ = gguf.GGML_QUANT_SIZES[kind]
    count = max(4, 256 // elements * 2)
    data = blocks(random, kind, 24, count)
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 1)
    writer.add_tensor("blk.0.ffn_down.weight", data, raw_dtype=kind)
    finish(writer)

    output = tmp_path / "output"
    tools.convert(path, output, "--to", "gguf", "--quantize", "F32")
    tensors, reader = read_gguf(output / "model.gguf")
    assert reader.fields["general.architecture"].contents() == "llama"
    element_type, shape, ours = tensors["blk.0.ffn_down.weight"]
    assert (element_type, shape) == ("F32", (24, count * elements))
    if kind.name == "F16":
        theirs = data.view(numpy.float16).astype(numpy.float32)
    else:
        theirs = gguf.quants.dequantize(data, kind)
    assert numpy.isfinite(theirs).all()
    mine = numpy.frombuffer(ours, numpy.float32).reshape(shape)
    # Values first, for a message with the position; then the bits, signs of zeros included.
    numpy.testing.assert_array_equal(mine, theirs)
    different = mine.view(numpy.uint32) != numpy.ascontiguousarray(theirs).view(numpy.uint32)
    assert not different.any(), f"{different.sum()} zeros differ in their sign"


@pytest.mark.parametrize("name", ENCODABLE)
def test_encoding_from_f32(tools, tmp_path, random, name):
    values = (random.standard_normal((48, 1024)) * 0.05).astype(numpy.float32)
    values[0] = 0
    values[1, ::2] = 0
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 1)
    writer.add_tensor("blk.0.ffn_up.weight", values)
    finish(writer)
    output = tmp_path / "output"
    tools.convert(path, output, "--to", "gguf", "--quantize", name)
    tensors, _ = read_gguf(output / "model.gguf")
    element_type, shape, ours = tensors["blk.0.ffn_up.weight"]
    assert (element_type, shape) == (name, values.shape)
    if name == "F16":
        assert ours == values.astype(numpy.float16).tobytes()
    else:
        assert ours == gguf.quants.quantize(values, GGMLQuantizationType[name]).tobytes()


@pytest.mark.parametrize("name", ["keep", "F16", "Q8_0"])
def test_big_endian_files_become_little_endian(tools, tmp_path, random, name):
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama", endianess=gguf.GGUFEndian.BIG)
    writer.add_uint32("llama.block_count", 1)
    matrix = (random.standard_normal((32, 256)) * 0.05).astype(numpy.float32)
    norm = random.standard_normal(256).astype(numpy.float32)
    writer.add_tensor("blk.0.ffn_up.weight", matrix)
    writer.add_tensor("blk.0.attn_norm.weight", norm)
    finish(writer)
    output = tmp_path / "output"
    tools.convert(path, output, "--to", "gguf", "--quantize", name)
    tensors, reader = read_gguf(output / "model.gguf")
    assert reader.endianess == gguf.GGUFEndian.LITTLE
    assert reader.fields["llama.block_count"].contents() == 1
    expected = stored(matrix, "F32" if name == "keep" else name)
    assert tensors["blk.0.ffn_up.weight"][2] == expected
    assert tensors["blk.0.attn_norm.weight"] == ("F32", (256,), norm.tobytes())


def test_the_file_type_follows(tools, tmp_path, random):
    """general.file_type states the type of most tensors, so a new recipe must change it, and nothing else."""
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_string("general.name", "a name")
    writer.add_tensor("blk.0.ffn_up.weight", random.standard_normal((8, 64)).astype(numpy.float32))
    finish(writer)
    for name, expected in [
        ("keep", gguf.LlamaFileType.ALL_F32),
        ("F16", gguf.LlamaFileType.MOSTLY_F16),
        ("Q8_0", gguf.LlamaFileType.MOSTLY_Q8_0),
    ]:
        output = tmp_path / name
        tools.convert(path, output, "--to", "gguf", "--quantize", name)
        values = metadata(read_gguf(output / "model.gguf")[1])
        assert values["general.file_type"] == expected
        assert values["general.name"] == "a name"
