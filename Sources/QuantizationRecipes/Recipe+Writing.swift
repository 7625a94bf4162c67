internal import Checkpoint
internal import Patterns
internal import TensorFormats

extension Recipe {
  /// The recipe as a file, which ``init(yaml:path:)`` reads back.
  ///
  /// What recipe files cannot express is left out: conditions on what engines quantise, and which files or models a
  /// built-in is meant for.
  ///
  /// - Parameter comment: A comment at the top, line by line.
  public func yaml(comment: [String] = []) -> String {
    var lines = comment.map { $0.isEmpty ? "#" : "# \($0.printable)" }
    lines.append("name: \(Self.quoted(name))")
    lines.append("summary: \(Self.quoted(summary.isEmpty ? name : summary))")
    lines.append("on_misfit: \(onMisfit)")
    let stored = [("safetensors", precise.safetensors), ("gguf", precise.gguf)].compactMap { kind, format in
      format.map { "\(kind): \($0)" }
    }
    if !stored.isEmpty { lines.append("precise: {\(stored.joined(separator: ", "))}") }
    lines.append("rules:")
    for rule in rules { lines.append("  - {\(rule.fields.joined(separator: ", "))}") }
    return lines.joined(separator: "\n") + "\n"
  }

  /// A text in double quotes, in which YAML knows the escapes of JSON.
  fileprivate static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"", "\\": result += "\\\(scalar)"
      case _ where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) || scalar.value == 0xFEFF:
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}

extension RecipeRule {
  /// `key: value` for everything that it says.
  fileprivate var fields: [String] {
    var fields: [String] = []
    func add(_ key: String, _ values: [String]) {
      guard !values.isEmpty else { return }
      fields.append("\(key): \(values.count == 1 ? values[0] : "[\(values.joined(separator: ", "))]")")
    }
    add("role", roles.map(\.rawValue))
    for kind in [NamePattern.Kind.glob, .regex] {
      add(
        kind == .glob ? "name" : "regex", names.filter { $0.kind == kind }.map { Recipe.quoted($0.text) })
    }
    if !layers.isEmpty {
      add("layers", [Recipe.quoted(layers.map(\.description).joined(separator: ", "))])
    }
    if let isExpertStack { add("expert_stack", ["\(isExpertStack)"]) }
    if let expertCount { add("experts", ["\(expertCount)"]) }
    if let hasTiedEmbedding { add("tied_embedding", ["\(hasTiedEmbedding)"]) }
    add("format", [format.spelling])
    if let fallback { add("fallback", [fallback.description]) }
    if isOptional { add("optional", ["true"]) }
    return fields
  }
}
