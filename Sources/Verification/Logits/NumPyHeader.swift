internal import ByteStreams
internal import TensorFormats

/// The header of a `.npy` file.
///
/// Source: NumPy's "The npy format", versions 1.0 to 3.0: a magic string, two bytes of version, the length of a Python
/// dictionary and the dictionary itself, which has exactly the keys `descr`, `fortran_order` and `shape`.
struct NumPyHeader {
  let elementType: ElementType
  let shape: TensorShape
  /// Where the values begin.
  let dataOffset: Int

  /// The magic bytes.
  static let magic: [UInt8] = [0x93] + Array("NUMPY".utf8)
  /// Real headers are a few hundred bytes.
  private static let largestHeader = 1 << 16

  /// Reads the header and compares it with the size of the file.
  ///
  /// - Throws: `.truncated`, `.malformed`; `.unsupported` for values that are not little-endian F16, F32 or F64, and for
  ///   Fortran's order.
  init(_ source: any ByteSource) throws(CheckpointError) {
    func failure(_ code: CheckpointError.Code, _ message: String, _ offset: Int? = nil) -> CheckpointError {
      CheckpointError(code, message, path: source.path, offset: offset)
    }
    let prefix = try source.readBytes(0..<min(12, source.byteCount))
    guard prefix.starts(with: Self.magic), prefix.count >= 10 else {
      throw failure(.malformed, "does not start like a .npy file", 0)
    }
    let start: Int
    let length: Int
    switch (prefix[6], prefix[7]) {
    case (1, 0):
      start = 10
      length = Int(prefix[8]) | Int(prefix[9]) << 8
    case (2, 0), (3, 0):
      guard prefix.count == 12 else { throw failure(.truncated, "the header ends early", prefix.count) }
      start = 12
      length = (8..<12).reversed().reduce(0) { $0 << 8 | Int(prefix[$1]) }
    default:
      throw failure(.unsupported, "version \(prefix[6]).\(prefix[7]) of the .npy format is not supported", 6)
    }
    guard length <= Self.largestHeader else {
      throw failure(.malformed, "a header of \(length) bytes is implausibly long", 8)
    }
    guard length <= source.byteCount - start else {
      throw failure(.truncated, "the header takes \(length) bytes, \(source.byteCount - start) follow", 8)
    }
    let text = try source.readBytes(start..<start + length)
    var scanner = PythonScanner(text)
    guard let fields = scanner.header() else {
      throw failure(
        .malformed, "the header is not the dictionary that NumPy writes", start + scanner.position)
    }
    switch fields.descr {
    case "<f4": elementType = .f32
    case "<f8": elementType = .f64
    case "<f2": elementType = .f16
    default:
      throw failure(
        .unsupported,
        "values of type '\(fields.descr.printable)' are not supported, only little-endian floats",
        start)
    }
    guard !fields.fortranOrder else {
      throw failure(.unsupported, "the values are in Fortran's order, column by column", start)
    }
    guard let shape = TensorShape(checking: fields.shape), let bytes = shape.byteCount(as: elementType) else {
      throw failure(.malformed, "the shape \(fields.shape) is larger than any file", start)
    }
    dataOffset = start + length
    guard bytes == source.byteCount - dataOffset else {
      throw failure(
        bytes > source.byteCount - dataOffset ? .truncated : .malformed,
        "the shape \(shape) takes \(bytes) bytes of \(elementType), \(source.byteCount - dataOffset) follow the header",
        dataOffset)
    }
    self.shape = shape
  }
}

/// Parses the Python literal of a `.npy` header.
private struct PythonScanner {
  struct Fields {
    var descr: String
    var fortranOrder: Bool
    var shape: [Int]
  }

  private let text: [UInt8]
  private(set) var position = 0

  init(_ text: [UInt8]) { self.text = text }

  /// The three fields; `nil` at the first unexpected token.
  mutating func header() -> Fields? {
    var descr: String?
    var order: Bool?
    var shape: [Int]?
    guard take("{") else { return nil }
    while !take("}") {
      guard let key = string(), take(":") else { return nil }
      switch key {
      case "descr" where descr == nil: descr = string()
      case "fortran_order" where order == nil: order = take("True") ? true : take("False") ? false : nil
      case "shape" where shape == nil: shape = tuple()
      default: return nil
      }
      if !take(",") {
        guard take("}") else { return nil }
        break
      }
    }
    skipSpace()
    guard position == text.count, let descr, let order, let shape else { return nil }
    return Fields(descr: descr, fortranOrder: order, shape: shape)
  }

  private mutating func skipSpace() {
    while position < text.count, text[position] == 0x20 || text[position] == 0x0A { position += 1 }
  }

  private mutating func take(_ word: StaticString) -> Bool {
    skipSpace()
    let wanted = "\(word)".utf8
    guard text[position...].starts(with: wanted) else { return false }
    position += wanted.count
    return true
  }

  private mutating func string() -> String? {
    skipSpace()
    guard position < text.count, text[position] == UInt8(ascii: "'") || text[position] == UInt8(ascii: "\"")
    else { return nil }
    let start = position + 1
    guard let end = text[start...].firstIndex(of: text[position]) else { return nil }
    let content = text[start..<end]
    // A type is a short word without escapes.
    guard content.allSatisfy({ (0x20..<0x7F).contains($0) && $0 != UInt8(ascii: "\\") }) else { return nil }
    position = end + 1
    return String(decoding: content, as: UTF8.self)
  }

  private mutating func tuple() -> [Int]? {
    guard take("(") else { return nil }
    var numbers: [Int] = []
    while !take(")") {
      skipSpace()
      let digits = text[position...].prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
      guard let number = Int(String(decoding: digits, as: UTF8.self)), numbers.count < 32 else { return nil }
      numbers.append(number)
      position += digits.count
      if !take(",") {
        // Parentheses around a number alone are not a tuple.
        guard numbers.count > 1, take(")") else { return nil }
        break
      }
    }
    return numbers
  }
}
