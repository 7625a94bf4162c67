"""Changes to a sound checkpoint that leave its containers sound: sizes stay consistent, so that the changes get past
the parsers and into everything behind them.

Every change is a function of (random, directory); the files in the directory are copies. A seed gives the same change.
"""

import json
import struct

from containers import ARRAY, SCALARS, STRING, read_gguf, read_safetensors, write_gguf, write_safetensors

# Bytes of one element, for the types that safetensors knows.
WIDTHS = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "BF16": 2, "F16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
# (elements, bytes) of one block, by GGUF's number of the type.
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 16: (256, 66), 20: (32, 18), 23: (256, 136),
    24: (1, 1), 26: (1, 4), 27: (1, 8), 28: (1, 8), 30: (1, 2), 39: (32, 17),
}  # fmt: skip

NUMBERS = [
    0, 1, -1, 2, 3, 7, 127, 255, 4095, 65536, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, -(2**63), 2**64,
    10**30, 0.5, -0.0, 1e-320, 1e308, 1e-10,
]  # fmt: skip
TEXTS = [
    "", "0", "-1", "18446744073709551616", "null", "../../../../etc/passwd", "/dev/zero", ".", "model", "a\u0000b",
    "\u001b[31mred", "a\nb", "\u202egnp", "\ud83d\ude00" * 40, "x" * 70000, "re:(.*)*(.*)*Z", "re:(a|a)*$", "re:(", "*",
    "Infinity", "NaN", "bfloat16", "float8_e4m3fn", "fp8", "compressed-tensors", "step3_text", "step3p5", "Step3",
]  # fmt: skip


def product(values):
    result = 1
    for value in values:
        result *= value
    return result


# MARK: JSON documents


def paths(value, prefix=()):
    """Every place in a document."""
    yield prefix
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in members:
        yield from paths(inner, (*prefix, key))


def odd_value(random, depth=0):
    kind = random.randrange(8)
    if kind < 3:
        return random.choice(NUMBERS)
    if kind < 5:
        return random.choice(TEXTS)
    if kind == 5:
        return random.choice([None, True, False])
    if depth > 2:
        return []
    if kind == 6:
        return [odd_value(random, depth + 1) for _ in range(random.choice([0, 1, 3, 200]))]
    return {random.choice(TEXTS): odd_value(random, depth + 1) for _ in range(random.choice([0, 1, 3]))}


def change_document(random, document):
    """Replaces, removes or repeats one value, or exchanges it with another."""
    places = [path for path in paths(document) if path]
    if not places:
        return document
    path = random.choice(places)
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    what = random.randrange(6)
    if what == 0:
        del holder[path[-1]]
    elif what == 1 and isinstance(holder[path[-1]], (int, float)) and not isinstance(holder[path[-1]], bool):
        holder[path[-1]] = random.choice([holder[path[-1]] + 1, holder[path[-1]] - 1, holder[path[-1]] * 2, -holder[path[-1]]])
    elif what == 2 and isinstance(holder, list):
        holder.extend(holder[:1] * random.choice([1, 1000]))
    elif what == 3 and isinstance(holder, dict):
        holder[random.choice(TEXTS)] = odd_value(random)
    elif what == 4:
        other = document
        for key in random.choice(places):
            other = other[key]
        holder[path[-1]] = json.loads(json.dumps(other))
    else:
        holder[path[-1]] = odd_value(random)
    return document


def change_json(random, directory):
    names = [path for path in directory.glob("*.json")]
    if not names:
        return False
    # Files are chosen by weight: config.json matters most.
    path = random.choice(sorted(names) + [directory / "config.json"] * 3)
    if not path.exists():
        return False
    document = json.loads(path.read_bytes())
    for _ in range(random.choice([1, 1, 1, 2, 5])):
        document = change_document(random, document)
    path.write_text(json.dumps(document, ensure_ascii=random.random() < 0.5), errors="surrogatepass")
    return True


# MARK: Tensors


