import CommandSupport
import Foundation
import Synchronization
import TensorFormats
import Testing

@Suite struct ByteSizeTests {
  @Test(
    "sizes are read with their units",
    arguments: [
      ("0", 0), ("4096", 4096), ("96B", 96), ("1K", 1000), ("1kB", 1000), ("1KiB", 1024), ("1Ki", 1024),
      ("2GiB", 2_147_483_648), ("5GB", 5_000_000_000), ("512MiB", 536_870_912), ("1.5T", 1_500_000_000_000),
      ("1.5 tib", 1_649_267_441_664), ("1_000", 1000), ("0.5KiB", 512), ("0.3K", 300), ("7EiB", 7 << 60),
      ("0.000000001GB", 1), ("9223372036854775807", .max),
    ])
  func reads(text: String, bytes: Int) { #expect(ByteSize(text)?.bytes == bytes) }

  @Test(
    "what is not a size is refused",
    arguments: [
      "", "B", "-1", "1.", ".5", "1.2.3", "5 GBB", "5X", "8EiB", "9223372036854775808", "1e9", "٣", "5 G B",
      "0x10",
    ])
  func refuses(text: String) { #expect(ByteSize(text) == nil) }

  @Test(
    "sizes are printed in decimal and binary units",
    arguments: [
      (0, "0 B", "0 B"), (999, "999 B", "999 B"), (1000, "1.00 kB", "1000 B"), (1023, "1.02 kB", "1023 B"),
      (1024, "1.02 kB", "1.00 KiB"), (14_336, "14.3 kB", "14.0 KiB"), (999_499, "999 kB", "976 KiB"),
      (999_500, "1.00 MB", "976 KiB"), (641_939_825_664, "642 GB", "598 GiB"), (.max, "9.22 EB", "8.00 EiB"),
    ])
  func prints(bytes: Int, decimal: String, binary: String) {
    #expect(ByteSize(bytes: bytes).decimal == decimal)
    #expect(ByteSize(bytes: bytes).binary == binary)
  }
}

@Suite struct TextTableTests {
  /// A table as `list` prints it.
  private var table: TextTable {
    var table = TextTable([
      .init("tensor", shrinks: true), .init("type"), .init("shape", shrinks: true), .init("size", .right),
      .init("role"),
    ])
    table.append(["model.embed_tokens.weight", "BF16", "128815×7168", "1.85 GB", "embedding"])
    table.append([
      "model.layers.4.self_attn.inter_norm.weight", "BF16", "2048", "4.10 kB", "attention",
    ])
    table.append(["model.layers.4.moe.down_proj.weight", "BF16", "48×7168×5120", "3.52 GB", "routed_experts"])
    return table
  }

  @Test func fitsEightyColumns() {
    let lines = table.rendered(width: 80).split(separator: "\n").map(String.init)
    #expect(lines.allSatisfy { $0.count <= 80 })
    #expect(lines.count == 4)
    #expect(lines[2].hasPrefix("model.layers.4.se"))
    #expect(lines[2].contains("…"))
    #expect(lines[2].contains("norm.weight  BF16"))
    #expect(lines.allSatisfy { !$0.hasSuffix(" ") })
  }

  @Test func cutsNothingWithoutATerminal() {
    #expect(
      table.rendered() == """
        tensor                                      type  shape            size  role
        model.embed_tokens.weight                   BF16  128815×7168   1.85 GB  embedding
        model.layers.4.self_attn.inter_norm.weight  BF16  2048          4.10 kB  attention
        model.layers.4.moe.down_proj.weight         BF16  48×7168×5120  3.52 GB  routed_experts

        """)
  }

  @Test func showsControlCharactersAndMeasuresWideOnes() {
    var table = TextTable([.init("a"), .init("b")])
    table.append(["\u{1B}[31mred", "x"])
    table.append(["模型", "y"])
    #expect(table.rendered() == "a              b\n\\u{1b}[31mred  x\n模型           y\n")
  }

  @Test func rendersEmptyCellsWithoutShiftingTheNext() {
    var table = TextTable([.init("a"), .init("b", .right), .init("c")])
    table.append(["1", "", "3"])
    table.append(["", "22", ""])
    #expect(table.rendered() == "a   b  c\n1      3\n   22\n")
  }
}

@Suite struct ProgressTests {
  /// Collects what is printed, with a clock that the test controls.
  final class Screen: Sendable {
    let text = Mutex("")
    let time = Mutex<UInt64>(0)

