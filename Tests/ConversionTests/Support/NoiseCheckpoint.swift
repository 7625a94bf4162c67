import ByteStreams
import Checkpoint
import CheckpointTesting
import Foundation
import Step3Model
import TensorFormats

/// Step-3 checkpoints of a chosen size, full of finite values: large enough to be interrupted while they are converted.
enum NoiseCheckpoint {
  /// About 60 MB: two dense layers, two with eight experts each.
  static var configuration: Step3Configuration {
    var model = Step3Configuration()
    model.vision = nil
    model.text.hiddenSize = 512
    model.text.intermediateSize = 1024
    model.text.layerCount = 4
    model.text.headCount = 8
    model.text.headDimension = 64
    model.text.sharedQueryDimension = 256
    model.text.vocabularySize = 8192
    model.text.moeLayers = [2, 3]
    model.text.expertCount = 8
    model.text.expertIntermediateSize = 768
    model.text.sharedExpertIntermediateSize = 768
    return model
  }

  /// Writes the checkpoint in shards of about 20 MB.
  static func write(to directory: String, seed: UInt64) throws {
    try SparseCheckpoint.write(configuration, to: URL(filePath: directory), shardBytes: 20_000_000)
    let checkpoint = try Checkpoint.open(directory)
    var generator = SeededGenerator(seed: seed)
    for (index, file) in checkpoint.files.enumerated() {
      let handle = try FileHandle(forUpdating: URL(filePath: file.source.path))
      defer { try? handle.close() }
      for tensor in checkpoint.tensors where tensor.file == index {
        try handle.seek(toOffset: UInt64(tensor.byteRange.lowerBound))
        // As BF16 (or F32) the values lie between 2^-7 and 2.
        let words = (0..<(tensor.byteRange.count + 7) / 8).map { _ in
          generator.next() & 0x83FF_83FF_83FF_83FF | 0x3C00_3C00_3C00_3C00
        }
        try handle.write(contentsOf: words.withUnsafeBytes { Data($0.prefix(tensor.byteRange.count)) })
      }
    }
  }
}

/// The built `step3-convert` as a child process.
struct ConvertProcess {
  private let process = Process()
  private let output = Pipe()
  private let error = Pipe()

  /// Starts it; a command line of the shell goes before its own, to set limits.
  init(_ arguments: [String], shell prefix: String? = nil) throws {
    let tool = try ConvertProcess.path()
    if let prefix {
      process.executableURL = URL(filePath: "/bin/sh")
      process.arguments = ["-c", "\(prefix); exec \"$0\" \"$@\"", tool] + arguments
    } else {
      process.executableURL = URL(filePath: tool)
      process.arguments = arguments
    }
    process.standardOutput = output
    process.standardError = error
    _ = Self.heedsSignals
    try process.run()
  }

  /// Tests run in the background ignore signals, and the tool would inherit that.
  private static let heedsSignals: Void = {
    for number in [SIGINT, SIGTERM, SIGHUP] { signal(number, SIG_DFL) }
  }()

  /// The tool lies beside the test bundle.
  static func path() throws -> String {
    #if os(macOS)
    let bundle = Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") }
    let directory = bundle?.bundleURL.deletingLastPathComponent()
    #else
    let directory = Bundle.main.executableURL?.deletingLastPathComponent()
    #endif
    guard let directory else { throw CocoaError(.fileNoSuchFile) }
    return directory.appending(path: "step3-convert").path
  }

  func send(_ signal: Int32) { kill(process.processIdentifier, signal) }

  /// Waits for its end. Its output is small enough for the pipes.
  func finish() -> (status: Int32, output: String, error: String) {
    let outputData = output.fileHandleForReading.readDataToEndOfFile()
    let errorData = error.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (
      process.terminationStatus, String(decoding: outputData, as: UTF8.self),
      String(decoding: errorData, as: UTF8.self)
    )
  }
}

/// XXH3-128 of every file below a directory, by relative path.
func fingerprints(of directory: String) throws -> [String: String] {
  var result: [String: String] = [:]
  for case let path as String in FileManager.default.enumerator(atPath: directory) ?? .init() {
    let full = "\(directory)/\(path)"
    guard try FileSystem.kind(of: full) == .file else { continue }
    let file = try InputFile(full)
    var digester = XXH3Digester()
    for start in stride(from: 0, to: file.byteCount, by: 1 << 22) {
      digester.update(try file.readBytes(start..<min(file.byteCount, start + 1 << 22)))
    }
    result[path] = "\(digester.finalize())"
  }
  return result
}
