#!/usr/bin/env python3
"""Makes the broken GGUF files of Fixtures/malformed/gguf, and expected.json, which says how each must be refused.

Usage, from the repository's root:  python3 Tests/Corpus/make_malformed_gguf.py

Needs only the standard library and gives the same bytes on every run. Files stay small: a length or a count
may lie about the rest. `path` is the file to open, for split models the first part.
"""

import json
import pathlib
import shutil
import struct

OUT = pathlib.Path(__file__).resolve().parents[2] / "Fixtures" / "malformed" / "gguf"

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}

GGML_F32, GGML_Q8_0, GGML_Q4_K = 0, 8, 12


class Builder:
    """Bytes in one byte order, with marks at the places of interest."""

    def __init__(self, order="<"):
        self.order = order
        self.data = bytearray()
        self.marks = {}

    def mark(self, name):
        self.marks[name] = len(self.data)
        return self

    def pack(self, fmt, *values):
        self.data += struct.pack(self.order + fmt, *values)
        return self

    def raw(self, data):
        self.data += data
        return self

    def text(self, value):
        value = value if isinstance(value, bytes) else value.encode()
        return self.pack("Q", len(value)).raw(value)

    def head(self, tensors, entries, version=3, magic=b"GGUF"):
        return self.raw(magic).mark("version").pack("I", version).mark("tensors").pack("q", tensors) \
            .mark("entries").pack("q", entries)

    def entry(self, key, kind, value=None):
        self.mark("key").text(key).mark("type").pack("I", kind).mark("value")
        if kind == STR:
            return self.text(value)
        return self.pack(FORMATS[kind], value)

    def array(self, key, kind, count, payload=b""):
        return self.mark("key").text(key).mark("type").pack("I", ARR).mark("element").pack("I", kind) \
            .mark("count").pack("Q", count).mark("value").raw(payload)

    def tensor(self, name, dims, kind=GGML_F32, offset=0, rank=None):
        self.mark("name").text(name).mark("rank").pack("I", len(dims) if rank is None else rank).mark("dims")
        self.pack(f"{len(dims)}q", *dims)
        return self.mark("kind").pack("I", kind).mark("offset").pack("Q", offset)

    def payload(self, size, alignment=32):
        self.raw(bytes(-len(self.data) % alignment))
        return self.raw(bytes(size))


expected = []


def write(path, data):
    target = OUT / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(bytes(data))


def case(path, data, code, message, offset=None, tensor=None):
    """A file with its expected error. `offset` is a number or the name of a mark."""
    if isinstance(data, Builder):
        offset = data.marks[offset] if isinstance(offset, str) else offset
        data = data.data
    if data is not None:
        write(path, data)
    record = {"path": path, "code": code, "message": message}
    if offset is not None:
        record["offset"] = offset
    if tensor is not None:
        record["tensor"] = tensor
    expected.append(record)


def preamble():
    case("empty.gguf", b"", "truncated", "the magic number", 0)
    case("three-bytes.gguf", b"GGU", "truncated", "the magic number", 0)
    case("magic-only.gguf", b"GGUF", "truncated", "the version", 4)
    case("magic-ggml.gguf", Builder().head(0, 0, magic=b"lmgg"), "malformed", "not with 'GGUF'", 0)
    case("magic-lower-case.gguf", Builder().head(0, 0, magic=b"gguf"), "malformed", "not with 'GGUF'", 0)
    case("magic-reversed.gguf", Builder(">").head(0, 0, magic=b"FUGG"), "malformed", "not with 'GGUF'", 0)
    case("version-0.gguf", Builder().head(0, 0, version=0), "malformed", "the version is 0", "version")
    case("version-1.gguf", Builder().head(0, 0, version=1), "unsupported", "the version is 1", "version")
    case("version-4.gguf", Builder().head(0, 0, version=4), "unsupported", "the version is 4", "version")
    case("version-4-big-endian.gguf", Builder(">").head(0, 0, version=4), "unsupported", "the version is 4", "version")
    case("version-odd.gguf", Builder().head(0, 0, version=0x30000003), "unsupported", "the version is", "version")
    case("counts-cut.gguf", Builder().head(0, 0).data[:20], "truncated", "the number of metadata entries", 16)
    case("tensor-count-negative.gguf", Builder().head(-1, 0), "malformed", "number of tensors is -1", "tensors")
    case("tensor-count-huge.gguf", Builder().head(2**63 - 1, 0), "truncated", "a table of", "tensors")
    case("tensor-count-lies.gguf", Builder().head(1000, 0).raw(bytes(64)), "truncated", "1000 tensors", "tensors")
    case("entry-count-negative.gguf", Builder().head(0, -5), "malformed", "metadata entries is -5", "entries")
    case("entry-count-huge.gguf", Builder().head(0, 2**62), "truncated", "a table of", "entries")
    case("big-endian-counts-little.gguf", Builder(">").raw(b"GGUF").pack("I", 3).raw(struct.pack("<qq", 1, 1)),
         "truncated", "tensors", 8)


