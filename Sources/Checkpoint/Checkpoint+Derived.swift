package import ByteStreams
package import GGUF
package import TensorFormats

extension Checkpoint {
  /// A tensor that is not stored in any file: it is made from others each time it is read.
  package struct Derived: Sendable {
    package let name: String
    package let elementType: ElementType
    /// Row-major.
    package let shape: TensorShape
    /// Its bytes, little-endian.
    package let source: any ByteSource
    /// The tensors it is made from.
    package let origins: [Tensor]
    /// What is done with them, for readers of plans: `stacked`.
    package let operation: String

    package init(
      name: String, elementType: ElementType, shape: TensorShape, source: any ByteSource,
      origins: [Tensor], operation: String
    ) {
      self.name = name
      self.elementType = elementType
      self.shape = shape
      self.source = source
      self.origins = origins
      self.operation = operation
    }
  }

  /// How a tensor of a file that is not on disk was derived.
  public struct Derivation: Hashable, Sendable {
    /// The tensor.
    public let name: String
    /// What was done: `stacked`, `renamed`, `decoded`, `merged`.
    public let operation: String
    /// The tensors on disk that it was made from, by name.
    public let origins: [String]
    /// Its size.
    public let bytes: Int
    /// Where the origins end: the last source file that has one of them, and the end of that tensor. Whoever reads
    /// the source in order has just read all of them at that point.
    public let lastOrigin: LastOrigin

    /// A place in a source file.
    public struct LastOrigin: Hashable, Sendable {
      public let file: Int
      public let end: Int
    }
  }

  /// The same checkpoint with some tensors replaced by derived ones, in one more file that is not on disk.
  ///
  /// - Parameters:
  ///   - hidden: The names of tensors that disappear.
  ///   - derived: Their replacements. None may have the name of a remaining tensor.
  /// - Complexity: O(number of tensors).
  package func replacing(_ hidden: Set<String>, with derived: [Derived]) -> Checkpoint {
    var kept = tensors.filter { !hidden.contains($0.name) }
    var position = 0
    var derivations: [Derivation] = []
    for tensor in derived {
      let bytes = tensor.source.byteCount
      kept.append(
        Tensor(
          name: tensor.name, elementType: tensor.elementType, shape: tensor.shape, file: files.count,
          byteRange: position..<position + bytes))
      position += bytes
      derivations.append(derivation(of: tensor))
    }
    var files = files
    if !derived.isEmpty {
      files.append(
        File(
          name: "(derived \(files.count(where: { !$0.derivations.isEmpty }) + 1))",
          source: ConcatenatedSource(path: path, derived.map(\.source)), dataOffset: 0,
          safetensorsMetadata: [:], ggufMetadata: nil, byteOrder: .little, derivations: derivations))
    }
    return replacing(files: files, tensors: kept)
  }

  /// What a derived tensor was made from on disk, through any number of steps.
  private func derivation(of tensor: Derived) -> Derivation {
    var origins: [String] = []
    var last = Derivation.LastOrigin(file: 0, end: 0)
    for origin in tensor.origins {
      var end = Derivation.LastOrigin(file: origin.file, end: origin.byteRange.upperBound)
      if let earlier = files[origin.file].derivations.first(where: { $0.name == origin.name }) {
        origins += earlier.origins
        end = earlier.lastOrigin
      } else {
        origins.append(namesOnDisk[origin.name] ?? origin.name)
      }
      if (end.file, end.end) > (last.file, last.end) { last = end }
    }
    return Derivation(
      name: tensor.name, operation: tensor.operation, origins: origins, bytes: tensor.source.byteCount,
      lastOrigin: last)
  }

  /// A partition set as one checkpoint.
  ///
  /// - Parameters:
  ///   - whole: Tensors that some file of the set has complete.
  ///   - derived: Tensors assembled from several parts.
  ///   - configuration: The model's.
  ///   - ggufMetadata: The model's, for GGUF.
  package func merged(
    _ whole: [Tensor], _ derived: [Derived], configuration: ConfigurationDocument?,
    ggufMetadata: GGUFMetadata?
  ) -> Checkpoint {
    Checkpoint(
      path: path, store: store, format: format, files: files, tensors: whole,
      configuration: configuration, ggufMetadata: ggufMetadata, warnings: warnings
    ).replacing([], with: derived)
  }

  /// The same checkpoint without some of its tensors.
  package func excluding(_ isExcluded: (Tensor) -> Bool) -> Checkpoint {
    replacing(files: files, tensors: tensors.filter { !isExcluded($0) })
  }

  /// The same checkpoint with other names for some of its tensors.
  ///
  /// - Parameter names: The new names, by the old ones.
  package func renaming(_ names: [String: String]) -> Checkpoint {
    guard !names.isEmpty else { return self }
    var onDisk = namesOnDisk
    for (old, new) in names { onDisk[new] = namesOnDisk[old] ?? old }
    return replacing(
      files: files,
      tensors: tensors.map { tensor in
        guard let name = names[tensor.name] else { return tensor }
        return Tensor(
          name: name, elementType: tensor.elementType, shape: tensor.shape, file: tensor.file,
          byteRange: tensor.byteRange)
      }, namesOnDisk: onDisk)
  }

  private func replacing(
    files: [File], tensors: [Tensor], namesOnDisk: [String: String]? = nil
  ) -> Checkpoint {
    Checkpoint(
      path: path, store: store, format: format, files: files, tensors: tensors,
      configuration: configurationDocument, ggufMetadata: ggufMetadata, parts: parts, warnings: warnings,
      namesOnDisk: namesOnDisk ?? self.namesOnDisk)
  }

  /// Where a tensor is: its file, or the directory of the files it was made from.
  package func path(of tensor: Tensor) -> String { files[tensor.file].source.path }
}

extension Checkpoint.File {
  /// Whether it is derived from others rather than on disk.
  public var isDerived: Bool { !derivations.isEmpty }
}
