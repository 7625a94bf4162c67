import Checkpoint
import Foundation
import GGUF
import StoredWeights
import Quantization
import Safetensors
import TensorFormats

/// A matrix of synthetic weights in a file of its own, which is removed with this object.
final class StoredMatrix {
  let format: String
  let rows: Int
  let columns: Int
  let reader: MatrixReader
  let path: String
  let byteCount: Int
  private let directory: String

  private static let name = "model.layers.0.mlp.up_proj"

  init(_ format: String, rows: Int, columns: Int, in parent: String) throws {
    self.format = format
    self.rows = rows
    self.columns = columns
    directory = "\(parent)/runtime-bench-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
    do {
      path =
        if format == "FP8_BLOCK" {
          try Self.writeBlockFP8(rows: rows, columns: columns, in: directory)
        } else if let type = ElementType(rawValue: format), let codec = BlockCodec.codec(for: type) {
          try Self.write(codec, rows: rows, columns: columns, in: directory)
        } else {
          throw BenchmarkError("\(format) is not a format that weights are stored in")
        }
      let weights = try ModelWeights(Checkpoint.open(path))
      guard let weight = weights.names.first(where: { $0.hasSuffix(".weight") }).flatMap({ weights[$0] })
      else { throw BenchmarkError("\(path) has no weight in it") }
      reader = try MatrixReader(weights, weight)
      byteCount = weight.byteCount
    } catch {
      try? FileManager.default.removeItem(atPath: directory)
      throw error
    }
  }

  deinit { try? FileManager.default.removeItem(atPath: directory) }

  /// The number of rows that are encoded; the rest of the matrix repeats them.
  private static func sample(rows: Int, columns: Int) -> [Float] {
    var random = SystemRandomNumberGenerator()
    return (0..<rows * columns).map { _ in
      // Nearly normal, with the usual size of a weight.
      (Float.random(in: -1...1, using: &random) + Float.random(in: -1...1, using: &random)) * 0.02
    }
  }

  private static func write(_ codec: BlockCodec, rows: Int, columns: Int, in directory: String) throws
    -> String
  {
    let type = codec.elementType
    guard codec.canEncode, let rowBytes = type.block.byteCount(ofElements: columns) else {
      throw BenchmarkError("\(type) cannot be written in rows of \(columns)")
    }
    let height = min(rows, 16)
    var bytes = [UInt8](repeating: 0, count: height * rowBytes)
    let values = sample(rows: height, columns: columns)
    let importance = [Float](repeating: 1, count: columns)
    do {
      var span = bytes.mutableSpan
      var raw = span.mutableBytes
      try codec.encode(
        values.span, columns: columns,
        importance: codec.importanceUse == .required ? importance.span : nil, into: &raw)
    }
    let path = "\(directory)/matrix.gguf"
    var metadata = GGUFMetadata()
    metadata.set("general.architecture", .string("bench"))
    let layout = try GGUFLayout(
      metadata: metadata,
      tensors: [
        .init(name: "blk.0.ffn_up.weight", elementType: type, shape: TensorShape([rows, columns]))
      ])
    var writer = try GGUFWriter(path, layout: layout)
    for first in stride(from: 0, to: rows, by: height) {
      try writer.append(
        bytes.span.bytes.extracting(0..<min(height, rows - first) * rowBytes), toTensor: 0)
    }
    try writer.finish()
    return path
  }

  private static func writeBlockFP8(rows: Int, columns: Int, in directory: String) throws -> String {
    let format = try BlockFP8(rows: rows, columns: columns)
    let path = "\(directory)/matrix.safetensors"
    let across = (columns + BlockFP8.side - 1) / BlockFP8.side
    let layout = try SafetensorsLayout([
      .init(name: name + ".weight", elementType: .f8E4M3, shape: TensorShape([rows, columns])),
      .init(
        name: name + ".weight_scale_inv", elementType: .f32,
        shape: TensorShape([format.scaleCount / across, across])),
    ])
    let writer = try SafetensorsWriter(path, layout: layout)
    // Any codes except the two NaNs.
    let codes = (0..<64 * columns).map { _ in UInt8.random(in: 0..<0x7F) | (Bool.random() ? 0x80 : 0) }
    for first in stride(from: 0, to: rows, by: 64) {
      try writer.write(
        tensor: name + ".weight", at: first * columns,
        bytes: codes.span.bytes.extracting(0..<min(64, rows - first) * columns))
    }
    let scales = [Float](repeating: 0.001, count: format.scaleCount)
    try writer.write(tensor: name + ".weight_scale_inv", bytes: scales.span.bytes)
    try writer.finish()
    return path
  }
}
