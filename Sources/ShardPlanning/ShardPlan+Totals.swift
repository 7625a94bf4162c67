internal import Checkpoint
internal import TensorFormats

extension ShardPlan {
  /// All files of all parts, in the order in which the manifest lists them.
  public var files: [File] { parts.flatMap(\.files) }

  /// The size of the source's weight files.
  public var sourceBytes: Int { source.files.reduce(0) { $0 + $1.bytes } }

  /// The size of all output weight files, headers included.
  public var outputBytes: Int { files.reduce(0) { $0 + $1.bytes } }

  /// The output's parameters: scales are not counted, replicated tensors as often as they are stored.
  public var parameters: Int { parts.reduce(0) { $0 + $1.parameters } }

  /// Storage per parameter, over all tensors, in bits.
  public var bitsPerWeight: Double {
    let bytes = files.reduce(0) { $0 + $1.tensors.reduce(0) { $0 + $1.bytes } }
    return parameters == 0 ? 0 : Double(bytes) * 8 / Double(parameters)
  }
}

extension ShardPlan.Part {
  /// All tensors of the part.
  public var tensors: [ShardPlan.Tensor] { files.flatMap(\.tensors) }

  /// The part's parameters, scales not counted.
  public var parameters: Int {
    files.reduce(0) { $0 + $1.tensors.reduce(0) { $0 + $1.parameters } }
  }

  /// Storage per parameter, over all of its tensors, in bits.
  public var bitsPerWeight: Double {
    let bytes = files.reduce(0) { $0 + $1.tensors.reduce(0) { $0 + $1.bytes } }
    return parameters == 0 ? 0 : Double(bytes) * 8 / Double(parameters)
  }

  /// The size of its weight files.
  public var bytes: Int { files.reduce(0) { $0 + $1.bytes } }
}

extension ShardPlan.Tensor {
  /// Where its elements come from; the first box, where there are several.
  public var source: ShardPlan.Slice {
    get { sources[0] }
    set { sources[0] = newValue }
  }

  /// How many weights it stands for: what packed codes were before packing; 0 for scales and shapes.
  public var parameters: Int {
    switch derivation {
    case .values where role == .scale: 0
    case .values, .codes: sources.reduce(0) { $0 + $1.extent.reduce(1, *) }
    case .scales, .matrixScales, .shape: 0
    }
  }
}

extension ShardPlan.Slice {
  /// Whether the box is the whole source tensor.
  public var isWhole: Bool { extent == shape.dimensions }
}

extension ShardPlan {
  /// The plan of one part alone, with paths below that part's directory.
  public func restricted(to part: Part) -> ShardPlan {
    let prefix = part.directory.isEmpty ? 0 : part.directory.utf8.count + 1
    func strip(_ path: String) -> String { String(decoding: path.utf8.dropFirst(prefix), as: UTF8.self) }
    var alone = part
    alone.directory = ""
    for index in alone.files.indices { alone.files[index].path = strip(alone.files[index].path) }
    for index in alone.documents.indices { alone.documents[index].path = strip(alone.documents[index].path) }
    for index in alone.copies.indices { alone.copies[index].path = strip(alone.copies[index].path) }
    let names = Set(part.tensors.flatMap { $0.sources.map(\.tensor) })
    var result = self
    result.parts = [alone]
    result.replicated = replicated.filter { $0.parts.contains(part.directory) }
    result.fallbacks = fallbacks.filter { names.contains($0.tensor) }
    return result
  }
}
