/// What went wrong with a file, in a form that users can act on.
///
/// One type for everything below the commands: the parsers, the byte layer and the codecs throw it typed. It names
/// the file, the tensor or key, the byte and the remedy, as far as they are known.
public struct CheckpointError: Error, Hashable, Sendable {
  /// A stable category to switch on. A new kind of failure is a new static member, so that no client breaks.
  public struct Code: RawRepresentable, Hashable, Sendable {
    /// The category's name, as it appears in JSON output.
    public let rawValue: String
    /// Makes a category from its name.
    public init(rawValue: String) { self.rawValue = rawValue }

    /// The bytes end too early.
    public static let truncated = Code(rawValue: "truncated")
    /// The bytes break a rule of their format.
    public static let malformed = Code(rawValue: "malformed")
    /// The bytes are legal, but this toolkit (or the format asked for) cannot represent them.
    public static let unsupported = Code(rawValue: "unsupported")
    /// A required file, tensor or directory does not exist, or may not be read.
    public static let notFound = Code(rawValue: "notFound")
    /// The output already exists, or cannot be created.
    public static let cannotCreate = Code(rawValue: "cannotCreate")
    /// Another process is writing the output.
    public static let busy = Code(rawValue: "busy")
    /// Reading or writing failed after it had begun: a full disk, a bad sector, a lost mount.
    public static let inputOutput = Code(rawValue: "inputOutput")
    /// The directory is left over from an interrupted conversion.
    public static let unfinished = Code(rawValue: "unfinished")
    /// The request is contradictory or impossible.
    public static let invalidRequest = Code(rawValue: "invalidRequest")
    /// A weight is NaN or infinite where the target format or the options do not allow it.
    public static let nonFinite = Code(rawValue: "nonFinite")
    /// A file has changed since the work on it was planned or begun.
    public static let sourceChanged = Code(rawValue: "sourceChanged")
  }

  /// The category.
  public var code: Code
  /// Expected, found, and which tensor or key: one sentence without a full stop.
  public var message: String
  /// The file: the path that the user gave, or one reached from it.
  public var path: String?
  /// Bytes from the start of the file.
  public var offset: Int?
  /// The tensor concerned.
  public var tensor: String?
  /// What the user can do about it.
  public var remedy: String?

  /// Makes an error; everything unknown stays `nil` and can be filled in by callers.
  public init(
    _ code: Code, _ message: String, path: String? = nil, offset: Int? = nil, tensor: String? = nil,
    remedy: String? = nil
  ) {
    self.code = code
    self.message = message
    self.path = path
    self.offset = offset
    self.tensor = tensor
    self.remedy = remedy
  }

  /// The same error, with the file it concerns filled in unless it is known already.
  public func at(path: String) -> CheckpointError {
    var copy = self
    copy.path = self.path ?? path
    return copy
  }
}

extension CheckpointError: CustomStringConvertible {
  /// `model.gguf: byte 73400320: tensor 'blk.3.ffn_up.weight': needs 25362432 bytes, 1048576 are left; remedy`
  public var description: String {
    var text = ""
    if let path { text += "\(path): " }
    if let offset { text += "byte \(offset): " }
    if let tensor { text += "tensor '\(tensor.printable)': " }
    text += message
    if let remedy { text += "; \(remedy)" }
    return text
  }
}

extension String {
  /// This text made safe to print: control characters (a hostile file's escape sequences) escaped, and cut after
  /// 200 characters.
  public var printable: String {
    var result = ""
    for (index, scalar) in unicodeScalars.enumerated() {
      guard index < 200 else { return result + "…" }
      switch scalar.properties.generalCategory {
      case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator:
        result += "\\u{\(String(scalar.value, radix: 16))}"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
