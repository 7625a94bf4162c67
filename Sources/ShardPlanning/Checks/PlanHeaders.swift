internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import Safetensors
internal import TensorFormats

/// The headers of a plan's files, stored one after the other.
package struct PlanHeaders {
  /// By the path of the file.
  let byPath: [String: [UInt8]]

  /// Splits the headers and compares each with the plan's description of its file.
  ///
  /// - Throws: `.malformed` for a header that is not the one that was planned, or that describes another file.
  init(_ bytes: [UInt8], of plan: ShardPlan) throws(CheckpointError) {
    let total = Self.byteCount(of: plan)
    guard bytes.count == total else {
      throw CheckpointError(
        .malformed, "the headers have \(bytes.count) bytes, but the plan says \(total)", remedy: "plan again")
    }
    var byPath: [String: [UInt8]] = [:]
    var position = 0
    for file in plan.files {
      let header = Array(bytes[position..<position + file.dataOffset])
      position += file.dataOffset
      guard digest(of: header) == file.headerXXH3 else {
        throw CheckpointError(
          .malformed, "the header of \(file.path.printable) is not the one that was planned",
          remedy: "plan again")
      }
      try Self.check(header, of: file, plan.request)
      byPath[file.path] = header
    }
    self.byPath = byPath
  }

  /// The bytes of all headers.
  package static func byteCount(of plan: ShardPlan) -> Int { plan.files.reduce(0) { $0 + $1.dataOffset } }

  /// The headers of a planned conversion, one after the other.
  package static func joined(_ planned: PlannedConversion) -> [UInt8] {
    planned.plan.files.flatMap { planned.headers[$0.path] ?? [] }
  }

  /// The header must place the tensors where the plan does.
  private static func check(
    _ header: [UInt8], of file: ShardPlan.File, _ request: ShardPlan.Request
  ) throws(CheckpointError) {
    func check(_ holds: Bool, _ tensor: String? = nil) throws(CheckpointError) {
      guard holds else {
        throw CheckpointError(
          .malformed, "the header of \(file.path.printable) describes another file", tensor: tensor,
          remedy: "plan again")
      }
    }
    do throws(CheckpointError) {
      switch request.format {
      case .safetensors:
        let found = try unsafe SafetensorsHeader.parse(header.span.bytes, fileByteCount: file.bytes)
        try check(found.dataOffset == file.dataOffset && found.tensors.count == file.tensors.count)
        for tensor in file.tensors {
          let bytes = tensor.offset..<tensor.offset + tensor.bytes
          try check(
            found.tensor(named: tensor.name)
              == SafetensorsHeader.Tensor(
                name: tensor.name, elementType: tensor.elementType, shape: tensor.shape, byteRange: bytes),
            tensor.name)
        }
      case .gguf:
        let layout = try GGUFLayout(
          rewriting: GGUFHeader.read(from: HeaderSource(header: header, byteCount: file.bytes)))
        try check(
          layout.headerBytes == header && layout.byteCount == file.bytes && layout.header.byteOrder == .little
            && layout.header.tensors.count == file.tensors.count)
        for (tensor, found) in zip(file.tensors, layout.header.tensors) {
          let bytes = tensor.offset..<tensor.offset + tensor.bytes
          try check(
            found
              == GGUFHeader.Tensor(
                name: tensor.name, elementType: tensor.elementType, shape: tensor.shape, byteRange: bytes),
            tensor.name)
        }
      }
    } catch {
      throw error.at(path: file.path)
    }
  }

  /// A file of which only the header exists.
  private struct HeaderSource: ByteSource {
    let header: [UInt8]
    let byteCount: Int
    var path: String { "<header>" }

    func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
      guard offset >= 0, buffer.byteCount <= byteCount - offset else {
        throw CheckpointError(.truncated, "the file ends at byte \(byteCount)", offset: offset)
      }
      for index in 0..<buffer.byteCount {
        let place = offset + index
        buffer.storeBytes(of: place < header.count ? header[place] : 0, toByteOffset: index, as: UInt8.self)
      }
    }
  }
}
