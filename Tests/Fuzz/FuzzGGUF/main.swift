import ByteStreams
import Foundation
import FuzzSupport
import GGUF
import TensorFormats

/// Any bytes as a GGUF file: refused with an error, or sound in every respect that callers rely on.
func check(_ file: [UInt8]) {
  guard let header = try? GGUFHeader.read(from: MemorySource(file)) else { return }
  let alignment = header.alignment
  require(
    alignment > 0 && alignment & (alignment - 1) == 0, "the alignment \(alignment) is not a power of two")
  require(header.dataOffset <= file.count, "tensor data starts behind the end")

  var end = header.dataOffset
  for (index, tensor) in header.tensors.enumerated() {
    let range = tensor.byteRange
    require(range.lowerBound >= end, "tensor \(index) overlaps what is before it")
    require(range.lowerBound - end < alignment, "tensor \(index) leaves a hole")
    require(range.lowerBound % alignment == 0, "tensor \(index) is not aligned")
    require(
      tensor.shape.byteCount(as: tensor.elementType) == range.count, "tensor \(index) has another size")
    require(range.upperBound <= file.count, "tensor \(index) ends behind the file")
    end = range.upperBound
  }

  // When written, a header without tensors is padded too, up to 2 GiB, which the input need not contain.
  guard !header.tensors.isEmpty || alignment <= 1 << 20 else { return }
  do {
    let layout = try GGUFLayout(rewriting: header)
    let table = try tableByteCount(of: header)
    require(
      file[..<table].elementsEqual(layout.headerBytes[..<table]), "what was read is written with other bytes")
    require(layout.headerBytes[table...].allSatisfy { $0 == 0 }, "the padding behind the table is not zero")
    require(layout.header.tensors == header.tensors, "what is written has its tensors elsewhere")

    let data = [UInt8](repeating: 0, count: max(0, end - layout.headerBytes.count))
    let again = try GGUFHeader.read(from: MemorySource(layout.headerBytes + data))
    require(
      again.tensors == header.tensors && again.dataOffset == header.dataOffset
        && again.alignment == alignment && again.version == header.version
        && again.byteOrder == header.byteOrder, "what is written reads differently")
    // Bytes are compared, not values, because the metadata may contain NaN, which equals nothing.
    let third = try GGUFLayout(rewriting: again)
    require(third.headerBytes == layout.headerBytes, "metadata changes when it is written")
  } catch {
    fatalError("cannot write what was read: \(error)")
  }
}

/// Where the tensor table ends and the padding begins, which may hold anything in a file that was read.
func tableByteCount(of header: GGUFHeader) throws -> Int {
  guard !header.tensors.isEmpty else { return header.dataOffset }
  // Without tensors the data offset is where the metadata ends. The alignment is not adopted, as it may be large.
  let metadata = GGUFMetadata(header.metadata.entries.filter { $0.key != "general.alignment" })
  let alignmentEntry = header.metadata["general.alignment"] == nil ? 0 : 8 + 17 + 4 + 4
  let bare = try GGUFLayout(
    metadata: metadata, tensors: [], version: header.version, byteOrder: header.byteOrder)
  return header.tensors.reduce(bare.header.dataOffset + alignmentEntry) { sum, tensor in
    // Name with its length, rank, dimensions, type, offset.
    sum + 8 + tensor.name.utf8.count + 4 + 8 * tensor.shape.rank + 4 + 8
  }
}

exit(
  runFuzzer { bytes, count in
    check(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
  })
