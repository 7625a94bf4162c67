"""Decodes a checkpoint's tensors in numpy, from the definitions of the formats alone.

Nothing of the toolkit is used, and nothing is guessed: codes whose scales, zero points or order are missing, or do not
fit them or the configuration, are `Unclear`. Values are float64, which holds every product of a code and its scales."""

import dataclasses
import json
import pathlib
import re

import gguf
import numpy

from arithmetic import array, load_json, read_checkpoint, read_gguf

E2M1 = numpy.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
FLOAT8 = {"F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"}
REAL = {"F64", "F32", "F16", "BF16", *FLOAT8}
CODES = ("weight_packed", "qweight", "weight")
# Tensors that only concern the quantisation of activations or the KV cache.
ACTIVATIONS = ("input_scale", "input_global_scale", "input_zero_point", "output_scale", "k_scale", "v_scale")
SCALES = ("weight_scale_inv", "weight_scale", "scale", "scales", "scale_inv")


class Unclear(Exception):
    """The stored tensors have no unique meaning; `names` lists them."""

    def __init__(self, names, reason):
        super().__init__(f"{', '.join(names)}: {reason}")
        self.names = names


@dataclasses.dataclass
class Decoded:
    """Values, and how they are stored, which determines how far they may be from the original ones."""

    values: numpy.ndarray
    form: str


@dataclasses.dataclass
class Meaning:
    """A whole decoded checkpoint: weights by name, tensors without real numbers, and those that only concern activations."""

    weights: dict
    others: dict
    activations: dict
    # The names of the tensors that make up each weight.
    made_of: dict


# Settings in config.json


class Settings:
    """The part of `quantization_config` that determines the meaning of codes."""

    def __init__(self, config):
        config = config or {}
        inner = config.get("text_config") or {}
        self.raw = (
            config.get("quantization_config") or config.get("compression_config") or inner.get("quantization_config")
        ) or {}
        self.method = (self.raw.get("quant_method") or "").lower()

    def excluded(self, stem):
        names = [
            entry
            for key in ("ignore", "ignored_layers", "modules_to_not_convert", "exclude_modules")
            for entry in self.raw.get(key) or []
        ]
        return any(self.matches(entry, stem) for entry in names)

    @staticmethod
    def matches(entry, stem):
        if entry.startswith("re:"):
            return re.match(entry[3:], stem) is not None
        return stem == entry or stem.startswith(entry + ".") or f".{stem}.".find(f".{entry}.") >= 0

    def weights(self, stem):
        """`config_groups.*.weights` for a module: from the group that names it, else from the one for its class."""
        groups = (self.raw.get("config_groups") or {}).values()
        for wanted in (lambda target: self.matches(target, stem), lambda target: target == "Linear"):
            for group in groups:
                if any(wanted(target) for target in group.get("targets") or []):
                    return group.get("weights") or {}
        return {}

    def tile(self, stem):
        stated = self.raw.get("weight_block_size") or self.weights(stem).get("block_structure")
        return tuple(stated) if stated else None


# Codes and scales