def odd_name(random, name, others):
    what = random.randrange(9)
    parts = name.split(".")
    at = random.randrange(len(parts))
    if what == 0:
        parts[at] = random.choice(TEXTS)
    elif what == 1:
        del parts[at]
    elif what == 2:
        parts.insert(at, parts[at])
    elif what == 3:
        parts[at] = parts[at].upper()
    elif what == 4:
        parts = [random.choice(["99999999999999999999", "-1", "007", "61", "4294967296"]) if p.isdigit() else p for p in parts]
    elif what == 5:
        parts[-1] += random.choice(["_scale_inv", "_scale", "_packed", "_shape", "_global_scale", "s", ".input_scale"])
    elif what == 6:
        return random.choice(others)
    elif what == 7:
        parts = [random.choice(TEXTS), *parts]
    else:
        return random.choice(TEXTS)
    return ".".join(parts)


def fit(data, size):
    """The data, repeated or cut to a size."""
    if size <= len(data):
        return data[:size]
    return (data * (size // max(1, len(data)) + 1))[:size] if data else bytes(size)


def odd_shape(random, shape):
    shape = list(shape)
    what = random.randrange(10)
    if what == 0:
        return shape[::-1]
    if what == 1:
        return [product(shape)]
    if what == 2:
        return [1] * random.choice([1, 2, 5, 30, 70]) + shape
    if what == 3:
        return shape + [1]
    if what == 4:
        return []
    if what == 5 and shape:
        shape[random.randrange(len(shape))] = 0
    elif what == 6 and shape:
        at = random.randrange(len(shape))
        shape[at] = max(0, shape[at] + random.choice([-1, 1, -16, 16]))
    elif what == 7:
        return random.choice([[2**31, 0], [0, 2**62], [2**62, 0, 4], [0] * 8])
    elif what == 8 and len(shape) > 1:
        return [shape[0] * shape[1], *shape[2:]]
    elif shape and shape[0] % 2 == 0:
        return [2, shape[0] // 2, *shape[1:]]
    return shape


PATTERNS = [bytes(2), b"\xff\xff", b"\xc0\x7f", b"\x80\x7f", b"\x7f\x7f", b"\x01\x00", b"\x80\xff", b"\x00\x80", b"\x3f\x80"]


def pick(random, directory, pattern):
    """One of the files of a kind; None where there is none."""
    files = sorted(directory.glob(pattern))
    return random.choice(files) if files else None


def how_many(random):
    """The number of changes to a file: mostly one, so that its effect can be seen."""
    return random.choice([1, 1, 1, 2, 6])


def change_safetensors(random, directory):
    path = pick(random, directory, "*.safetensors")
    if path is None:
        return False
    metadata, tensors = read_safetensors(path)
    for _ in range(how_many(random)):
        if not tensors:
            break
        tensor = random.choice(tensors)
        names = [other["name"] for other in tensors]
        what = random.randrange(10)
        if what <= 1:
            tensor["name"] = odd_name(random, tensor["name"], names)
        elif what == 2:
            dtype = random.choice(list(WIDTHS))
            tensor["data"] = fit(tensor["data"], product(tensor["shape"]) * WIDTHS[dtype])
            tensor["dtype"] = dtype
        elif what == 3:
            shape = odd_shape(random, tensor["shape"])
            tensor["data"] = fit(tensor["data"], product(shape) * WIDTHS.get(tensor["dtype"], 1))
            tensor["shape"] = shape
        elif what == 4:
            tensors.remove(tensor)
        elif what == 5:
            tensors.append({**tensor, "name": odd_name(random, tensor["name"], names)})
        elif what == 6:
            other = random.choice(tensors)
            tensor["name"], other["name"] = other["name"], tensor["name"]
        elif what == 7:
            tensor["data"] = fit(random.choice(PATTERNS), len(tensor["data"]))
        elif what == 8 and len(tensor["data"]) >= 8:
            at = random.randrange(0, len(tensor["data"]) - 7, 2)
            value = random.choice(PATTERNS) * random.choice([1, 2, 4])
            tensor["data"] = tensor["data"][:at] + value[:8] + tensor["data"][at + len(value[:8]) :]
        else:
            metadata = {random.choice([*TEXTS, "format", "step3_partition"]): random.choice(["pt", "{}", '{"role":"ffn"}', *TEXTS])}
    write_safetensors(path, metadata, tensors)
    if random.random() < 0.7:
        index = directory / "model.safetensors.index.json"
        if index.exists():
            weight_map = {tensor["name"]: path.name for tensor in tensors}
            for other in directory.glob("*.safetensors"):
                if other != path:
                    weight_map.update({tensor["name"]: other.name for tensor in read_safetensors(other)[1]})
            index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), errors="surrogatepass")
    return True


def change_gguf(random, directory):
    path = pick(random, directory, "*.gguf")
    if path is None:
        return False
    entries, tensors = read_gguf(path)
    alignment = 32
    for _ in range(how_many(random)):
        what = random.randrange(12)
        if what <= 3 and entries:
            at = random.randrange(len(entries))
            key, kind, value = entries[at]
            if kind in SCALARS and random.random() < 0.7:
                if SCALARS[kind] in "fd":
                    value = random.choice([0.0, -1.0, float("inf"), float("nan"), 1e-30, 1e30])
                elif SCALARS[kind] != "?":
                    size = 8 * struct.calcsize(SCALARS[kind])
                    low, high = (0, 2**size - 1) if SCALARS[kind].isupper() else (-(2 ** (size - 1)), 2 ** (size - 1) - 1)
                    value = min(high, max(low, random.choice([value + 1, value - 1, 0, 1, low, high, value * 2])))
                else:
                    value = not value
            elif kind == STRING:
                value = random.choice(TEXTS).encode("utf-8", "surrogatepass")
            elif kind == ARRAY and random.random() < 0.7:
                inner, values = value
                change = random.randrange(4)
                values = values[: len(values) // 2] if change == 0 else values * 2 if change == 1 else [] if change == 2 else values[::-1]
                value = (inner, values)
            else:
                kind, value = random.choice([(4, 7), (5, -1), (6, 0.5), (7, True), (STRING, b"x"), (ARRAY, (STRING, [])), (10, 2**63)])
            entries[at] = (key, kind, value)
        elif what == 4 and entries:
            del entries[random.randrange(len(entries))]
        elif what == 5 and entries:
            entries.append((random.choice(entries)[0] + random.choice([b"", b".x"]), 4, 1))
        elif what == 6:
            alignment = random.choice([8, 64, 256, 1, 4096])
            entries = [entry for entry in entries if entry[0] != b"general.alignment"] + [(b"general.alignment", 4, alignment)]
        elif tensors:
            tensor = random.choice(tensors)
            if what == 7:
                names = [other["name"].decode(errors="replace") for other in tensors]
                tensor["name"] = odd_name(random, tensor["name"].decode(errors="replace"), names).encode("utf-8", "surrogatepass")[:200]
            elif what == 8:
                tensors.remove(tensor)
            elif what == 9:
                other = random.choice(tensors)
                tensor["name"], other["name"] = other["name"], tensor["name"]
            elif what == 10:
                tensor["data"] = fit(random.choice(PATTERNS), len(tensor["data"]))
            else:
                if random.random() < 0.5:
                    tensor["dims"] = odd_shape(random, tensor["dims"])[:4] or [1]
                else:
                    tensor["type"] = random.choice(list(BLOCKS))
                elements, size = BLOCKS.get(tensor["type"], (1, 4))
                if tensor["dims"][0] % elements:
                    tensor["dims"] = [tensor["dims"][0] // elements * elements, *tensor["dims"][1:]]
                tensor["data"] = fit(tensor["data"], product(tensor["dims"]) // elements * size)
    write_gguf(path, entries, tensors, alignment)
    return True


def mutate(random, directory):
    """Applies one kind of change, or two."""
    for _ in range(random.choice([1, 1, 2])):
        kinds = [change_json, change_safetensors, change_safetensors, change_gguf, change_gguf]
        random.shuffle(kinds)
        any(kind(random, directory) for kind in kinds)
