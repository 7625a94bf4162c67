import ByteStreams
import Foundation
import Safetensors
import Step3Runtime
import Synchronization
import TensorFormats
import Testing

/// A file of reference outputs, as `make_tiny.py` writes them beside its checkpoints.
struct ReferenceOutput {
  let path: String
  private let file: InputFile
  private let header: SafetensorsHeader

  init(_ path: String) throws {
    self.path = path
    file = try InputFile(path)
    header = try SafetensorsHeader.read(from: file)
  }

  func has(_ name: String) -> Bool { header.tensors.contains { $0.name == name } }

  func shape(_ name: String) throws -> [Int] {
    try #require(header.tensors.first { $0.name == name }, "\(path) has no \(name)").shape.dimensions
  }

  private func bytes(_ name: String) throws -> [UInt8] {
    let tensor = try #require(header.tensors.first { $0.name == name }, "\(path) has no \(name)")
    return try file.readBytes(tensor.byteRange)
  }

  /// A tensor of I32.
  func integers(_ name: String) throws -> [Int] {
    try bytes(name).withUnsafeBytes { bytes in bytes.bindMemory(to: Int32.self).map(Int.init) }
  }

  /// A tensor of F32.
  func floats(_ name: String) throws -> [Float] {
    try bytes(name).withUnsafeBytes { bytes in Array(bytes.bindMemory(to: Float.self)) }
  }

  /// The largest difference between a stored tensor and rows of the runtime.
  func largestDifference(_ name: String, _ found: Activations, _ rows: Range<Int>) throws -> Float {
    let expected = try floats(name)
    let values = found.copy(rows: rows).array
    try #require(
      values.count == expected.count, "\(name) has \(expected.count) elements, ours \(values.count)")
    return zip(expected, values).reduce(0) { max($0, abs($1.0 - $1.1)) }
  }
}

/// Records everything that is observed.
final class Recorder: ForwardObserver {
  private struct Place: Hashable {
    let stage: ForwardStage
    let layer: Int?
  }
  private let stages = Mutex<[Place: Activations]>([:])
  private let routings = Mutex<[Int: Routing]>([:])

  func note(_ stage: ForwardStage, layer: Int?, _ values: Activations) {
    let copy = values.copy(rows: 0..<values.rows)
    stages.withLock { $0[Place(stage: stage, layer: layer)] = copy }
  }
  func note(_ routing: Routing, layer: Int) { routings.withLock { $0[layer] = routing } }

  func values(_ stage: ForwardStage, _ layer: Int?) -> Activations? {
    stages.withLock { $0[Place(stage: stage, layer: layer)] }
  }
  func routing(_ layer: Int) -> Routing? { routings.withLock { $0[layer] } }
}
