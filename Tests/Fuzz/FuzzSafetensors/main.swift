import ByteStreams
import Foundation
import FuzzSupport
import Safetensors
import TensorFormats

/// Any bytes as a safetensors file: refused with an error, or sound in every respect that callers rely on.
func check(_ file: [UInt8]) {
  // A file as large as its header claims: reaches arithmetic that a small file's size would keep out of reach.
  _ = try? SafetensorsHeader.parse(file.span.bytes, fileByteCount: .max)

  guard let header = try? SafetensorsHeader.read(from: MemorySource(file)) else { return }
  var end = header.dataOffset
  for (index, tensor) in header.tensors.enumerated() {
    require(tensor.byteRange.lowerBound == end, "tensor \(index) leaves a hole or overlaps")
    require(
      tensor.shape.byteCount(as: tensor.elementType) == tensor.byteRange.count,
      "tensor \(index) has another size")
    require(header.index(of: tensor.name) == index, "tensor \(index) is not found by its name")
    end = tensor.byteRange.upperBound
  }
  require(end == file.count, "the tensors do not cover the file")

  let items = header.tensors.map {
    SafetensorsLayout.Item(name: $0.name, elementType: $0.elementType, shape: $0.shape)
  }
  do {
    let layout = try SafetensorsLayout(items, metadata: header.metadata, order: .asGiven)
    let again = try SafetensorsHeader.parse(
      layout.headerBytes.span.bytes, fileByteCount: layout.fileByteCount)
    require(again == layout.header, "what is written reads differently")
    require(again.metadata == header.metadata, "metadata changes when it is written")
    for (left, right) in zip(again.tensors, header.tensors) {
      require(
        left.name == right.name && left.shape == right.shape && left.elementType == right.elementType
          && left.byteRange.count == right.byteRange.count, "a tensor changes when it is written")
    }
  } catch {
    fatalError("cannot write what was read: \(error)")
  }
}

exit(
  runFuzzer { bytes, count in
    check(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
  })
