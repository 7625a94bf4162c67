import ByteStreams
import Checkpoint
import CheckpointTesting
import Foundation
import TensorFormats
import Testing

/// The tool as a child process that is killed, interrupted or out of disk space, and then resumed.
///
/// `STEP3_KILLS=200 swift test -c release --filter KillTests` kills it that often.
@Suite(.serialized) struct KillTests {
  private let directory: TemporaryDirectory
  private let source: String

  init() throws {
    directory = try TemporaryDirectory()
    source = directory.path("source")
    try NoiseCheckpoint.write(to: source, seed: 7)
  }

  private static let optionSets = [
    ["--to", "safetensors", "--max-shard-size", "9MB"],
    ["--to", "archive", "--max-shard-size", "9MB", "--memory", "192MiB"],
    ["--to", "gguf", "--quantize", "Q8_0"],
    ["--to", "safetensors", "--partition", "afd", "--ffn-ep", "2", "--max-shard-size", "20MB"],
    ["--to", "gguf", "--quantize", "Q4_K", "--max-shard-size", "10MB"],
    ["--to", "safetensors", "--quantize", "F32", "--threads", "1"],
  ]

  private func convert(_ output: String, _ options: [String]) -> [String] {
    [
      source, directory.path(output), "--progress", "none", "--json", "--sync-every", "1MiB", "--memory",
      "128MiB",
    ]
      + options
  }

  @Test("four concurrent shares, two killed and rerun, give the bytes of one run when sealed")
  func killedShares() throws {
    let plan = directory.path("plan.json")
    let many = directory.path("many")
    #expect(
      try ConvertProcess([source, many, "--to", "safetensors", "--max-shard-size", "4MB"]).finish().status
        == 0)
    let planning = ["plan", many, "--to", "safetensors", "--quantize", "F32", "--max-shard-size", "20MB"]
    #expect(try ConvertProcess(planning + ["--output", plan]).finish().status == 0)
    let options = [
      "--progress", "none", "--json", "--sync-every", "1MiB", "--memory", "128MiB", "--threads", "1",
    ]
    #expect(try ConvertProcess(["run", plan, directory.path("reference")] + options).finish().status == 0)
    let expected = try fingerprints(of: directory.path("reference"))