def metadata():
    def one():
        return Builder().head(0, 1)

    case("key-empty.gguf", one().entry("", U32, 1), "malformed", "key is empty", "key")
    case("key-length-lies.gguf", one().mark("key").pack("Q", 4096).raw(b"general.name....").raw(bytes(8)), "truncated",
         "the key of metadata entry 0", 32)
    case("key-length-near-2-64.gguf", one().mark("key").pack("Q", 2**64 - 1).raw(bytes(16)), "malformed",
         "at most 1073741824", "key")
    case("key-65536-bytes.gguf", one().entry("k" * 65536, U8, 1), "malformed", "65536 bytes", "key")
    case("key-not-utf-8.gguf", one().entry(b"general.\xff\xfe", U32, 1), "malformed", "not valid UTF-8", 32)
    case("key-twice.gguf", Builder().head(0, 2).entry("a", U32, 1).entry("a", U32, 1), "malformed",
         "'a' appears twice", "key")
    case("value-type-13.gguf", one().mark("key").text("a").mark("type").pack("II", 13, 0), "malformed",
         "unknown value type 13", "type")
    case("value-type-negative.gguf", one().text("a").mark("type").pack("iI", -1, 0), "malformed",
         "unknown value type 4294967295", "type")
    case("value-cut.gguf", one().text("some.longer.key").pack("I", U64).mark("value").raw(bytes(7)), "truncated",
         "'some.longer.key'", "value")
    case("bool-2.gguf", one().entry("flag", BOOL, 2), "malformed", "must be 0 or 1", "value")
    case("bool-in-array.gguf", one().array("flags", BOOL, 3, b"\x00\x01\x80"), "malformed", "truth value of 128", 55)
    case("string-not-utf-8.gguf", one().entry("general.name", STR, b"\xc3\x28"), "malformed", "'general.name'", 56)
    case("string-surrogate.gguf", one().entry("general.name", STR, b"\xed\xa0\x80"), "malformed", "not valid UTF-8", 56)
    case("string-length-over-1-gib.gguf", one().text("s").pack("I", STR).mark("value").pack("Q", 2**30 + 1)
         .raw(bytes(8)), "malformed", "at most 1073741824", "value")
    case("string-length-lies.gguf", one().text("s").pack("I", STR).pack("Q", 2**30).raw(bytes(8)), "truncated",
         "needs 1073741824 bytes", 45)
    case("string-length-2-63.gguf", one().text("s").pack("I", STR).mark("value").pack("Q", 2**63).raw(bytes(8)),
         "malformed", "9223372036854775808", "value")
    case("array-of-arrays.gguf", one().array("a", ARR, 1, struct.pack("<IQI", U32, 1, 7)), "unsupported",
         "array of arrays", "element")
    case("array-type-unknown.gguf", one().array("a", 99, 1, bytes(8)), "malformed", "unknown value type 99", "element")
    case("array-count-over-limit.gguf", one().array("a", U8, 2**30 + 1, bytes(8)), "malformed", "at most 1073741824",
         "count")
    case("array-count-lies.gguf", one().array("a", U64, 2**30, bytes(64)), "truncated", "at least 8589934592", "value")
    case("array-count-2-64.gguf", one().array("a", F64, 2**64 - 1, bytes(8)), "malformed", "18446744073709551615",
         "count")
    case("array-of-strings-lies.gguf", one().array("tokens", STR, 2**29, bytes(64)), "truncated", "'tokens'", "value")
    case("array-of-strings-cut.gguf", one().array("t", STR, 2, struct.pack("<Q", 1) + b"a" + struct.pack("<Q", 9) + b"b"),
         "truncated", "element 1", 66)
    case("array-of-strings-not-utf-8.gguf", one().array("t", STR, 1, struct.pack("<Q", 1) + b"\x80"), "malformed",
         "element 0", 57)
    case("alignment-0.gguf", one().entry("general.alignment", U32, 0), "malformed", "not a power of two", "type")
    case("alignment-48.gguf", one().entry("general.alignment", U32, 48), "malformed", "48", "type")
    case("alignment-u64.gguf", one().entry("general.alignment", U64, 32), "malformed", "must be of type u32", "type")
    case("alignment-string.gguf", one().entry("general.alignment", STR, "32"), "malformed", "is of type str", "type")


