"""Reads and writes safetensors and GGUF without any checks, so that anything can be written.

Written independently of the toolkit, from the formats' own descriptions. Little-endian, GGUF version 3.
"""

import json
import struct


def read_safetensors(path):
    """({metadata}, [{name, dtype, shape, data}]) in the order of the data."""
    raw = path.read_bytes()
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + length])
    metadata = header.pop("__metadata__", None)
    tensors = []
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        data = raw[8 + length + first : 8 + length + last]
        tensors.append({"name": name, "dtype": entry["dtype"], "shape": entry["shape"], "data": data})
    return metadata, tensors


def write_safetensors(path, metadata, tensors):
    """Offsets follow from the data; everything else is as it is given."""
    pieces, offset = [], 0
    if metadata is not None:
        pieces.append(json.dumps("__metadata__") + ":" + json.dumps(metadata))
    for tensor in tensors:
        end = offset + len(tensor["data"])
        entry = {"dtype": tensor["dtype"], "shape": tensor["shape"], "data_offsets": [offset, end]}
        # Joined by hand, so that a name may appear twice.
        pieces.append(json.dumps(tensor["name"]) + ":" + json.dumps(entry))
        offset = end
    header = ("{" + ",".join(pieces) + "}").encode("utf-8", "surrogatepass")
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for tensor in tensors:
            file.write(tensor["data"])


# The metadata types of fixed size, by their numbers in the format.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


def read_gguf(path):
    """([(key, type, value)], [{name, dims, type, data}]); an array's value is (type, [values])."""
    raw = path.read_bytes()
    at = 8

    def take(form):
        nonlocal at
        (value,) = struct.unpack_from("<" + form, raw, at)
        at += struct.calcsize("<" + form)
        return value

    def text():
        nonlocal at
        length = take("Q")
        at += length
        return raw[at - length : at]

    def value(kind):
        if kind == STRING:
            return text()
        if kind == ARRAY:
            inner, count = take("I"), take("Q")
            return inner, [value(inner) for _ in range(count)]
        return take(SCALARS[kind])

    tensor_count, entry_count = take("Q"), take("Q")
    entries = []
    for _ in range(entry_count):
        key, kind = text(), take("I")
        entries.append((key, kind, value(kind)))
    tensors = []
    for _ in range(tensor_count):
        name = text()
        dims = [take("Q") for _ in range(take("I"))]
        tensors.append({"name": name, "dims": dims, "type": take("I"), "offset": take("Q")})
    # A file that has been changed before may claim anything.
    known = [value for key, kind, value in entries if key == b"general.alignment" and kind == 4 and value > 0]
    alignment = known[0] if known else 32
    start = at + -at % alignment
    ends = sorted(tensor["offset"] for tensor in tensors) + [len(raw) - start]
    for tensor in tensors:
        end = next(end for end in ends if end > tensor["offset"] or end == ends[-1])
        tensor["data"] = raw[start + tensor["offset"] : start + end]
    return entries, tensors


def write_gguf(path, entries, tensors, alignment=32):
    """Offsets follow from the data; everything else is as it is given."""

    def text(value):
        return struct.pack("<Q", len(value)) + value

    def value_bytes(kind, value):
        if kind == STRING:
            return text(value)
        if kind == ARRAY:
            inner, values = value
            return struct.pack("<IQ", inner, len(values)) + b"".join(value_bytes(inner, one) for one in values)
        return struct.pack("<" + SCALARS[kind], value)

    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries))
    for key, kind, value in entries:
        header += text(key) + struct.pack("<I", kind) + value_bytes(kind, value)
    offset, body = 0, []
    for tensor in tensors:
        dims = tensor["dims"]
        header += text(tensor["name"]) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
        header += struct.pack("<IQ", tensor["type"], offset)
        data = tensor["data"] + bytes(-len(tensor["data"]) % alignment)
        offset += len(data)
        body.append(data)
    with open(path, "wb") as file:
        file.write(header + bytes(-len(header) % alignment))
        file.writelines(body)
