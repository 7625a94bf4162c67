/// The text so far and its open containers.
///
/// Built for reports of a hundred thousand tensors: text is appended to one buffer as the value encodes itself.
final class JSONOutput {
  /// How values are laid out; see ``JSONText``.
  enum Layout {
    case report, compact, file
  }

  private struct Container {
    let isObject: Bool
    /// Whether its members share a line.
    let inline: Bool
    var count = 0
    /// Whether a member is on a line of its own, so that the closing bracket is too.
    var hasLines = false
  }

  private(set) var bytes: [UInt8] = []
  private var containers: [Container] = []
  /// An array element has begun; whether it needs a line of its own is known once it writes something.
  private var elementIsPending = false
  private let layout: Layout
  /// Whether there was a number that JSON has no spelling for.
  private(set) var hasUnwritableNumber = false

  /// The first member of the document, or of each element of an array; see ``JSONText/document(_:schema:)``.
  private let schema: String?

  init(_ layout: Layout, schema: String? = nil) {
    self.layout = layout
    self.schema = schema
  }

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
      // The encoder never throws, and a report that does is a bug.
      preconditionFailure("a report cannot be encoded: \(error)")
    }
    if bytes.count == length { open(object: true) }
    close(to: depth)
  }

  // MARK: Containers

  func open(object: Bool) {
    let isElement = elementIsPending
    settle(isContainer: true)
    let inline =
      switch layout {
      case .compact: true
      case .file: false
      case .report: containers.last?.inline ?? false || (object && isElement)
      }
    containers.append(Container(isObject: object, inline: inline))
    bytes.append(UInt8(ascii: object ? "{" : "["))
    guard let schema, object, depth == 1 || depth == 2 && !containers[0].isObject else { return }
    key("schema", at: depth)
    string(schema)
  }

  /// Closes every container beyond the first `depth`.
  func close(to depth: Int) {
    while containers.count > depth {
      let container = containers.removeLast()
      if container.hasLines {
        newLine()
      } else if layout == .file {
        append(raw: "\n")
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
    append(raw: layout == .file ? " : " : ": ")
  }

  /// Begins an element of the array at `depth`.
  func element(at depth: Int) {
    close(to: depth)
    elementIsPending = true
  }

  private func settle(isContainer: Bool) {
    guard elementIsPending else { return }
    elementIsPending = false
    begin(onLine: (isContainer || layout == .file) && !containers[depth - 1].inline, at: depth)
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
    guard value.isFinite else {
      hasUnwritableNumber = true
      return null()
    }
    settle(isContainer: false)
    bytes.append(contentsOf: value.description.utf8)
  }

  func number(spelled number: JSONNumber) {
    guard number.isFinite else {
      hasUnwritableNumber = true
      return string(number.text)
    }
    settle(isContainer: false)
    bytes.append(contentsOf: number.text.utf8)
  }

  func string(_ value: String) {
    settle(isContainer: false)
    quoted(value)
  }

  private func quoted(_ value: String) {
    JSONText.append(value, to: &bytes, style: layout == .file ? .minimal : .terminal)
  }
}
