import PlanTesting
import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import TensorFormats
import Testing

/// The source is compared with its published digests.
@Suite struct ExpectedDigestsTests {
  private let harness: ConversionHarness
  private let tiny = Fixtures.path("checkpoints/tiny")

  init() throws { harness = try ConversionHarness() }

  private func list(_ change: (String, String) -> String = { "\($0)  \($1)\n" }) throws -> String {
    try FileSystem.names(in: tiny).filter { $0.hasSuffix(".safetensors") }
      .map { change(try digests(ofFile: "\(tiny)/\($0)").sha256, $0) }.joined()
  }

  private func convert(_ list: String) async throws {
    let options = ConversionOptions(
      threads: 2, resume: true, expectedDigests: try ExpectedDigests(Array(list.utf8), path: "SHA256SUMS"))
    try await harness.convert(tiny, .init(), options: options)
  }

  @Test func matchingDigestsPass() async throws {
    try await convert(
      list { "\($0) *./\($1)\r\n" } + "\n" + String(repeating: "0", count: 64) + "  README.md\n")
    // And again, from the manifest of the finished output.
    try await convert(list { "\($0.uppercased())  \($1)\n" })
  }

  @Test func aMismatchIsNamedAndTheOutputStaysUnfinished() async throws {
    let wrong = try list { "\($1.contains("00003") ? String($0.reversed()) : $0)  \($1)\n" }
    for _ in 0..<2 {
      let error = await #expect(throws: CheckpointError.self) { try await convert(wrong) }
      #expect(error?.code == .digestMismatch)
      #expect(error?.path == "\(tiny)/model-00003-of-00004.safetensors")
      let opened = #expect(throws: CheckpointError.self) {
        try Checkpoint.open(harness.directory.path("output"))
      }
      #expect(opened?.code == .unfinished)
    }
    try await convert(list())
    let finished = await #expect(throws: CheckpointError.self) { try await convert(wrong) }
    #expect(finished?.code == .digestMismatch)
  }

  @Test func listsOfOtherFilesAreRefused() async throws {
    let zeros = String(repeating: "0", count: 64)
    for (text, message) in [
      ("\(zeros)  model-00009-of-00009.safetensors\n", "names model-00009-of-00009.safetensors"),
      ("\(zeros)  README.md\n", "names none"), ("", "names none"),
    ] {
      let error = await #expect(throws: CheckpointError.self) { try await convert(text) }
      #expect(error?.code == .notFound && error?.message.contains(message) == true)
      try #expect(FileSystem.kind(of: harness.directory.path("output")) == nil)
    }
  }

  @Test func malformedLinesAreRefusedByNumber() {
    let zeros = String(repeating: "0", count: 64)
    let ones = String(repeating: "1", count: 64)
    for (text, line) in [
      ("abc", 1), ("\(zeros)  a\n\(zeros)x a\n", 2), ("\(zeros)  \n", 1), ("\(zeros)", 1),
      ("\(zeros)  a\n\n\(ones)  a\n", 3), ("\\\(zeros)  a\\q\n", 1), ("SHA256 (a) = \(zeros)\n", 1),
    ] {
      let error = #expect(throws: CheckpointError.self) {
        try ExpectedDigests(Array(text.utf8), path: "list")
      }
      #expect(error?.code == .malformed && error?.message.contains("line \(line) ") == true, "\(text)")
    }
  }
}
