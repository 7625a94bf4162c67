#!/usr/bin/env python3
"""Writes small archives: sound ones with their contents, and broken ones with the expected error.

Usage, from the repository's root:  .venv/bin/python Tests/Corpus/make_archives.py

Written from Manuals/archive.md, without the toolkit. Needs the packages zstandard, xxhash and numpy; the same files are
written every time with the same version of zstandard.
"""

import json
import pathlib
import shutil
import struct

import numpy
import xxhash
import zstandard

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "Fixtures"


def checksum(content):
    return xxhash.xxh64_intdigest(content) & 0xFFFFFFFF


def frame(content, level=3, size=True):
    return zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=size).compress(content)


def skippable(magic, content):
    return struct.pack("<II", magic, len(content)) + content


def planes(content, width):
    """The contents of a frame for a piece of 16- or 32-bit elements."""
    count = len(content) // width
    elements = numpy.frombuffer(content, f"<u{width}", count).astype(numpy.uint32)
    top = elements >> (0 if width == 2 else 16)
    rows = [top >> 7, top >> 8 & 0x80 | top & 0x7F]
    if width == 4:
        rows += [elements >> 8, elements]
    return b"".join((row & 0xFF).astype(numpy.uint8).tobytes() for row in rows) + content[count * width :]


class Archive:
    """The parts of a container, each of which can be changed before it is written."""

    def __init__(self, pieces):
        """pieces: of (bytes, transform)"""
        self.frames = [
            frame(piece if transform == 0 else planes(piece, 2 * transform)) for piece, transform in pieces
        ]
        self.entries = [
            [len(packed), len(piece), checksum(piece if transform == 0 else planes(piece, 2 * transform))]
            for packed, (piece, transform) in zip(self.frames, pieces)
        ]
        self.size = sum(len(piece) for piece, _ in pieces)
        self.runs = [[1, transform] for _, transform in pieces]
        self.version = 1
        self.count = None
        self.descriptor = 0x80

    def bytes(self):
        content = struct.pack("<8sHHIQ", b"STEP3ZST", self.version, 0, len(self.runs), self.size)
        content += b"".join(struct.pack("<II", *run) for run in self.runs)
        table = skippable(0x184D2A5D, content + struct.pack("<I", checksum(content)))
        entries = self.entries + [[len(table), 0, checksum(b"")]]
        seek = b"".join(struct.pack("<III", *entry) for entry in entries)
        count = len(entries) if self.count is None else self.count
        seek += struct.pack("<IBI", count, self.descriptor, 0x8F92EAB1)
        return b"".join(self.frames) + table + skippable(0x184D2A5E, seek)


def weights(count, seed):
    return numpy.random.default_rng(seed).normal(0, 0.02, count).astype("<f4")


def bf16(count, seed):
    return (weights(count, seed).view("<u4") >> 16).astype("<u2").tobytes()


def good():
    """Names, files and their contents."""
    header = b'{"a":{"dtype":"BF16"}}' + b" " * 10
    text = bytes(range(256)) * 8
    yield "planes16", Archive([(header, 0), (bf16(1500, 1), 1), (bf16(500, 2) + b"x", 1)])
    yield "planes32", Archive([(weights(700, 3).tobytes(), 2), (weights(300, 4).tobytes() + b"xyz", 2)])
    yield "plain", Archive([(text, 0), (bytes(5000), 0)])
    yield "one-piece", Archive([(b"a", 0)])
    yield "nothing", Archive([])


def foreign():
    text = (b"frames of others, " * 200)[:3000]
    yield "frames", frame(text[:1000]) + frame(text[1000:]), text
    yield "one-frame", frame(text, level=19), text
    yield "unstated", frame(text, size=False), text
    seek = struct.pack("<II", len(frame(text[:1500])), 1500) + struct.pack("<II", len(frame(text[1500:])), 1500)
    table = skippable(0x184D2A5E, seek + struct.pack("<IBI", 2, 0, 0x8F92EAB1))
    yield "seekable-without-checksums", frame(text[:1500]) + frame(text[1500:]) + table, text


