internal import ByteStreams
internal import Checkpoint
internal import JSON
internal import TensorFormats

/// What a checkpoint's configuration says about how its weights are stored.
///
/// Names, types and shapes of tensors tell most of it; this tells the rest, and above all whether weights are
/// declared to be quantised at all. Sources: `quantization_config` (at the top of `config.json` or in
/// `text_config`), `compression_config`, MLX's `quantization`, and ModelOpt's `hf_quant_config.json`.
struct QuantizationSettings {
  /// Where the settings were found, for messages; `nil` if there are none.
  var place: String?
  /// `quant_method`, in lower case.
  var method: String?
  /// Rows and columns of an FP8 tile.
  var tile = (rows: 128, columns: 128)
  /// The bits of a weight's code; several if groups of modules differ.
  var bits: Set<Int> = []
  /// The elements of a row that share a scale, if stated: -1 for a whole row.
  var groupLengths: Set<Int> = []
  /// Whether codes have zero points, if stated consistently.
  var isSymmetric: Bool?
  /// Whether GPTQ's zero points are stored minus one, as in all but its second version.
  var storesZerosLessOne = true
  /// Whether codes are floating-point numbers, if stated consistently.
  var isFloat: Bool?
  /// Whether columns are in an order given by an index.
  var isOrdered = false
  /// Why these weights are not supported, whatever their tensors look like; `nil` if they may be.
  var refusal: String?

  /// No settings.
  init() {}

  /// Whether the configuration says that weights are quantised.
  var isStated: Bool { place != nil }

  /// The supported methods: for each, names, types and shapes can be taken at face value.
  private static let readMethods: Set<String> = [
    "fp8", "fbgemm_fp8", "compressed-tensors", "modelopt", "modelopt_fp4", "modelopt_fp8", "modelopt_mxfp8",
    "mxfp4", "mxfp8", "w8a8_int8", "w8a8_fp8", "awq", "gptq", "quark",
  ]

  /// The scheme's name in messages: `quant_method gptq`.
  var description: String { method.map { "quant_method \($0.printable)" } ?? "no quant_method" }

  /// - Throws: `.inputOutput`; `.malformed` for a tile that is not a pair of positive numbers. A configuration that is
  ///   missing or broken in other ways is ignored: weights can still be inspected.
  init(_ checkpoint: Checkpoint) throws(CheckpointError) {
    guard checkpoint.format == .safetensors, let (value, place) = try Self.find(checkpoint) else { return }
    self.place = place
    guard let settings = value?.members else {
      refusal = "\(place) cannot be read, so it is not known how it is quantised"
      return
    }
    if case .string(let method)? = settings["quant_method"] {
      self.method = method.lowercased()
    } else if settings["config_groups"] != nil {
      method = "compressed-tensors"
    } else if settings["quant_algo"] != nil {
      method = "modelopt"
    } else if settings["weight_block_size"] != nil {
      method = "fp8"
    }
    try readTile(settings, checkpoint)
    readNumbers(settings)
    refusal = refusal(settings)
  }

  /// The first settings found, and where; `nil` in place of the value if they cannot be read.
  ///
  /// - Throws: `.inputOutput`.
  private static func find(
    _ checkpoint: Checkpoint
  ) throws(CheckpointError) -> (value: JSONValue?, place: String)? {
    if let root = checkpoint.configurationMembers {
      let inner = root["text_config"]?.members
      let stated: [(JSONValue?, String)] = [
        (root["quantization_config"], "quantization_config of config.json"),
        (inner?["quantization_config"], "text_config.quantization_config of config.json"),
        (root["compression_config"], "compression_config of config.json"),
        (root["quantization"], "quantization of config.json"),
      ]
      for case (let value?, let place) in stated where value != .null { return (value, place) }
    }
    let name = "hf_quant_config.json"
    guard try checkpoint.store.kind(of: name) != nil else { return nil }
    do throws(CheckpointError) {
      let text = try checkpoint.store.read(name, limit: JSONValue.largestDocument)
      guard let members = try JSONValue.parse(text, name: name).members else { return (nil, name) }
      return (members["quantization"] ?? .object(members), name)
    } catch {
      guard error.code != .inputOutput else { throw error }
      return (nil, name)
    }
  }
}

// MARK: - Reading

extension QuantizationSettings {
  private mutating func readTile(
    _ settings: JSONMembers, _ checkpoint: Checkpoint
  ) throws(CheckpointError) {
    guard let sides = settings["weight_block_size"] ?? Self.blockStructure(settings), sides != .null else {
      return
    }
    guard case .array(let values) = sides, values.count == 2, let rows = values[0].whole,
      let columns = values[1].whole, (1...Int(Int32.max)).contains(rows),
      (1...Int(Int32.max)).contains(columns)
    else {
      throw CheckpointError(
        .malformed,
        "quantization_config.weight_block_size is \(sides.kind), not the rows and columns of a tile",
        path: checkpoint.store.path(of: ConfigurationDocument.name))
    }
    tile = (rows, columns)
  }

