import ByteStreams
import GGUF
import TensorFormats

/// Builds a GGUF file byte by byte, without the code under test, so that it can be malformed in any way.
struct HeaderBytes {
  var order: GGUFByteOrder = .little
  var bytes: [UInt8] = []

  init(
    _ order: GGUFByteOrder = .little, version: UInt32 = 3, tensors: Int64 = 0, entries: Int64 = 0
  ) {
    self.order = order
    bytes = Array("GGUF".utf8)
    number(version)
    number(tensors)
    number(entries)
  }

  mutating func number(_ value: some FixedWidthInteger) {
    for index in 0..<(value.bitWidth / 8) {
      let shift = order == .little ? index * 8 : value.bitWidth - 8 - index * 8
      bytes.append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }

  mutating func text(_ value: String) { text(Array(value.utf8)) }

  mutating func text(_ value: [UInt8]) {
    number(UInt64(value.count))
    bytes += value
  }

  mutating func entry(_ key: String, type: UInt32, _ value: (inout HeaderBytes) -> Void) {
    text(key)
    number(type)
    value(&self)
  }

  mutating func tensor(_ name: String, _ dimensions: [Int64], type: UInt32 = 0, offset: UInt64 = 0) {
    text(name)
    number(UInt32(dimensions.count))
    for dimension in dimensions { number(dimension) }
    number(type)
    number(offset)
  }

  mutating func payload(_ count: Int, alignment: Int = 32) {
    while bytes.count % alignment != 0 { bytes.append(0) }
    bytes += [UInt8](repeating: 0xAB, count: count)
  }

  func read() throws(CheckpointError) -> GGUFHeader { try GGUFHeader.read(from: MemorySource(bytes)) }

  /// The error that reading throws, `nil` if none.
  var failure: CheckpointError? {
    do throws(CheckpointError) {
      _ = try read()
      return nil
    } catch {
      return error
    }
  }
}

/// A source that holds the bytes of a header and claims more after them; it fails when anything beyond the
/// known bytes and some read-ahead is touched.
final class PretendingSource: ByteSource {
  let path = "pretending.gguf"
  let byteCount: Int
  private let known: [UInt8]

  init(_ known: [UInt8], byteCount: Int) {
    self.known = known
    self.byteCount = byteCount
  }

  func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
    guard buffer.byteCount <= 8 << 20 else {
      throw CheckpointError(.inputOutput, "\(buffer.byteCount) bytes were asked for at once", offset: offset)
    }
    for index in 0..<buffer.byteCount {
      let position = offset + index
      buffer.storeBytes(of: position < known.count ? known[position] : 0, toByteOffset: index, as: UInt8.self)
    }
  }
}

extension GGUFLayout {
  /// The bytes of the whole file, tensor data made of 0xAB.
  var fileBytes: [UInt8] {
    var bytes = headerBytes + [UInt8](repeating: 0, count: byteCount - headerBytes.count)
    for tensor in header.tensors {
      for index in tensor.byteRange { bytes[index] = 0xAB }
    }
    return bytes
  }
}
