internal import JSON
package import TensorFormats

/// The output of `step3-verify logits --json`, as far as a report shows it.
package struct LogitsFigures: Sendable {
  package let ok: Bool
  package let tokens: Int
  package let meanKL: Double
  package let standardError: Double?
  package let largestKL: Double
  package let top1Agreement: Double
  package let referencePerplexity: Double?
  package let candidatePerplexity: Double?
  /// The divergence of each token, in the order of the text; empty if the document does not have them.
  package let divergences: [Double]
  /// Each layer's relative error, its limit, and whether it holds.
  package let layers: [(layer: Int, error: Double, limit: Double, ok: Bool)]
  /// By layer, the share of experts chosen by both.
  package let experts: [(layer: Int, agreement: Double)]
}

extension LogitsFigures {
  /// The most tokens of a text, and layers.
  private static let most = 1 << 24

  /// Reads a document of `step3-verify logits --json`, or the one inside the output of `step3-verify all --json`.
  ///
  /// - Parameter path: For messages.
  /// - Throws: `.malformed` if it is not one, or lacks something required.
  package init(_ text: [UInt8], path: String) throws(CheckpointError) {
    do throws(CheckpointError) {
      let document = try JSONObject(JSONValue(parsing: text), place: "")
      try self.init(Self.logits(in: document))
    } catch {
      var error = error.at(path: path)
      error.remedy =
        error.remedy ?? "give the output of step3-verify logits --json or step3-verify all --json"
      throw error
    }
  }

  /// The document itself, or the one among all checks.
  private static func logits(in document: JSONObject) throws(CheckpointError) -> JSONObject {
    guard let checks = document.value("checks"), document.value("kl") == nil else { return document }
    for check in checks.items ?? [] {
      let check = try JSONObject(check, place: "checks.")
      guard try check.string("name") == "logits" else { continue }
      guard let report = try check.object("report") else {
        throw CheckpointError(.malformed, "its logits check was not run")
      }
      return report
    }
    throw CheckpointError(.malformed, "it has no logits check")
  }

  private init(_ document: JSONObject) throws(CheckpointError) {
    guard let kl = try document.object("kl") else {
      throw CheckpointError(.malformed, "it has no \"kl\": it is not a comparison of logits")
    }
    ok = try document.bool("ok", default: false)
    tokens = try document.integer("tokens", in: 0...Self.most)
    meanKL = try Self.number("mean", of: kl)
    standardError = try Self.optional("standardError", of: kl)
    largestKL = try Self.number("max", of: kl)
    top1Agreement = try Self.number("top1Agreement", of: document)
    let perplexity = try document.object("perplexity")
    referencePerplexity = try perplexity.flatMap { (object) throws(CheckpointError) in
      try Self.optional("reference", of: object)
    }
    candidatePerplexity = try perplexity.flatMap { (object) throws(CheckpointError) in
      try Self.optional("candidate", of: object)
    }
    divergences = try Self.numbers("perToken", of: kl)
    guard divergences.isEmpty || divergences.count == tokens else {
      throw CheckpointError(
        .malformed, "kl.perToken has \(divergences.count) figures for \(tokens) tokens")
    }
    layers = try Self.objects("layers", of: document.object("bisection")) { (layer) throws(CheckpointError) in
      (
        try layer.integer("layer", in: 0...Self.most), try Self.number("relativeError", of: layer),
        try Self.number("limit", of: layer), try layer.bool("ok", default: true)
      )
    }
    experts = try Self.objects("expertAgreement", of: document) { (layer) throws(CheckpointError) in
      (try layer.integer("layer", in: 0...Self.most), try Self.number("agreement", of: layer))
    }
  }

  // MARK: Members

  /// A number; non-finite ones were written as `null`.
  private static func number(_ key: String, of object: JSONObject) throws(CheckpointError) -> Double {
    guard let value = object.values[key] else { throw object.mismatch(key, "a number", nil) }
    if value == .null { return .infinity }
    guard let number = value.double else { throw object.mismatch(key, "a number", value) }
    return number
  }

  private static func optional(_ key: String, of object: JSONObject) throws(CheckpointError) -> Double? {
    object.value(key) == nil ? nil : try number(key, of: object)
  }

  private static func numbers(_ key: String, of object: JSONObject) throws(CheckpointError) -> [Double] {
    guard let value = object.value(key) else { return [] }
    guard let items = value.items else { throw object.mismatch(key, "a list of numbers", value) }
    var numbers: [Double] = []
    for item in items {
      guard item == .null || item.double != nil else { throw object.mismatch(key, "a list of numbers", item) }
      numbers.append(item.double ?? .infinity)
    }
    return numbers
  }

  private static func objects<Element>(
    _ key: String, of object: JSONObject?,
    _ read: (JSONObject) throws(CheckpointError) -> Element
  ) throws(CheckpointError) -> [Element] {
    guard let object, let value = object.value(key) else { return [] }
    guard let items = value.items else { throw object.mismatch(key, "a list", value) }
    var elements: [Element] = []
    for item in items { elements.append(try read(try JSONObject(item, place: "\(object.place)\(key)."))) }
    return elements
  }
}
