"""A reader of archives that shares no code with the toolkit: written from Manuals/archive.md alone.

    python archive_reader.py NAME.zst > NAME
"""

import bisect
import itertools
import struct
import sys

import numpy
import xxhash
import zstandard


class ArchiveReader:
    """The original bytes of a file in the container, from any position."""

    def __init__(self, path):
        self.file = open(path, "rb")  # noqa: SIM115
        size = self.file.seek(0, 2)
        count, descriptor, magic = struct.unpack("<IBI", self.bytes(size - 9, 9))
        assert magic == 0x8F92EAB1 and descriptor == 0x80, "no seek table with checksums"
        start = size - 9 - 12 * count - 8
        table = self.bytes(start, size - start)
        assert struct.unpack_from("<II", table) == (0x184D2A5E, 12 * count + 9)
        self.entries = list(struct.iter_unpack("<III", table[8:-9]))
        self.positions = list(itertools.accumulate((entry[0] for entry in self.entries), initial=0))
        self.starts = list(itertools.accumulate((entry[1] for entry in self.entries), initial=0))
        assert self.positions[-1] == start, "the frames do not fill the file"
        self.size = self.starts[-1]
        self.transforms = self.read_map(self.bytes(self.positions[-2], self.entries[-1][0]))

    def read_map(self, frame):
        assert struct.unpack_from("<II", frame) == (0x184D2A5D, len(frame) - 8)
        content = frame[8:-4]
        signature, version, _, runs, size = struct.unpack_from("<8sHHIQ", content)
        assert signature == b"STEP3ZST" and version == 1 and size == self.size
        assert frame[-4:] == struct.pack("<I", xxhash.xxh64_intdigest(content) & 0xFFFFFFFF)
        assert len(content) == 24 + 8 * runs
        transforms = [code for frames, code in struct.iter_unpack("<II", content[24:]) for _ in range(frames)]
        assert len(transforms) == len(self.entries) - 1
        return transforms

    def bytes(self, position, count):
        self.file.seek(position)
        return self.file.read(count)

    def piece(self, index):
        """One piece of the original."""
        compressed, length, checksum = self.entries[index]
        frame = self.bytes(self.positions[index], compressed)
        content = zstandard.ZstdDecompressor().decompress(frame, max_output_size=length)
        assert len(content) == length and xxhash.xxh64_intdigest(content) & 0xFFFFFFFF == checksum
        width = {0: 1, 1: 2, 2: 4}[self.transforms[index]]
        if width == 1:
            return content
        count = length // width
        planes = numpy.frombuffer(content, numpy.uint8, count * width).reshape(width, count).astype(numpy.uint32)
        top = (planes[1] & 0x80) << 8 | planes[0] << 7 | planes[1] & 0x7F
        elements = top if width == 2 else top << 16 | planes[2] << 8 | planes[3]
        return elements.astype(f"<u{width}").tobytes() + content[count * width :]

    def read(self, start, end):
        """Bytes of the original; only the pieces that contain them are decompressed."""
        first = bisect.bisect_right(self.starts, start) - 1
        last = bisect.bisect_left(self.starts, end)
        joined = b"".join(self.piece(index) for index in range(first, min(last, len(self.transforms))))
        return joined[start - self.starts[first] : end - self.starts[first]]


if __name__ == "__main__":
    archive = ArchiveReader(sys.argv[1])
    for number in range(len(archive.transforms)):
        sys.stdout.buffer.write(archive.piece(number))
