internal import ByteStreams
internal import Checkpoint
internal import JSON
internal import TensorFormats

/// What the configuration of a checkpoint says about how its weights are quantised.
///
/// Parsed here independently of `ModelWeights`, through which converter and comparison read weights: a check that
/// shares the mistakes of what it checks finds nothing.
struct DeclaredConfiguration: Sendable {
  /// What is declared about one module.
  enum Entry: Hashable, Sendable {
    /// There is no quantisation configuration.
    case nothing
    /// There is one, but it leaves the module out.
    case leftOut
    case quantized(Weights)
  }

  /// How weights are quantised, as far as declared.
  struct Weights: Hashable, Sendable {
    /// Bits of a code.
    var bits: Int?
    /// Whether codes are floating-point numbers.
    var isFloat: Bool?
    /// What shares a scale: `tensor`, `channel`, `group`, `block`, ...
    var strategy: String?
    /// The neighbours in a row that share a scale.
    var group: Int?
    /// The tile that shares a scale.
    var tile: Tile?
    /// Whether zero points are all zero and not stored.
    var isSymmetric: Bool?
  }

  /// Rows and columns that share a scale.
  struct Tile: Hashable, Sendable {
    var rows: Int
    var columns: Int
  }

  /// `quant_method`, in lower case; `nil` without a configuration.
  let method: String?
  /// The configuration as written.
  let settings: JSONValue?
  /// Whether GPTQ's zero points are stored unchanged, not minus one.
  let hasPlainZeroPoints: Bool
  private let uniform: Weights
  private let groups: [Group]
  private let layers: [String: Weights]
  private let excluded: ModuleNames

  private struct Group: Sendable {
    let targets: ModuleNames
    let namesClass: Bool
    let weights: Weights
  }

  /// The known methods.
  private static let known: Set<String> = [
    "fp8", "compressed-tensors", "gptq", "gptq_marlin", "awq", "awq_marlin", "modelopt", "modelopt_fp8",
    "modelopt_fp4", "modelopt_mxfp8", "mxfp4", "mxfp8", "w8a8_int8",
  ]

  /// Whether the method is known.
  var isKnown: Bool { method.map(Self.known.contains) ?? true }

  /// Reads `config.json`, and `hf_quant_config.json` if that has no settings.
  ///
  /// - Throws: What reading the latter throws; an invalid one is ignored.
  init(_ checkpoint: Checkpoint) throws(CheckpointError) {
    let root = checkpoint.configurationMembers.map { JSONValue.object($0) }
    var settings = root?["quantization_config"] ?? root?["compression_config"]
    settings = settings ?? root?["text_config"]?["quantization_config"]
    if settings == nil { settings = try Self.besides(checkpoint.store) }
    self.init(settings)
  }

  /// ModelOpt's own file.
  private static func besides(_ store: any ByteStore) throws(CheckpointError) -> JSONValue? {
    let name = "hf_quant_config.json"
    guard try store.kind(of: name) == .file else { return nil }
    let bytes = try store.read(name, limit: JSONValue.largestDocument)
    guard let root = try? JSONValue.parse(bytes, name: name),
      root["quantization"] != nil,
      case .object(var members) = root
    else { return nil }
    members["quant_method"] = .string("modelopt")
    return .object(members)
  }

  /// - Parameter settings: `quantization_config`, or its equivalent.
  init(_ settings: JSONValue?) {
    self.settings = settings
    guard let settings else {
      method = nil
      hasPlainZeroPoints = false
      uniform = Weights()
      groups = []
      layers = [:]
      excluded = ModuleNames([])
      return
    }
    let method = settings["quant_method"]?.text?.lowercased() ?? ""
    self.method = method
    hasPlainZeroPoints = ["checkpoint_format", "format"].contains {
      settings[$0]?.text == "gptq_v2"
    }
    let inner = settings["quantization"] ?? settings
    uniform = Self.uniform(method, settings, inner)
    var groups: [Group] = []
    if case .object(let members)? = settings["config_groups"] {
      for (_, group) in members.sorted(by: { $0.key < $1.key }) {
        let targets = group["targets"]?.strings ?? []
        groups.append(
          Group(
            targets: ModuleNames(targets), namesClass: targets.contains("Linear"),
            weights: Self.weights(of: group["weights"])))
      }
    }
    self.groups = groups
    var layers: [String: Weights] = [:]
    if case .object(let members)? = inner["quantized_layers"] {
      for (name, layer) in members { layers[name] = Self.modelOpt(layer) }
    }
    self.layers = layers
    var names: [String] = []
    for key in ["ignore", "ignored_layers", "modules_to_not_convert", "exclude_modules"] {
      names += settings[key]?.strings ?? inner[key]?.strings ?? []
    }
    if case .object(let dynamic)? = settings["dynamic"] {
      names += dynamic.keys.filter { $0.hasPrefix("-:") }.map { "re:" + $0.dropFirst(2) }
    }
    excluded = ModuleNames(names, areParts: method.hasPrefix("awq"))
  }

