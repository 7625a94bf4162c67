import Checkpoint
import JSON
import ServingEngines
import Step3Model
import TensorFormats

/// A checkpoint of headers only: four layers, of which 1 and 2 have 48 experts.
struct SyntheticCheckpoint {
  var tensors: [EngineSubject.Tensor]
  /// `config.json`.
  var config: JSONValue
  var index: EngineSubject.Index?
  var orphans: [String] = []
  var headerBytes = 1000
  var bytes: [String: [UInt8]] = [:]
  var canRead = true

  static let experts = 48
  static let hidden = 512
  static let inner = 1024

  static var model: Step3Configuration {
    var model = Step3Configuration.published
    model.text.hiddenSize = hidden
    model.text.intermediateSize = 2048
    model.text.layerCount = 4
    model.text.headCount = 16
    model.text.headDimension = 128
    model.text.sharedQueryDimension = 256
    model.text.vocabularySize = 512
    model.text.moeLayers = [1, 2]
    model.text.expertCount = experts
    model.text.expertIntermediateSize = inner
    model.text.sharedExpertIntermediateSize = inner
    shrinkVision(&model, outputSize: 32)
    return model
  }

  /// Reduces the vision side to one narrow layer.
  static func shrinkVision(_ model: inout Step3Configuration, outputSize: Int) {
    model.vision?.imageSize = 28
    model.vision?.hiddenSize = 64
    model.vision?.intermediateSize = 128
    model.vision?.layerCount = 1
    model.vision?.outputSize = outputSize
    model.vision?.imageTokenID = 500
  }

  /// A sound checkpoint, with one scheme for the experts and optionally for all linear layers.
  init(_ scheme: SyntheticScheme, expertsOnly: Bool = true, fusedAttention: Bool? = nil) throws {
    var config = try JSONValue.parse(Self.model.configJSON(), name: "config.json")
    if let text = scheme.configuration(expertsOnly: expertsOnly) {
      config.set(["quantization_config"], to: try JSONValue.parse(Array(text.utf8), name: "test"))
    }
    self.config = config
    tensors = []
    let isFused = (fusedAttention ?? scheme.needsFusedAttention) && !expertsOnly
    for tensor in try Step3Inventory(Self.model).tensors {
      let module = tensor.name.module
      let stem = String(tensor.publishedName.split(separator: ".").dropLast().joined(separator: "."))
      let shape = tensor.shape.dimensions
      if tensor.role == .routedExperts {
        for part in scheme.parts(rows: shape[1], columns: shape[2], isExpert: true) {
          add("\(stem).\(part.suffix)", part.type, [shape[0]] + part.shape)
        }
      } else if ModelDescription.step3[module]?.isLinear == true, !expertsOnly {
        if isFused, [.query, .key, .value].contains(module) {
          guard module == .query else { continue }
          for part in scheme.parts(rows: shape[0] + 256, columns: shape[1], isExpert: false) {
            add("\(stem.dropLast(6))qkv_proj.\(part.suffix)", part.type, part.shape)
          }
          continue
        }
        for part in scheme.parts(rows: shape[0], columns: shape[1], isExpert: false) {
          add("\(stem).\(part.suffix)", part.type, part.shape)
        }
      } else {
        add(tensor.publishedName, "BF16", shape)
      }
    }
  }

  mutating func add(_ name: String, _ type: String, _ shape: [Int], file: String = "model.safetensors") {
    guard let elementType = ElementType(rawValue: type) else {
      preconditionFailure("no element type \(type)")
    }
    tensors.append(
      EngineSubject.Tensor(name: name, elementType: elementType, shape: TensorShape(shape), file: file))
  }

  /// Changes the tensors with this suffix; there must be at least one.
  mutating func change(_ suffix: String, _ body: (inout EngineSubject.Tensor) -> Void) {
    var changed = false
    for index in tensors.indices where tensors[index].name.hasSuffix(suffix) {
      body(&tensors[index])
      changed = true
    }
    precondition(changed, "no tensor ends in \(suffix)")
  }

  mutating func remove(_ suffix: String) {
    let count = tensors.count
    tensors.removeAll { $0.name.hasSuffix(suffix) }
    precondition(tensors.count < count, "no tensor ends in \(suffix)")
  }

  /// Writes a matching index.
  mutating func addIndex() {
    index = EngineSubject.Index(
      weightMap: Dictionary(uniqueKeysWithValues: tensors.map { ($0.name, $0.file) }),
      totalSize: tensors.reduce(0) { $0 + ($1.shape.byteCount(as: $1.elementType) ?? 0) })
  }

  func subject() throws -> EngineSubject {
    let bytes = bytes
    let names = Set(tensors.map(\.file)).sorted()
    var read: EngineSubject.Reader?
    if canRead {
      read = { (tensor: EngineSubject.Tensor) throws(CheckpointError) -> [UInt8] in
        if let known = bytes[tensor.name] { return known }
        guard tensor.name.hasSuffix(".g_idx") else {
          return [UInt8](repeating: 1, count: tensor.shape.elementCount * 4)
        }
        return (0..<tensor.shape.elementCount).flatMap { [UInt8($0 % tensor.shape.columns / 128), 0, 0, 0] }
      }
    }
    return EngineSubject(
      path: "synthetic", tensors: tensors,
      files: names.map { EngineSubject.File(name: $0, headerByteCount: headerBytes) },
      configuration: try JSONText.file(config), index: index, orphanShards: orphans, read: read)
  }

  func report(_ engine: Engine, tensorParallel: Int? = nil) throws -> EngineReport {
    try EngineReport(subject(), engine: engine, tensorParallel: tensorParallel)
  }
}

extension JSONValue {
  /// Sets, or with `nil` removes, the value at a path of keys.
  mutating func set(_ path: [String], to value: JSONValue?) {
    guard case .object(var members) = self, let key = path.first else {
      preconditionFailure("no object on the way to \(path)")
    }
    if path.count == 1 {
      members[key] = value
    } else {
      var inner = members[key] ?? .object([:])
      inner.set(Array(path.dropFirst()), to: value)
      members[key] = inner
    }
    self = .object(members)
  }
}

extension EngineReport {
  /// The kinds of fault that keep the checkpoint from being served correctly.
  var faults: Set<EngineFinding.Code> { Set(findings.filter(\.severity.isFatal).map(\.code)) }

  func severity(_ code: EngineFinding.Code) -> EngineFinding.Severity? {
    findings.first { $0.code == code }?.severity
  }
}
