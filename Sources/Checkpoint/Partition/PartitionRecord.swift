internal import JSON
public import TensorFormats

/// What a part of a partition set says about itself: `step3_partition` in its `config.json`. Written and read only
/// here.
public struct PartitionRecord: Hashable, Sendable {
  /// A tensor of which the part holds only a box.
  public struct Slice: Hashable, Sendable {
    /// The name in the part's files.
    public let tensor: String
    /// The box of the model's tensor that it holds. For codes, indices count the values that they represent.
    public let box: TensorBox

    /// Describes a tensor.
    public init(tensor: String, box: TensorBox) {
      self.tensor = tensor
      self.box = box
    }
  }

  /// Which part it is.
  public let identity: PartIdentity
  /// The tensors that it holds only partly, each once.
  public let slices: [Slice]

  /// Describes a part.
  public init(_ identity: PartIdentity, slices: [Slice]) {
    self.identity = identity
    self.slices = slices
  }

  /// The box of each partial tensor.
  public var boxes: [String: TensorBox] {
    Dictionary(slices.map { ($0.tensor, $0.box) }, uniquingKeysWith: { first, _ in first })
  }
}

// MARK: - Writing

extension PartitionRecord {
  /// The object, as a member of the configuration's outermost object.
  package var text: String {
    func position(_ position: PartIdentity.Position) -> String {
      #"{"rank": \#(position.rank), "ranks": \#(position.ranks)}"#
    }
    var lines = [
      #""role": "\#(identity.role.rawValue)""#, #""rank": \#(identity.position.rank)"#,
      #""ranks": \#(identity.position.ranks)"#, #""expert_parallel": \#(position(identity.expertParallel))"#,
      #""tensor_parallel": \#(position(identity.tensorParallel))"#,
      #""router": "\#((identity.routesInFFN ? RouterSide.ffn : .attention).rawValue)""#,
    ]
    let boxes = slices.map { slice in
      "      \(JSONText.quoted(slice.tensor)): {\"shape\": \(slice.box.shape.dimensions), "
        + "\"origin\": \(slice.box.origin), \"extent\": \(slice.box.extent)}"
    }
    lines.append(
      boxes.isEmpty ? #""slices": {}"# : "\"slices\": {\n" + boxes.joined(separator: ",\n") + "\n    }")
    return "{\n" + lines.map { "    \($0)" }.joined(separator: ",\n") + "\n  }"
  }
}

// MARK: - Reading

extension PartitionRecord {
  /// Reads what a checkpoint says about itself.
  ///
  /// - Returns: `nil` for anything but a part, and for a partition set, whose parts have their own records.
  /// - Throws: As ``init(_:)``.
  public init?(of checkpoint: Checkpoint) throws(CheckpointError) {
    guard checkpoint.parts.isEmpty, let document = checkpoint.configurationDocument, document.fault == nil
    else { return nil }
    try self.init(document)
  }

  /// Reads what a `config.json` says.
  ///
  /// - Returns: `nil` for what is not a part.
  /// - Throws: `.malformed` with the file and the key for an impossible value, and the document's fault if it
  ///   is unreadable.
  public init?(_ document: ConfigurationDocument) throws(CheckpointError) {
    if let fault = document.fault { throw fault }
    let key = ConfigurationDocument.partitionKey
    func malformed(_ message: String, _ tensor: String? = nil) -> CheckpointError {
      CheckpointError(
        .malformed, message, path: document.path, tensor: tensor,
        remedy: "restore the config.json that step3-convert wrote")
    }
    guard let value = document.members?[key] else { return nil }
    guard let partition = value.members else { throw malformed("\(key) is not an object") }
    guard let role = partition["role"]?.text.flatMap(PartRole.init(rawValue:)), role != .model else {
      throw malformed("\(key).role is not attention, ffn or vision")
    }
    guard let position = Self.position(value) else {
      throw malformed("\(key).rank and ranks do not fit; at most \(PartIdentity.mostRanks) ranks are read")
    }
    guard let expert = Self.position(value["expert_parallel"]),
      let tensor = Self.position(value["tensor_parallel"]),
      expert.ranks * tensor.ranks == position.ranks,
      expert.rank * tensor.ranks + tensor.rank == position.rank
    else {
      throw malformed(
        "\(key).expert_parallel and tensor_parallel do not give rank \(position.rank) of \(position.ranks)")
    }
    guard let router = partition["router"]?.text.flatMap(RouterSide.init(rawValue:)) else {
      throw malformed("\(key).router is on neither side")
    }
    guard let boxes = partition["slices"]?.members else { throw malformed("\(key).slices is not an object") }
    var read: [Slice] = []
    for (name, value) in boxes {
      guard let box = Self.box(value) else {
        throw malformed(
          "\(key).slices: shape, origin and extent of \(name.printable) do not describe a box of a tensor",
          name)
      }
      read.append(Slice(tensor: name, box: box))
    }
    self.init(
      PartIdentity(
        role, expertParallel: expert, tensorParallel: tensor, routesInFFN: router == .ffn), slices: read)
  }

  private static func position(_ value: JSONValue?) -> PartIdentity.Position? {
    guard let rank = value?["rank"]?.whole, let ranks = value?["ranks"]?.whole,
      (1...PartIdentity.mostRanks).contains(ranks), (0..<ranks).contains(rank)
    else { return nil }
    return PartIdentity.Position(rank: rank, ranks: ranks)
  }

  private static func box(_ value: JSONValue) -> TensorBox? {
    func integers(_ key: String) -> [Int]? {
      guard let items = value[key]?.items else { return nil }
      let numbers = items.compactMap(\.whole)
      return numbers.count == items.count ? numbers : nil
    }
    guard let shape = integers("shape").flatMap(TensorShape.init(checking:)), let origin = integers("origin"),
      let extent = integers("extent")
    else { return nil }
    return TensorBox(shape, origin: origin, extent: extent)
  }
}
