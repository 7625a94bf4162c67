package import ByteStreams
package import TensorFormats
internal import Yams

/// Reads a YAML document strictly: every value must have the expected kind and every key must be known; anything
/// else is an error with line and column.
package struct YAMLReader {
  private let node: Node
  /// The key of the value, for messages.
  private let label: String

  /// Parses a text that holds exactly one document.
  ///
  /// - Throws: `.malformed` with line and column. Aliases are refused before anything is constructed: a few hundred
  ///   bytes of them can expand beyond any memory.
  package init(text: String) throws(CheckpointError) {
    try Self.refuseAliases(text)
    do {
      guard let root = try Yams.compose(yaml: text) else {
        throw CheckpointError(.malformed, "the file is empty")
      }
      self.init(node: root, label: "the document")
    } catch let error as CheckpointError {
      throw error
    } catch let error as YamlError {
      throw YAMLReader.translate(error)
    } catch {
      throw CheckpointError(.malformed, "cannot be read as YAML")
    }
  }

  /// The largest file that is read. Real ones have a few kilobytes.
  private static let largestFile = 1 << 20

  /// The text of a user's file.
  ///
  /// - Parameter kind: What it is, for messages: `a recipe`.
  /// - Throws: `.malformed` if it is larger than 1 MiB or not UTF-8, and what reading it throws.
  package static func text(of file: some ByteSource, kind: String) throws(CheckpointError) -> String {
    guard file.byteCount <= largestFile else {
      throw CheckpointError(
        .malformed, "\(kind) of \(file.byteCount) bytes; at most \(largestFile) are read", path: file.path)
    }
    guard let text = String(validating: try file.readBytes(0..<file.byteCount), as: UTF8.self) else {
      throw CheckpointError(.malformed, "is not UTF-8 text", path: file.path)
    }
    return text
  }

  private init(node: Node, label: String) {
    self.node = node
    self.label = label
  }

  /// Finds an alias, `*name`, of an anchor, `&name`, anywhere: inside quotes or comments the pair has no use in a
  /// recipe either.
  private static func refuseAliases(_ text: String) throws(CheckpointError) {
    let bytes = Array(text.utf8)
    func name(after index: Int) -> ArraySlice<UInt8> {
      bytes[(index + 1)...].prefix {
        switch $0 {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "_"), UInt8(ascii: "-"):
          true
        default: false
        }
      }
    }
    func names(marked mark: UInt8) -> [(name: ArraySlice<UInt8>, index: Int)] {
      bytes.indices.filter { bytes[$0] == mark }.map { (name(after: $0), $0) }.filter { !$0.0.isEmpty }
    }
    let anchors = Set(names(marked: UInt8(ascii: "&")).map(\.name))
    guard !anchors.isEmpty,
      let alias = names(marked: UInt8(ascii: "*")).first(where: { anchors.contains($0.name) })
    else { return }
    let before = bytes[..<alias.index]
    let line = before.count { $0 == UInt8(ascii: "\n") } + 1
    let column = alias.index - (before.lastIndex(of: UInt8(ascii: "\n")) ?? -1)
    throw CheckpointError(
      .malformed,
      "line \(line), column \(column): the alias *\(String(decoding: alias.name, as: UTF8.self)) is not supported",
      remedy: "write out its value")
  }

  private static func translate(_ error: YamlError) -> CheckpointError {
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      return CheckpointError(.malformed, "line \(mark.line), column \(mark.column): \(problem)")
    case .duplicatedKeysInMapping(let duplicates, let context):
      let keys = duplicates.map(\.printable).sorted().joined(separator: ", ")
      return CheckpointError(
        .malformed, "line \(context.mark.line), column \(context.mark.column): the key \(keys) appears twice"
      )
    case .reader(let problem, _, _, _):
      return CheckpointError(.malformed, "cannot be read as YAML: \(problem)")
    default: return CheckpointError(.malformed, "cannot be read as YAML")
    }
  }

  /// An error about this value.
  package func problem(_ message: String, remedy: String? = nil) -> CheckpointError {
    let place = node.mark.map { "line \($0.line), column \($0.column): " } ?? ""
    return CheckpointError(.malformed, place + message, remedy: remedy)
  }

  /// Lets `body` read this value, and adds its location to errors.
  package func located<T>(_ body: () throws(CheckpointError) -> T) throws(CheckpointError) -> T {
    do throws(CheckpointError) {
      return try body()
    } catch {
      throw problem(error.message, remedy: error.remedy)
    }
  }
}

