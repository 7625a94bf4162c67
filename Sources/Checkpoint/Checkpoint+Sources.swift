public import ByteStreams

extension Checkpoint {
  /// The same checkpoint, read through other sources: metered ones, for example.
  public func mappingSources(_ transform: (any ByteSource) -> any ByteSource) -> Checkpoint {
    Checkpoint(
      path: path, store: store, format: format,
      files: files.map {
        File(
          name: $0.name, source: transform($0.source), dataOffset: $0.dataOffset,
          safetensorsMetadata: $0.safetensorsMetadata, ggufMetadata: $0.ggufMetadata, byteOrder: $0.byteOrder,
          derivations: $0.derivations)
      },
      tensors: tensors, configuration: configurationDocument, ggufMetadata: ggufMetadata, parts: parts,
      warnings: warnings, namesOnDisk: namesOnDisk)
  }
}
