internal import TensorFormats

/// Values as JSON text for standard output.
///
/// Made for reports of a hundred thousand tensors: text is appended to one buffer as the value describes itself. Keys
/// keep the order in which the type declares them, `nil` is written as `null`, so that every object of a kind has the
/// same keys, and a number that JSON has no spelling for (NaN, infinity) is `null` too. The elements of an array that
/// are objects stand on a line of their own each, so that `grep` is of use.
public enum JSONText {
  /// The value as a document for people and programs, ended by a newline.
  public static func document(_ value: some Encodable) -> [UInt8] {
    let output = JSONOutput(compact: false)
    output.append(value)
    output.append(raw: "\n")
    return output.bytes
  }

  /// The value on a single line, without a newline.
  public static func compact(_ value: some Encodable) -> String {
    let output = JSONOutput(compact: true)
    output.append(value)
    return String(decoding: output.bytes, as: UTF8.self)
  }
}

/// The text so far and the containers that are open in it.
final class JSONOutput {
  private struct Container {
    let isObject: Bool
    /// Whether its members share a line.
    let inline: Bool
    var count = 0
    /// Whether a member stands on a line of its own, so that the closing bracket does too.
    var hasLines = false
  }

  private(set) var bytes: [UInt8] = []
  private var containers: [Container] = []
  /// An element of an array has begun, and whether it needs a line of its own is known once it writes something.
  private var elementIsPending = false
  private let compact: Bool

  init(compact: Bool) { self.compact = compact }

  /// How many containers are open.
  var depth: Int { containers.count }

  func append(raw text: StaticString) {
    text.withUTF8Buffer { unsafe bytes.append(contentsOf: $0) }
  }

  /// Appends a value and closes what it opened.
  func append(_ value: some Encodable) {
    if let number = value as? JSONNumber { return self.number(spelled: number) }
    let depth = self.depth
    let length = bytes.count
    do {
      try value.encode(to: JSONValueEncoder(output: self, depth: depth))
    } catch {
      // The encoder never throws, and a report that does is a mistake of ours.
      preconditionFailure("a report cannot be encoded: \(error)")
    }
    if bytes.count == length { open(object: true) }
    close(to: depth)
  }

  // MARK: Containers

  func open(object: Bool) {
    let isElement = elementIsPending
    settle(isContainer: true)
    let inline = compact || containers.last?.inline ?? false || (object && isElement)
    containers.append(Container(isObject: object, inline: inline))
    bytes.append(UInt8(ascii: object ? "{" : "["))
  }

  /// Closes every container beyond the first `depth`.
  func close(to depth: Int) {
    while containers.count > depth {
      let container = containers.removeLast()
      if container.hasLines {
        newLine()
      } else if container.isObject, container.count > 0 {
        bytes.append(UInt8(ascii: " "))
      }
      bytes.append(UInt8(ascii: container.isObject ? "}" : "]"))
    }
  }

  /// Begins a member of the object at `depth`.
  func key(_ key: String, at depth: Int) {
    close(to: depth)
    begin(onLine: !containers[depth - 1].inline, at: depth)
    quoted(key)
    append(raw: ": ")
  }

  /// Begins an element of the array at `depth`.
  func element(at depth: Int) {
    close(to: depth)
    elementIsPending = true
  }

  private func settle(isContainer: Bool) {
    guard elementIsPending else { return }
    elementIsPending = false
    begin(onLine: isContainer && !containers[depth - 1].inline, at: depth)
  }

  private func begin(onLine: Bool, at depth: Int) {
    let isFirst = containers[depth - 1].count == 0
    containers[depth - 1].count += 1
    if !isFirst { bytes.append(UInt8(ascii: ",")) }
    if onLine {
      containers[depth - 1].hasLines = true
      newLine()
    } else if !isFirst || containers[depth - 1].isObject {
      bytes.append(UInt8(ascii: " "))
    }
  }

  private func newLine() {
    bytes.append(UInt8(ascii: "\n"))
    for _ in 0..<containers.count { append(raw: "  ") }
  }

  // MARK: Scalars

  func null() {
    settle(isContainer: false)
    append(raw: "null")
  }

  func bool(_ value: Bool) {
    settle(isContainer: false)
    append(raw: value ? "true" : "false")
  }

  func integer(_ value: some BinaryInteger) {
    settle(isContainer: false)
    bytes.append(contentsOf: String(value).utf8)
  }

  func number(_ value: some BinaryFloatingPoint & LosslessStringConvertible) {
    guard value.isFinite else { return null() }
    settle(isContainer: false)
    bytes.append(contentsOf: value.description.utf8)
  }

  func number(spelled number: JSONNumber) {
    settle(isContainer: false)
    bytes.append(contentsOf: number.text.utf8)
  }

  func string(_ value: String) {
    settle(isContainer: false)
    quoted(value)
  }

  private func quoted(_ value: String) {
    bytes.append(UInt8(ascii: "\""))
    for byte in value.utf8 {
      switch byte {
      case UInt8(ascii: "\""): append(raw: "\\\"")
      case UInt8(ascii: "\\"): append(raw: "\\\\")
      case UInt8(ascii: "\n"): append(raw: "\\n")
      case UInt8(ascii: "\r"): append(raw: "\\r")
      case UInt8(ascii: "\t"): append(raw: "\\t")
      case ..<0x20, 0x7F:
        append(raw: "\\u00")
        let digits = String(byte, radix: 16)
        bytes.append(contentsOf: (digits.utf8.count < 2 ? "0" + digits : digits).utf8)
      default: bytes.append(byte)
      }
    }
    bytes.append(UInt8(ascii: "\""))
  }
}