    func reporter(_ style: ProgressStyle, total: Int, width: Int = 80) -> ProgressReporter {
      ProgressReporter(
        "reading", total: total, style: style, output: { added in self.text.withLock { $0 += added } },
        clock: { self.time.withLock { $0 } }, width: { width })
    }

    func pass(milliseconds: UInt64) { time.withLock { $0 += milliseconds * 1_000_000 } }
    var content: String { text.withLock { $0 } }
  }

  @Test func drawsABarTenTimesASecondAndCleansUp() {
    let screen = Screen()
    let reporter = screen.reporter(.bar, total: 1000)
    for _ in 0..<100 {
      screen.pass(milliseconds: 10)
      reporter.advance(by: 5)
    }
    let drawings = screen.content.split(separator: "\r")
    #expect(drawings.count == 10)
    #expect(drawings.last?.contains("50%") == true)
    #expect(drawings.last?.contains("500 B/s") == true)
    #expect(drawings.allSatisfy { $0.count <= 80 + 3 })
    reporter.finish()
    #expect(screen.content.hasSuffix("\r\u{1B}[K"))
    screen.pass(milliseconds: 1000)
    reporter.advance(by: 1)
    #expect(screen.content.hasSuffix("\r\u{1B}[K"), "nothing is drawn after the end")
  }

  @Test func fitsANarrowTerminal() {
    let screen = Screen()
    let reporter = screen.reporter(.bar, total: 1000, width: 20)
    screen.pass(milliseconds: 200)
    reporter.advance(by: 100)
    let line = screen.content.split(separator: "\r").last.map { $0.replacing("\u{1B}[K", with: "") }
    #expect((line?.count ?? 99) < 20)
  }

  @Test func printsPlainLines() {
    let screen = Screen()
    let reporter = screen.reporter(.plain, total: 10_000_000)
    reporter.advance(by: 1)
    #expect(screen.content.isEmpty, "a command of a moment needs no lines")
    screen.pass(milliseconds: 5000)
    reporter.advance(by: 4_999_999)
    #expect(screen.content == "reading: 50% of 10.0 MB, 1.00 MB/s, 0:05 left\n")
    screen.pass(milliseconds: 5000)
    reporter.advance(by: 5_000_000)
    reporter.finish()
    #expect(screen.content.hasSuffix("reading: 10.0 MB in 0:10\n"))
  }

  @Test func printsEventsAsJSON() throws {
    let screen = Screen()
    let reporter = screen.reporter(.json, total: 100)
    reporter.setItem("a\"b")
    screen.pass(milliseconds: 1000)
    reporter.advance(by: 25)
    reporter.finish()
    let events = try screen.content.split(separator: "\n").map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
    #expect(events.count == 2)
    #expect(events.first?["event"] as? String == "progress")
    #expect(events.first?["bytesDone"] as? Int == 25)
    #expect(events.first?["bytesTotal"] as? Int == 100)
    #expect(events.first?["item"] as? String == "a\"b")
    #expect(events.last?["event"] as? String == "finished")
  }

  @Test func countsFromManyThreads() async {
    let screen = Screen()
    let reporter = screen.reporter(.plain, total: 8000)
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<8 {
        group.addTask { for _ in 0..<1000 { reporter.advance(by: 1) } }
      }
    }
    screen.pass(milliseconds: 6000)
    reporter.advance(by: 0)
    #expect(screen.content.contains("100%"))
  }
}

@Suite struct ExitStatusTests {
  @Test(
    "every error code maps to its exit code",
    arguments: [
      (CheckpointError.Code.truncated, 65), (.malformed, 65), (.unsupported, 65), (.unfinished, 65),
      (.nonFinite, 65),
      (.notFound, 66), (.cannotCreate, 73), (.inputOutput, 74), (.invalidRequest, 64),
      (.init(rawValue: "new"), 65),
    ])
  func codes(code: CheckpointError.Code, status: Int) {
    #expect(ExitStatus(CheckpointError(code, "")).rawValue == Int32(status))
    #expect(ToolFailure(CheckpointError(code, ""))?.status.rawValue == Int32(status))
  }

  @Test func anInterruptionEndsWith130() {
    #expect(ToolFailure(CancellationError())?.status.rawValue == 130)
  }

  @Test func controlCharactersInMessagesAreEscaped() {
    let failure = ToolFailure(CheckpointError(.malformed, "bad", path: "a\u{1B}b", offset: 4, tensor: "t"))
    #expect(failure?.message(of: "tool") == "tool: error: a\\u{1b}b: byte 4: tensor 't': bad\n")
  }
}
