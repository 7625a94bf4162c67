import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import StoredWeights
import QuantizationRecipes
import ShardPlanning
import Step3Model
import Step3Runtime
import TensorFormats
import Testing
import Verification

/// How a candidate is stored, and the limit on its logits.
struct StoredAs: Sendable, CustomTestStringConvertible {
  let format: Checkpoint.Format
  let recipe: String
  /// `--max-mean-kl`, nats.
  let maxMeanKL: Double

  var testDescription: String { "\(format) \(recipe)" }
}

/// Two models and a text, compared as `step3-verify logits --bisect` does it.
struct ForwardPair {
  let candidate: ModelRunner
  let reference: ModelRunner
  let input: ForwardInput

  init(_ candidate: String, of reference: String, _ prompts: [[Int]], pixels: PixelValues? = nil) throws {
    let options = RuntimeOptions(threads: 2, memory: 1 << 30)
    self.candidate = try ModelRunner(ModelWeights(Checkpoint.open(candidate)), options: options)
    self.reference = try ModelRunner(ModelWeights(Checkpoint.open(reference)), options: options)
    input = ForwardInput(prompts, pixels: pixels)
  }

  func logits(_ limits: LogitsLimits = LogitsLimits()) throws -> LogitsReport {
    try LogitsVerification(candidate: candidate, reference: .model(reference), input: input).run(
      limits: limits)
  }

  func bisect() async throws -> BisectionReport {
    try await Bisection(reference: reference, candidate: candidate, input: input).run()
  }

  /// A synthetic text in the fixtures' vocabulary.
  static func prompt(seed: UInt64, count: Int = 24) -> [Int] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).map { _ in Int(generator.next() % 500) }
  }
}

/// Converts a fixture.
func convert(
  _ fixture: String, _ format: Checkpoint.Format, _ recipe: String,
  _ partition: ShardPlan.Partition = .none, into output: String
) async throws {
  let source = try Checkpoint.open(Fixtures.path("checkpoints/\(fixture)"))
  let plan = try ShardPlanner.plan(
    source, request: ShardPlan.Request(format: format, recipe: recipe, partition: partition),
    recipe: Recipe.named(recipe))
  _ = try await Conversion(plan, options: ConversionOptions(threads: 2)).run(into: output)
}

/// A checkpoint on disk in which faults are planted.
struct Victim {
  let path: String

  /// A tensor's bytes, by matrix and row.
  struct Content {
    var bytes: [UInt8]
    let elementType: ElementType
    let matrices: Int
    let rows: Int

    var rowBytes: Int { bytes.count / max(1, matrices * rows) }

    mutating func exchangeRows(_ a: Int, _ b: Int) { exchange(a * rowBytes, b * rowBytes, rowBytes) }

    mutating func exchangeMatrices(_ a: Int, _ b: Int) {
      let size = rows * rowBytes
      exchange(a * size, b * size, size)
    }

    private mutating func exchange(_ a: Int, _ b: Int, _ count: Int) {
      for index in 0..<count { bytes.swapAt(a + index, b + index) }
    }

    /// Reverses the order of a matrix's rows.
    mutating func reverseRows(matrix: Int) {
      for row in 0..<rows / 2 { exchangeRows(matrix * rows + row, matrix * rows + rows - 1 - row) }
    }

    /// Interleaves the pairs that the rotary embedding rotates, head by head, as other engines do.
    mutating func interleave(head: Int) {
      let old = bytes
      for row in 0..<rows {
        let (start, place) = (row / head * head, row % head)
        let from = start + (place % 2 == 0 ? place / 2 : head / 2 + place / 2)
        bytes.replaceSubrange(
          row * rowBytes..<(row + 1) * rowBytes, with: old[from * rowBytes..<(from + 1) * rowBytes])
      }
    }

    mutating func fillWithOnes() {
      let one: [UInt8] = elementType == .f32 ? [0, 0, 0x80, 0x3F] : [0x80, 0x3F]
      for index in bytes.indices { bytes[index] = one[index % one.count] }
    }
  }

