internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import TensorFormats

/// Puts the tensors of one part into GGUF files: the language model in one (or a split set), the vision side in a
/// second one, `mmproj`, as GGUF readers expect it.
///
/// Tensors are in source order, so that the file's digests are computed in the same pass.
enum GGUFPacking {
  static func pack(
    _ tensors: [OutputTensor], fileName: String, metadata: GGUFMetadata, directory: String,
    maximumBytes: Int?,
    headers: inout [String: [UInt8]]
  ) throws(CheckpointError) -> [ShardPlan.File] {
    let tensors = tensors.sorted(by: OutputTensor.inSourceOrder)
    var items: [GGUFLayout.Tensor] = []
    for output in tensors {
      guard let name = output.ggufName else {
        throw CheckpointError(
          .unsupported, "GGUF has no name for this tensor in this architecture",
          tensor: output.tensor.source.tensor,
          remedy: "leave it out with --exclude, or convert to safetensors")
      }
      items.append(
        GGUFLayout.Tensor(name: name, elementType: output.tensor.elementType, shape: output.tensor.shape))
    }
    let prefix = joinPath(directory, fileName)
    let whole = try GGUFLayout(metadata: metadata, tensors: items)
    guard let maximumBytes, whole.byteCount > maximumBytes else {
      return [file(prefix + ".gguf", whole, tensors, &headers)]
    }
    // A single tensor may be larger than the limit; a file then holds it alone.
    let largest = whole.header.tensors.map { ($0.byteRange.count + 31) / 32 * 32 }.max() ?? 0
    let split = try GGUFSplitPlan(
      prefix: prefix, metadata: metadata, tensors: items, limit: .bytes(max(maximumBytes, largest)))
    return split.parts.map { part in
      file(part.name.path, part.layout, Array(tensors[part.tensors]), &headers)
    }
  }

  private static func file(
    _ path: String, _ layout: GGUFLayout, _ tensors: [OutputTensor], _ headers: inout [String: [UInt8]]
  ) -> ShardPlan.File {
    headers[path] = layout.headerBytes
    return ShardPlan.File(
      path: path, bytes: layout.byteCount, dataOffset: layout.headerBytes.count,
      headerXXH3: digest(of: layout.headerBytes),
      tensors: zip(tensors, layout.header.tensors).map { $0.placed(as: $1.name, at: $1.byteRange) })
  }
}
