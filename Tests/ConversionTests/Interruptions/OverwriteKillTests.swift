import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import TensorFormats
import Testing

/// Overwriting by a child process that is killed, out of disk space, or started twice.
///
/// `STEP3_KILLS=200 swift test -c release --filter OverwriteKillTests` kills it that often.
@Suite(.serialized) struct OverwriteKillTests {
  private let directory: TemporaryDirectory
  private let source: String
  private let old = ["--to", "gguf", "--quantize", "Q8_0"]
  private let new = ["--to", "safetensors", "--partition", "afd", "--ffn-ep", "2", "--max-shard-size", "3MB"]

  init() throws {
    directory = try TemporaryDirectory()
    source = directory.path("source")
    try NoiseCheckpoint.write(to: source, seed: 7)
  }

  private func convert(_ output: String, _ options: [String]) -> [String] {
    [
      source, directory.path(output), "--progress", "none", "--json", "--sync-every", "1MiB", "--memory",
      "128MiB",
    ] + options
  }

  @Test("after a kill at any moment the old output is intact, or the next command completes the new one")
  func killed() throws {
    let files = FileManager.default
    let kills = ProcessInfo.processInfo.environment["STEP3_KILLS"].flatMap(Int.init) ?? 8
    var generator = SeededGenerator(seed: UInt64(kills))
    for (name, options) in [("old", old), ("new", new)] {
      let made = try ConvertProcess(convert(name, options)).finish()
      #expect(made.status == 0, "\(made.error)")
    }
    try FileSystem.writeAtomically([7], to: directory.path("old/notes.txt"))
    let before = try fingerprints(of: directory.path("old"))
    var expected = try fingerprints(of: directory.path("new"))
    expected["notes.txt"] = before["notes.txt"]
    let output = directory.path("output")
    let start = ContinuousClock.now
    try files.copyItem(atPath: directory.path("old"), toPath: output)
    #expect(try ConvertProcess(convert("output", new + ["--overwrite"])).finish().status == 0)
    let duration = (ContinuousClock.now - start) / .seconds(1)
    var (complete, unfinished, replaced) = (0, 0, 0)
    for round in 0..<kills {
      try files.removeItem(atPath: output)
      try files.copyItem(atPath: directory.path("old"), toPath: output)
      for _ in 0..<(1 + round % 3) {
        // What --overwrite has begun, both --overwrite and --resume continue.
        let isBegun = try FileSystem.isTaken("\(output)/.step3-convert.new")
        let mode = isBegun && round % 2 == 1 ? "--resume" : "--overwrite"
        let child = try ConvertProcess(convert("output", new + [mode]))
        if round % 4 == 3 {
          // During the exchange, which is short.
          let deadline = ContinuousClock.now + .seconds(60)
          while try !FileSystem.isTaken("\(output)/.step3-convert.old"), ContinuousClock.now < deadline,
            try FileSystem.isTaken("\(output)/model.gguf")
          { usleep(100) }
        } else {
          Thread.sleep(forTimeInterval: duration * Double.random(in: 0..<1.05, using: &generator))
        }
        child.send(SIGKILL)
        _ = child.finish()
        let now = try fingerprints(of: output).filter { !$0.key.hasPrefix(".step3-convert.") }
        if try FileSystem.isTaken("\(output)/manifest.json") {
          let isOld = try FileSystem.isTaken("\(output)/model.gguf")
          let same = now.filter { !$0.key.contains("step3-convert.journal") }
          #expect(same == (isOld ? before : expected))
          if isOld { complete += 1 } else { replaced += 1 }
        } else {
          let error = #expect(throws: CheckpointError.self) { try Checkpoint.open(output) }
          #expect(error?.code == .unfinished)
          unfinished += 1
        }
        #expect(now["notes.txt"] == before["notes.txt"])
      }
      let last = try ConvertProcess(convert("output", new + ["--overwrite"])).finish()
      #expect(last.status == 0, "\(last.error)")
      #expect(try fingerprints(of: output) == expected)
    }
    print(
      "killed: the old output was left \(complete) times, neither \(unfinished) times, the new one \(replaced) times"
    )
  }

