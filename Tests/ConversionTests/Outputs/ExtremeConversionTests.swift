import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import QuantizationRecipes
import Quantization
import ShardPlanning
import TensorFormats
import Testing
import Verification

/// Empty weights and weights at the ends of F32's range are converted or refused, and never trap.
@Suite struct ExtremeConversionTests {
  private let directory: TemporaryDirectory
  private var source: String { directory.path("source") }
  private var output: String { directory.path("output") }

  init() throws { directory = try TemporaryDirectory() }

  static let formats = SchemeOutputTests.names + ["BF16", "F16", "F8_E4M3", "F8_E5M2"]

  /// Writes F32 tensors as one safetensors file.
  private func write(_ tensors: [(name: String, shape: [Int], values: [Float])]) throws {
    var header: [String: Any] = [:]
    var data: [UInt8] = []
    for tensor in tensors {
      let start = data.count
      for value in tensor.values {
        for shift in stride(from: 0, to: 32, by: 8) {
          data.append(UInt8(truncatingIfNeeded: value.bitPattern >> UInt32(shift)))
        }
      }
      header[tensor.name] = ["dtype": "F32", "shape": tensor.shape, "data_offsets": [start, data.count]]
    }
    var text = Array(try JSONSerialization.data(withJSONObject: header))
    while text.count % 8 != 0 { text.append(UInt8(ascii: " ")) }
    let length = (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) }
    try FileManager.default.createDirectory(atPath: source, withIntermediateDirectories: true)
    try FileSystem.writeAtomically(length + text + data, to: "\(source)/model.safetensors")
  }

  private func convert(
    _ format: String, search: ScaleSearch? = nil, resume: Bool = false,
    progress: @escaping @Sendable (ConversionProgress) -> Void = { _ in }
  ) async throws -> Manifest {
    let recipe = try Recipe(
      yaml: "rules: [{regex: 'weight', format: \(format)}]", path: "r.yaml")
    let isSearched = format != "FP8_BLOCK" && SchemeOutputTests.names.contains(format)
    let planned = try ShardPlanner.plan(
      Checkpoint.open(source),
      request: ShardPlan.Request(
        format: .safetensors, recipe: "r.yaml", scaleSearch: isSearched ? search : nil),
      recipe: recipe)
    return try await Conversion(
      planned, options: ConversionOptions(threads: 2, resume: resume)
    ).run(into: output, progress: progress).manifest
  }

  @Test(
    "an empty weight stays as it is",
    arguments: formats, [[0, 128], [128, 0], [4, 0, 128], [4, 128, 0], [0, 128, 128], [0, 0]])
  func empty(format: String, shape: [Int]) async throws {
    for alone in [false, true] {
      let ordinary = (
        name: "b_proj.weight", shape: [128, 128], values: [Float](repeating: 0.5, count: 16_384)
      )
      try write([(name: "a_proj.weight", shape: shape, values: [])] + (alone ? [] : [ordinary]))
      let manifest = try await convert(format)
      let result = try Checkpoint.open(output)
      #expect(try #require(result["a_proj.weight"]).shape.dimensions == shape)
      #expect(manifest.plan.files.flatMap(\.tensors).contains { $0.name == "a_proj.weight" })
      #expect(try #require(result["a_proj.weight"]).byteRange.isEmpty)
      let report = try await TensorVerification(result, source: Checkpoint.open(source)).run(threads: 2)
      #expect(report.findings.isEmpty, "\(report.findings)")
      try FileManager.default.removeItem(atPath: output)
    }
  }

  @Test(
    "a single huge value is stored or refused, and the manifest can be read back",
    arguments: formats, [1e25, 3.4e38] as [Float])
  func oneLarge(format: String, value: Float) async throws {
    var values = (0..<16_384).map { Float($0 % 251) * 1e-4 }
    values[300] = value
    try write([("a_proj.weight", [64, 256], values)])
    for search in [ScaleSearch.absmax, .mse] {
      let manifest: Manifest
      do {
        manifest = try await convert(format, search: search)
      } catch let error as CheckpointError {
        #expect(error.code == .nonFinite, "\(error)")
        #expect(error.tensor == "a_proj.weight" && error.message.contains("row 1, column 44"), "\(error)")
        try? FileManager.default.removeItem(atPath: output)
        continue
      }
      #expect(try Manifest.read(from: output) == manifest)
      let report = try await TensorVerification(Checkpoint.open(output), source: Checkpoint.open(source)).run(
        threads: 2)
      #expect(report.findings.isEmpty, "\(report.findings)")
      try FileManager.default.removeItem(atPath: output)
    }
  }

  @Test("infinite errors are null in the manifest, which stays readable")
  func infiniteFigures() async throws {
    try write([("a_proj.weight", [64, 256], (0..<16_384).map { Float($0 % 251) * 1e-4 })])
    var manifest = try await convert("W4A16", search: .mse)
    let index = try #require(manifest.tensors.firstIndex { $0.error != nil })
    manifest.tensors[index].error?.relativeRMSE = .infinity
    manifest.tensors[index].error?.search?.before = .infinity
    let text = try JSONEncoder().encode(manifest)
    #expect(String(decoding: text, as: UTF8.self).contains(#""relativeRMSE":null"#))
    #expect(String(decoding: text, as: UTF8.self).contains(#""before":null"#))
    #expect(try JSONDecoder().decode(Manifest.self, from: text) == manifest)
    let without = String(decoding: text, as: UTF8.self).replacing(#""rmse":"#, with: #""rms":"#)
    #expect(throws: DecodingError.self) { try JSONDecoder().decode(Manifest.self, from: Data(without.utf8)) }
  }

  // MARK: Journals

  @Test(
    "a journal with impossible error sums is refused",
    arguments: [
      // Which of the eight numbers of the first lossy record is changed, and its new value.
      (0, -1.0), (0, .infinity), (0, .nan), (1, .nan), (2, -1), (3, .infinity), (4, .nan), (4, -1),
      (4, .infinity), (5, .nan), (6, .nan), (6, .infinity), (6, -1), (0, 1e30), (4, 1e20), (3, 1e30),
      (6, 1e30), (0, 1e-12), (0, 1e-3), (1, 3), (2, 3), (3, 3),
    ] as [(Int, Double)])
  func sumsOfTheJournal(field: Int, value: Double) async throws {
    let values = (0..<16_384).map { Float($0 % 251) * 1e-4 }
    try write((0..<24).map { ("layers.\($0).weight", [64, 256], values) })
    let journal = "\(output)/step3-convert.journal"
    // A directory in the manifest's place, if created in time, stops the run when everything else is done.
    let obstacle = "\(output)/manifest.json.writing"
    for _ in 0..<20 where try FileSystem.kind(of: journal) == nil {
      try? FileManager.default.removeItem(atPath: output)
      _ = try? await convert("F8_E4M3") { _ in
        try? FileManager.default.createDirectory(atPath: obstacle, withIntermediateDirectories: false)
      }
    }
    var bytes = try Array(Data(contentsOf: URL(filePath: journal)))
    try JournalEdit.set(field, to: value, in: &bytes)
    try FileSystem.writeAtomically(bytes, to: journal)
    try FileManager.default.removeItem(atPath: obstacle)
    let error = await #expect(throws: CheckpointError.self) {
      try await convert("F8_E4M3", resume: true)
    }
    #expect(error?.code == .malformed, "\(error.map { "\($0)" } ?? "")")
    #expect(error?.path?.hasSuffix("step3-convert.journal") == true)
  }
}

