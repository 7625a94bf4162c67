public import Checkpoint
public import TensorFormats

/// The subject of a check: everything a loader would see of a checkpoint, on disk or only planned.
public struct EngineSubject: Sendable {
  /// One tensor.
  public struct Tensor: Hashable, Sendable {
    /// The name in the file.
    public var name: String
    /// The element type.
    public var elementType: ElementType
    /// Row-major.
    public var shape: TensorShape
    /// The name of the file that holds it.
    public var file: String

    /// Describes a tensor.
    public init(name: String, elementType: ElementType, shape: TensorShape, file: String) {
      self.name = name
      self.elementType = elementType
      self.shape = shape
      self.file = file
    }
  }

  /// One weight file.
  public struct File: Hashable, Sendable {
    /// The name below the checkpoint's directory.
    public var name: String
    /// The bytes of its header; `nil` if not written yet.
    public var headerByteCount: Int?

    /// Describes a file.
    public init(name: String, headerByteCount: Int? = nil) {
      self.name = name
      self.headerByteCount = headerByteCount
    }
  }

  /// The contents of `model.safetensors.index.json`.
  public struct Index: Hashable, Sendable {
    /// The shard of each tensor.
    public var weightMap: [String: String]
    /// The bytes of all tensors; `nil` if not stated.
    public var totalSize: Int?

    /// Describes an index.
    public init(weightMap: [String: String], totalSize: Int?) {
      self.weightMap = weightMap
      self.totalSize = totalSize
    }
  }

  /// Reads all bytes of a small tensor.
  public typealias Reader = @Sendable (Tensor) throws(CheckpointError) -> [UInt8]

  /// What the user named, for messages.
  public var path: String
  /// Whether the weights are GGUF.
  public var isGGUF: Bool
  /// `general.architecture` of a GGUF file.
  public var ggufArchitecture: String?
  /// Whether this is one part, or a set of parts, of a partitioned model.
  public var isPartition: Bool
  /// All tensors. A name may occur twice.
  public var tensors: [Tensor]
  /// The weight files.
  public var files: [File]
  /// `config.json`; `nil` where there is none.
  public var configuration: ConfigurationDocument?
  /// `hf_quant_config.json`, in which ModelOpt's older releases keep what `config.json` lacks; `nil` if there is none.
  public var modelOptConfiguration: [UInt8]?
  /// The index; `nil` where there is none.
  public var index: Index?
  /// Weight files beside the index that it does not name.
  public var orphanShards: [String]
  /// Reads tensors; `nil` before they are written.
  public var read: Reader?

  /// Describes a checkpoint, `configuration` being the text of its `config.json`.
  public init(
    path: String, isGGUF: Bool = false, ggufArchitecture: String? = nil, isPartition: Bool = false,
    tensors: [Tensor], files: [File], configuration: [UInt8]?, index: Index? = nil,
    orphanShards: [String] = [], read: Reader? = nil
  ) {
    self.path = path
    self.isGGUF = isGGUF
    self.ggufArchitecture = ggufArchitecture
    self.isPartition = isPartition
    self.tensors = tensors
    self.files = files
    self.configuration = configuration.map { ConfigurationDocument($0, path: path) }
    self.index = index
    self.orphanShards = orphanShards
    self.read = read
  }
}