  @Test(
    "of two concurrent runs one fails, and their outputs are not mixed",
    arguments: [
      "--resume", "--overwrite",
    ])
  func twoWriters(mode: String) throws {
    let files = FileManager.default
    let both = [old, ["--to", "gguf", "--quantize", "F16"]]
    for (index, options) in both.enumerated() {
      #expect(try ConvertProcess(convert("reference-\(index)", options)).finish().status == 0)
    }
    let references = try both.indices.map { try fingerprints(of: directory.path("reference-\($0)")) }
    try #expect(ConvertProcess(convert("earlier", new)).finish().status == 0)
    for round in 0..<10 {
      if mode == "--overwrite", round % 2 == 0 {
        try files.copyItem(atPath: directory.path("earlier"), toPath: directory.path("output"))
      }
      let children = try both.map { try ConvertProcess(convert("output", $0 + [mode])) }
      let results = children.map { $0.finish() }
      let found = try fingerprints(of: directory.path("output"))
      let winner = try #require(references.firstIndex(of: found), "\(found.keys)")
      #expect(results[winner].status == 0)
      let loser = results[1 - winner]
      // A late start came after the other had finished.
      #expect(
        loser.status == 73
          && (loser.error.contains("another process is writing here")
            || loser.error.contains("holds a finished conversion"))
          || loser.status == 0 && mode == "--overwrite",
        "\(loser.error)")
      try files.removeItem(atPath: directory.path("output"))
    }
  }

  @Test("a directory locked by another process is left alone") func held() throws {
    #expect(try ConvertProcess(convert("output", old)).finish().status == 0)
    let before = try fingerprints(of: directory.path("output"))
    let held = try #require(try HeldDirectory.open(directory.path("output")))
    try held.lock()
    for mode in ["--resume", "--overwrite"] {
      let result = try ConvertProcess(convert("output", new + [mode])).finish()
      #expect(result.status == 73 && result.error.contains("another process is writing here"))
    }
    #expect(try fingerprints(of: directory.path("output")) == before)
    withExtendedLifetime(held) {}
  }

  @Test(
    "without room for both outputs the old one is removed first, with a warning", .enabled(if: Self.canMount))
  func noRoom() throws {
    let tool = try ConvertProcess.path()
    let base = directory.path
    // A file system of its own, which disappears with the shell.
    let script = """
      set -e; cd "\(base)"; mkdir mount; mount -t tmpfs -o size=58m none mount
      run() { "\(tool)" source mount/output --progress none "$@"; }
      run --to gguf --quantize Q8_0 >/dev/null; echo mine > mount/output/notes.txt
      cp -r mount/output copy
      set +e; run --to gguf --quantize F32 --overwrite 2>refused; echo $? > refused-status
      diff -r mount/output copy > difference; echo $? > refused-difference
      run --to gguf --quantize Q8_0 --max-shard-size 6MB --overwrite 2>said >summary; echo $? > status
      cp -r mount/output result
      """
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/unshare")
    process.arguments = ["-m", "sh", "-c", script]
    try process.run()
    process.waitUntilExit()
    func text(_ name: String) throws -> String {
      try String(contentsOfFile: directory.path(name), encoding: .utf8)
    }
    let refused = try text("refused")
    #expect(try text("refused-status") == "74\n" && refused.contains("are free"))
    #expect(try text("refused-difference") == "0\n")
    let said = try text("said")
    #expect(try text("status") == "0\n", "\(said)")
    #expect(said.contains("which is removed first"))
    try #expect(ConvertProcess(convert("reference", old + ["--max-shard-size", "6MB"])).finish().status == 0)
    var expected = try fingerprints(of: directory.path("reference"))
    expected["notes.txt"] = try fingerprints(of: directory.path("result"))["notes.txt"]
    #expect(expected["notes.txt"] != nil)
    #expect(try fingerprints(of: directory.path("result")) == expected)
  }

  private static var canMount: Bool {
    #if os(Linux)
    geteuid() == 0 && FileManager.default.isExecutableFile(atPath: "/usr/bin/unshare")
    #else
    false
    #endif
  }
}