/// Changes the sums of the first delivery that a journal records, and the checksum to match.
private enum JournalEdit {
  static func set(_ field: Int, to value: Double, in bytes: inout [UInt8]) throws {
    var position = try #require(bytes.firstIndex(of: UInt8(ascii: "\n"))) + 1
    while position < bytes.count {
      let length = (0..<4).reduce(0) { $0 | Int(bytes[position + $1]) << (8 * $1) }
      let payload = position + 12..<position + 12 + length
      guard bytes[payload.lowerBound] == 2 else {
        position = payload.upperBound
        continue
      }
      // Unit, digest, count of deliveries: zero for the source's header, which is a batch of its own when the machine
      // is busy.
      var record = payload.lowerBound + 1
      while record < payload.upperBound, bytes[record + 24..<record + 28].allSatisfy({ $0 == 0 }) {
        record += 28
      }
      guard record < payload.upperBound else {
        position = payload.upperBound
        continue
      }
      // Then, of the first delivery: digest, count of elements.
      let sums = record + 28 + 16 + 8
      if field == 4 {
        put(UInt64(Float(value).bitPattern), 4, at: sums + 32, in: &bytes)
      } else {
        put(value.bitPattern, 8, at: sums + (field < 4 ? 8 * field : 36 + 8 * (field - 5)), in: &bytes)
      }
      var digester = XXH3Digester()
      digester.update(Array(bytes[payload]))
      let checksum = digester.finalize().bytes.prefix(8).reduce(UInt64(0)) {
        $0 << 8 | UInt64($1)
      }
      put(checksum, 8, at: position + 4, in: &bytes)
      return
    }
    Issue.record("no record in the journal")
  }

  private static func put(_ value: UInt64, _ count: Int, at offset: Int, in bytes: inout [UInt8]) {
    for index in 0..<count { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index)) }
  }
}
