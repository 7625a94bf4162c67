import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import GGUF
import Quantization
import QuantizationRecipes
import Safetensors
import PlanTesting
import ShardPlanning
import Step3Model
import TensorFormats
import Testing

/// Converts into a temporary directory and reads the result back.
struct ConversionHarness {
  let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  typealias Request = PlanRequest

  func plan(_ source: String, _ request: Request) throws -> PlannedConversion { try request.plan(source) }

  @discardableResult
  func convert(
    _ source: String, _ request: Request, into name: String = "output",
    options: ConversionOptions = ConversionOptions(threads: 4)
  ) async throws -> Manifest {
    try await Conversion(plan(source, request), options: options)
      .run(into: directory.path(name)).manifest
  }
}

/// A tensor's values by definition: decoded with the Swift twins, block-FP8 multiplied by its scales.
func values(of name: String, in checkpoint: Checkpoint) throws -> [Float] {
  let tensor = try #require(checkpoint[name], "no tensor \(name)")
  let bytes = try bytes(of: tensor, in: checkpoint)
  let codec = try #require(BlockCodec.codec(for: tensor.elementType))
  var values = [Float](repeating: 0, count: tensor.shape.elementCount)
  do {
    var span = values.mutableSpan
    try codec.decodeReference(bytes.span.bytes, into: &span)
  }
  guard tensor.elementType == .f8E4M3, let scale = checkpoint[name + "_scale_inv"] else { return values }
  let scales = try FloatArray(scale, in: checkpoint).values
  let (rows, columns) = (tensor.shape.dimensions[tensor.shape.rank - 2], tensor.shape.columns)
  let (tileRows, tileColumns) = ((rows + 127) / 128, (columns + 127) / 128)
  for index in values.indices {
    let (row, column) = index.quotientAndRemainder(dividingBy: columns)
    let (matrix, inside) = row.quotientAndRemainder(dividingBy: rows)
    values[index] *= scales[(matrix * tileRows + inside / 128) * tileColumns + column / 128]
  }
  return values
}

private struct FloatArray {
  var values: [Float]

  init(_ tensor: Checkpoint.Tensor, in checkpoint: Checkpoint) throws {
    let raw = try bytes(of: tensor, in: checkpoint)
    values = raw.withUnsafeBytes { buffer in
      tensor.elementType == .f32
        ? Array(buffer.bindMemory(to: Float.self))
        : buffer.bindMemory(to: UInt16.self).map { Float(bitPattern: UInt32($0) << 16) }
    }
  }
}

func bytes(of tensor: Checkpoint.Tensor, in checkpoint: Checkpoint) throws -> [UInt8] {
  try checkpoint.files[tensor.file].source.readBytes(tensor.byteRange)
}

/// The digests of a file, computed by reading it once more.
func digests(ofFile path: String) throws -> (xxh3: String, sha256: String, bytes: Int) {
  let file = try InputFile(path)
  let bytes = try file.readBytes(0..<file.byteCount)
  var xxh3 = XXH3Digester()
  var sha256 = SHA256Digester()
  xxh3.update(bytes)
  sha256.update(bytes)
  return ("\(xxh3.finalize())", "\(sha256.finalize())", bytes.count)
}

/// Every file below a directory with its bytes, by relative path.
func contents(of directory: String) throws -> [String: Data] {
  var result: [String: Data] = [:]
  let root = URL(filePath: directory)
  for case let path as String in FileManager.default.enumerator(atPath: directory) ?? .init() {
    let url = root.appending(path: path)
    if try FileSystem.kind(of: url.path(percentEncoded: false)) == .file {
      result[path] = try Data(contentsOf: url)
    }
  }
  return result
}