// MARK: - Kinds of values

extension YAMLReader {
  /// A mapping whose keys are all among `keys`.
  package func fields(_ keys: [String]) throws(CheckpointError) -> [String: YAMLReader] {
    guard case .mapping(let mapping) = node else {
      throw problem("\(label) must be a mapping (key: value), not \(kind)")
    }
    var result: [String: YAMLReader] = [:]
    for (key, value) in mapping {
      let reader = YAMLReader(node: key, label: "the key")
      guard case .scalar(let scalar) = key, keys.contains(scalar.string) else {
        let shown = key.scalar.map { "'\($0.string.printable)'" } ?? "of another kind"
        let question = key.scalar.flatMap { Suggestion.question(for: $0.string, among: keys) }
        let known = "there are \(keys.joined(separator: ", "))"
        throw reader.problem("unknown key \(shown)", remedy: question.map { "\($0) \(known)" } ?? known)
      }
      result[scalar.string] = YAMLReader(node: value, label: "'\(scalar.string)'")
    }
    return result
  }

  /// A list; not a single value.
  package func list() throws(CheckpointError) -> [YAMLReader] {
    guard case .sequence(let sequence) = node else { throw problem("\(label) must be a list, not \(kind)") }
    return sequence.map { YAMLReader(node: $0, label: "an entry of \(label)") }
  }

  /// A list of at least one value, or the value itself.
  package func oneOrMore() throws(CheckpointError) -> [YAMLReader] {
    guard case .sequence = node else { return [self] }
    let values = try list()
    guard !values.isEmpty else { throw problem("\(label) is an empty list") }
    return values
  }

  /// A non-empty string. A number or `true` counts as a string only in quotes.
  package func text() throws(CheckpointError) -> String {
    guard case .scalar(let scalar) = node, !scalar.string.isEmpty, node.tag == Tag(.str) else {
      throw problem("\(label) must be a string, not \(kind)")
    }
    return scalar.string
  }

  /// A string, or a whole number as a string: `60` is a layer as well as `"0-3"`.
  package func textOrNumber() throws(CheckpointError) -> String {
    if case .scalar(let scalar) = node, node.tag == Tag(.int) { return scalar.string }
    return try text()
  }

  /// A scalar exactly as written, whatever its kind: `400 Gb/s`, `0.05`, `32K`.
  package func scalarText() throws(CheckpointError) -> String {
    guard case .scalar(let scalar) = node, !scalar.string.isEmpty, node.tag != Tag(.null) else {
      throw problem("\(label) must be a number or a string, not \(kind)")
    }
    return scalar.string
  }

  /// A whole number that is not negative.
  package func count() throws(CheckpointError) -> Int {
    guard case .scalar(let scalar) = node, node.tag == Tag(.int), let value = Int(scalar.string), value >= 0
    else { throw problem("\(label) must be a whole number, not \(kind)") }
    return value
  }

  /// `true` or `false`.
  package func flag() throws(CheckpointError) -> Bool {
    guard case .scalar(let scalar) = node, scalar.style == .plain, ["true", "false"].contains(scalar.string)
    else { throw problem("\(label) must be true or false, not \(kind)") }
    return scalar.string == "true"
  }

  /// Whether it is a mapping.
  package var isMapping: Bool { if case .mapping = node { true } else { false } }

  /// Whether it is a scalar.
  package var isScalar: Bool { if case .scalar = node { true } else { false } }

  private var kind: String {
    switch node {
    case .mapping: "a mapping"
    case .sequence: "a list"
    case .alias: "an alias"
    case .scalar(let scalar): scalar.string.isEmpty ? "empty" : "'\(scalar.string.printable)'"
    }
  }
}