def unpacked(packed, bits, count, axis=-1):
    """The first `count` codes of the given width along an axis of 32-bit words. Dense words, or words of whole codes only:
    the number of words tells which."""
    packed = numpy.moveaxis(packed, axis, -1)
    words, per_word = packed.shape[-1], 32 // bits
    digits = numpy.unpackbits(
        numpy.ascontiguousarray(packed).view(numpy.uint8), axis=-1, bitorder="little"
    )  # fmt: skip
    is_dense, is_whole = words == -(-count * bits // 32), words == -(-count // per_word)
    if is_dense and is_whole and 32 % bits and count > per_word:
        raise ValueError(f"{words} words are {count} codes of {bits} bits with and without gaps")
    if is_dense:
        digits = digits[..., : count * bits]
    elif is_whole:
        digits = digits.reshape(*packed.shape, 32)[..., : per_word * bits]
        digits = digits.reshape(*packed.shape[:-1], -1)[..., : count * bits]
    else:
        raise ValueError(f"{words} words are not {count} codes of {bits} bits")
    digits = digits.reshape(*packed.shape[:-1], count, bits).astype(numpy.int64)
    return numpy.moveaxis(digits @ (1 << numpy.arange(bits)), -1, axis)


def four_bits(packed):
    """E2M1 values of bytes, the even column in the low half."""
    return E2M1[numpy.stack([packed & 15, packed >> 4], -1)].reshape(*packed.shape[:-1], -1)


def powers(exponents):
    """E8M0: powers of two; 127 is 1 and 255 is NaN."""
    exponents = exponents.view(numpy.uint8).astype(numpy.float64)
    return numpy.where(exponents == 255, numpy.nan, 2.0 ** (exponents - 127))


def real(stored):
    """The values of a floating-point tensor."""
    if stored[0] == "F8_E8M0":
        return powers(array(stored))
    return array(stored).astype(numpy.float64)


def spread(scales, shape, tile, is_exponents=False):
    """Scales of any usual shape, one for every element of codes of `shape`; a ValueError if they do not fit."""
    *outer, rows, columns = shape
    outer = tuple(outer)
    count = int(numpy.prod(outer, dtype=int))
    if is_exponents and scales.shape == (*outer, rows, columns // 32) and columns % 32 == 0:
        return scales.repeat(32, -1)
    if scales.size == 1:
        return numpy.broadcast_to(scales.reshape(()), shape)
    if outer and scales.size == count and scales.shape[: len(outer)] == outer:
        return numpy.broadcast_to(scales.reshape(*outer, 1, 1), shape)
    if scales.shape in ((*outer, rows), (*outer, rows, 1)):
        return numpy.broadcast_to(scales.reshape(*outer, rows, 1), shape)
    if scales.ndim == len(shape) + 2 and scales.shape[-1] == scales.shape[-3] == 1:
        scales = scales[..., 0]
        scales = scales.reshape(*scales.shape[:-2], scales.shape[-1])
    if scales.ndim == len(shape) + 1 and scales.shape[-2] == 1:
        scales = scales.reshape(*scales.shape[:-2], scales.shape[-1])
    height, width = tile or (128, 128)
    if scales.shape == (*outer, -(-rows // height), -(-columns // width)):
        return scales.repeat(height, -2).repeat(width, -1)[..., :rows, :columns]
    raise ValueError(f"scales {list(scales.shape)} do not fit codes {list(shape)}")


class Module:
    """The tensors whose names begin with one module's."""

    def __init__(self, stem, parts, settings):
        self.stem, self.parts, self.settings = stem, parts, settings
        self.used = set()

    def take(self, suffix):
        self.used.add(suffix)
        return self.parts[suffix]

    def has(self, suffix):
        return suffix in self.parts

    def decoded(self):
        """The weight, or None if a module has none."""
        kind = next((suffix for suffix in CODES if suffix in self.parts), None)
        if kind is None:
            return None
        try:
            if sum(suffix in self.parts for suffix in CODES) > 1:
                raise ValueError("the weight is there in two ways")
            found = self.of_kind(kind)
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise Unclear([f"{self.stem}.{suffix}" for suffix in self.parts], str(error)) from error
        rest = {suffix for suffix in self.parts if suffix not in self.used and suffix not in ("bias", kind)}
        companions = {suffix for suffix in rest if suffix not in ACTIVATIONS}
        # Beside plain values they are tensors like any other.
        is_plain = found is not None and found.form in REAL - FLOAT8
        if companions and not is_plain and (found is None or found.form not in REAL or self.is_companion(companions)):
            raise Unclear([f"{self.stem}.{suffix}" for suffix in companions], "nothing says what it is for")
        return found

    @staticmethod
    def is_companion(suffixes):
        return any(
            word in suffix for suffix in suffixes
            for word in ("scale", "zero", "g_idx", "amax", "absmax", "quant", "shape", "packed", "qweight", "bits")
        )  # fmt: skip

    def of_kind(self, kind):
        element_type, shape, _ = self.parts[kind]
        if kind == "qweight":
            return self.turned()
        if kind == "weight_packed" and element_type == "I32":
            return self.packed()
        if element_type == "U8" and kind in ("weight_packed", "weight"):
            return self.four_bit_floats(kind)
        if kind != "weight":
            raise ValueError(f"{kind} is {element_type}")
        scales = [suffix for suffix in SCALES if self.has(suffix)]
        if element_type in FLOAT8 or element_type == "I8":
            if len(scales) > 1:
                raise ValueError("there are scales under two names")
            if scales:
                return self.scaled(scales[0])
        if element_type == "I8":
            raise ValueError("integers without a scale")
        if element_type not in REAL:
            return None
        if element_type in FLOAT8 and self.settings.method and not self.settings.excluded(self.stem):
            raise ValueError("the configuration says that it is quantised, and there are no scales")
        return Decoded(real(self.take("weight")), element_type)

    # One code per element

    def scaled(self, suffix):
        codes = self.take("weight")
        scales = self.take(suffix)
        is_exponents = scales[0] == "U8"
        if not is_exponents and scales[0] not in (*REAL - FLOAT8, "F8_E8M0"):
            raise ValueError(f"scales are {scales[0]}")
        values = powers(array(scales)) if is_exponents else real(scales)
        if len(codes[1]) < 2:
            raise ValueError("a vector has scales")
        number = array(codes).astype(numpy.float64)
        weights = self.settings.weights(self.stem)
        if codes[0] == "I8" and weights.get("num_bits", 8) != 8:
            raise ValueError(f"the configuration says {weights['num_bits']} bits")
        factor = self.grouped(values, codes[1], weights)
        if factor is None:
            factor = spread(values, codes[1], self.settings.tile(self.stem), is_exponents or scales[0] == "F8_E8M0")
        if is_exponents and values.shape != (*codes[1][:-1], codes[1][-1] // 32):
            raise ValueError("exponents that are not those of 32 neighbours")
        if self.has("weight_zero_point"):
            point = self.take("weight_zero_point")
            if codes[0] != "I8" or point[0] not in ("I8", "I32") or point[1] != scales[1]:
                raise ValueError("zero points do not fit")
            points = array(point).astype(numpy.float64)
            found = self.grouped(points, codes[1], weights)
            number = number - (spread(points, codes[1], self.settings.tile(self.stem)) if found is None else found)
        return Decoded(number * factor, "INT8" if codes[0] == "I8" else "FP8")

    @staticmethod
    def grouped(values, shape, weights):
        if weights.get("strategy") != "group" or weights.get("scale_dtype"):
            return None
        length = weights["group_size"]
        if values.shape != (*shape[:-1], shape[-1] // length) or shape[-1] % length:
            raise ValueError(f"scales {list(values.shape)} are not those of groups of {length}")
        return values.repeat(length, -1)

    # Packed integers of compressed-tensors

    def packed(self):
        codes, scales = self.take("weight_packed"), self.take("weight_scale")
        if scales[0] not in ("BF16", "F16", "F32"):
            raise ValueError(f"scales are {scales[0]}")
        weights = self.settings.weights(self.stem)
        *outer, rows, words = codes[1]
        factor = real(scales)
        groups = factor.shape[-1]
        if factor.shape != (*outer, rows, groups):
            raise ValueError("scales do not fit")
        columns, bits = self.packed_width(weights, rows, words, groups)
        if groups > 1 and columns % groups:
            raise ValueError(f"{columns} columns are not {groups} groups")
        if weights.get("strategy") == "group" and weights.get("group_size") and groups * weights["group_size"] != columns:
            raise ValueError(f"the configuration says groups of {weights['group_size']}")
        if weights.get("strategy") == "channel" and groups != 1:
            raise ValueError("the configuration says that rows share a scale")
        number = unpacked(array(codes), bits, columns).astype(numpy.float64) - (1 << bits - 1)
        index = numpy.arange(columns) // (columns // groups)
        if self.has("weight_g_idx"):
            order = array(self.take("weight_g_idx"))
            order = order.reshape(-1, order.shape[-1])
            if not (order == order[0]).all() or order.shape[1] != columns:
                raise ValueError("an order of other columns")
            index = order[0]
            if not ((index >= 0) & (index < groups)).all():
                raise ValueError("an order of other groups")
        if self.has("weight_zero_point"):
            point = self.take("weight_zero_point")
            if weights.get("symmetric", False):
                raise ValueError("zero points, and the configuration says that there are none")
            if point[0] == "I32":
                points = unpacked(array(point), bits, rows, -2).astype(numpy.float64) - (1 << bits - 1)
            elif point[0] == "I8":
                points = array(point).astype(numpy.float64)
            else:
                raise ValueError(f"zero points are {point[0]}")
            if points.shape != factor.shape:
                raise ValueError("zero points do not fit")
            number = number - points[..., index]
        elif weights.get("symmetric") is False:
            raise ValueError("the configuration says that there are zero points")
        return Decoded(number * factor[..., index], f"INT{bits}")

    def packed_width(self, weights, rows, words, groups):
        """Columns and bits of a code."""
        bits, columns = weights.get("num_bits"), None
        if self.has("weight_shape"):
            stated = array(self.take("weight_shape")).reshape(-1, 2)
            if not (stated == stated[0]).all() or int(stated[0][0]) != rows:
                raise ValueError("weight_shape says something else")
            columns = int(stated[0][1])
        elif weights.get("strategy") == "group" and weights.get("group_size"):
            columns = groups * weights["group_size"]
        elif bits and 32 % bits == 0:
            columns = words * 32 // bits
        if bits is None and columns:
            fitting = [bits for bits in (4, 8) if columns * bits == 32 * words]
            bits = fitting[0] if fitting else None
        if not columns or not bits:
            raise ValueError("nothing says how many bits a code has")
        return columns, bits

    # GPTQ and AWQ, whose rows are inputs

    def turned(self):
        codes, points, scales = self.take("qweight"), self.take("qzeros"), self.take("scales")
        if codes[0] != "I32" or points[0] != "I32" or scales[0] not in ("F16", "BF16", "F32"):
            raise ValueError("these are not types of GPTQ or AWQ")
        factor = real(scales)
        *_, groups, rows = factor.shape
        settings = self.settings
        bits = settings.raw.get("bits") or settings.raw.get("w_bit")
        stated = points[1][-1] * 32 // rows
        if bits not in (None, stated):
            raise ValueError(f"zero points of {stated} bits, and the configuration says {bits}")
        bits = stated
        is_awq = codes[1][-1] == rows * bits // 32
        if codes[1][-1] != rows and not is_awq:
            raise ValueError("codes do not fit their scales")
        if settings.method and settings.method.startswith(("awq", "gptq")) and is_awq != (settings.method[:3] == "awq"):
            raise ValueError(f"the layout is not that of {settings.method}")
        columns = codes[1][-2] * (1 if is_awq else 32 // bits)
        length = settings.raw.get("group_size")
        if length and length > 0 and groups != -(-columns // length):
            raise ValueError(f"the configuration says groups of {length}")
        if is_awq:
            if bits != 4:
                raise ValueError(f"AWQ of {bits} bits")
            place = numpy.argsort([0, 2, 4, 6, 1, 3, 5, 7])

            def plain(packed, count):
                codes = unpacked(packed, 4, count)
                return codes.reshape(*codes.shape[:-1], -1, 8)[..., place].reshape(codes.shape)

            number, point = plain(array(codes), rows), plain(array(points), rows)
        else:
            number, point = unpacked(array(codes), bits, columns, -2), unpacked(array(points), bits, rows)
            if "gptq_v2" not in (settings.raw.get("checkpoint_format"), settings.raw.get("format")):
                point = point + 1
        index = numpy.arange(columns) // -(-columns // groups)
        if self.has("g_idx"):
            if is_awq:
                raise ValueError("AWQ has no order")
            order = array(self.take("g_idx")).reshape(-1, columns)
            if not (order == order[0]).all():
                raise ValueError("matrices of different order")
            index = order[0]
            if not ((index >= 0) & (index < groups)).all():
                raise ValueError("an order of other groups")
        values = (number - point[..., index, :]) * factor[..., index, :]
        return Decoded(numpy.ascontiguousarray(numpy.swapaxes(values, -1, -2)), f"INT{bits}")

    # Four-bit floats

    def four_bit_floats(self, kind):
        codes = self.take(kind)
        if not self.has("weight_scale"):
            raise ValueError("bytes without a scale")
        scales = self.take("weight_scale")
        values = four_bits(array(codes))
        if scales[0] in ("U8", "F8_E8M0"):
            factor, length = powers(array(scales)), 32
        elif scales[0] == "F8_E4M3":
            factor, length = real(scales), 16
            name = next((name for name in ("weight_global_scale", "weight_scale_2") if self.has(name)), None)
            if name is None:
                raise ValueError("scales of eight bits without one for the matrix")
            shared = self.take(name)
            if shared[0] != "F32":
                raise ValueError("the scale of the matrix is not F32")
            whole = real(shared)
            matrices = int(numpy.prod(codes[1][:-2], dtype=int))
            if whole.size not in (1, matrices) or (whole.size == 1) != (matrices == 1):
                raise ValueError("scales of matrices do not fit")
            whole = whole.reshape(*codes[1][:-2], 1, 1)
            factor = factor / whole if name == "weight_global_scale" else factor * whole
        else:
            raise ValueError(f"scales are {scales[0]}")
        if factor.shape != (*values.shape[:-1], values.shape[-1] // length):
            raise ValueError("scales do not fit")
        return Decoded(values * factor.repeat(length, -1), "FP4")


# Whole checkpoints


def decode(tensors, config=None):
    """Decodes `{name: (type, shape, bytes)}`.

    Raises `Unclear` for the first module without a unique meaning."""
    settings = Settings(config)
    modules = {}
    for name in tensors:
        stem, dot, suffix = name.rpartition(".")
        modules.setdefault(stem if dot else "", {})[suffix] = tensors[name]
    meaning = Meaning({}, {}, {}, {})
    for stem, parts in modules.items():
        refuse_codes_without_a_module(stem, parts)
        module = Module(stem, parts, settings)
        found = module.decoded()
        if found is not None:
            meaning.weights[f"{stem}.weight"] = found
            meaning.made_of[f"{stem}.weight"] = {f"{stem}.{suffix}" for suffix in module.used}
        for suffix, stored in parts.items():
            name = f"{stem}.{suffix}" if stem else suffix
            if suffix in module.used:
                continue
            if suffix in ACTIVATIONS:
                meaning.activations[name] = stored
            elif stored[0] in REAL:
                meaning.weights[name] = Decoded(real(stored), stored[0])
                meaning.made_of[name] = {name}
            else:
                meaning.others[name] = stored
    return meaning


def refuse_codes_without_a_module(stem, parts):
    """Refuses codes and scales whose names differ only in the ending, like `gate_up_proj` and `gate_up_proj_scale_inv`."""
    ends = r"_(blocks|scales?|scale_inv|zeros|zero_point)$"
    for suffix, stored in parts.items():
        base = re.sub(ends, "", suffix)
        same = [other for other in parts if other != suffix and re.sub(ends, "", other) == base]
        if base in ("weight", *ACTIVATIONS) or not same or stored[0] in REAL - FLOAT8:
            continue
        raise Unclear([f"{stem}.{name}" for name in (suffix, *same)], "codes that are not a module's weight")


def read_config(directory):
    path = pathlib.Path(directory) / "config.json"
    return json.loads(path.read_text(encoding="utf-8-sig")) if path.exists() else None


def decode_directory(directory):
    """Decodes the safetensors files of a directory by its `config.json`."""
    return decode(read_checkpoint(directory), read_config(directory))


def decode_partition(directory):
    """Merges the parts of a partition set by the boxes that each part states."""
    whole, covered = Meaning({}, {}, {}, {}), {}
    for path in sorted(pathlib.Path(directory).glob("*/config.json")):
        part = decode_directory(path.parent)
        slices = load_json(path)["step3_partition"].get("slices", {})
        whole.others |= part.others
        whole.activations |= part.activations
        for name, found in part.weights.items():
            boxes = [slices[source] for source in sorted(part.made_of[name]) if source in slices]
            box = next((box for box in boxes if len(box["origin"]) == found.values.ndim), None)
            box = box or {"shape": found.values.shape, "origin": [0] * found.values.ndim}
            shape = tuple(box["shape"])
            if name not in whole.weights:
                whole.weights[name] = Decoded(numpy.full(shape, numpy.nan), found.form)
                covered[name] = numpy.zeros(shape, bool)
            place = tuple(
                slice(first, first + count)
                for first, count in zip(box["origin"], found.values.shape, strict=True)
            )
            whole.weights[name].values[place] = found.values
            covered[name][place] = True
    holes = [name for name, cells in covered.items() if not cells.all()]
    if holes:
        raise Unclear(holes, "elements are in none of the parts")
    return whole


def decode_gguf(path):
    """The tensors of a GGUF file by its own names, decoded by the gguf package."""
    weights = {}
    tensors, _ = read_gguf(path)
    for name, (kind, shape, data) in tensors.items():
        if kind in ("F32", "F16", "F64"):
            values = numpy.frombuffer(data, {"F32": "<f4", "F16": "<f2", "F64": "<f8"}[kind]).reshape(shape)
        else:
            rows = numpy.frombuffer(data, numpy.uint8).reshape(*shape[:-1], -1)
            values = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[kind])
        weights[name] = Decoded(values.astype(numpy.float64).reshape(shape), kind)
    # NVFP4's factor for whole matrices is a separate tensor.
    for name in [name for name in weights if name.endswith(".scale")]:
        owner = weights.get(name.removesuffix("scale") + "weight")
        if owner is not None and owner.form == "NVFP4":
            factor = weights.pop(name).values
            owner.values *= factor.reshape(-1, *([1] * (owner.values.ndim - 1))) if factor.size > 1 else factor
    return weights


# How far values may be from the original ones


def allowance(form, values):
    """The largest error of each element of `values` when they are stored in that form."""
    size = numpy.abs(values)
    match form:
        case "F64" | "F32":
            # Products of codes and scales are rounded to F32 once or twice.
            return size * 2.0**-22 + 1e-38
        case "BF16":
            return size * 2.0**-7.9 + 1e-38
        case "F16":
            return size * 2.0**-10.9 + 2.0**-24
        case "Q8_0":
            return blocks(size, 32) * 0.0045 + 2.0**-24
        case "FP8":
            return size * 0.0656 + size.max(initial=0) * 1e-5
        case "INT4":
            # Searched scales may clip the largest of a group.
            return blocks(size, 32) * 0.25
        case "INT8":
            return size.max(axis=-1, keepdims=True, initial=0) * 0.0045
    # Every other form is only kept, never encoded here.
    return numpy.zeros_like(size)


def blocks(size, length):
    """The largest magnitude of each element's group of neighbours in its row."""
    count = -(-size.shape[-1] // length)
    padded = numpy.pad(size, [(0, 0)] * (size.ndim - 1) + [(0, count * length - size.shape[-1])])
    largest = padded.reshape(*size.shape[:-1], count, length).max(-1, initial=0)
    return largest.repeat(length, -1)[..., : size.shape[-1]]


def first_difference(source, found, name):
    """What is wrong with a weight, in words; None if nothing is."""
    if source.values.shape != found.values.shape:
        return f"{name}: {found.values.shape}, in the source {source.values.shape}"
    error = numpy.abs(found.values - source.values)
    bad = ~(error <= allowance(found.form, source.values))
    bad &= ~(numpy.isnan(found.values) & numpy.isnan(source.values)) & ~(found.values == source.values)
    if not bad.any():
        return None
    place = numpy.unravel_index(numpy.argmax(bad), bad.shape)
    return (
        f"{name}{[int(index) for index in place]} is {found.values[place]} ({found.form}), "
        f"in the source {source.values[place]} ({source.form}); {bad.sum()} of {bad.size} differ"
    )
