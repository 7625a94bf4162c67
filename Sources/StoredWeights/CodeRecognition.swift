internal import ByteStreams
internal import Checkpoint
internal import Quantization
internal import TensorFormats

/// Finds out how the modules of one checkpoint are stored, by the names, types and shapes of their tensors and the
/// configuration.
///
/// It fails closed: unknown codes are an error that names them and their companions, and are never taken for values.
struct CodeRecognition {
  let checkpoint: Checkpoint
  let settings: QuantizationSettings
  /// The last name components of each module's tensors.
  private let suffixes: [Substring: [Substring]]
  /// Names with a leading component in front: `scales.X` for `X`.
  private let behindFirst: [Substring: [String]]

  /// How a module's weight is stored.
  enum Found {
    /// As one tensor of values.
    case values(Checkpoint.Tensor)
    /// In a scheme that can be written too, or in blocks with a separate scale.
    case stored(StoredWeight)
    /// In a form that can only be read.
    case decoded(ScaledCodes)
  }

  /// - Throws: As ``QuantizationSettings/init(_:)``.
  init(_ checkpoint: Checkpoint) throws(CheckpointError) {
    self.checkpoint = checkpoint
    settings = try QuantizationSettings(checkpoint)
    var suffixes: [Substring: [Substring]] = [:]
    var behindFirst: [Substring: [String]] = [:]
    for tensor in checkpoint.tensors {
      guard let dot = tensor.name.lastIndex(of: "."), let first = tensor.name.firstIndex(of: ".") else {
        continue
      }
      suffixes[tensor.name[..<dot], default: []].append(tensor.name[tensor.name.index(after: dot)...])
      behindFirst[tensor.name[tensor.name.index(after: first)...], default: []].append(tensor.name)
    }
    self.suffixes = suffixes
    self.behindFirst = behindFirst
  }

  /// The name suffixes of codes and of plain weights.
  static let codesSuffixes = ["weight_packed", "qweight", "weight"]

  /// The module whose weight or codes a tensor holds; `nil` for all others.
  static func module(ofCodes name: String) -> String? {
    guard let dot = name.lastIndex(of: "."), codesSuffixes.contains(String(name[name.index(after: dot)...]))
    else { return nil }
    return String(name[..<dot])
  }

  /// How a module's weight is stored.
  ///
  /// - Parameter stem: The module's name: `model.layers.4.moe.gate_proj`.
  /// - Returns: `nil` if the module has no weight.
  /// - Throws: `.malformed` if scales do not match their codes, `.unsupported` for unsupported forms.
  func weight(of stem: String) throws(CheckpointError) -> Found? {
    let present = Self.codesSuffixes.filter { checkpoint["\(stem).\($0)"] != nil }
    guard let suffix = present.first, let codes = checkpoint["\(stem).\(suffix)"] else { return nil }
    let module = Module(stem: stem, codes: codes, recognition: self)
    guard present.count == 1 else {
      throw module.unread("it has both \(present.joined(separator: " and "))")
    }
    guard checkpoint.format == .safetensors else { return try module.blocks() }
    guard let found = try module.scaled() else {
      try check(plain: codes)
      return .values(codes)
    }
    // Everything that affects how codes are read must be known.
    var consumed = Set(found.components.map(\.name))
    // The shape before packing was checked against that of the codes.
    if suffix == "weight_packed" { consumed.insert("\(stem).weight_shape") }
    let strange = siblings(of: codes).filter { name in
      !consumed.contains(name) && !Self.isAboutActivations(name)
    }
    guard strange.isEmpty else {
      throw module.unread("it has a companion \(strange[0].printable), whose meaning is unknown")
    }
    if let refusal = settings.refusal { throw module.unread(refusal) }
    return found
  }

  // MARK: - What is not a weight of a module

