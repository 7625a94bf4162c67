internal import ByteStreams
internal import Safetensors
internal import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// An importance matrix's entry for one weight.
struct ImportanceEntry {
  /// The weight's name in GGUF.
  var name: String
  var columns: Int
  /// Whether it is a stack of experts.
  var isStack: Bool
  /// `[matrices, columns]`.
  var sums: [Float]
  /// `[matrices]`.
  var counts: [Float]
}

/// One layer's entries of an importance matrix, as a safetensors file in the working directory.
struct ImportanceLayer {
  /// By name.
  var entries: [ImportanceEntry]
  /// The experts that were filled up.
  var scarce: [ExpertCoverage]

  /// The file of a layer.
  static func name(_ layer: Int) -> String { "layer-\(layer)" }

  private static let scarceKey = "scarce"

  func write(to path: String) throws(CheckpointError) {
    var items: [SafetensorsLayout.Item] = []
    for entry in entries {
      items.append(
        .init(
          name: entry.name + ".in_sum2", elementType: .f32,
          shape: TensorShape([entry.counts.count, entry.columns])))
      items.append(
        .init(
          name: entry.name + ".counts", elementType: .f32,
          shape: TensorShape(entry.isStack ? [entry.counts.count, 1] : [1])))
    }
    let listed = scarce.map { "\($0.layer) \($0.expert) \($0.tokens)" }.joined(separator: ",")
    if try FileSystem.isTaken(path) { try FileSystem.removeFile(path) }
    let writer = try SafetensorsWriter(
      path, layout: SafetensorsLayout(items, metadata: [Self.scarceKey: listed]))
    for entry in entries {
      try unsafe writer.write(tensor: entry.name + ".in_sum2", bytes: entry.sums.span.bytes)
      try unsafe writer.write(tensor: entry.name + ".counts", bytes: entry.counts.span.bytes)
    }
    try writer.finish()
  }

  init(entries: [ImportanceEntry], scarce: [ExpertCoverage]) {
    self.entries = entries
    self.scarce = scarce
  }

  init(reading path: String) throws(CheckpointError) {
    let file = try InputFile(path)
    let header = try SafetensorsHeader.read(from: file)
    func floats(_ tensor: SafetensorsHeader.Tensor) throws(CheckpointError) -> [Float] {
      var values = [Float](repeating: 0, count: tensor.shape.elementCount)
      var span = values.mutableSpan
      var bytes = unsafe span.mutableBytes
      try file.read(into: &bytes, at: tensor.byteRange.lowerBound)
      return values
    }
    entries = []
    for tensor in header.tensors where tensor.name.hasSuffix(".in_sum2") {
      let name = String(tensor.name.dropLast(".in_sum2".count))
      guard let counts = header.tensor(named: name + ".counts") else {
        throw CheckpointError(.malformed, "has no counts", path: path, tensor: name)
      }
      entries.append(
        ImportanceEntry(
          name: name, columns: tensor.shape.columns, isStack: counts.shape.rank == 2,
          sums: try floats(tensor), counts: try floats(counts)))
    }
    entries.sort { $0.name.precedesBytewise($1.name) }
    scarce = (header.metadata[Self.scarceKey] ?? "").split(separator: ",").compactMap { text in
      let numbers = text.split(separator: " ").compactMap { Int($0) }
      return numbers.count == 3
        ? ExpertCoverage(layer: numbers[0], expert: numbers[1], tokens: numbers[2]) : nil
    }
  }
}
