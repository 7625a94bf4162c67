internal import TensorFormats

/// A row of the tensor table, before its offset is compared with its neighbours'.
struct TensorInfo {
  var name: String
  var elementType: ElementType
  var shape: TensorShape
  /// The bytes of its data, without padding.
  var byteCount: Int
  /// As the file states it: relative to the start of tensor data.
  var offset: UInt64
  /// Where the file states it.
  var offsetPosition: Int
}

extension GGUFCursor {
  /// Reads the tensor table.
  mutating func readTensorInfos(count: Int) throws(CheckpointError) -> [TensorInfo] {
    var infos: [TensorInfo] = []
    // The count is only a claim, so the array grows with what is really there.
    infos.reserveCapacity(min(count, 65_536))
    var names: Set<ExactText> = []
    for index in 0..<count {
      let start = position
      let name = try readTensorName(index: index)
      guard names.insert(ExactText(name)).inserted else {
        throw CheckpointError(.malformed, "the name appears twice", offset: start, tensor: name)
      }
      do throws(CheckpointError) {
        infos.append(try readTensorInfo(name: name))
      } catch {
        var named = error
        named.tensor = name
        throw named
      }
    }
    return infos
  }

  private mutating func readTensorName(index: Int) throws(CheckpointError) -> String {
    let start = position
    let name = try readString("the name of tensor \(index)")
    if let objection = GGUFRules.objection(toTensorName: name) {
      throw CheckpointError(.malformed, objection, offset: start, tensor: name)
    }
    return name
  }

  private mutating func readTensorInfo(name: String) throws(CheckpointError) -> TensorInfo {
    let shape = try readShape()
    let typeOffset = position
    let id = try read(UInt32.self, "the element type")
    guard let type = ElementType(ggmlTypeID: id) else {
      throw CheckpointError(
        .unsupported, "the element type is \(ElementType.objection(toGGMLTypeID: id))", offset: typeOffset)
    }
    let byteCount: Int
    switch GGUFRules.byteCount(of: shape, as: type) {
    case .success(let count): byteCount = count
    case .failure(let objection): throw CheckpointError(.malformed, objection.text, offset: typeOffset)
    }
    let offsetPosition = position
    let offset = try read(UInt64.self, "the data offset")
    return TensorInfo(
      name: name, elementType: type, shape: shape, byteCount: byteCount, offset: offset,
      offsetPosition: offsetPosition)
  }

  /// Reads the dimensions, which the file has innermost first.
  private mutating func readShape() throws(CheckpointError) -> TensorShape {
    let start = position
    let rank = try read(UInt32.self, "the number of dimensions")
    guard rank <= GGUFRules.maximumRank else {
      throw CheckpointError(
        .malformed, "there are \(rank) dimensions, at most \(GGUFRules.maximumRank) are allowed",
        offset: start)
    }
    let dimensions = try readArray(Int64.self, count: Int(rank), "a list of \(rank) dimensions").map {
      Int($0)
    }
    if let negative = dimensions.first(where: { $0 < 0 }) {
      throw CheckpointError(.malformed, "a dimension is negative: \(negative)", offset: start)
    }
    guard let shape = TensorShape(checking: dimensions.reversed()) else {
      throw CheckpointError(
        .malformed, "the number of elements overflows: dimensions \(dimensions)", offset: start)
    }
    return shape
  }
}
