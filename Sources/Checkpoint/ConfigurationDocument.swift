internal import ByteStreams
public import JSON
public import TensorFormats

/// The `config.json` beside a model's weights, read and checked in one place.
///
/// It is read leniently, as such files occur: `NaN`, `Infinity` and `-Infinity` are numbers, as in Python's `json`, and
/// a byte order mark is skipped. A key that an object has twice makes it unreadable, because readers differ in which
/// one they take (Python's takes the last); so does a number beyond what 64 bits hold.
///
/// A document that cannot be read is no reason not to look at the weights, so opening a checkpoint keeps the ``fault``
/// instead of throwing it. Whoever needs to know what the model is throws it.
public struct ConfigurationDocument: Sendable {
  /// Its name in every checkpoint.
  public static let name = "config.json"

  /// Where it is.
  public let path: String
  /// Its text without a byte order mark, otherwise as in the file.
  public let text: [UInt8]
  /// Whether the file begins with a byte order mark, which Python's `json` refuses.
  public let hasByteOrderMark: Bool
  /// Its members, as far as they could be read.
  private var found = JSONMembers()
  /// Why it cannot be read, with the file, the byte and a remedy; `nil` for a sound document.
  public private(set) var fault: CheckpointError?

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
      guard bytes.count <= JSONValue.largestDocument else {
        throw CheckpointError(
          .malformed,
          "\(bytes.count) bytes are too many for a configuration; the limit is \(JSONValue.largestDocument)"
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
  ///
  /// - Throws: `.inputOutput`: a failed read says nothing about the file's contents.
  static func read(in store: any ByteStore) throws(CheckpointError) -> ConfigurationDocument? {
    let path = store.path(of: name)
    do throws(CheckpointError) {
      guard try store.isTaken(name) else { return nil }
      let bytes = try store.read(name, limit: JSONValue.largestDocument, as: "a configuration")
      return ConfigurationDocument(bytes, path: path)
    } catch {
      guard error.code != .inputOutput else { throw error }
      return ConfigurationDocument(fault: error, path: path)
    }
  }
}

// MARK: - Asking

extension ConfigurationDocument {
  /// Its members, parsed once for all callers; `nil` if it cannot be read.
  public var members: JSONMembers? { fault == nil ? found : nil }

  /// `model_type`, if it is a string.
  public var modelType: String? { found["model_type"]?.text }

  /// `architectures`, as far as they are strings.
  public var architectures: [String] { found["architectures"]?.strings ?? [] }

  /// Whether it describes one part of a partition set.
  public var isPart: Bool { found[Self.partitionKey] != nil }
}

// MARK: - Reading

extension ConfigurationDocument {
  private mutating func read(_ bytes: [UInt8]) throws(CheckpointError) {
    var scanner = unsafe JSONScanner(bytes.span.bytes, dialect: .python)
    do throws(CheckpointError) {
      try found.read(&scanner, "the configuration")
      try scanner.finish()
      if modelType == nil, architectures.isEmpty { try JSONValue.refuseAnswer(found, bytes) }
    } catch {
      var named = error
      named.message = "expected a JSON document: \(error.message)"
      throw named
    }
  }
}