def tensors():
    def one():
        return Builder().head(1, 0)

    name63, name64 = "n" * 63, "n" * 64
    case("name-64-bytes.gguf", one().tensor(name64, [4]).payload(16), "malformed", "64 bytes, at most 63", "name",
         name64)
    case("name-length-lies.gguf", one().pack("Q", 60).raw(bytes(24)), "truncated", "the name of tensor 0", 32)
    case("name-with-nul.gguf", one().tensor("a\0b", [4]).payload(16), "malformed", "NUL", "name", "a\0b")
    case("name-not-utf-8.gguf", one().tensor(b"\xf0\x28\x8c\x28", [4]).payload(16), "malformed", "not valid UTF-8", 32)
    case("name-twice.gguf", Builder().head(2, 0).tensor("w", [4]).tensor("w", [4], offset=32).payload(48), "malformed",
         "twice", "name", "w")
    case("rank-5.gguf", one().tensor(name63, [1, 1, 1, 1, 1]).payload(4), "malformed", "5 dimensions", "rank", name63)
    case("rank-2-32.gguf", one().tensor("w", [4], rank=2**32 - 1).payload(16), "malformed", "4294967295 dimensions",
         "rank", "w")
    case("dims-cut.gguf", one().raw(struct.pack("<Q", 1) + b"w").pack("I", 4).mark("dims").raw(bytes(15)), "truncated",
         "4 dimensions", "dims", "w")
    case("dim-negative.gguf", one().tensor("w", [4, -1]).payload(16), "malformed", "negative: -1", "rank", "w")
    case("dims-overflow.gguf", one().tensor("w", [2**32, 2**32]).payload(16), "malformed", "overflows", "rank", "w")
    case("dims-overflow-to-zero.gguf", one().tensor("w", [2**33, 2**31, 2**33]).payload(16), "malformed", "overflows",
         "rank", "w")
    case("bytes-overflow.gguf", one().tensor("w", [2**61]).payload(16), "malformed", "overflows", "kind", "w")
    case("rows-not-blocks.gguf", one().tensor("w", [33], GGML_Q8_0).payload(68), "malformed", "whole blocks", "kind",
         "w")
    case("rows-not-blocks-in-total.gguf", one().tensor("w", [128, 2], GGML_Q4_K).payload(144), "malformed",
         "whole blocks", "kind", "w")
    for kind, name in [(4, "Q4_2"), (5, "Q4_3"), (31, "Q4_0_4_4"), (32, "Q4_0_4_8"), (33, "Q4_0_8_8"),
                       (36, "IQ4_NL_4_4"), (37, "IQ4_NL_4_8"), (38, "IQ4_NL_8_8")]:
        case(f"type-{kind}-removed.gguf", one().tensor("w", [256], kind).payload(256), "unsupported",
             f"removed type {kind} ({name})", "kind", "w")
    case("type-43.gguf", one().tensor("w", [256], 43).payload(256), "unsupported", "unknown type 43", "kind", "w")
    case("type-negative.gguf", one().tensor("w", [256], 2**32 - 1).payload(256), "unsupported",
         "unknown type 4294967295", "kind", "w")
    case("offset-not-zero.gguf", one().tensor("w", [4], offset=32).payload(48), "malformed", "must be 0", "offset", "w")
    case("offset-overlap.gguf", Builder().head(2, 0).tensor("a", [16]).tensor("b", [4], offset=32).payload(80),
         "malformed", "offset is 32, but must be 64", "offset", "b")
    case("offset-hole.gguf", Builder().head(2, 0).tensor("a", [4]).tensor("b", [4], offset=64).payload(80),
         "malformed", "offset is 64, but must be 32", "offset", "b")
    case("offset-unaligned.gguf", Builder().head(2, 0).tensor("a", [4]).tensor("b", [4], offset=16).payload(32),
         "malformed", "offset is 16, but must be 32", "offset", "b")
    case("offset-reordered.gguf", Builder().head(2, 0).tensor("a", [4], offset=32).tensor("b", [4]).payload(48),
         "malformed", "offset is 32, but must be 0", None, "a")
    case("offset-2-64.gguf", one().tensor("w", [4], offset=2**64 - 32).payload(16), "malformed", "must be 0", "offset",
         "w")
    case("offset-cut.gguf", one().tensor("w", [4]).data[:-1], "truncated", "the data offset", 49, "w")
    case("offset-of-default-alignment.gguf", Builder().head(2, 1).entry("general.alignment", U32, 64)
         .tensor("a", [4]).tensor("b", [4], offset=32).payload(80, 64), "malformed", "must be 64", "offset", "b")
    case("data-missing.gguf", one().tensor("w", [4]), "truncated", "tensor data starts at", 57)
    case("data-cut.gguf", one().tensor("w", [4]).payload(15), "truncated", "only 15 are left", "offset", "w")
    case("data-lies.gguf", one().tensor("w", [2**40]).payload(64), "truncated", "4398046511104 bytes", "offset", "w")
    case("data-of-second-cut.gguf", Builder().head(2, 0).tensor("a", [4]).tensor("b", [4], offset=32).payload(40),
         "truncated", "only 8 are left", "offset", "b")
    case("data-of-second-missing.gguf", Builder().head(2, 0).tensor("a", [4]).tensor("b", [4], offset=32).payload(16),
         "truncated", "only 0 are left", "offset", "b")
    case("empty-tensor-behind-the-end.gguf", Builder().head(2, 0).tensor("a", [4]).tensor("b", [0], offset=32)
         .payload(20), "truncated", "only 0 are left", "offset", "b")
    case("alignment-2-gib.gguf", Builder().head(1, 1).entry("general.alignment", U32, 2**31).tensor("w", [1])
         .raw(bytes(64)), "truncated", "multiple of 2147483648", None)