  /// compressed-tensors' statement of the tile size.
  private static func blockStructure(_ settings: JSONMembers) -> JSONValue? {
    weights(settings).lazy.compactMap { $0["block_structure"] }.first { $0 != .null }
  }

  /// compressed-tensors' settings for weights, for each group of modules, sorted by group name.
  private static func weights(_ settings: JSONMembers) -> [JSONMembers] {
    guard let groups = settings["config_groups"]?.members else { return [] }
    return groups.keys.sorted().compactMap { groups[$0]?.members?["weights"]?.members }
  }

  private mutating func readNumbers(_ settings: JSONMembers) {
    var symmetries: Set<Bool> = []
    for weights in Self.weights(settings) {
      if let bits = weights["num_bits"]?.whole { self.bits.insert(bits) }
      if let length = weights["group_size"]?.whole {
        groupLengths.insert(length)
      } else if let strategy = weights["strategy"],
        [.string("channel"), .string("tensor")].contains(strategy)
      {
        groupLengths.insert(-1)
      }
      if case .bool(let isSymmetric)? = weights["symmetric"] { symmetries.insert(isSymmetric) }
    }
    if let bits = (settings["bits"] ?? settings["w_bit"])?.whole { self.bits.insert(bits) }
    if let length = (settings["group_size"] ?? settings["q_group_size"])?.whole {
      groupLengths.insert(length)
    }
    isSymmetric = symmetries.count == 1 ? symmetries.first : nil
    let types = Set(Self.weights(settings).compactMap { $0["type"] })
    isFloat = types.count == 1 ? types.first.map { $0 == .string("float") } : nil
    // ModelOpt names its algorithm.
    if case .string(let algorithm)? = settings["quant_algo"], bits.isEmpty {
      bits = algorithm.uppercased().contains("FP4") ? [4] : algorithm.uppercased().contains("FP8") ? [8] : []
    }
    storesZerosLessOne =
      settings["checkpoint_format"] != .string("gptq_v2") && settings["format"] != .string("gptq_v2")
    isOrdered = settings["desc_act"] == .bool(true)
    for weights in Self.weights(settings) {
      if let order = weights["actorder"], [.string("group"), .string("dynamic"), .bool(true)].contains(order)
      {
        isOrdered = true
      }
    }
  }

  /// Whether groups of `length` in rows of `columns` agree with the stated group lengths, if any.
  func allowsGroups(of length: Int, columns: Int) -> Bool {
    groupLengths.isEmpty || groupLengths.contains(length) || (length == columns && groupLengths.contains(-1))
  }

  /// Why weights of this method are not supported, if so.
  private func refusal(_ settings: JSONMembers) -> String? {
    guard let method, Self.readMethods.contains(method) else {
      return "it is quantised (\(description)) in an unsupported way"
    }
    func text(_ key: String) -> String? {
      if case .string(let value)? = settings[key] { value.lowercased() } else { nil }
    }
    switch method {
    case "awq":
      // Other versions order codes differently.
      for key in ["version", "format"] {
        if let version = text(key), version != "gemm" {
          return "its AWQ codes are of version \(version.printable); only gemm is supported"
        }
      }
      return nil
    case "gptq":
      if settings["is_marlin_format"] == .bool(true) { return "its GPTQ codes are in Marlin's order" }
      // Newer tools say `format`, older ones `checkpoint_format`.
      let formats = Set(["checkpoint_format", "format"].compactMap(text))
      if let format = formats.sorted().first(where: { !["gptq", "gptq_v2"].contains($0) }) {
        return "its GPTQ codes are of the format \(format.printable), which is not supported"
      }
      if formats.count > 1 { return "its format and its checkpoint_format contradict each other" }
      if let rules = settings["dynamic"]?.members, !rules.isEmpty {
        return "its GPTQ configuration has rules for single modules (dynamic), which are not supported"
      }
      return nil
    case "quark":
      let weight = settings["global_quant_config"]?.members?["weight"]?.members
      if case .string(let type)? = weight?["dtype"], !["int8", "fp8_e4m3"].contains(type.lowercased()) {
        return "its codes are Quark's \(type.printable), which is not supported"
      }
      return nil
    case _ where method.hasPrefix("modelopt"):
      guard let algorithm = text("quant_algo"), algorithm != "w4a16_nvfp4",
        ["int4", "w4a8", "w4a16", "awq", "mixed"].contains(where: algorithm.contains)
      else { return nil }
      return "its quant_algo is \(algorithm.uppercased().printable), which is not supported"
    default: return nil
    }
  }
}