  /// Checks that a tensor which is read as values holds values.
  ///
  /// - Throws: `.unsupported` for unknown codes.
  func check(plain tensor: Checkpoint.Tensor) throws(CheckpointError) {
    guard checkpoint.format == .safetensors else { return }
    let siblings = siblings(of: tensor).filter { !Self.isAboutActivations($0) }
    func unread(_ message: String) -> CheckpointError {
      CheckpointError(
        .unsupported, message, path: checkpoint.path(of: tensor), tensor: tensor.name, remedy: Self.wayOut)
    }
    if [.i64, .u64, .bool].contains(tensor.elementType),
      let scale = siblings.first(where: { $0.contains("scale") })
    {
      throw unread(
        "is \(tensor.elementType), and how its companion \(scale.printable) turns it into values is not known"
      )
    }
    guard tensor.elementType.isCode else {
      // Values with a scale beside them are probably codes.
      if settings.isStated, let scale = siblings.first(where: { $0.contains("scale") }) {
        throw unread(
          "is \(tensor.elementType) and has \(scale.printable) beside it, and the model says that it is quantised "
            + "(\(settings.description)): the purpose of the scale is not known")
      }
      return
    }
    if siblings.isEmpty, !settings.isStated, tensor.elementType.isInteger, tensor.shape.rank >= 2,
      tensor.name.hasSuffix(".weight")
    {
      throw unread("is a weight of \(tensor.elementType), and nothing says how to turn it into real numbers")
    }
    if let first = siblings.first {
      throw unread(
        "holds codes of \(tensor.elementType), and how its companion \(first.printable) turns them into values is not known"
          + (settings.isStated ? " (\(settings.description))" : ""))
    }
    if settings.isStated, tensor.shape.rank >= 2 {
      throw unread(
        settings.refusal
          ?? "holds codes of \(tensor.elementType) without scales, and the model says that it is quantised "
          + "(\(settings.description))")
    }
  }

  /// The companions of a tensor that may say how to read it: its module's, if it is that module's weight, otherwise
  /// those whose names begin with its own. Positions and masks do not count, unless their names say so.
  private func siblings(of tensor: Checkpoint.Tensor) -> [String] {
    let name = tensor.name
    var found = (suffixes[name[...]] ?? []).map { "\(name).\($0)" }
    if let dot = name.lastIndex(of: ".") {
      let (stem, own) = (name[..<dot], name[name.index(after: dot)...])
      let isWeight = Self.codesSuffixes.contains(String(own))
      // `gate_up_proj_blocks` and `gate_up_proj_scales` have `gate_up_proj` in common.
      let base = Self.codeEndings.first { own.hasSuffix($0) }.map { own.dropLast($0.count) } ?? own
      for suffix in suffixes[stem] ?? [] where suffix != own {
        let belongs =
          isWeight
          ? suffix != "bias"
          : (suffix.hasPrefix("\(base)_") && suffix != "\(base)_bias")
            || (tensor.shape.rank >= 2 && Self.tellingWords.contains(where: suffix.contains))
        if belongs { found.append("\(stem).\(suffix)") }
      }
      if isWeight {
        // `up_proj_scale` beside `up_proj.weight`.
        if let outer = stem.lastIndex(of: ".") {
          let (parent, module) = (stem[..<outer], stem[stem.index(after: outer)...])
          for suffix in suffixes[parent] ?? []
          where suffix.hasPrefix("\(module)_") && Self.tellingWords.contains(where: suffix.contains) {
            found.append("\(parent).\(suffix)")
          }
        }
        found += behindFirst[stem] ?? []
      }
      found += behindFirst[name[...]] ?? []
    }
    return found.filter { name in
      guard let type = checkpoint[name]?.elementType, type == .i64 || type == .bool else { return true }
      return Self.tellingWords.contains(where: name.contains)
    }
  }

  private static let tellingWords = [
    "scale", "zero", "idx", "index", "order", "perm", "shape", "quant", "code",
  ]
  private static let codeEndings = ["_blocks", "_packed", "_qweight", "_codes", "_quantized"]

  /// Whether a tensor concerns a module's inputs or outputs, or the KV cache, and so does not affect the weight.
  static func isAboutActivations(_ name: String) -> Bool {
    guard let dot = name.lastIndex(of: ".") else { return false }
    return activationSuffixes.contains(String(name[name.index(after: dot)...]))
  }

  private static let activationSuffixes: Set<String> = [
    "input_scale", "input_global_scale", "input_zero_point", "input_amax", "input_scale_ub",
    "output_scale", "output_zero_point", "activation_scale", "q_scale", "k_scale", "v_scale", "kv_scale",
    "q_zero_point", "k_zero_point", "v_zero_point", "prob_output_scale",
  ]

  /// The remedy for unsupported codes.
  static let wayOut =
    "--quantize keep copies them as they are, within one format; otherwise decode them to BF16 with the tool that wrote them"
}

extension CodeRecognition.Found {
  /// Every tensor that it consists of.
  var components: [Checkpoint.Tensor] {
    switch self {
    case .values(let tensor): [tensor]
    case .stored(let weight): weight.components
    case .decoded(let codes): codes.components
    }
  }
}

extension ElementType {
  /// Whether elements of the type may well be codes: small floats and integers, which a float model has no other use
  /// for. (I64 and BOOL are positions and masks.)
  fileprivate var isCode: Bool {
    switch self {
    case .f8E4M3, .f8E5M2, .f8E4M3FNUZ, .f8E5M2FNUZ, .f8E8M0, .f4, .f6E2M3, .f6E3M2: true
    case .i8, .u8, .i16, .u16, .i32, .u32: true
    default: false
    }
  }
}
