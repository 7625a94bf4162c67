/// One thing that an engine would fail on, or would silently load wrongly.
public struct EngineFinding: Hashable, Sendable, Codable {
  /// How bad it is.
  public enum Severity: String, Hashable, Sendable, Codable, Comparable {
    /// The engine refuses the checkpoint.
    case error
    /// The engine accepts it and computes wrong results.
    case silent
    /// Odd, but served correctly.
    case warning

    /// Whether the checkpoint is not served correctly.
    public var isFatal: Bool { self != .warning }

    public static func < (left: Severity, right: Severity) -> Bool { left.rank < right.rank }

    private var rank: Int {
      switch self {
      case .error: 0
      case .silent: 1
      case .warning: 2
      }
    }
  }

  /// How bad it is.
  public let severity: Severity
  /// The kind of fault: a stable identifier.
  public let code: Code
  /// The first tensor or module concerned.
  public let tensor: String?
  /// The file that holds it.
  public let file: String?
  /// What was found and what was expected, as one sentence without a full stop.
  public let message: String
  /// What the engine does.
  public let consequence: String
  /// How to fix it.
  public let remedy: String
  /// How many tensors or modules have the same fault in different layers.
  public internal(set) var count: Int
  /// The first of them.
  public internal(set) var examples: [String]
}

extension EngineFinding {
  /// The kinds of fault.
  public enum Code: String, Hashable, Sendable, CaseIterable, Codable {
    // The checkpoint as a whole.
    case gguf = "gguf"
    case partition = "partition"
    case architecture = "architecture"
    case moeLayersEnum = "moe-layers-enum"
    case keyValueHeads = "key-value-heads"
    case setting = "setting"
    // quantization_config.
    case quantizationConfig = "quantization-config"
    case activationScheme = "activation-scheme"
    case schemeUnsupported = "scheme-unsupported"
    case patternAnchored = "pattern-anchored"
    case patternUnreadable = "pattern-unreadable"
    case mixedModule = "mixed-module"
    case moduleNotIgnored = "module-not-ignored"
    case moduleIgnored = "module-ignored"
    case lmHeadNotListed = "lm-head-not-listed"
    // Names.
    case perExpertNames = "per-expert-names"
    case fusedExpertNames = "fused-expert-names"
    case internalNames = "internal-names"
    case languageModelPrefix = "language-model-prefix"
    case unknownMoE = "unknown-moe"
    case unknownScale = "unknown-scale"
    case unknownTensor = "unknown-tensor"
    case routerScale = "router-scale"
    case keyValueScale = "key-value-scale"
    case expertInputScale = "expert-input-scale"
    case quantizedLMHead = "quantized-lm-head"
    case attentionScalar = "attention-scalar"
    case fusedTwice = "fused-twice"
    // Contents.
    case missingTensor = "missing-tensor"
    case missingScale = "missing-scale"
    case missingInputScale = "missing-input-scale"
    case tooFewExperts = "too-few-experts"
    case tooManyExperts = "too-many-experts"
    case transposed = "transposed"
    case broadcast = "broadcast"
    case shortRows = "short-rows"
    case wrongShape = "wrong-shape"
    case wrongType = "wrong-type"
    case convertedType = "converted-type"
    case e8m0Scale = "e8m0-scale"
    case unequalGlobalScales = "unequal-global-scales"
    case orderIgnored = "order-ignored"
    // Blocks and tensor parallelism.
    case blockMisaligned = "block-misaligned"
    case tensorParallel = "tensor-parallel"
    // Files.
    case duplicateTensor = "duplicate-tensor"
    case indexMismatch = "index-mismatch"
    case orphanShard = "orphan-shard"
    case totalSize = "total-size"
    case headerTooLarge = "header-too-large"
  }
}

/// Gathers findings; equal faults in different layers become one.
struct FindingCollector {
  private struct Key: Hashable {
    let code: EngineFinding.Code
    let severity: EngineFinding.Severity
    let place: String
    let message: String
    let consequence: String
  }

  /// The names kept for a fault that occurs in many layers.
  static let exampleLimit = 3
  /// The distinct faults kept; an unusual checkpoint could have one for each tensor.
  static let limit = 200

  private var positions: [Key: Int] = [:]
  private var kept: [EngineFinding] = []
  /// Faults beyond ``limit``.
  private(set) var dropped = 0

  /// Adds a finding, or counts it if the same was found in another layer.
  mutating func add(
    _ severity: EngineFinding.Severity, _ code: EngineFinding.Code, tensor: String? = nil,
    file: String? = nil,
    _ message: String, consequence: String, remedy: String
  ) {
    let key = Key(
      code: code, severity: severity, place: Self.withoutNumbers(tensor ?? file ?? ""), message: message,
      consequence: consequence)
    if let position = positions[key] {
      kept[position].count += 1
      if kept[position].examples.count < Self.exampleLimit, let name = tensor ?? file {
        kept[position].examples.append(name)
      }
      return
    }
    guard kept.count < Self.limit else {
      dropped += 1
      return
    }
    positions[key] = kept.count
    kept.append(
      EngineFinding(
        severity: severity, code: code, tensor: tensor, file: file, message: message,
        consequence: consequence,
        remedy: remedy, count: 1, examples: (tensor ?? file).map { [$0] } ?? []))
  }

  /// The worst first, otherwise in the order found.
  var findings: [EngineFinding] {
    kept.enumerated().sorted { ($0.element.severity, $0.offset) < ($1.element.severity, $1.offset) }.map(
      \.element)
  }

  /// The name with every number among its parts replaced, so that layers and experts look alike.
  private static func withoutNumbers(_ name: String) -> String {
    name.split(separator: ".", omittingEmptySubsequences: false)
      .map { Int($0) == nil ? String($0) : "N" }.joined(separator: ".")
  }
}