  /// What is declared about a module.
  ///
  /// - Parameter module: The name without `.weight`.
  func entry(for module: String) -> Entry {
    guard let method else { return .nothing }
    if excluded.contain(module) { return .leftOut }
    if !layers.isEmpty { return layers[module].map(Entry.quantized) ?? .leftOut }
    guard method == "compressed-tensors", !groups.isEmpty else { return .quantized(uniform) }
    let group = groups.first { $0.targets.contain(module) } ?? groups.first(where: \.namesClass)
    return group.map { .quantized($0.weights) } ?? .leftOut
  }

  // MARK: Keys of the methods

  private static func uniform(_ method: String, _ settings: JSONValue, _ inner: JSONValue) -> Weights {
    var weights = Weights()
    switch method {
    case "fp8":
      // Experts may be MXFP4, which only their types reveal.
      guard settings["store_dtype"] == nil else { return weights }
      // Eight-bit integers occur under the same name; the type of the codes tells them apart.
      weights.bits = 8
      weights.tile = settings["weight_block_size"]?.asTile
    case "mxfp4": (weights.bits, weights.isFloat, weights.group) = (4, true, 32)
    case "mxfp8": (weights.bits, weights.isFloat, weights.group) = (8, true, 32)
    case "w8a8_int8": (weights.bits, weights.isFloat, weights.strategy) = (8, false, "channel")
    case "gptq", "gptq_marlin", "awq", "awq_marlin":
      weights.bits = (settings["bits"] ?? settings["w_bit"])?.whole
      weights.isFloat = false
      weights.group = (settings["group_size"] ?? settings["q_group_size"])?.whole
    case "modelopt", "modelopt_fp8", "modelopt_fp4", "modelopt_mxfp8": weights = modelOpt(inner)
    default: break
    }
    return weights
  }

  private static func modelOpt(_ keys: JSONValue) -> Weights {
    let algorithm = keys["quant_algo"]?.text?.uppercased() ?? ""
    var weights = Weights()
    if algorithm.contains("NVFP4") {
      (weights.bits, weights.isFloat, weights.group) = (4, true, 16)
    } else if algorithm == "MXFP8" {
      (weights.bits, weights.isFloat, weights.group) = (8, true, 32)
    } else if algorithm.hasPrefix("FP8") {
      (weights.bits, weights.isFloat) = (8, true)
    }
    return weights
  }

  private static func weights(of value: JSONValue?) -> Weights {
    guard let value else { return Weights() }
    return Weights(
      bits: value["num_bits"]?.whole, isFloat: value["type"]?.text.map { $0 == "float" },
      strategy: value["strategy"]?.text, group: value["group_size"]?.whole,
      tile: value["block_structure"]?.asTile, isSymmetric: value["symmetric"]?.flag)
  }
}

extension DeclaredConfiguration {
  /// What is declared about a module, as text: `compressed-tensors, int of 4 bits, group 128, symmetric`.
  func description(of module: String) -> String {
    switch entry(for: module) {
    case .nothing: return "nothing"
    case .leftOut: return "\((method ?? "").printable), left out"
    case .quantized(let weights):
      var words = [(method ?? "").printable]
      if let bits = weights.bits {
        words.append("\(weights.isFloat == true ? "float" : "int") of \(bits) bits")
      }
      if let tile = weights.tile { words.append("tiles of \(tile.rows) x \(tile.columns)") }
      if let group = weights.group, group > 0 {
        words.append("group \(group)")
      } else if let strategy = weights.strategy {
        words.append(strategy.printable)
      }
      if let isSymmetric = weights.isSymmetric { words.append(isSymmetric ? "symmetric" : "asymmetric") }
      return words.joined(separator: ", ")
    }
  }
}

extension JSONValue {
  fileprivate var asTile: DeclaredConfiguration.Tile? {
    guard case .array(let items) = self, items.count == 2, let rows = items[0].whole,
      let columns = items[1].whole, (1...Int(Int32.max)).contains(rows),
      (1...Int(Int32.max)).contains(columns)
    else { return nil }
    return DeclaredConfiguration.Tile(rows: rows, columns: columns)
  }
}
