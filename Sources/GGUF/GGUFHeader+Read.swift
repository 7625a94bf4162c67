public import ByteStreams
public import TensorFormats

extension GGUFHeader {
  /// Reads the header of a GGUF file and checks it against every rule of the format.
  ///
  /// Tensor data is not read, only compared with the length of the source. Memory grows with the bytes that
  /// the source really has, whatever lengths and counts the header claims.
  ///
  /// - Throws: `.truncated` if the file ends before what it announces, `.unsupported` for versions, element
  ///   types and nested arrays that this toolkit cannot represent, `.malformed` for every other broken rule,
  ///   with the byte offset and the tensor or key; and whatever `source` throws.
  /// - Complexity: O(n) in the bytes of the header.
  public static func read(from source: some ByteSource) throws(CheckpointError) -> GGUFHeader {
    do throws(CheckpointError) {
      var cursor = GGUFCursor(source)
      return try cursor.readHeader()
    } catch {
      throw error.explained(by: source, as: .gguf).at(path: source.path)
    }
  }
}

extension GGUFCursor {
  fileprivate mutating func readHeader() throws(CheckpointError) -> GGUFHeader {
    let version = try readPreamble()
    let tensorCount = try readCount("tensors", minimumByteCount: 24)
    let entryCount = try readCount("metadata entries", minimumByteCount: 13)
    let (metadata, alignment) = try readMetadata(count: entryCount)
    let infos = try readTensorInfos(count: tensorCount)
    let dataOffset = infos.isEmpty ? position : try findData(alignment: alignment)
    let tensors = try place(infos, dataOffset: dataOffset, alignment: alignment)
    return GGUFHeader(
      version: version, byteOrder: byteOrder, metadata: metadata, tensors: tensors, alignment: alignment,
      dataOffset: dataOffset)
  }

  /// Reads the magic and the version, and learns the byte order from the latter: a version has few bits, so a
  /// number whose low half is empty was written the other way round.
  private mutating func readPreamble() throws(CheckpointError) -> UInt32 {
    let magic = try readArray(UInt8.self, count: 4, "the magic number")
    guard magic == GGUFRules.magic else {
      throw CheckpointError(
        .malformed, "the file starts with bytes \(magic) and not with 'GGUF' \(GGUFRules.magic)", offset: 0,
        remedy: "this is not a GGUF file")
    }
    let offset = position
    var version = try read(UInt32.self, "the version")
    if version != 0, version & 0xFFFF == 0 {
      byteOrder = .big
      version = version.byteSwapped
    }
    guard GGUFRules.versions.contains(version) else {
      let known =
        "this toolkit reads versions \(GGUFRules.versions.lowerBound) and \(GGUFRules.versions.upperBound)"
      switch version {
      case 0: throw CheckpointError(.malformed, "the version is 0, which never existed", offset: offset)
      case 1:
        throw CheckpointError(
          .unsupported, "the version is 1; \(known)", offset: offset,
          remedy: "convert the model again with a current writer")
      default:
        throw CheckpointError(.unsupported, "the version is \(version); \(known)", offset: offset)
      }
    }
    return version
  }

  private mutating func readCount(
    _ items: String, minimumByteCount: Int
  ) throws(CheckpointError) -> Int {
    let offset = position
    let count = try read(Int64.self, "the number of \(items)")
    guard count >= 0 else {
      throw CheckpointError(.malformed, "the number of \(items) is \(count)", offset: offset)
    }
    do throws(CheckpointError) {
      try announce(Int(count), each: minimumByteCount, "a table of \(count) \(items)")
    } catch {
      var placed = error
      placed.offset = offset
      throw placed
    }
    return Int(count)
  }

  private mutating func readMetadata(
    count: Int
  ) throws(CheckpointError) -> (metadata: GGUFMetadata, alignment: Int) {
    var metadata = GGUFMetadata()
    var alignmentOffset: Int?
    for index in 0..<count {
      let offset = position
      let key = try readString("the key of metadata entry \(index)")
      if let objection = GGUFRules.objection(toKey: key) {
        throw CheckpointError(.malformed, objection, offset: offset)
      }
      guard metadata[key] == nil else {
        throw CheckpointError(
          .malformed, "the metadata key '\(key.printable)' appears twice", offset: offset)
      }
      let valueOffset = position
      metadata.set(key, try readValue(of: key))
      if key == GGUFRules.alignmentKey { alignmentOffset = valueOffset }
    }
    switch GGUFRules.alignment(of: metadata) {
    case .success(let alignment): return (metadata, alignment)
    case .failure(let objection):
      throw CheckpointError(.malformed, objection.text, offset: alignmentOffset)
    }
  }

  /// Where tensor data starts, after the padding that follows the tensor table.
  private func findData(alignment: Int) throws(CheckpointError) -> Int {
    guard let start = GGUFRules.padded(position, to: alignment), start <= position + remaining else {
      throw CheckpointError(
        .truncated,
        "tensor data starts at the next multiple of \(alignment), but only \(remaining) bytes are left",
        offset: position, remedy: "the file is damaged or its download is incomplete")
    }
    return start
  }

  /// Checks that the tensors follow each other without holes and end within the file. The padding behind the
  /// last one may be missing.
  private func place(
    _ infos: [TensorInfo], dataOffset: Int, alignment: Int
  ) throws(CheckpointError) -> [GGUFHeader.Tensor] {
    let fileEnd = position + remaining
    var tensors: [GGUFHeader.Tensor] = []
    tensors.reserveCapacity(infos.count)
    var expected = 0
    for info in infos {
      guard info.offset == expected else {
        throw CheckpointError(
          .malformed,
          "the data offset is \(info.offset), but must be \(expected), right behind the tensor before it, padded to \(alignment) bytes",
          offset: info.offsetPosition, tensor: info.name)
      }
      // `expected` is the padded end of the tensor before, so it may lie beyond the end of the file.
      let left = max(0, fileEnd - dataOffset - expected)
      guard info.byteCount <= left, left > 0 || expected == fileEnd - dataOffset else {
        throw CheckpointError(
          .truncated, "\(info.byteCount) bytes of data are announced, but only \(left) are left in the file",
          offset: info.offsetPosition, tensor: info.name,
          remedy: "the file is damaged or its download is incomplete")
      }
      let start = dataOffset + expected
      tensors.append(
        GGUFHeader.Tensor(
          name: info.name, elementType: info.elementType, shape: info.shape,
          byteRange: start..<(start + info.byteCount)))
      guard let next = GGUFRules.padded(expected + info.byteCount, to: alignment) else {
        throw CheckpointError(.malformed, "the end of the data overflows", tensor: info.name)
      }
      expected = next
    }
    return tensors
  }
}
