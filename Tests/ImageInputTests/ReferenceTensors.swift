import ByteStreams
import CheckpointTesting
import Safetensors
import TensorFormats
import Testing

/// A file of Fixtures/images with tensors made by Pillow and PyTorch (Tests/Interop/make_image_fixtures.py).
struct ReferenceTensors {
  private let file: InputFile
  private let header: SafetensorsHeader

  init(_ name: String) throws {
    file = try InputFile(Fixtures.path("images/\(name).safetensors"))
    header = try SafetensorsHeader.read(from: file)
  }

  var names: [String] { header.tensors.map(\.name) }

  func contains(_ name: String) -> Bool { header.tensor(named: name) != nil }

  /// A tensor's bytes and dimensions.
  func bytes(_ name: String) throws -> (values: [UInt8], shape: [Int]) {
    let tensor = try #require(header.tensor(named: name), "\(name) is not in the fixture")
    return (try file.readBytes(tensor.byteRange), tensor.shape.dimensions)
  }

  func floats(_ name: String) throws -> (values: [Float], shape: [Int]) {
    let (bytes, shape) = try bytes(name)
    return (words(bytes).map(Float.init(bitPattern:)), shape)
  }

  func integers(_ name: String) throws -> (values: [Int], shape: [Int]) {
    let (bytes, shape) = try bytes(name)
    return (words(bytes).map { Int(Int32(bitPattern: $0)) }, shape)
  }

  private func words(_ bytes: [UInt8]) -> [UInt32] {
    stride(from: 0, to: bytes.count, by: 4).map { start in
      (0..<4).reduce(0) { $0 | UInt32(bytes[start + $1]) << (8 * $1) }
    }
  }
}

/// The largest difference of two arrays of one length; infinite if their lengths differ.
func largestDifference(_ first: [Float], _ second: [Float]) -> Float {
  guard first.count == second.count else { return .infinity }
  return zip(first, second).reduce(0) { worst, pair in
    let difference = abs(pair.0 - pair.1)
    // A NaN is not agreement.
    return difference <= worst ? worst : (difference.isNaN ? .infinity : difference)
  }
}