def broken():
    def archive():
        return Archive([(bf16(600, 5), 1), (weights(200, 6).tobytes(), 2), (b"end", 0)])

    def changed(**values):
        made = archive()
        for name, value in values.items():
            setattr(made, name, value)
        return made.bytes()

    def entry(index, field, value):
        made = archive()
        made.entries[index][field] = value
        return made.bytes()

    whole = archive().bytes()
    first = archive().entries[0][0]
    yield "version-2", changed(version=2), "unsupported", "version 2"
    yield "transform-9", changed(runs=[[1, 9], [1, 2], [1, 0]]), "unsupported", "transform"
    yield "runs-of-too-many", changed(runs=[[1, 1], [9, 2], [1, 0]]), "malformed", "3 frames"
    yield "runs-of-too-few", changed(runs=[[1, 1], [1, 2]]), "malformed", "3 frames"
    yield "run-of-none", changed(runs=[[1, 1], [0, 0], [1, 2], [1, 0]]), "malformed", "run"
    yield "size-of-another", changed(size=1 << 40), "malformed", "frames hold"
    yield "count-2-to-32", changed(count=0xFFFFFFFF), "malformed", "more than the file has room for"
    yield "count-0", changed(count=0), "malformed", "does not begin where"
    yield "reserved-bits", changed(descriptor=0xFC), "unsupported", "reserved bits"
    yield "frame-of-4-gib", entry(0, 0, 0xFFFFFFFF), "malformed", "takes 4294967295"
    yield "content-of-4-gib", entry(1, 1, 0xFFFFFFFF), "malformed", "cannot decompress to"
    yield "content-of-one-more", entry(1, 1, 801), "malformed", "frames hold"
    yield "checksum", entry(0, 2, 1), "malformed", "checksum"
    flipped = bytearray(whole)
    flipped[first // 2] ^= 4
    yield "flipped", bytes(flipped), "malformed", "damaged"
    yield "cut-in-a-frame", whole[: first // 2], "truncated", "is incomplete"
    bomb = archive()
    bomb.frames[2] = frame(bytes(1 << 24))
    bomb.entries[2][0] = len(bomb.frames[2])
    yield "bomb", bomb.bytes(), "malformed", "the table has 3"
    other = archive()
    other.frames[0], other.frames[2] = other.frames[2], other.frames[0]
    yield "frames-exchanged", other.bytes(), "malformed", "the table has"
    alike = Archive([(bf16(600, 5), 1), (bf16(600, 5)[::-1], 0), (bf16(600, 8)[::-1], 0)])
    alike.frames = [frame(planes(bf16(600, 5), 2)), *(frame(bf16(600, seed)[::-1], 1) for seed in (8, 5))]
    for entry, packed in zip(alike.entries, alike.frames):
        entry[0] = len(packed)
    yield "frames-of-one-length-exchanged", alike.bytes(), "malformed", "checksum is not the one in the table"


def main():
    golden, malformed = FIXTURES / "golden/archive", FIXTURES / "malformed/archive"
    for folder in (golden, malformed):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for name, made in good():
        content = b"".join(
            unpacked(packed, transform, length)
            for packed, (_, transform), (_, length, _) in zip(made.frames, made.runs, made.entries)
        )
        (golden / f"{name}.zst").write_bytes(made.bytes())
        (golden / f"{name}.original").write_bytes(content)
    for name, packed, content in foreign():
        (golden / f"{name}.zst").write_bytes(packed)
        (golden / f"{name}.original").write_bytes(content)
    expected = []
    for name, content, code, message in broken():
        (malformed / f"{name}.zst").write_bytes(content)
        expected.append({"path": f"{name}.zst", "code": code, "message": message})
    (malformed / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


def unpacked(packed, transform, length):
    """A decoded piece, by definition."""
    content = zstandard.ZstdDecompressor().decompress(packed)
    if transform == 0:
        return content
    width, count = 2 * transform, length // (2 * transform)
    rows = [content[row * count : (row + 1) * count] for row in range(width)]
    elements = []
    for index in range(count):
        top = (rows[1][index] & 0x80) << 8 | rows[0][index] << 7 | rows[1][index] & 0x7F
        value = top if width == 2 else top << 16 | rows[2][index] << 8 | rows[3][index]
        elements.append(value.to_bytes(width, "little"))
    return b"".join(elements) + content[width * count :]


if __name__ == "__main__":
    main()