def part(number, count, names, total, number_type=U16, count_type=U16, total_type=I32, keys=("no", "count", "total")):
    entries = [("no", "split.no", number_type, number), ("count", "split.count", count_type, count),
               ("total", "split.tensors.count", total_type, total)]
    entries = [entry for entry in entries if entry[0] in keys]
    builder = Builder().head(len(names), len(entries))
    for _, key, kind, value in entries:
        builder.entry(key, kind, value)
    for index, name in enumerate(names):
        builder.tensor(name, [8], offset=32 * index)
    return builder.payload(32 * len(names)).data


def splits():
    def model(folder, parts, code, message, at=None, opened=None, tensor=None):
        count = len(parts)
        for index, data in enumerate(parts):
            if data is not None:
                write(f"{folder}/m-{index + 1:05d}-of-{count:05d}.gguf", data)
        case(opened or f"{folder}/m-00001-of-{count:05d}.gguf", None, code, message, at, tensor)

    good = [part(0, 3, ["a"], 3), part(1, 3, ["b"], 3), part(2, 3, ["c"], 3)]
    model("split-part-missing", [good[0], None, good[2]], "notFound", "part 2 of 3 is missing")
    model("split-first-missing", [None, part(1, 2, ["b"], 2)], "notFound", "part 1 of 2 is missing")
    model("split-second-opened", good, "invalidRequest", "part 2 of 3",
          opened="split-second-opened/m-00002-of-00003.gguf")
    model("split-exchanged", [good[0], good[2], good[1]], "malformed", "'split.no' is 2, but must be 1")
    model("split-count-differs", [part(0, 3, ["a"], 2), part(1, 2, ["b"], 2)], "malformed",
          "'split.count' is 3, but must be 2")
    model("split-count-of-second-differs", [part(0, 2, ["a"], 2), part(1, 5, ["b"], 2)], "malformed",
          "'split.count' is 5, but must be 2")
    model("split-total-too-high", [part(0, 2, ["a"], 3), part(1, 2, ["b"], 3)], "malformed",
          "'split.tensors.count' is 3, but all parts together have 2")
    model("split-totals-differ", [part(0, 2, ["a"], 2), part(1, 2, ["b"], 7)], "malformed",
          "'split.tensors.count' is 7")
    model("split-tensor-twice", [part(0, 2, ["a", "b"], 3), part(1, 2, ["b"], 3)], "malformed", "is in",
          tensor="b")
    model("split-number-missing", [part(0, 2, ["a"], 2), part(1, 2, ["b"], 2, keys=("count", "total"))], "malformed",
          "'split.no' is missing")
    model("split-total-missing", [part(0, 2, ["a"], 2), part(1, 2, ["b"], 2, keys=("no", "count"))], "malformed",
          "'split.tensors.count' is missing")
    model("split-keys-missing", [part(0, 2, ["a"], 2, keys=()), part(1, 2, ["b"], 2)], "malformed",
          "'split.count' is missing")
    model("split-number-u32", [part(0, 2, ["a"], 2, number_type=U32), part(1, 2, ["b"], 2)], "malformed",
          "must be of type u16, but is of type u32")
    model("split-total-u32", [part(0, 2, ["a"], 2, total_type=U32), part(1, 2, ["b"], 2)], "malformed",
          "must be of type i32, but is of type u32")
    model("split-second-cut", [part(0, 2, ["a"], 2), part(1, 2, ["b"], 2)[:-1]], "truncated", "only 31 are left",
          tensor="b")
    write("split-renamed/model.gguf", part(0, 2, ["a"], 2))
    case("split-renamed/model.gguf", None, "malformed", "one of 2 parts")


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    preamble()
    metadata()
    tensors()
    splits()
    lines = ",\n".join("  " + json.dumps(record, ensure_ascii=True) for record in expected)
    (OUT / "expected.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