    let output = directory.path("output")
    func share(_ number: Int) throws -> ConvertProcess {
      try ConvertProcess(["run", plan, output, "--share", "\(number)/4", "--resume"] + options)
    }
    var generator = SeededGenerator(seed: 4)
    let children = try (1...4).map(share)
    Thread.sleep(forTimeInterval: Double.random(in: 0.02..<0.3, using: &generator))
    for child in children.prefix(2) { child.send(SIGKILL) }
    for (index, child) in children.enumerated() {
      let result = child.finish()
      #expect(index < 2 || result.status == 0, "\(result.error)")
    }
    try expectHonest(output)
    // The killed shares may have finished already; then nothing is missing.
    for number in 1...2 {
      let again = try share(number).finish()
      #expect(again.status == 0, "\(again.error)")
    }
    // Sealing is killed as well.
    let sealing = try ConvertProcess(["run", plan, output, "--seal"] + options)
    Thread.sleep(forTimeInterval: Double.random(in: 0.02..<0.2, using: &generator))
    sealing.send(SIGKILL)
    _ = sealing.finish()
    let sealed = try ConvertProcess(["run", plan, output, "--seal"] + options).finish()
    #expect(sealed.status == 0, "\(sealed.error)")
    #expect(try fingerprints(of: output) == expected)
  }

  @Test("a run killed at any moment and resumed gives the bytes of an uninterrupted run")
  func killed() throws {
    let kills = ProcessInfo.processInfo.environment["STEP3_KILLS"].flatMap(Int.init) ?? 6
    var generator = SeededGenerator(seed: UInt64(kills))
    var done = 0
    var resumed = 0
    var unitsKept = 0
    for options in Self.optionSets.prefix(max(1, kills / 2)) {
      let start = ContinuousClock.now
      let reference = try ConvertProcess(convert("reference", options)).finish()
      let duration = ContinuousClock.now - start
      #expect(reference.status == 0, "\(reference.error)")
      let expected = try fingerprints(of: directory.path("reference"))
      var share = (kills + Self.optionSets.count - 1) / Self.optionSets.count
      if kills < Self.optionSets.count * 2 { share = 2 }
      while share > 0 {
        // Up to three kills before it may finish.
        for _ in 0..<Int.random(in: 1...min(3, share), using: &generator) {
          let child = try ConvertProcess(convert("output", options + ["--resume"]))
          Thread.sleep(
            forTimeInterval: duration / .seconds(1) * Double.random(in: 0..<1.05, using: &generator))
          child.send(SIGKILL)
          _ = child.finish()
          done += 1
          share -= 1
          try expectHonest(directory.path("output"))
        }
        let last = try ConvertProcess(convert("output", options + ["--resume"])).finish()
        #expect(last.status == 0, "\(last.error)")
        unitsKept += try resumedUnits(last.output)
        resumed += 1
        #expect(try fingerprints(of: directory.path("output")) == expected, "\(options)")
        try FileManager.default.removeItem(atPath: directory.path("output"))
      }
      try FileManager.default.removeItem(atPath: directory.path("reference"))
    }
    print("\(done) kills, \(resumed) runs to the end, \(unitsKept) units kept")
  }

  private func resumedUnits(_ json: String) throws -> Int {
    let summary = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
    return try #require(summary?["resumedUnits"] as? Int)
  }

  /// A directory is complete, or does not open as a checkpoint.
  private func expectHonest(_ output: String) throws {
    guard try FileSystem.kind(of: "\(output)/manifest.json") == nil else { return }
    let error = #expect(throws: CheckpointError.self) { try Checkpoint.open(output) }
    #expect(error?.code == .unfinished || error?.code == .notFound)
  }

  @Test("Ctrl-C exits with 130 and keeps what is done") func interrupted() throws {
    let options = ["--to", "gguf", "--quantize", "Q4_K"]
    let reference = try ConvertProcess(convert("reference", options)).finish()
    #expect(reference.status == 0, "\(reference.error)")
    let arguments = convert("output", options).filter { $0 != "--json" }
    let child = try ConvertProcess(arguments)
    // From then on it catches signals.
    while try FileSystem.kind(of: directory.path("output/step3-convert.journal")) == nil { usleep(1000) }
    child.send(SIGINT)
    let result = child.finish()
    #expect(result.status == 130)
    #expect(result.error.contains("with --resume goes on from here"))
    let refused = try ConvertProcess(arguments).finish()
    #expect(refused.status == 73 && refused.error.contains("--resume"))
    #expect(try ConvertProcess(arguments + ["--resume"]).finish().status == 0)
    #expect(
      try fingerprints(of: directory.path("output")) == fingerprints(of: directory.path("reference")))
  }

  @Test("a full disk exits with 74, and the run can be resumed") func noRoom() throws {
    let arguments = convert("output", ["--to", "gguf", "--quantize", "Q8_0"])
    let starved = try ConvertProcess(arguments, shell: "trap '' XFSZ; ulimit -f 2000").finish()
    #expect(starved.status == 74)
    #expect(starved.error.contains("--resume"))
    try expectHonest(directory.path("output"))
    #expect(try ConvertProcess(arguments + ["--resume"]).finish().status == 0)
    #expect(try Checkpoint.open(directory.path("output")).format == .gguf)
  }

  @Test("memory stays within its budget whatever the model's size") func memory() throws {
    // 2 GB of holes, read as zeros.
    let large = directory.path("large.safetensors")
    let entries = (0..<4).map {
      SparseCheckpoint.Entry(
        name: "layer.\($0).weight", type: "BF16", shape: [8, 4096, 8192], bytes: 1 << 29)
    }
    try SparseCheckpoint.write(entries, to: URL(filePath: large))
    let arguments = [
      large, directory.path("nowhere"), "--to", "safetensors", "--quantize", "F32", "--discard-output",
      "--json",
      "--progress", "none", "--memory", "128MiB", "--threads", "8",
    ]
    let result = try ConvertProcess(arguments).finish()
    #expect(result.status == 0, "\(result.error)")
    try #expect(FileSystem.kind(of: directory.path("nowhere")) == nil)
    let summary = try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any]
    #expect(summary?["sourceBytes"] as? Int ?? 0 > 2_000_000_000)
    let peak = try #require(summary?["peakMemoryBytes"] as? Int)
    #expect(peak <= (128 << 20) + 200_000_000 && peak > 1 << 20)
  }
}
