internal import ByteStreams
public import Checkpoint
public import JSON
public import TensorFormats

/// What is in a checkpoint, from its headers alone.
public struct TensorListing: Sendable {
  /// A weight file.
  public struct File: Encodable, Sendable {
    /// Below the checkpoint's directory.
    public let path: String
    /// Its size, header included.
    public let bytes: Int
  }

  /// The sums of some tensors.
  public struct Totals: Encodable, Hashable, Sendable {
    /// How many there are.
    public internal(set) var tensors = 0
    /// Their elements, counting packed codes individually; none for scales, which belong to their weights, and none for
    /// further copies in other parts of a partition set.
    public internal(set) var parameters = 0
    /// Their stored bytes.
    public internal(set) var bytes = 0
  }

  /// One tensor.
  public struct Tensor: Encodable, Sendable {
    public let name: String
    public let dtype: ElementType
    /// As it is stored, row-major, outermost first.
    public let shape: TensorShape
    /// The number of values: more than the product of the shape if codes are packed.
    public let elements: Int
    public let bytes: Int
    /// The file that holds it.
    public let file: String
    /// Where its bytes start, from the start of that file.
    public let offset: Int
    public let role: TensorRole
    /// The layer's number; `nil` outside the layers.
    public let layer: Int?
  }

  /// The container format.
  public let format: Checkpoint.Format
  /// The user's path.
  public let path: String
  /// `model_type` or `general.architecture`; `nil` if not stated.
  public let architecture: String?
  /// All weight files, including those without a listed tensor.
  public let files: [File]
  /// The sums of the listed tensors.
  public let totals: Totals
  /// The metadata, long arrays abbreviated.
  public let metadata: JSONValue
  /// The sums of the listed tensors per role, in the order of the roles.
  public let roles: [(role: TensorRole, totals: Totals)]
  /// The selected tensors, in the requested order.
  public let tensors: [Tensor]
}

extension TensorListing {
  /// Lists the tensors of a checkpoint that `selection` chooses.
  ///
  /// Tensors in several parts of a partition set count once as parameters, and every time as bytes.
  /// - Throws: `.malformed` if a part of a partition set states a slice outside its tensor.
  /// - Complexity: O(*n* log *n*) in the number of tensors; reads nothing but the shapes that packed codes had before packing.
  public init(of checkpoint: Checkpoint, selection: TensorSelection = TensorSelection())
    throws(CheckpointError)
  {
    let counts = try ParameterCounts(checkpoint)
    var sums: [TensorRole: Totals] = [:]
    var total = Totals()
    let chosen = try selection.choose(from: checkpoint)
    tensors = chosen.map { tensor, role, layer in
      let elements = counts.elements(of: tensor)
      let parameters = role == .scale || counts.isCopy(tensor) ? 0 : elements
      sums[role, default: Totals()].add(parameters, tensor.byteRange.count)
      total.add(parameters, tensor.byteRange.count)
      return Tensor(
        name: tensor.name, dtype: tensor.elementType, shape: tensor.shape, elements: elements,
        bytes: tensor.byteRange.count, file: checkpoint.files[tensor.file].name,
        offset: tensor.byteRange.lowerBound, role: role, layer: layer)
    }
    format = checkpoint.format
    path = checkpoint.path
    architecture = checkpoint.architecture
    files = checkpoint.files.map { File(path: $0.name, bytes: $0.source.byteCount) }
    totals = total
    metadata = CheckpointMetadata.merged(checkpoint)
    roles = TensorRole.allCases.compactMap { role in sums[role].map { (role, $0) } }
  }
}

extension TensorListing.Totals {
  fileprivate mutating func add(_ parameters: Int, _ bytes: Int) {
    // Every tensor is within a file, so neither sum can overflow before the bytes of all files do.
    tensors += 1
    self.parameters &+= parameters
    self.bytes &+= bytes
  }
}

extension TensorListing: Encodable {
  private enum CodingKeys: String, CodingKey {
    case format, path, architecture, files, parameters, bytes, metadata, roles, tensors, folded
  }

  /// Encodes the listing with the documented keys.
  public func encode(to encoder: any Encoder) throws {
    var container = try encodeSums(to: encoder)
    try container.encode(tensors, forKey: .tensors)
  }

  /// The listing with ``TensorListing/folded()`` rows instead of its tensors.
  public struct Folded: Encodable, Sendable {
    public let listing: TensorListing
    public let rows: [FoldedTensor]

    /// Folds a listing.
    public init(_ listing: TensorListing) {
      self.listing = listing
      rows = listing.folded()
    }

    /// Encodes what the listing does, with `folded` instead of `tensors`.
    public func encode(to encoder: any Encoder) throws {
      var container = try listing.encodeSums(to: encoder)
      try container.encode(rows, forKey: .folded)
    }
  }

  private func encodeSums(to encoder: any Encoder) throws -> KeyedEncodingContainer<CodingKeys> {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(format, forKey: .format)
    try container.encode(path, forKey: .path)
    try container.encodeIfPresent(architecture, forKey: .architecture)
    try container.encode(files, forKey: .files)
    try container.encode(totals.parameters, forKey: .parameters)
    try container.encode(totals.bytes, forKey: .bytes)
    try container.encode(metadata, forKey: .metadata)
    var roleContainer = container.nestedContainer(keyedBy: JSONKey.self, forKey: .roles)
    for (role, totals) in roles { try roleContainer.encode(totals, forKey: JSONKey(role.rawValue)) }
    return container
  }
}