  private func find(_ name: Step3TensorName) throws -> (URL, Checkpoint.Tensor)? {
    let opened = try Checkpoint.open(path)
    let model = ModelDescription.step3
    guard let tensor = opened[model.published(name)] ?? model.gguf(name).flatMap({ opened[$0] }) else {
      return nil
    }
    return (URL(filePath: opened.files[tensor.file].source.path), tensor)
  }

  /// Changes a tensor in place.
  func edit(_ name: Step3TensorName, _ change: (inout Content) throws -> Void) throws {
    let (url, tensor) = try #require(
      try find(name), "\(path) has no \(ModelDescription.step3.published(name))")
    var data = try Data(contentsOf: url)
    let shape = tensor.shape.dimensions
    var content = Content(
      bytes: [UInt8](data[tensor.byteRange]), elementType: tensor.elementType,
      matrices: shape.dropLast(2).reduce(1, *), rows: shape.count < 2 ? 1 : shape[shape.count - 2])
    try change(&content)
    data.replaceSubrange(tensor.byteRange, with: content.bytes)
    try data.write(to: url)
  }

  /// Changes the codes of a weight and, where they are separate, its scales in the same way.
  func editAll(_ name: Step3TensorName, _ change: (inout Content) throws -> Void) throws {
    try edit(name, change)
    let scale = Step3TensorName(name.module, layer: name.layer, suffix: .weightScaleInverse)
    if try find(scale) != nil { try edit(scale, change) }
  }

  /// Exchanges two weights of one shape.
  func exchange(_ a: Step3TensorName, _ b: Step3TensorName) throws {
    for suffix in [Step3TensorName.Suffix.weight, .weightScaleInverse] {
      let names = [a, b].map { Step3TensorName($0.module, layer: $0.layer, suffix: suffix) }
      guard try find(names[0]) != nil else { continue }
      var first: [UInt8] = []
      var second: [UInt8] = []
      try edit(names[0]) { first = $0.bytes }
      try edit(names[1]) {
        second = $0.bytes
        try #require(first.count == second.count)
        $0.bytes = first
      }
      try edit(names[0]) { $0.bytes = second }
    }
  }

  /// Doubles the first scale of a weight; `false` if it has none.
  func doubleScale(_ name: Step3TensorName, matrix: Int = 0) throws -> Bool {
    let scale = Step3TensorName(name.module, layer: name.layer, suffix: .weightScaleInverse)
    if try find(scale) != nil {
      try edit(scale) { content in
        let place = matrix * content.rows * content.rowBytes
        content.bytes.withUnsafeMutableBytes {
          let value = $0.loadUnaligned(fromByteOffset: place, as: Float.self)
          $0.storeBytes(of: 2 * value, toByteOffset: place, as: Float.self)
        }
      }
      return true
    }
    var found = false
    try edit(name) { content in
      guard content.elementType == .q8_0 || content.elementType == .q4K else { return }
      // Both begin with a scale in F16; its exponent begins at bit 10.
      content.bytes[matrix * content.rows * content.rowBytes + 1] += 4
      found = true
    }
    return found
  }

  /// Changes a setting, in `config.json` or in a GGUF file's metadata.
  func set(_ key: String, _ from: String, to: String, gguf: String, bytes: [UInt8]) throws {
    for file in try FileManager.default.contentsOfDirectory(atPath: path) {
      let url = URL(filePath: "\(path)/\(file)")
      if file == "config.json" {
        let text = try String(contentsOf: url, encoding: .utf8)
        let changed = text.replacing(try Regex("\"\(key)\"( ?: ?)\(from)")) {
          "\"\(key)\"\($0.output[1].substring ?? ":")\(to)"
        }
        try #require(text != changed, "config.json has no \(key) of \(from)")
        try changed.write(to: url, atomically: true, encoding: .utf8)
      } else if file.hasSuffix(".gguf") {
        var data = try Data(contentsOf: url)
        guard let place = data.firstRange(of: Data(gguf.utf8)) else { continue }
        // The key is followed by the value's type, four bytes.
        let start = place.upperBound + 4
        data.replaceSubrange(start..<start + bytes.count, with: bytes)
        try data.write(to: url)
      }
    }
  }
}
