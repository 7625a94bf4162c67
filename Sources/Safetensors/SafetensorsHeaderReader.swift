internal import JSON
internal import TensorFormats

/// One pass over the JSON text of a header, then the checks that need all tensors.
struct SafetensorsHeaderReader: ~Escapable {
  /// A tensor as its description has it, with the places to name in errors.
  private struct Entry {
    let name: String
    let elementType: ElementType
    let shape: TensorShape
    /// From the start of the data section; not negative, not reversed, and as long as the shape requires.
    let begin: Int
    let end: Int
    /// Where in the file the name is. Headers are far shorter than 4 GiB.
    let nameOffset: UInt32
    /// Where in the file the value of `data_offsets` is.
    let rangeOffset: UInt32
  }

  private var scanner: JSONScanner
  private var entries: [Entry] = []
  private var metadata: [String: String] = [:]

  /// - Parameter text: The JSON text, without the length before it.
  @_lifetime(copy text)
  init(_ text: RawSpan) {
    scanner = JSONScanner(text, fileOffset: SafetensorsHeader.lengthFieldByteCount)
  }
}

// MARK: - Reading

extension SafetensorsHeaderReader {
  /// Reads the whole text.
  mutating func readObject() throws(CheckpointError) {
    var hasMetadata = false
    var members = try scanner.openObject("the header")
    while let name = try scanner.nextKey(&members) {
      if name == SafetensorsHeader.metadataKey {
        guard !hasMetadata else { throw scanner.errorAtToken("'__metadata__' appears twice") }
        hasMetadata = true
        try readMetadata()
      } else {
        let offset = scanner.tokenOffset
        do throws(CheckpointError) {
          entries.append(try readTensor(name, nameOffset: offset))
        } catch {
          throw error.about(tensor: name)
        }
      }
    }
    try scanner.finish()
  }

  private mutating func readMetadata() throws(CheckpointError) {
    if try scanner.scanNull() { return }
    var members = try scanner.openObject("'__metadata__'")
    while let key = try scanner.nextKey(&members) {
      metadata[key] = try scanner.scanString("a metadata value")
    }
  }

  private mutating func readTensor(_ name: String, nameOffset: Int) throws(CheckpointError) -> Entry {
    var elementType: ElementType?
    var shape: (value: TensorShape, offset: Int)?
    var range: (begin: Int, end: Int, offset: Int)?
    var members = try scanner.openObject("a tensor's description")
    while let field = try scanner.nextKey(&members) {
      switch field {
      case "dtype":
        guard elementType == nil else { throw scanner.errorAtToken("'dtype' appears twice") }
        let typeName = try scanner.scanString("'dtype'")
        guard let type = ElementType(safetensorsName: typeName) else {
          throw scanner.errorAtToken(
            "'\(typeName.printable)' is not one of the \(ElementType.safetensorsTypes.count) element types of "
              + "safetensors 0.8", code: .unsupported)
        }
        elementType = type
      case "shape":
        guard shape == nil else { throw scanner.errorAtToken("'shape' appears twice") }
        shape = try readShape()
      case "data_offsets":
        guard range == nil else { throw scanner.errorAtToken("'data_offsets' appears twice") }
        range = try readRange()
      default: try scanner.skipValue()
      }
    }
    func missing(_ field: String) -> CheckpointError {
      CheckpointError(.malformed, "'\(field)' is missing", offset: nameOffset)
    }
    guard let elementType else { throw missing("dtype") }
    guard let shape else { throw missing("shape") }
    guard let range else { throw missing("data_offsets") }
    try check(range: range, elementType: elementType, shape: shape)
    return Entry(
      name: name, elementType: elementType, shape: shape.value, begin: range.begin, end: range.end,
      nameOffset: UInt32(truncatingIfNeeded: nameOffset),
      rangeOffset: UInt32(truncatingIfNeeded: range.offset))
  }

  private mutating func readShape() throws(CheckpointError) -> (value: TensorShape, offset: Int) {
    var dimensions: [Int] = []
    var elements = try scanner.openArray("'shape'")
    let offset = scanner.tokenOffset
    while try scanner.nextElement(&elements) {
      dimensions.append(try scanner.scanNonNegativeInteger("a dimension"))
    }
    guard let shape = TensorShape(checking: dimensions) else {
      throw CheckpointError(
        .malformed, "the element count of shape \(describe(dimensions)) overflows", offset: offset)
    }
    return (shape, offset)
  }

  private mutating func readRange() throws(CheckpointError) -> (begin: Int, end: Int, offset: Int) {
    var elements = try scanner.openArray("'data_offsets'")
    let offset = scanner.tokenOffset
    var values: (begin: Int, end: Int) = (0, 0)
    var count = 0
    while try scanner.nextElement(&elements) {
      let value = try scanner.scanNonNegativeInteger("an offset")
      if count == 0 { values.begin = value } else { values.end = value }
      count += 1
      guard count <= 2 else { break }
    }
    guard count == 2 else {
      throw CheckpointError(
        .malformed, "'data_offsets' must have 2 values, and has \(count == 3 ? "more" : "\(count)")",
        offset: offset)
    }
    guard values.begin <= values.end else {
      throw CheckpointError(
        .malformed, "'data_offsets' begins at \(values.begin), after its end at \(values.end)", offset: offset
      )
    }
    return (values.begin, values.end, offset)
  }

