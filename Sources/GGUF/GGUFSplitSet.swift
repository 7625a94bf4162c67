public import ByteStreams
public import TensorFormats

/// A GGUF model in one or several files, with the parts checked against each other.
public struct GGUFSplitSet: Hashable, Sendable {
  /// One file.
  public struct Part: Hashable, Sendable {
    /// Where it is.
    public let path: String
    /// What it holds.
    public let header: GGUFHeader
  }

  /// Where a tensor is.
  public struct Location: Hashable, Sendable {
    /// The index of the part.
    public let part: Int
    /// The tensor's index in that part.
    public let tensor: Int

    /// Names a tensor's place.
    public init(part: Int, tensor: Int) {
      self.part = part
      self.tensor = tensor
    }
  }

  /// The files, in order. Exactly one for a model that is not split.
  public let parts: [Part]
  private let locations: [ExactText: Location]

  /// All metadata of the model: that of the first part.
  public var metadata: GGUFMetadata { parts[0].header.metadata }

  /// The number of tensors in all parts together.
  public var tensorCount: Int { locations.count }

  /// Where the tensor of that name is; `nil` if there is none.
  ///
  /// - Complexity: O(1).
  public func locate(_ name: String) -> Location? { locations[ExactText(name)] }

  /// Reads the headers of a model's files, given the first or only one; files are opened with `InputFile`.
  ///
  /// - Throws: As ``read(firstPart:open:)``.
  public static func read(firstPart path: String) throws(CheckpointError) -> GGUFSplitSet {
    try read(firstPart: path) { path throws(CheckpointError) in try InputFile(path) }
  }

  /// Reads the headers of a model's files, given the first or only one.
  ///
  /// The other parts are looked for beside it, under the names that `gguf-split` gives them.
  /// - Parameters:
  ///   - path: The first part, named `PREFIX-00001-of-0000N.gguf`, or a model in one file of any other name.
  ///   - open: Opens a part.
  /// - Throws: `.notFound` for a missing part, `.invalidRequest` if `path` is not the first part,
  ///   `.malformed` if the parts do not fit together; and what ``GGUFHeader/read(from:)`` throws. The error
  ///   names the file concerned.
  public static func read(
    firstPart path: String, open: (String) throws(CheckpointError) -> any ByteSource
  ) throws(CheckpointError) -> GGUFSplitSet {
    guard let name = GGUFSplitName(path: path) else {
      let header = try GGUFHeader.read(from: try open(path))
      let count = try splitValue(header, GGUFSplitKey.count, .uint16, path: path) ?? 1
      guard count <= 1 else {
        throw CheckpointError(
          .malformed, "this is one of \(count) parts, but its name does not say which", path: path,
          remedy: "give it back its name, for example model-00001-of-\(count).gguf with five digits each")
      }
      return try GGUFSplitSet(checking: [Part(path: path, header: header)])
    }
    guard name.index == 0 else {
      throw CheckpointError(
        .invalidRequest, "this is part \(name.index + 1) of \(name.count)", path: path,
        remedy: "name the first part, \(name.sibling(0).path)")
    }
    var parts: [Part] = []
    for index in 0..<name.count {
      let sibling = index == 0 ? path : name.sibling(index).path
      let header: GGUFHeader
      do throws(CheckpointError) {
        header = try GGUFHeader.read(from: try open(sibling))
      } catch {
        var placed = error.at(path: sibling)
        if error.code == .notFound {
          placed.message = "part \(index + 1) of \(name.count) is missing: \(error.message)"
          placed.remedy = error.remedy ?? "put all parts into one folder"
        }
        throw placed
      }
      try check(header, index: index, count: name.count, path: sibling)
      parts.append(Part(path: sibling, header: header))
    }
    return try GGUFSplitSet(checking: parts)
  }

  /// Compares the parts with each other: no tensor in two of them, as many in all as each of them says.
  private init(checking parts: [Part]) throws(CheckpointError) {
    var locations: [ExactText: Location] = [:]
    for (index, part) in parts.enumerated() {
      for (position, tensor) in part.header.tensors.enumerated() {
        let location = Location(part: index, tensor: position)
        if let earlier = locations.updateValue(location, forKey: ExactText(tensor.name)) {
          throw CheckpointError(
            .malformed, "the tensor is in \(parts[earlier.part].path) already", path: part.path,
            tensor: tensor.name)
        }
      }
    }
    for part in parts {
      let key = GGUFSplitKey.tensorCount
      guard let total = try GGUFSplitSet.splitValue(part.header, key, .int32, path: part.path) else {
        // Only a model that is not split can do without.
        if parts.count == 1, part.header.metadata[GGUFSplitKey.count] == nil { continue }
        throw CheckpointError(.malformed, "the metadata key '\(key)' is missing", path: part.path)
      }
      guard total == locations.count else {
        throw CheckpointError(
          .malformed, "'\(key)' is \(total), but all parts together have \(locations.count) tensors",
          path: part.path, remedy: "the parts belong to different models or conversions")
      }
    }
    self.parts = parts
    self.locations = locations
  }

  /// Compares what a part says about itself with its name.
  private static func check(
    _ header: GGUFHeader, index: Int, count: Int, path: String
  ) throws(CheckpointError) {
    for (key, expected) in [(GGUFSplitKey.count, count), (GGUFSplitKey.index, index)] {
      guard let found = try splitValue(header, key, .uint16, path: path) else {
        throw CheckpointError(
          .malformed, "the name says part \(index + 1) of \(count), but the metadata key '\(key)' is missing",
          path: path)
      }
      guard found == expected else {
        throw CheckpointError(
          .malformed,
          "'\(key)' is \(found), but must be \(expected) in part \(index + 1) of \(count) (it counts from 0)",
          path: path, remedy: "the file was renamed, or it belongs to another conversion")
      }
    }
  }

  private static func splitValue(
    _ header: GGUFHeader, _ key: String, _ type: GGUFValueType, path: String
  ) throws(CheckpointError) -> Int? {
    guard let value = header.metadata[key] else { return nil }
    guard value.type == type, let integer = value.integer else {
      throw CheckpointError(
        .malformed, "the value of '\(key)' must be of type \(type), but is of type \(value.type)", path: path)
    }
    return integer
  }
}
