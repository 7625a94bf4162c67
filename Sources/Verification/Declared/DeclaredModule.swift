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
  /// What is said of it.
  var entry: DeclaredConfiguration.Entry { configuration.entry(for: stem) }
}

/// The modules of a checkpoint that is no partition set, by their names.
struct DeclaredModules: Sendable {
  let checkpoint: Checkpoint
  let configuration: DeclaredConfiguration
  private let parts: [String: [String: Checkpoint.Tensor]]

  init(_ checkpoint: Checkpoint) {
    self.checkpoint = checkpoint
    configuration = DeclaredConfiguration(checkpoint)
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
