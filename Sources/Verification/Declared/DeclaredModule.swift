internal import ByteStreams
internal import Checkpoint
internal import TensorFormats

/// The tensors whose names begin with a module's name, and what is declared about it.
struct DeclaredModule: Sendable {
  /// The name, without `.weight`.
  let stem: String
  /// By suffix: what follows the name and a dot.
  let parts: [String: Checkpoint.Tensor]
  let configuration: DeclaredConfiguration
  /// The checkpoint, or the part of a partition set, that has the tensors.
  let checkpoint: Checkpoint

  /// The suffixes of weights and codes.
  static let codes = ["weight_packed", "qweight", "weight"]
  /// Suffixes that concern only the quantisation of activations or the cache.
  static let activations: Set<String> = [
    "input_scale", "input_global_scale", "input_zero_point", "output_scale", "k_scale", "v_scale", "q_scale",
  ]
  /// Words in names of tensors that only say how to read codes.
  private static let companionWords = [
    "scale", "zero", "zp", "g_idx", "amax", "absmax", "quant", "shape", "packed", "qweight", "SCB",
  ]

  /// Whether a tensor beside codes says how to read them, by its name.
  static func isCompanion(_ suffix: String) -> Bool {
    !codes.contains(suffix) && !activations.contains(suffix) && suffix != "bias"
      && companionWords.contains { suffix.contains($0) }
  }

  /// The weight's companions.
  var companions: [String] { parts.keys.filter { !Self.codes.contains($0) && $0 != "bias" }.sorted() }
  /// Whether one of these checkpoints has the same tensors, byte for byte: a module copied with all its companions need
  /// not be decoded.
  ///
  /// - Throws: What reading throws.
  /// - Complexity: O(bytes of the module).
  func isTheSame(in others: [Checkpoint]) throws(CheckpointError) -> Bool {
    for other in others where try isTheSame(in: other) { return true }
    return false
  }

  private func isTheSame(in other: Checkpoint) throws(CheckpointError) -> Bool {
    let chunk = 1 << 20
    for tensor in parts.values {
      guard let copy = other[tensor.name], copy.elementType == tensor.elementType, copy.shape == tensor.shape
      else { return false }
      let (mine, theirs) = (checkpoint.files[tensor.file].source, other.files[copy.file].source)
      for start in stride(from: 0, to: tensor.byteRange.count, by: chunk) {
        let end = min(start + chunk, tensor.byteRange.count)
        let (a, b) = (tensor.byteRange.lowerBound, copy.byteRange.lowerBound)
        guard try mine.readBytes(a + start..<a + end) == theirs.readBytes(b + start..<b + end) else {
          return false
        }
      }
    }
    return true
  }

  /// What is said of it.
  var entry: DeclaredConfiguration.Entry { configuration.entry(for: stem) }
}

/// The modules of a checkpoint that is not a partition set, by name.
struct DeclaredModules: Sendable {
  let checkpoint: Checkpoint
  let configuration: DeclaredConfiguration
  private let parts: [String: [String: Checkpoint.Tensor]]

  /// - Throws: As ``DeclaredConfiguration/init(_:)``.
  init(_ checkpoint: Checkpoint) throws(CheckpointError) {
    self.checkpoint = checkpoint
    configuration = try DeclaredConfiguration(checkpoint)
    var parts: [String: [String: Checkpoint.Tensor]] = [:]
    for tensor in checkpoint.tensors {
      let (stem, suffix) = Self.split(tensor.name)
      parts[stem, default: [:]][suffix] = tensor
    }
    self.parts = parts
  }

  /// The module's name and what follows it.
  static func split(_ name: String) -> (stem: String, suffix: String) {
    guard let dot = name.lastIndex(of: ".") else { return ("", name) }
    return (String(name[..<dot]), String(name[name.index(after: dot)...]))
  }

  /// The module that has the tensor of that name.
  func module(of tensor: String) -> DeclaredModule {
    let stem = Self.split(tensor).stem
    return DeclaredModule(
      stem: stem, parts: parts[stem] ?? [:], configuration: configuration, checkpoint: checkpoint)
  }
}
