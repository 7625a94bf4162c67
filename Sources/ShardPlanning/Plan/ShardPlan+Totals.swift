internal import Checkpoint
internal import Quantization
public import TensorFormats

extension ShardPlan {
  /// All files of all parts, in the order in which the manifest lists them.
  public var files: [File] { parts.flatMap(\.files) }

  /// The size of the source's weight files on disk.
  public var sourceBytes: Int { source.files.reduce(0) { $0 + ($1.isDerived ? 0 : $1.bytes) } }

  /// The bytes that a conversion reads: those of the source, and of derived tensors a second time.
  public var workBytes: Int { source.files.reduce(0) { $0 + $1.bytes } }

  /// The share of the output's parameters that are not stored as the recipe asked, and for which it did not provide a
  /// replacement.
  public var fallbackShare: Double {
    let surprising = fallbacks.reduce(0) { $0 + ($1.isForeseen ? 0 : $1.parameters) }
    return parameters == 0 ? 0 : Double(surprising) / Double(parameters)
  }

  /// The largest share of parameters that may fall back without the user's consent.
  public static let tolerableFallbackShare = 0.05

  /// Checks that the output deserves its recipe's name.
  ///
  /// - Throws: `.invalidRequest` with the commonest reason, if more than ``tolerableFallbackShare`` falls back.
  public func requireRecipe() throws(CheckpointError) {
    guard fallbackShare > Self.tolerableFallbackShare else { return }
    let groups = Dictionary(grouping: fallbacks.filter { !$0.isForeseen }) {
      "\($0.wanted) -> \($0.stored): \($0.reason)"
    }
    let largest = groups.max {
      ($0.value.reduce(0) { $0 + $1.parameters }, $1.key) < (
        $1.value.reduce(0) { $0 + $1.parameters }, $0.key
      )
    }
    let percent = (fallbackShare * 1000).rounded() / 10
    throw CheckpointError(
      .invalidRequest,
      "\(percent) % of the parameters would not be stored as \(request.recipe.printable) says"
        + (largest.map { ": \($0.key) (\($0.value.count) tensors, \($0.value[0].tensor.printable) is one)" }
          ?? ""),
      remedy: "choose a recipe or a cut that fits, or give --allow-fallback")
  }

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

  /// The number of weights it represents: for packed codes, before packing; 0 for scales and shapes.
  public var parameters: Int {
    switch operation.part {
    case nil where role == .scale: 0
    case nil, .codes: sources.reduce(0) { $0 + $1.extent.reduce(1, *) }
    case .scales, .matrixScales, .shape: 0
    }
  }
}

extension ShardPlan.Slice {
  /// Whether the box is the whole source tensor.
  public var isWhole: Bool { extent == shape.dimensions }
}

extension ShardPlan {
  /// The plan of a single part, with paths below that part's directory.
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
