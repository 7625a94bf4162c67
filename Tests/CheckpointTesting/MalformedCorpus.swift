import ByteStreams
import Foundation
public import TensorFormats

/// A folder of malformed files below `Fixtures/malformed`, with the error that each of them must give.
///
/// The files and `expected.json` are written by a script in `Tests/Corpus`.
public enum MalformedCorpus {
  /// One file, or one folder, and its error.
  public struct Case: Decodable, Sendable, CustomStringConvertible {
    /// Relative to the corpus folder.
    public let path: String
    /// The raw value of the expected ``TensorFormats/CheckpointError/Code``.
    public let code: String
    /// A part of the expected message.
    public let message: String
    /// The expected byte offset, where it is part of the expectation.
    public let offset: Int?
    /// The tensor that the error must name, where it is part of the expectation.
    public let tensor: String?

    public var description: String { path }
  }

  /// The cases of a corpus, in the order of its `expected.json`.
  ///
  /// - Parameter folder: `safetensors`, `index`, `gguf` or `archive`.
  public static func cases(in folder: String) throws -> [Case] {
    let url = URL(fileURLWithPath: path(of: "expected.json", in: folder))
    return try JSONDecoder().decode([Case].self, from: Data(contentsOf: url))
  }

  /// The path of a file in a corpus.
  public static func path(of file: String, in folder: String) -> String {
    Fixtures.path("malformed/\(folder)/\(file)")
  }

  /// The names of all entries of a corpus folder except `expected.json`, to find files without an expectation.
  public static func entries(in folder: String) throws -> Set<String> {
    let names = try FileManager.default.contentsOfDirectory(atPath: Fixtures.path("malformed/\(folder)"))
    return Set(names).subtracting(["expected.json"])
  }

  /// How `error` differs from what `expected` asks for; empty if it does not.
  ///
  /// - Parameter error: What the parser threw, or `nil` if it accepted the file.
  public static func mismatches(of error: CheckpointError?, with expected: Case) -> [String] {
    guard let error else { return ["accepted, but '\(expected.message)' is expected"] }
    var mismatches: [String] = []
    if error.code.rawValue != expected.code {
      mismatches.append("code '\(error.code.rawValue)' instead of '\(expected.code)': \(error)")
    }
    if !error.message.contains(expected.message) {
      mismatches.append("the message does not contain '\(expected.message)': \(error)")
    }
    if let offset = expected.offset, error.offset != offset {
      mismatches.append("the offset is not \(offset): \(error)")
    }
    if let tensor = expected.tensor, error.tensor != tensor {
      mismatches.append("the tensor is not '\(tensor)': \(error)")
    }
    if error.path == nil { mismatches.append("no file is named: \(error)") }
    return mismatches
  }
}
