public import ByteStreams
public import GGUF
public import JSON
public import TensorFormats

/// One view over a model on disk, whatever its format: tensors by name, their shapes, types and bytes, the metadata
/// and the configuration beside them.
///
/// Opening reads headers only. Nothing here knows any model; roles come from a model description further up.
public struct Checkpoint: Sendable {
  /// The container format of the weights: it decides which types there are at all.
  public enum Format: String, Hashable, Sendable, Codable, CaseIterable {
    case safetensors, gguf
  }

  /// The path the user gave; for the root of a Hugging Face cache, the snapshot it resolved to.
  public let path: String
  /// Where its files are.
  public let store: any ByteStore
  /// The container format.
  public let format: Format
  /// The weight files, in the order of their names.
  public let files: [File]
  /// All tensors, by file and rising offset. Names are unique, except between the parts of a partition set.
  public let tensors: [Tensor]
  /// `config.json`, including any fault in it; `nil` if there is none.
  public let configurationDocument: ConfigurationDocument?
  /// The key-values of a GGUF checkpoint's main file; `nil` for safetensors.
  public let ggufMetadata: GGUFMetadata?
  /// The parts, if this is a partition set; empty otherwise.
  public let parts: [Part]
  /// What is odd but does not prevent using the checkpoint.
  public let warnings: [String]
  /// The on-disk names of renamed tensors, by their names here.
  public let namesOnDisk: [String: String]

  private let positions: [String: Int]

  init(
    path: String, store: any ByteStore, format: Format, files: [File], tensors: [Tensor],
    configuration: ConfigurationDocument?, ggufMetadata: GGUFMetadata? = nil, parts: [Part] = [],
    warnings: [String] = [], namesOnDisk: [String: String] = [:]
  ) {
    self.namesOnDisk = namesOnDisk
    self.path = path
    self.store = store
    self.format = format
    self.files = files
    self.tensors = tensors
    configurationDocument = configuration
    self.ggufMetadata = ggufMetadata
    self.parts = parts
    self.warnings = warnings
    positions = Dictionary(
      tensors.enumerated().map { ($0.element.name, $0.offset) }, uniquingKeysWith: { first, _ in first })
  }
}

extension Checkpoint {
  /// Whether the user named the whole store, rather than one of several files.
  public var isWholeStore: Bool { path == store.path }
}

// MARK: - Contents

extension Checkpoint {
  /// One weight file.
  public struct File: Sendable {
    /// The name in ``Checkpoint/store``.
    public let name: String
    /// The bytes.
    public let source: any ByteSource
    /// Where tensor data starts; everything before it is the header.
    public let dataOffset: Int
    /// `__metadata__` of a safetensors file; empty for GGUF.
    public let safetensorsMetadata: [String: String]
    /// The key-values of a GGUF file; `nil` for safetensors.
    public let ggufMetadata: GGUFMetadata?
    /// The byte order of the tensor data.
    public let byteOrder: GGUFByteOrder
    /// What its tensors were made from, if it is not on disk: see ``Derivation``. Empty for every real file.
    public let derivations: [Derivation]

    init(
      name: String, source: any ByteSource, dataOffset: Int, safetensorsMetadata: [String: String],
      ggufMetadata: GGUFMetadata?, byteOrder: GGUFByteOrder, derivations: [Derivation] = []
    ) {
      self.name = name
      self.source = source
      self.dataOffset = dataOffset
      self.safetensorsMetadata = safetensorsMetadata
      self.ggufMetadata = ggufMetadata
      self.byteOrder = byteOrder
      self.derivations = derivations
    }
  }

  /// One tensor.
  public struct Tensor: Hashable, Sendable {
    /// The name in the file.
    public let name: String
    /// The element type.
    public let elementType: ElementType
    /// Row-major, outermost first, for GGUF as well.
    public let shape: TensorShape
    /// The index of its file in ``Checkpoint/files``.
    public let file: Int
    /// Its bytes, from the start of that file.
    public let byteRange: Range<Int>

    /// Describes a tensor.
    package init(
      name: String, elementType: ElementType, shape: TensorShape, file: Int, byteRange: Range<Int>
    ) {
      self.name = name
      self.elementType = elementType
      self.shape = shape
      self.file = file
      self.byteRange = byteRange
    }

    /// The same bytes with a different shape.
    ///
    /// - Precondition: `shape` has as many elements.
    package func viewed(as shape: TensorShape) -> Tensor {
      precondition(shape.elementCount == self.shape.elementCount)
      return Tensor(name: name, elementType: elementType, shape: shape, file: file, byteRange: byteRange)
    }

    /// The same tensor, with its file index shifted by `count`, for a checkpoint with that many files before it.
    package func shiftingFile(by count: Int) -> Tensor {
      Tensor(name: name, elementType: elementType, shape: shape, file: file + count, byteRange: byteRange)
    }
  }

  /// One directory of a partition set.
  public struct Part: Sendable {
    /// The directory's name below the set.
    public let name: String
    /// The part as a checkpoint of its own.
    public let checkpoint: Checkpoint
  }
}

// MARK: - Asking

extension Checkpoint {
  /// The tensor of that name.
  ///
  /// - Complexity: O(1).
  public subscript(name: String) -> Tensor? { positions[name].map { tensors[$0] } }

  /// Reads part of a tensor's bytes.
  ///
  /// - Parameters:
  ///   - tensor: One of ``tensors``.
  ///   - range: Bytes, from the start of the tensor.
  ///   - buffer: Receives the bytes; as long as `range`.
  /// - Throws: `.truncated`, `.inputOutput`.
  public func read(_ tensor: Tensor, _ range: Range<Int>, into buffer: inout MutableRawSpan)
    throws(CheckpointError)
  {
    precondition(range.upperBound <= tensor.byteRange.count && range.count == buffer.byteCount)
    try files[tensor.file].source.read(into: &buffer, at: tensor.byteRange.lowerBound + range.lowerBound)
  }

  /// All bytes of a tensor, as they are stored.
  ///
  /// - Throws: `.truncated`, `.inputOutput`.
  public func bytes(of tensor: Tensor) throws(CheckpointError) -> [UInt8] {
    try files[tensor.file].source.readBytes(tensor.byteRange)
  }

  /// `general.architecture` of a GGUF file, or `model_type` of `config.json`.
  public var architecture: String? {
    if case .string(let name)? = ggufMetadata?["general.architecture"] { return name }
    return configurationDocument?.modelType
  }

  /// The contents of `config.json`; `nil` if there is none that can be read.
  public var configurationMembers: JSONMembers? { configurationDocument?.members }

  /// The text of `config.json` without a byte order mark; `nil` if there is none that can be read.
  public var configuration: [UInt8]? {
    guard let configurationDocument, configurationDocument.fault == nil else { return nil }
    return configurationDocument.text
  }

  /// Throws if there is a configuration that cannot be read.
  ///
  /// - Throws: What is wrong with it, with the file and a remedy.
  public func requireReadableConfiguration() throws(CheckpointError) {
    if let fault = configurationDocument?.fault { throw fault }
  }

  /// An error about this checkpoint, with the file filled in unless already known: that of the tensor concerned, or
  /// the path the user gave.
  public func locating(_ error: CheckpointError) -> CheckpointError {
    error.at(path: error.tensor.flatMap { self[$0] }.map { files[$0.file].source.path } ?? path)
  }

  /// The file whose metadata applies: the first. The path the user gave, if there is none.
  public var mainFilePath: String { files.first?.source.path ?? path }

  /// The size of all weight files, headers included.
  public var byteCount: Int { files.reduce(0) { $0 + $1.source.byteCount } }
}
