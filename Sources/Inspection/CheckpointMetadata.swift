internal import ByteStreams
public import Checkpoint
internal import GGUF
public import JSON
public import TensorFormats

/// All metadata of a checkpoint, apart from its tensors.
public struct CheckpointMetadata: Sendable {
  /// The metadata of one weight file.
  public struct File: Sendable {
    /// Below the checkpoint's directory.
    public let path: String
    /// `__metadata__` of safetensors, by key; the key-values of GGUF in their order, each with the name of its type.
    public let entries: [Entry]
  }

  /// One key of a file.
  public struct Entry: Hashable, Sendable {
    public let key: String
    /// The type as GGUF spells it: `u32`, `str`, `arr[f32]`; `str` for safetensors.
    public let type: String
    public let value: JSONValue
  }

  public let path: String
  public let format: Checkpoint.Format
  public let architecture: String?
  /// `config.json`; `nil` where there is none.
  public let configuration: JSONValue?
  public let files: [File]
}

extension CheckpointMetadata {
  /// Gathers the metadata of a checkpoint.
  ///
  /// - Throws: `.malformed` if `config.json` is not JSON.
  public init(of checkpoint: Checkpoint) throws(CheckpointError) {
    path = checkpoint.path
    format = checkpoint.format
    architecture = checkpoint.architecture
    configuration = try Self.configuration(of: checkpoint)
    files = checkpoint.files.map { file in
      let entries: [Entry]
      if let metadata = file.ggufMetadata {
        entries = metadata.entries.map {
          Entry(key: $0.key, type: $0.value.typeName, value: $0.value.jsonValue(arrayLimit: .max))
        }
      } else {
        entries = file.safetensorsMetadata.sorted { $0.key < $1.key }.map {
          Entry(key: $0.key, type: "str", value: .string($0.value))
        }
      }
      return File(path: file.name, entries: entries)
    }
  }

  static func configuration(of checkpoint: Checkpoint) throws(CheckpointError) -> JSONValue? {
    try checkpoint.requireReadableConfiguration()
    return checkpoint.configurationMembers.map { .object($0) }
  }

  /// The metadata of all files in one object; if files disagree, the first one wins. Arrays of more than 16
  /// elements are only counted: a vocabulary does not belong in a listing.
  static func merged(_ checkpoint: Checkpoint) -> JSONValue {
    if let metadata = checkpoint.ggufMetadata {
      return .object(JSONMembers(metadata.entries.map { ($0.key, $0.value.jsonValue(arrayLimit: 16)) }))
    }
    var all: [String: String] = [:]
    for file in checkpoint.files { all.merge(file.safetensorsMetadata) { first, _ in first } }
    return .object(JSONMembers(all.sorted { $0.key < $1.key }.map { ($0.key, .string($0.value)) }))
  }
}

extension CheckpointMetadata: Encodable {
  private enum CodingKeys: String, CodingKey {
    case format, path, architecture, config, files
  }

  /// Encodes all of it, arrays in full.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(format, forKey: .format)
    try container.encode(path, forKey: .path)
    try container.encodeIfPresent(architecture, forKey: .architecture)
    try container.encodeIfPresent(configuration, forKey: .config)
    try container.encode(files.map(EncodedFile.init), forKey: .files)
  }

  private struct EncodedFile: Encodable {
    let path: String
    let metadata: JSONValue

    init(_ file: File) {
      path = file.path
      metadata = .object(JSONMembers(file.entries.map { ($0.key, $0.value) }))
    }
  }
}

extension GGUFValue {
  fileprivate var typeName: String {
    guard case .array(let array) = self else { return type.description }
    return "arr[\(array.elementType)]"
  }

  /// The value; an array of more than `arrayLimit` elements becomes a text that counts them.
  fileprivate func jsonValue(arrayLimit: Int) -> JSONValue {
    switch self {
    case .uint8(let value): return .integer(Int(value))
    case .int8(let value): return .integer(Int(value))
    case .uint16(let value): return .integer(Int(value))
    case .int16(let value): return .integer(Int(value))
    case .uint32(let value): return .integer(Int(value))
    case .int32(let value): return .integer(Int(value))
    case .uint64(let value): return .init(number: String(value))
    case .int64(let value): return .integer(Int(value))
    case .float32(let value): return .number(JSONNumber(value))
    case .float64(let value): return .number(JSONNumber(value))
    case .bool(let value): return .bool(value)
    case .string(let value): return .string(value)
    case .array(let array):
      guard array.count <= arrayLimit else {
        return .string("\(array.count) values of type \(array.elementType)")
      }
      return .array(array.jsonValues)
    }
  }
}

extension GGUFArray {
  fileprivate var jsonValues: [JSONValue] {
    switch self {
    case .uint8(let values): values.map { .integer(Int($0)) }
    case .int8(let values): values.map { .integer(Int($0)) }
    case .uint16(let values): values.map { .integer(Int($0)) }
    case .int16(let values): values.map { .integer(Int($0)) }
    case .uint32(let values): values.map { .integer(Int($0)) }
    case .int32(let values): values.map { .integer(Int($0)) }
    case .uint64(let values): values.map { .init(number: String($0)) }
    case .int64(let values): values.map { .integer(Int($0)) }
    case .float32(let values): values.map { .number(JSONNumber($0)) }
    case .float64(let values): values.map { .number(JSONNumber($0)) }
    case .bool(let values): values.map { .bool($0) }
    case .string(let values): values.map { .string($0) }
    }
  }
}
