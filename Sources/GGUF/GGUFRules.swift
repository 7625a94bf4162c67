internal import TensorFormats

/// The limits of the format, shared by reader and writer, so that nothing is written that could not be
/// read back.
///
/// Source: the reference reader (`ggml/src/gguf.cpp`: `GGUF_MAX_STRING_LENGTH`, `GGUF_MAX_ARRAY_ELEMENTS`;
/// `ggml/include/ggml.h`: `GGML_MAX_NAME`, `GGML_MAX_DIMS`) and, for the length of a key, the specification.
enum GGUFRules {
  static let magic: [UInt8] = Array("GGUF".utf8)
  static let versions: ClosedRange<UInt32> = 2...3
  static let alignmentKey = "general.alignment"
  static let defaultAlignment = 32
  static let maximumStringByteCount = 1 << 30
  static let maximumArrayCount = 1 << 30
  static let maximumKeyByteCount = 65_535
  static let maximumTensorNameByteCount = 63
  static let maximumRank = 4

  /// Ours, not the format's: real headers have some megabytes, and a hostile one must not fill memory.
  static let maximumHeaderByteCount = 1 << 31

  /// What is wrong with a key, or `nil`.
  static func objection(toKey key: String) -> String? {
    if key.isEmpty { return "a metadata key is empty" }
    guard key.utf8.count <= maximumKeyByteCount else {
      return "a metadata key has \(key.utf8.count) bytes, at most \(maximumKeyByteCount) are allowed"
    }
    return nil
  }

  /// What is wrong with a tensor's name, or `nil`.
  ///
  /// A NUL is refused although the reference only cuts the name there: two readers would see two names.
  static func objection(toTensorName name: String) -> String? {
    guard name.utf8.count <= maximumTensorNameByteCount else {
      return "a tensor name has \(name.utf8.count) bytes, at most \(maximumTensorNameByteCount) are allowed"
    }
    return name.utf8.contains(0) ? "a tensor name contains a NUL byte" : nil
  }

  /// The alignment that a metadata block asks for, or what is wrong with it.
  static func alignment(of metadata: GGUFMetadata) -> Result<Int, Objection> {
    guard let value = metadata[alignmentKey] else { return .success(defaultAlignment) }
    guard case .uint32(let alignment) = value else {
      return .failure(
        Objection(
          text:
            "the value of '\(alignmentKey)' must be of type \(GGUFValueType.uint32), but is of type \(value.type)"
        ))
    }
    guard alignment.nonzeroBitCount == 1 else {
      return .failure(
        Objection(text: "the value of '\(alignmentKey)' is \(alignment), which is not a power of two"))
    }
    return .success(Int(alignment))
  }

  /// The bytes that a tensor takes, or what is wrong with its shape.
  static func byteCount(of shape: TensorShape, as type: ElementType) -> Result<Int, Objection> {
    let block = type.block.elements
    guard shape.columns % block == 0 else {
      return .failure(
        Objection(
          text:
            "rows of \(shape.columns) elements are not whole blocks of type \(type), which has \(block) each")
      )
    }
    guard let count = shape.byteCount(as: type) else {
      return .failure(Objection(text: "the size in bytes of shape \(shape) as \(type) overflows"))
    }
    return .success(count)
  }

  /// `value` rounded up to a multiple of `alignment`, a power of two; `nil` if that overflows.
  static func padded(_ value: Int, to alignment: Int) -> Int? {
    let (sum, overflow) = value.addingReportingOverflow(alignment - 1)
    return overflow ? nil : sum & ~(alignment - 1)
  }

  /// Why bytes or a request break a rule: the message of an error whose code and place the caller knows.
  struct Objection: Error {
    let text: String
  }
}

/// A string that is compared byte by byte, as C does. Swift's own comparison takes composed and decomposed
/// accents for the same, so two different keys of a file could fall together.
struct ExactText: Hashable {
  let text: String

  init(_ text: String) { self.text = text }

  static func == (a: ExactText, b: ExactText) -> Bool { a.text.utf8.elementsEqual(b.text.utf8) }

  func hash(into hasher: inout Hasher) {
    for byte in text.utf8 { hasher.combine(byte) }
    hasher.combine(0xFF as UInt8)
  }
}
