import CheckpointTesting
import Foundation
import Safetensors
import TensorFormats
import Testing
import Verification

/// Files of logits: NumPy's, safetensors, and the tool's own dumps.
@Suite struct LogitsFileTests {
  private static func path(_ name: String) -> String { Fixtures.path("logits/\(name)") }
  private static let values: [Float] = (0..<15).map { Float($0) * 0.25 - 1.5 }

  private func error(_ path: String) throws -> CheckpointError {
    do throws(CheckpointError) {
      _ = try LogitsFile(path)
    } catch {
      return error
    }
    throw CocoaError(.featureUnsupported)
  }

  @Test("reads what NumPy wrote", arguments: ["f4-v1.npy", "f8-v2.npy", "f2-v3.npy"])
  func readsNumPy(name: String) throws {
    let file = try LogitsFile(Self.path(name))
    #expect(file.rows == 3 && file.vocabulary == 5 && file.tokens == nil && file.next(after: 0) == nil)
    for row in 0..<3 { #expect(try file.row(row) == Array(Self.values[row * 5..<row * 5 + 5])) }
  }

  @Test func readsWhatPyTorchWrote() throws {
    let file = try LogitsFile(Self.path("bf16.safetensors"))
    #expect(file.tokens == [4, 0, 2] && file.elementType == .bf16)
    #expect(file.next(after: 0) == 0 && file.next(after: 1) == 2 && file.next(after: 2) == nil)
    #expect(try file.row(2) == Array(Self.values[10...]))
  }

  @Test(
    "refuses what it cannot read",
    arguments: zip(
      ["big-endian.npy", "fortran.npy", "integers.npy"], ["'>f4'", "Fortran", "'<i8'"]))
  func refuses(name: String, words: String) throws {
    let error = try error(Self.path(name))
    #expect(error.code == .unsupported && error.message.contains(words), "\(error)")
  }

  @Test func refusesHeadersThatDoNotMatchTheData() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path("x.npy")
    let good = try Data(contentsOf: URL(filePath: Self.path("f4-v1.npy")))
    func error(_ bytes: Data) throws -> CheckpointError.Code {
      try bytes.write(to: URL(filePath: path))
      return try self.error(path).code
    }
    #expect(try error(good.dropLast()) == .truncated)
    #expect(try error(good + [0]) == .malformed)
    #expect(try error(good.prefix(40)) == .truncated)
    #expect(try error(good.prefix(8)) == .malformed)
    var version = good
    version[6] = 9
    #expect(try error(version) == .unsupported)
    var long = good
    long[9] = 0xFF
    #expect(try error(long) == .truncated)
    for (from, to) in [
      ("'shape'", "'shapf'"), ("(3, 5)", "(3, 5 "), ("(3, 5)", "(3,  )"), ("False", "Falze"), ("{", "["),
      ("'descr'", "'shape'"), ("(3, 5)", "(-3,5)"), ("<f4", "<\\4"),
    ] {
      let bytes = good.replacing(Data(from.utf8), with: Data(to.utf8))
      let code = try error(bytes)
      #expect(code == .malformed || code == .unsupported, "\(from) -> \(to)")
    }
    let huge = good.replacing(
      Data("'shape': (3, 5), }    ".utf8), with: Data("'shape':(99999999999,5)}".utf8.prefix(22)))
    #expect(try error(huge) != .notFound)
  }

  @Test func refusesSafetensorsWithoutLogits() throws {
    let directory = try TemporaryDirectory()
    func error(_ items: [SafetensorsLayout.Item]) throws -> CheckpointError {
      let path = directory.path("\(UUID().uuidString).safetensors")
      let writer = try SafetensorsWriter(path, layout: SafetensorsLayout(items))
      try writer.finish()
      return try self.error(path)
    }
    func item(_ name: String, _ type: ElementType, _ shape: [Int]) -> SafetensorsLayout.Item {
      SafetensorsLayout.Item(name: name, elementType: type, shape: TensorShape(shape))
    }
    let ids = item("input_ids", .i64, [3])
    #expect(try error([ids]).message.contains("'logits'"))
    #expect(try error([item("logits", .f32, [3, 5])]).message.contains("'input_ids'"))
    #expect(
      try error([ids, item("logits", .f32, [4, 5])]).message.contains("4 rows of logits for 3 tokens"))
    #expect(try error([ids, item("logits", .i32, [3, 5])]).code == .unsupported)
    #expect(try error([ids, item("logits", .f32, [2, 3, 5])]).code == .malformed)
    #expect(try error([ids, item("logits", .f32, [3, 0])]).code == .malformed)
    #expect(try error([item("input_ids", .f32, [3]), item("logits", .f32, [3, 5])]).code == .malformed)
  }

  @Test func aDumpIsReadBack() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path("dump.safetensors")
    let dump = try LogitsDump(path, tokens: [7, 1, 3], vocabulary: 8, hiddenStates: [0, 61], hiddenSize: 2)
    func values(_ row: Int, _ count: Int) -> [Float] { (0..<count).map { Float(row * 10 + $0) } }
    for row in [2, 0, 1] {
      try dump.writeLogits(values(row, 8).span, row: row)
      for number in [61, 0] { try dump.writeHiddenState(number, values(row + number, 2).span, row: row) }
    }
    #expect(!FileManager.default.fileExists(atPath: path))
    try dump.finish()
    let file = try LogitsFile(path)
    #expect(file.tokens == [7, 1, 3] && file.vocabulary == 8)
    for row in 0..<3 { #expect(try file.row(row) == values(row, 8)) }
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["dump.safetensors"])
    #expect(throws: CheckpointError.self) { try LogitsDump(path, tokens: [1], vocabulary: 8) }
  }

  @Test func anIncompleteDumpIsNotNamed() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path("dump.safetensors")
    let dump = try LogitsDump(path, tokens: [1, 2], vocabulary: 3)
    try dump.writeLogits([1, 2, 3].span, row: 1)
    #expect(throws: CheckpointError.self) { try dump.writeLogits([1, 2].span, row: 0) }
    #expect(throws: CheckpointError.self) { try dump.writeLogits([1, 2, 3].span, row: 2) }
    #expect(throws: CheckpointError.self) { try dump.finish() }
    #expect(!FileManager.default.fileExists(atPath: path))
  }
}