  /// Checks that a tensor has as many bytes as its type and shape require.
  private func check(
    range: (begin: Int, end: Int, offset: Int), elementType: ElementType,
    shape: (value: TensorShape, offset: Int)
  ) throws(CheckpointError) {
    let (layout, count) = (elementType.block, shape.value.elementCount)
    guard count % layout.elements == 0 else {
      throw CheckpointError(
        .malformed,
        "\(count) elements of \(elementType) are not a whole number of bytes: \(layout.elements) of them take "
          + "\(layout.bytes)", offset: shape.offset)
    }
    guard let wanted = shape.value.byteCount(as: elementType) else {
      throw CheckpointError(
        .malformed, "the size of shape \(describe(shape.value.dimensions)) as \(elementType) overflows",
        offset: shape.offset)
    }
    guard range.end - range.begin == wanted else {
      throw CheckpointError(
        .malformed,
        "shape \(describe(shape.value.dimensions)) as \(elementType) takes \(wanted) bytes, but 'data_offsets' "
          + "covers \(range.end - range.begin)", offset: range.offset)
    }
  }

  /// Dimensions for a message, truncated in case a hostile file has thousands.
  private func describe(_ dimensions: [Int]) -> String {
    let shown = dimensions.prefix(8).map(String.init)
    return "[" + (shown + (dimensions.count > shown.count ? ["…"] : [])).joined(separator: ", ") + "]"
  }
}

// MARK: - Checking all tensors together

extension SafetensorsHeaderReader {
  /// The checked header.
  mutating func header(dataOffset: Int, fileByteCount: Int) throws(CheckpointError) -> SafetensorsHeader {
    sortByOffset()
    let indices = try indicesOfUniqueNames()
    try checkTiling(dataOffset: dataOffset, fileByteCount: fileByteCount)
    let tensors = entries.map { entry in
      SafetensorsHeader.Tensor(
        name: entry.name, elementType: entry.elementType, shape: entry.shape,
        byteRange: (dataOffset + entry.begin)..<(dataOffset + entry.end))
    }
    return SafetensorsHeader(tensors: tensors, metadata: metadata, dataOffset: dataOffset, indices: indices)
  }

  /// Sorts by offset: the reference reader allows any order in the text. Empty tensors come before the one that
  /// starts at the same byte, and otherwise stay in the text's order.
  private mutating func sortByOffset() {
    func precedes(_ left: Entry, _ right: Entry) -> Bool {
      (left.begin, left.end, left.nameOffset) < (right.begin, right.end, right.nameOffset)
    }
    let isSorted = entries.indices.dropFirst().allSatisfy { !precedes(entries[$0], entries[$0 - 1]) }
    if !isSorted { entries.sort(by: precedes) }
  }

  private func indicesOfUniqueNames() throws(CheckpointError) -> [String: Int] {
    var indices = [String: Int](minimumCapacity: entries.count)
    for index in entries.indices {
      guard let other = indices.updateValue(index, forKey: entries[index].name) else { continue }
      let (first, second) =
        entries[other].nameOffset < entries[index].nameOffset
        ? (entries[other], entries[index]) : (entries[index], entries[other])
      // Swift compares strings by canonical equivalence, the format by bytes. Names that only the format tells apart
      // would be one tensor everywhere above this module.
      guard first.name.utf8.elementsEqual(second.name.utf8) else {
        throw CheckpointError(
          .unsupported, "its name differs from that of another tensor only in Unicode normalisation",
          offset: Int(second.nameOffset), tensor: second.name, remedy: "rename one of the two")
      }
      throw CheckpointError(
        .malformed, "the name appears twice, first at byte \(first.nameOffset)",
        offset: Int(second.nameOffset), tensor: second.name)
    }
    return indices
  }

  private func checkTiling(dataOffset: Int, fileByteCount: Int) throws(CheckpointError) {
    let available = fileByteCount - dataOffset
    var covered = 0
    for index in entries.indices {
      let entry = entries[index]
      guard entry.begin == covered else { throw misplaced(index, after: covered) }
      covered = entry.end
      guard covered <= available else {
        throw CheckpointError(
          .truncated, "it ends at byte \(covered) of the data section, but the file has only \(available)",
          offset: Int(entry.rangeOffset), tensor: entry.name, remedy: "the download may be incomplete")
      }
    }
    guard covered == available else {
      throw CheckpointError(
        .malformed, "\(available - covered) bytes follow the last tensor and belong to none",
        offset: dataOffset + covered)
    }
  }

  /// The error for a tensor that does not start at `covered`, where those before it end.
  private func misplaced(_ index: Int, after covered: Int) -> CheckpointError {
    let entry = entries[index]
    let message: String
    if index == 0 {
      message = "the first tensor starts \(entry.begin) bytes into the data section instead of at its start"
    } else {
      let before = "tensor '\(entries[index - 1].name.printable)'"
      message =
        entry.begin > covered
        ? "it leaves a hole of \(entry.begin - covered) bytes after \(before)"
        : "it starts at byte \(entry.begin) of the data section, but \(before) ends at \(covered): they overlap"
    }
    return CheckpointError(.malformed, message, offset: Int(entry.rangeOffset), tensor: entry.name)
  }
}

extension CheckpointError {
  /// The same error, with the tensor it concerns filled in.
  fileprivate func about(tensor: String) -> CheckpointError {
    var copy = self
    copy.tensor = tensor
    return copy
  }
}
