internal import Foundation
public import TensorFormats

/// A pattern for tensor names: a glob that the whole name must match, or a regular expression found anywhere in it.
public struct NamePattern: Sendable {
  /// Which of the two.
  public enum Kind: String, Hashable, Sendable, Codable {
    /// `*` stands for any characters (dots too), `?` for one; everything else for itself.
    case glob
    /// An ICU regular expression, not anchored.
    case regex
  }

  /// Glob or regular expression.
  public let kind: Kind
  /// The pattern as written.
  public let text: String
  private let globBytes: [UInt8]
  private let expression: NSRegularExpression?

  /// A glob, such as `model.layers.*.moe.down_proj.weight`. Any text is one.
  public static func glob(_ text: String) -> NamePattern {
    NamePattern(kind: .glob, text: text, globBytes: Array(text.utf8), expression: nil)
  }

  /// A regular expression, such as `attn_(q|k)\.`.
  ///
  /// - Throws: `.invalidRequest` if it is none.
  public static func regex(_ text: String) throws(CheckpointError) -> NamePattern {
    do {
      let expression = try NSRegularExpression(pattern: text)
      return NamePattern(kind: .regex, text: text, globBytes: [], expression: expression)
    } catch {
      throw CheckpointError(.invalidRequest, "'\(text.printable)' is not a regular expression")
    }
  }

  private init(kind: Kind, text: String, globBytes: [UInt8], expression: NSRegularExpression?) {
    self.kind = kind
    self.text = text
    self.globBytes = globBytes
    self.expression = expression
  }

  /// Whether `name` matches.
  ///
  /// - Complexity: For globs O(*p* *n*) at worst; a regular expression is as slow as its author made it.
  public func matches(_ name: String) -> Bool { matches(NameBytes(name)) }

  /// The same for a name that is looked at by many patterns.
  func matches(_ name: NameBytes) -> Bool {
    if let expression {
      let name = name.text
      let whole = NSRange(name.startIndex..., in: name)
      return expression.firstMatch(in: name, range: whole) != nil
    }
    return NamePattern.matches(globBytes, name.utf8)
  }

  /// The greedy two-pointer match: after a mismatch only the latest `*` takes one more byte.
  private static func matches(_ pattern: [UInt8], _ name: [UInt8]) -> Bool {
    let star = UInt8(ascii: "*")
    var p = 0
    var n = 0
    var retry: (pattern: Int, name: Int)?
    while n < name.count {
      if p < pattern.count, pattern[p] == star {
        retry = (p + 1, n)
        p += 1
      } else if p < pattern.count, pattern[p] == name[n] || pattern[p] == UInt8(ascii: "?") {
        p += 1
        n += 1
      } else if let (afterStar, start) = retry {
        p = afterStar
        n = start + 1
        retry = (afterStar, n)
      } else {
        return false
      }
    }
    return pattern[p...].allSatisfy { $0 == star }
  }
}

/// A tensor's name with its bytes, unpacked once for all the patterns that look at it.
struct NameBytes {
  let text: String
  let utf8: [UInt8]

  init(_ text: String) {
    self.text = text
    self.utf8 = Array(text.utf8)
  }
}

extension NamePattern: Hashable {
  public static func == (a: NamePattern, b: NamePattern) -> Bool { a.kind == b.kind && a.text == b.text }
  public func hash(into hasher: inout Hasher) {
    hasher.combine(kind)
    hasher.combine(text)
  }
}

extension NamePattern: CustomStringConvertible {
  /// `name '*.v_proj.weight'` or `regex 'attn_.'`
  public var description: String { "\(kind == .glob ? "name" : "regex") '\(text.printable)'" }
}

extension NamePattern: Codable {
  private enum CodingKeys: String, CodingKey { case glob, regex }

  /// Reads `{"glob": "..."}` or `{"regex": "..."}`.
  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    if let text = try values.decodeIfPresent(String.self, forKey: .glob) {
      self = .glob(text)
    } else {
      self = try .regex(try values.decode(String.self, forKey: .regex))
    }
  }

  /// Writes `{"glob": "..."}` or `{"regex": "..."}`.
  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(text, forKey: kind == .glob ? .glob : .regex)
  }
}
