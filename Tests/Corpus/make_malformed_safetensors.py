"""Writes the corpus of malformed safetensors files and indexes, each with its expected error.

Usage: python3 make_malformed_safetensors.py [FOLDER]   (FOLDER is Fixtures/malformed unless given)

Only the standard library is used, and the same files are written every time.
"""

import json
import os
import shutil
import struct
import sys

HEADER_LIMIT = 100_000_000


class Corpus:
    """One folder of cases and its expected.json."""

    def __init__(self, folder):
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        self.folder = folder
        self.expected = []

    def write(self, path, content):
        target = os.path.join(self.folder, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(content)

    def expect(self, path, code, message, offset=None, tensor=None):
        entry = {"path": path, "code": code, "message": message}
        if offset is not None:
            entry["offset"] = offset
        if tensor is not None:
            entry["tensor"] = tensor
        self.expected.append(entry)

    def finish(self):
        paths = [entry["path"] for entry in self.expected]
        assert len(set(paths)) == len(paths), "two cases of one name"
        self.write("expected.json", (json.dumps(self.expected, indent=2) + "\n").encode())


def tensor(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def pack(header, data=b"", length=None):
    """A file of a header (JSON text, bytes, or an object) and data; `length` lies about the header's length."""
    if isinstance(header, dict):
        header = json.dumps(header, separators=(",", ":"))
    if isinstance(header, str):
        header = header.encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def safetensors_cases(corpus):
    def case(name, content, code, message, at=None, offset=None, tensor=None):
        """`at` is a piece of the file; the error must point at its last occurrence."""
        if at is not None:
            offset = content.rindex(at)
        corpus.write(name + ".safetensors", content)
        corpus.expect(name + ".safetensors", code, message, offset, tensor)

    sound = pack({"a": tensor()}, bytes(8))

    # The length before the header.
    case("empty-file", b"", "truncated", "too few", offset=0)
    case("seven-bytes", sound[:7], "truncated", "too few", offset=7)
    case("length-over-limit", pack("{}", length=HEADER_LIMIT + 1), "malformed", "the format allows 100000000", offset=0)
    case("length-at-limit-of-small-file", pack("{}", length=HEADER_LIMIT), "truncated", "only 2 bytes follow", offset=0)
    case("length-near-2-to-64", pack("{}", length=2**64 - 1), "malformed", "18446744073709551615", offset=0)
    case("length-sign-bit", pack("{}", length=2**63), "malformed", "9223372036854775808", offset=0)
    case("length-one-too-many", pack("{}", length=3), "truncated", "is 3, but only 2 bytes follow", offset=0)
    case("length-zero", pack("", length=0), "malformed", "the JSON text ends", offset=8)
    case("length-zero-with-data", pack("", b"{}", length=0), "malformed", "the JSON text ends", offset=8)
    case("length-only", struct.pack("<Q", 16), "truncated", "only 0 bytes follow", offset=0)
    case("length-cuts-header", pack({"a": tensor()}, bytes(8), length=20), "malformed", "the JSON text ends", tensor="a")
    case("gguf-magic", b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "malformed", "the file is a GGUF file")

    # JSON.
    case("top-level-array", pack("[]"), "malformed", "the header: an object, found an array", offset=8)
    case("top-level-string", pack('"a"'), "malformed", "the header: an object, found a string", offset=8)
    case("trailing-nul", pack(b"{}\0\0"), "malformed", "byte 0x00 follows the end", offset=10)
    case("trailing-garbage", pack("{}x"), "malformed", "'x' follows the end", offset=10)
    case("two-objects", pack("{}{}"), "malformed", "an object follows the end", offset=10)
    case("only-spaces", pack("        "), "malformed", "the JSON text ends", offset=16)
    case("byte-order-mark", pack(b"\xef\xbb\xbf{}"), "malformed", "found byte 0xef", offset=8)
    case("unterminated-object", pack('{"__metadata__":{}'), "malformed", "ends inside an object", offset=26)
    case("unterminated-string", pack('{"name'), "malformed", "ends inside a string", offset=9)
    case("trailing-comma", pack('{"__metadata__":{},}'), "malformed", "a comma is followed by '}'", offset=27)
    case("missing-comma", pack('{"__metadata__":{} "a":0}'), "malformed", "expected ',' or '}', found a string", offset=27)
    case("missing-colon", pack('{"a" 1}'), "malformed", "':' after a key", offset=13)
    case("unquoted-key", pack("{a:1}"), "malformed", "a key: a string, found 'a'", offset=9)
    case("comment", pack('{/*x*/}'), "malformed", "a key: a string, found '/'", offset=9)
    case("not-utf8", pack(b'{"\xff":{}}'), "malformed", "not UTF-8", offset=10)
    case("utf8-overlong", pack(b'{"\xc0\xaf":{}}'), "malformed", "not UTF-8", offset=10)
    case("utf8-surrogate", pack(b'{"\xed\xa0\x80":{}}'), "malformed", "not UTF-8", offset=10)
    case("utf8-beyond-unicode", pack(b'{"\xf4\x90\x80\x80":{}}'), "malformed", "not UTF-8", offset=10)
    case("utf8-cut-by-quote", pack(b'{"\xe6\xbc":{}}'), "malformed", "not UTF-8", offset=10)
    case("control-character", pack(b'{"a\nb":{}}'), "malformed", "control character", offset=11)
    case("escape-unknown", pack(r'{"a\x":{}}'), "malformed", "escape is unknown", offset=11)
    case("escape-short", pack(r'{"\u12":{}}'), "malformed", "four hexadecimal digits", offset=10)
    case("escape-high-surrogate", pack(r'{"\ud83c":{}}'), "malformed", "surrogate is unpaired", offset=10)
    case("escape-low-surrogate", pack(r'{"\udf9b":{}}'), "malformed", "surrogate is unpaired", offset=10)
    case("escape-two-high-surrogates", pack(r'{"\ud83c\ud83c":{}}'), "malformed", "surrogate is unpaired", offset=10)
    deep = '{"a":{"x":' + "[" * 10_000 + "]" * 10_000 + "}}"
    case("deep-nesting", pack(deep), "malformed", "nested more than 127 deep", offset=143, tensor="a")
    case("deep-nesting-unclosed", pack('{"a":{"x":' + '{"y":' * 5_000), "malformed", "nested more than 127 deep", tensor="a")
    case("unknown-field-broken", pack('{"a":{"x":tru}}'), "malformed", "'true' is misspelt", offset=18, tensor="a")
    case("unknown-field-number", pack('{"a":{"x":01}}'), "malformed", "leading zeros", offset=18, tensor="a")

    # Metadata.
    case("metadata-number", pack('{"__metadata__":{"a":1}}'), "malformed", "a metadata value: a string, found a number")
    case("metadata-object", pack('{"__metadata__":{"a":{}}}'), "malformed", "a metadata value: a string, found an object")
    case("metadata-null-value", pack('{"__metadata__":{"a":null}}'), "malformed", "a metadata value: a string, found 'n'")
    case("metadata-array", pack('{"__metadata__":[]}'), "malformed", "'__metadata__': an object, found an array")
    case("metadata-twice", pack('{"__metadata__":{},"__metadata__":{}}'), "malformed", "'__metadata__' appears twice", offset=27)
    case("metadata-twice-escaped", pack(r'{"__metadata__":null,"\u005f_metadata__":{}}'), "malformed",
         "'__metadata__' appears twice", offset=29)

    # One tensor's description.
    def one(name, description, code, message, at=None, data=b"", found="a"):
        text = description if isinstance(description, str) else json.dumps(description, separators=(",", ":"))
        content = pack('{"a":' + text + "}", data)
        case(name, content, code, message, at=at, tensor=found)

    one("tensor-number", "1", "malformed", "a tensor's description: an object, found a number", b"1}")
    one("tensor-null", "null", "malformed", "a tensor's description: an object, found 'n'", b"null")
    one("dtype-missing", '{"shape":[],"data_offsets":[0,4]}', "malformed", "'dtype' is missing", b'"a"')
    one("shape-missing", '{"dtype":"F32","data_offsets":[0,4]}', "malformed", "'shape' is missing", b'"a"')
    one("offsets-missing", '{"dtype":"F32","shape":[]}', "malformed", "'data_offsets' is missing", b'"a"')
    one("dtype-twice", '{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}', "malformed", "'dtype' appears twice",
        b'"dtype"', bytes(4))
    one("shape-twice", '{"dtype":"F32","shape":[],"shape":[],"data_offsets":[0,4]}', "malformed", "'shape' appears twice",
        b'"shape"', bytes(4))
    one("offsets-twice", '{"dtype":"F32","shape":[],"data_offsets":[0,4],"data_offsets":[0,4]}', "malformed",
        "'data_offsets' appears twice", b'"data_offsets"', bytes(4))
    for spelling in ["f32", "C128", "I4", "U4", "F8_E3M4", "Q4_K", ""]:
        one("dtype-" + (spelling or "empty").lower().replace("_", "-"), tensor(spelling), "unsupported",
            "is not one of the 22 element types", ('"%s"' % spelling).encode(), bytes(8))
    one("dtype-number", tensor(6), "malformed", "'dtype': a string, found a number", b"6,")
    one("shape-object", dict(tensor(), shape={}), "malformed", "'shape': an array, found an object")
    one("dimension-negative", tensor(shape=[-2]), "malformed", "a dimension is negative", b"-2")
    one("dimension-minus-zero", '{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}', "malformed", "a dimension is negative", b"-0")
    one("dimension-fraction", '{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}', "malformed", "whole number", b"2.0")
    one("dimension-exponent", '{"dtype":"F32","shape":[2e0],"data_offsets":[0,8]}', "malformed", "whole number", b"2e0")
    one("dimension-leading-zero", '{"dtype":"F32","shape":[02],"data_offsets":[0,8]}', "malformed", "leading zeros", b"02")
    one("dimension-string", '{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}', "malformed",
        "a dimension: a whole number, found a string", b'"2"')
    one("dimension-2-to-63", tensor(shape=[2**63]), "malformed", "larger than 2^63 - 1", b"9223372036854775808")
    one("dimension-2-to-64", tensor(shape=[2**64, 0]), "malformed", "larger than 2^63 - 1", b"18446744073709551616")
    one("shape-overflow", tensor(shape=[2**32, 2**32]), "malformed", "overflows", b"[4294967296")
    one("shape-overflow-before-zero", tensor(shape=[2**32, 2**32, 0], offsets=[0, 0]), "malformed", "overflows", b"[4294967296")
    one("size-overflow", tensor("F64", [2**62]), "malformed", "as F64 overflows", b"[4611686018427387904")
    one("size-too-large", tensor(shape=[3]), "malformed", "takes 12 bytes, but 'data_offsets' covers 8", b"[0,8]", bytes(8))
    one("size-too-small", tensor(shape=[1]), "malformed", "takes 4 bytes, but 'data_offsets' covers 8", b"[0,8]", bytes(8))
    one("f4-odd-count", tensor("F4", [3], [0, 2]), "malformed", "not a whole number of bytes", b"[3]", bytes(2))
    one("f6-e2m3-count", tensor("F6_E2M3", [3], [0, 3]), "malformed", "not a whole number of bytes", b"[3]", bytes(3))
    one("f6-e3m2-count", tensor("F6_E3M2", [6], [0, 5]), "malformed", "not a whole number of bytes", b"[6]", bytes(5))
    one("offsets-one", tensor(offsets=[0]), "malformed", "must have 2 values, and has 1", b"[0]")
    one("offsets-three", tensor(offsets=[0, 8, 8]), "malformed", "must have 2 values, and has more", b"[0,8,8]")
    one("offsets-reversed", tensor(offsets=[8, 0]), "malformed", "begins at 8, after its end at 0", b"[8,0]", bytes(8))
    one("offset-negative", tensor(offsets=[-8, 0]), "malformed", "an offset is negative", b"-8")
    one("offset-2-to-64", tensor(offsets=[0, 2**64]), "malformed", "larger than 2^63 - 1", b"18446744073709551616")
    one("offset-largest", tensor("U8", [2**63 - 1], [0, 2**63 - 1]), "truncated", "the file has only 8", b"[0,9223372036854775807]",
        bytes(8))

    # All tensors together.
    def several(name, tensors, data, code, message, at=None, found=None, offset=None):
        text = "{" + ",".join('"%s":%s' % (key, json.dumps(value, separators=(",", ":"))) for key, value in tensors) + "}"
        case(name, pack(text, data), code, message, at=at, tensor=found, offset=offset)

    u8 = lambda begin, end: tensor("U8", [end - begin], [begin, end])
    several("first-offset-not-zero", [("a", u8(4, 8))], bytes(8), "malformed", "4 bytes into the data section", b"[4,8]", "a")
    several("hole", [("a", u8(0, 4)), ("b", u8(5, 9))], bytes(9), "malformed", "a hole of 1 bytes after tensor 'a'", b"[5,9]", "b")
    several("overlap", [("a", u8(0, 4)), ("b", u8(3, 7))], bytes(7), "malformed", "they overlap", b"[3,7]", "b")
    several("identical-ranges", [("a", u8(0, 4)), ("b", u8(0, 4))], bytes(4), "malformed", "they overlap", b"[0,4]", "b")
    several("one-inside-another", [("a", u8(0, 8)), ("b", u8(2, 4))], bytes(8), "malformed", "they overlap", b"[2,4]", "b")
    several("stray-empty-tensor", [("a", u8(0, 4)), ("b", u8(2, 2))], bytes(4), "malformed", "they overlap", b"[2,2]", "b")
    several("empty-tensor-after-end", [("a", u8(0, 4)), ("b", u8(9, 9))], bytes(4), "malformed", "a hole of 5 bytes", b"[9,9]", "b")
    several("name-twice", [("a", u8(0, 4)), ("a", u8(4, 8))], bytes(8), "malformed", "the name appears twice, first at byte 9",
            b'"a"', "a")
    several("name-twice-same-range", [("a", u8(0, 4)), ("a", u8(0, 4))], bytes(4), "malformed", "the name appears twice", b'"a"', "a")
    several("name-twice-escaped", [("a", u8(0, 4)), ("\\u0061", u8(4, 8))], bytes(8), "malformed", "the name appears twice",
            b'"\\u0061"', "a")
    several("names-normalise-alike", [("\u00e9", u8(0, 4)), ("e\u0301", u8(4, 8))], bytes(8), "unsupported",
            "Unicode normalisation", "\"e\u0301\"".encode())
    several("data-missing", [("a", u8(0, 8))], b"", "truncated", "the file has only 0", b"[0,8]", "a")
    several("data-one-short", [("a", u8(0, 4)), ("b", u8(4, 8))], bytes(7), "truncated", "the file has only 7", b"[4,8]", "b")
    over = pack({"a": u8(0, 8)}, bytes(9))
    case("data-one-over", over, "malformed", "1 bytes follow the last tensor", offset=len(over) - 1)
    case("data-without-tensors", pack("{}", bytes(3)), "malformed", "3 bytes follow the last tensor", offset=10)


def index_cases(corpus):
    name = "model.safetensors.index.json"
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    a, b = pack({"a": tensor()}, bytes(8)), pack({"b": tensor()}, bytes(8))

    def text(weight_map, total_size=16):
        return json.dumps({"metadata": {"total_size": total_size}, "weight_map": weight_map}, indent=2)

    def case(folder, index, code, message, shards=None, at=None, offset=None, tensor=None):
        content = index if isinstance(index, bytes) else index.encode()
        if at is not None:
            offset = content.rindex(at)
        corpus.write(os.path.join(folder, name), content)
        for shard, bytes_ in ({first: a, second: b} if shards is None else shards).items():
            corpus.write(os.path.join(folder, shard), bytes_)
        corpus.expect(folder, code, message, offset, tensor)

    both = {"a": first, "b": second}
    # The index by itself.
    case("empty-index", "", "malformed", "the JSON text ends", shards={}, offset=0)
    case("index-array", "[]", "malformed", "the index: an object", shards={}, offset=0)
    case("index-cut", text(both)[:-30], "malformed", "the JSON text ends", shards={})
    case("index-trailing", text(both) + "x", "malformed", "'x' follows the end", shards={})
    case("index-not-utf8", b'{"weight_map":{"\xff":"x"}}', "malformed", "not UTF-8", shards={}, offset=16)
    case("weight-map-missing", '{"metadata":{"total_size":0}}', "malformed", "'weight_map' is missing", shards={}, offset=0)
    case("weight-map-array", '{"weight_map":[]}', "malformed", "'weight_map': an object", shards={}, offset=14)
    case("weight-map-twice", '{"weight_map":{},"weight_map":{}}', "malformed", "'weight_map' appears twice", shards={}, offset=17)
    case("metadata-twice", '{"metadata":{},"metadata":{},"weight_map":{}}', "malformed", "'metadata' appears twice", shards={},
         offset=15)
    case("metadata-string", '{"metadata":"x","weight_map":{}}', "malformed", "'metadata': an object", shards={}, offset=12)
    case("shard-number", '{"weight_map":{"a":1}}', "malformed", "a shard name: a string", shards={}, offset=19, tensor="a")
    case("tensor-twice", '{"weight_map":{"a":"x","a":"y"}}', "malformed", "the index names it twice", shards={}, offset=23, tensor="a")
    case("tensor-twice-escaped", '{"weight_map":{"a":"x","\\u0061":"x"}}', "malformed", "the index names it twice", shards={},
         offset=23, tensor="a")
    case("names-normalise-alike", '{"weight_map":{"\u00e9":"x","e\u0301":"x"}}', "unsupported", "Unicode normalisation", shards={})
    case("total-size-negative", text(both, -1), "malformed", "not a whole number", shards={}, at=b"-1\n")
    case("total-size-fraction", text(both, 1.5), "malformed", "not a whole number", shards={}, at=b"1.5")
    case("total-size-string", text(both, "16"), "malformed", "'total_size': a number, found a string", shards={}, at=b'"16"')
    case("total-size-huge", text(both, 2**64), "malformed", "not a whole number", shards={}, at=b"18446744073709551616")
    case("total-size-twice", '{"metadata":{"total_size":0,"total_size":0},"weight_map":{}}', "malformed", "'total_size' appears twice",
         shards={}, offset=28)
    # Shard names that are not plain file names; no such file is opened.
    for folder, shard, fault in [
        ("shard-parent", "../" + first, "contains '/'"), ("shard-absolute", "/etc/passwd", "is an absolute path"),
        ("shard-subfolder", "weights/" + first, "contains '/'"), ("shard-backslash", "..\\" + first, "contains a backslash"),
        ("shard-dot", ".", "is a directory"), ("shard-dot-dot", "..", "is a directory"), ("shard-empty", "", "is empty"),
        ("shard-nul", first + "\0.json", "contains a NUL character"), ("shard-long", "m" * 256, "more than the 255"),
        ("shard-url", "https://example.com/" + first, "contains '/'"),
    ]:
        case(folder, text({"a": shard}), "malformed", fault, shards={}, tensor="a")
    # The index and its shards.
    case("shard-missing", text(both), "notFound", "the shard is not there", shards={first: a})
    case("all-shards-missing", text(both), "notFound", "expects 1 tensors", shards={})
    case("tensor-missing", text({"a": first, "b": second, "c": second}), "malformed", "does not have it", tensor="c")
    case("tensor-in-other-shard", text({"a": second, "b": first}), "malformed",
         "does not have it, but shard 'model-00002-of-00002.safetensors' does", tensor="b")
    case("tensor-in-two-shards", text(both, 24), "malformed", "shard 'model-00001-of-00002.safetensors' has it too",
         shards={first: a, second: pack({"a": tensor(), "b": tensor(offsets=[8, 16])}, bytes(16))}, tensor="a")
    case("shard-malformed", text(both), "malformed", "takes 12 bytes",
         shards={first: a, second: pack({"b": tensor(shape=[3])}, bytes(8))}, tensor="b")
    case("shard-truncated", text(both), "truncated", "the file has only 7", shards={first: a, second: b[:-1]}, tensor="b")
    case("shard-empty-file", text(both), "truncated", "too few", shards={first: a, second: b""}, offset=0)


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(root, "Fixtures", "malformed")
    for name, write_cases in [("safetensors", safetensors_cases), ("index", index_cases)]:
        corpus = Corpus(os.path.join(folder, name))
        write_cases(corpus)
        corpus.finish()
        print("%s: %d cases" % (name, len(corpus.expected)))


if __name__ == "__main__":
    main()
