internal import ByteStreams
internal import Safetensors
public import TensorFormats

/// The `config.json` beside a model's weights, read and checked in one place.
///
/// It is read as people have it: `NaN`, `Infinity` and `-Infinity` are numbers, as in Python's `json`, and a byte order
/// mark is cut off. A key that an object has twice makes it unreadable, because readers differ in which one they take
/// (Python's takes the last); so does a number beyond what 64 bits hold.
///
/// A document that cannot be read is no reason not to look at the weights, so opening a checkpoint keeps the ``fault``
/// instead of throwing it. Whoever needs to know what the model is throws it.
public struct ConfigurationDocument: Sendable {
  /// Where it is.
  public let path: String
  /// Its text without a byte order mark, as it is in the file otherwise.
  public let text: [UInt8]
  /// Whether the file begins with a byte order mark, which Python's `json` refuses.
  public let hasByteOrderMark: Bool
  /// `model_type`, if it is a string.
  public private(set) var modelType: String?
  /// `architectures`, as far as they are strings.
  public private(set) var architectures: [String] = []
  /// Whether it describes one part of a partition set.
  public private(set) var isPart = false
  /// Why it cannot be read, with the file, the byte and the way out; `nil` for a sound one.
  public private(set) var fault: CheckpointError?

  /// The longest document that is read. Real ones have some kilobytes.
  public static let largestDocument = 16 << 20

  /// Checks a document.
  ///
  /// - Parameters:
  ///   - bytes: The file.
  ///   - path: Where it is, for messages.
  /// - Complexity: O(n) in the bytes.
  public init(_ bytes: [UInt8], path: String) {
    self.path = path
    hasByteOrderMark = bytes.starts(with: [0xEF, 0xBB, 0xBF])
    text = hasByteOrderMark ? Array(bytes.dropFirst(3)) : bytes
    do throws(CheckpointError) {
      guard bytes.count <= Self.largestDocument else {
        throw CheckpointError(
          .malformed,
          "\(bytes.count) bytes are too many for a configuration; at most \(Self.largestDocument) are read"
        )
      }
      try read(bytes)
    } catch {
      fault = Self.placed(error.explained(prefix: bytes, byteCount: bytes.count, as: .json), path)
    }
  }

  /// A document that could not even be read.
  init(fault: CheckpointError, path: String) {
    self.path = path
    text = []
    hasByteOrderMark = false
    self.fault = Self.placed(fault, path)
  }

  private static func placed(_ error: CheckpointError, _ path: String) -> CheckpointError {
    var fault = error.at(path: path)
    fault.remedy = fault.remedy ?? "correct the file, or download it again"
    return fault
  }

  /// The file beside the weights; `nil` where there is none. A link that leads nowhere is a fault.
  static func read(in directory: String) -> ConfigurationDocument? {
    let path = "\(directory)/config.json"
    guard FileSystem.entryExists(at: path) else { return nil }
    do throws(CheckpointError) {
      let file = try InputFile(path)
      guard file.byteCount <= largestDocument else {
        throw CheckpointError(
          .malformed,
          "\(file.byteCount) bytes are too many for a configuration; at most \(largestDocument) are read")
      }
      return ConfigurationDocument(try file.readBytes(0..<file.byteCount), path: path)
    } catch {
      return ConfigurationDocument(fault: error, path: path)
    }
  }
}

// MARK: - Reading

extension ConfigurationDocument {
  private mutating func read(_ bytes: [UInt8]) throws(CheckpointError) {
    var scanner = unsafe JSONScanner(bytes.span.bytes, dialect: .python)
    do throws(CheckpointError) {
      var keys: Set<String> = []
      var members = try scanner.openObject("the configuration")
      while let key = try scanner.nextKey(&members) {
        guard keys.insert(key).inserted else { throw scanner.errorAtToken(Self.twice(key)) }
        switch key {
        case "model_type" where try scanner.nextKind() == .string: modelType = try scanner.scanString(key)
        case "architectures" where try scanner.nextKind() == .array:
          var elements = try scanner.openArray(key)
          while try scanner.nextElement(&elements) {
            if try scanner.nextKind() == .string {
              architectures.append(try scanner.scanString(key))
            } else {
              try Self.check(&scanner)
            }
          }
        case "step3_partition":
          isPart = true
          try Self.check(&scanner)
        default: try Self.check(&scanner)
        }
      }
      try scanner.finish()
      // A server's refusal is a sound JSON object too.
      if modelType == nil, architectures.isEmpty, keys.count <= 4,
        case .serverMessage? = ForeignContent(prefix: bytes, byteCount: bytes.count, expected: .json)
      {
        throw CheckpointError(.malformed, "this is a server's answer")
      }
    } catch {
      var named = error
      named.message = "expected a JSON document: \(error.message)"
      throw named
    }
  }

  /// Steps over a value in which no object may have a key twice, and no number may be too large.
  private static func check(_ scanner: inout JSONScanner) throws(CheckpointError) {
    switch try scanner.nextKind() {
    case .object:
      var keys: Set<String> = []
      var members = try scanner.openObject("a value")
      while let key = try scanner.nextKey(&members) {
        guard keys.insert(key).inserted else { throw scanner.errorAtToken(twice(key)) }
        try check(&scanner)
      }
    case .array:
      var elements = try scanner.openArray("a value")
      while try scanner.nextElement(&elements) { try check(&scanner) }
    case .number:
      let text = try scanner.scanNumberText("a value")
      guard let value = Double(text), value.isFinite || text.hasSuffix("Infinity") || text == "NaN" else {
        throw scanner.errorAtToken("the number \(text.printable) is too large")
      }
    case .string, .bool, .null: try scanner.skipValue()
    }
  }

  private static func twice(_ key: String) -> String {
    "the key '\(key.printable)' is there twice, and readers differ in which one counts"
  }
}
