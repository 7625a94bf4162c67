internal import ByteStreams
internal import Checkpoint
internal import TensorFormats

/// The tensors whose names begin with one module's, and what is said of the module.
struct DeclaredModule: Sendable {
  /// The name, without `.weight`.
  let stem: String
  /// By what follows the name and a dot.
  let parts: [String: Checkpoint.Tensor]
  let configuration: DeclaredConfiguration
  /// The checkpoint, or the part of a partition set, that has the tensors.
  let checkpoint: Checkpoint

  /// What can be a weight, or its codes.
  static let codes = ["weight_packed", "qweight", "weight"]
  /// What only says how activations, or the cache, were quantised.
  static let activations: Set<String> = [
    "input_scale", "input_global_scale", "input_zero_point", "output_scale", "k_scale", "v_scale", "q_scale",
  ]
  /// Parts of names of what only says how to read codes.
  private static let companionWords = [
    "scale", "zero", "zp", "g_idx", "amax", "absmax", "quant", "shape", "packed", "qweight", "SCB",
  ]

  /// Whether a tensor beside codes says how to read them, under whatever name.
  static func isCompanion(_ suffix: String) -> Bool {
    !codes.contains(suffix) && !activations.contains(suffix) && suffix != "bias"
      && companionWords.contains { suffix.contains($0) }
  }

  /// What lies beside the weight.
  var companions: [String] { parts.keys.filter { !Self.codes.contains($0) && $0 != "bias" }.sorted() }
  /// Whether one of these checkpoints has the same tensors, byte for byte: what is copied with everything beside it needs
  /// no understanding.
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

/// The modules of a checkpoint that is no partition set, by their names.
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
