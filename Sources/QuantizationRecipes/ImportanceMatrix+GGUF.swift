internal import ByteStreams
internal import GGUF
internal import TensorFormats

/// The GGUF form: `general.type` is `imatrix`, and for each measured tensor there are `<name>.in_sum2`, the sums of
/// squares with one row per expert, and `<name>.counts`, one count per row, both F32.
///
/// Source: `common/imatrix-loader.cpp` of llama.cpp. Tensors of other names (`<name>.in_sum`, the sums of the
/// activations themselves) are for statistics and useless to an encoder.
extension ImportanceMatrix {
  static func readGGUF(_ source: some ByteSource) throws(CheckpointError) -> ImportanceMatrix {
    let header = try GGUFHeader.read(from: source)
    if case .string(let type) = header.metadata["general.type"], type != "imatrix" {
      throw CheckpointError(
        .invalidRequest, "is a GGUF file of type '\(type.printable)', not an importance matrix")
    }
    let isBigEndian = header.byteOrder == .big
    var sums: [String: GGUFHeader.Tensor] = [:]
    var counts: [String: GGUFHeader.Tensor] = [:]
    for tensor in header.tensors {
      if let name = tensor.name.removing(suffix: ".in_sum2") {
        sums[name] = tensor
      } else if let name = tensor.name.removing(suffix: ".counts") {
        counts[name] = tensor
      }
    }
    var entries: [String: Entry] = [:]
    for (name, sum) in sums {
      guard let count = counts.removeValue(forKey: name) else {
        throw CheckpointError(.malformed, "has sums of squares but no counts", tensor: name)
      }
      for tensor in [sum, count] where tensor.elementType != .f32 {
        throw CheckpointError(
          .malformed, "is \(tensor.elementType); an importance matrix is F32",
          offset: tensor.byteRange.lowerBound,
          tensor: tensor.name)
      }
      let rows = count.shape.elementCount
      guard sum.shape.elementCount > 0, rows > 0, sum.shape.elementCount % rows == 0 else {
        throw CheckpointError(
          .malformed, "has \(sum.shape.elementCount) sums and \(rows) counts",
          offset: sum.byteRange.lowerBound,
          tensor: name)
      }
      let raw = try floats(source, count.byteRange, isBigEndian: isBigEndian, tensor: count.name)
      // Counts are whole numbers stored as floats; rounding half away from zero is what the reference reader does.
      entries[name] = Entry(
        values: sum.byteRange, counts: raw.map { $0.rounded(.toNearestOrAwayFromZero) })
    }
    if let orphan = counts.keys.min() {
      throw CheckpointError(.malformed, "has counts but no sums of squares", tensor: orphan)
    }
    guard !entries.isEmpty else {
      throw CheckpointError(
        .invalidRequest, "is a GGUF file without any '<name>.in_sum2' tensor, not an importance matrix")
    }
    var datasets: [String] = []
    if case .array(.string(let names)) = header.metadata["imatrix.datasets"] { datasets = names }
    return ImportanceMatrix(
      form: .gguf, datasets: datasets, chunkCount: header.metadata.integer("imatrix.chunk_count"),
      chunkSize: header.metadata.integer("imatrix.chunk_size"), entries: entries, source: source,
      isBigEndian: isBigEndian)
  }
}

extension String {
  fileprivate func removing(suffix: String) -> String? {
    hasSuffix(suffix) ? String(dropLast(suffix.count)) : nil
  }
}
