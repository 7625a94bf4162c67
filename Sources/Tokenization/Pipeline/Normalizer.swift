internal import Foundation

/// The Unicode normalisations applied to a text, in order.
///
/// The tables of the `tokenizers` library are those of Unicode 9: scalars assigned later are not decomposed, reordered
/// or composed. Tested for every scalar with a combining class; see `Tests/Interop/make_tokenizer_fixtures.py`.
struct Normalizer: Hashable, Sendable {
  /// A normalisation form, under its name in `tokenizer.json`.
  enum Form: String, Hashable, Sendable {
    case nfc = "NFC"
    case nfd = "NFD"
    case nfkc = "NFKC"
    case nfkd = "NFKD"
  }

  /// The Unicode version of the reference's normalisation.
  private static let unicodeVersion = 9

  var forms: [Form] = []

  /// Whether texts are left unchanged.
  var isIdentity: Bool { forms.isEmpty }

  /// The text in these forms.
  func normalize(_ text: String) -> String {
    guard !isIdentity, !text.utf8.allSatisfy({ $0 < 0x80 }) else { return text }
    // Bytes, because a string's scalar view is copied when another is appended.
    var result: [UInt8] = []
    result.reserveCapacity(text.utf8.count)
    // A scalar that is unassigned in the reference is a barrier: nothing is reordered past it or composed with it.
    var known = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      if Self.isKnown(scalar) {
        known.append(scalar)
      } else {
        if !known.isEmpty { result += Array(apply(String(known)).utf8) }
        result += Array(String(scalar).utf8)
        known = String.UnicodeScalarView()
      }
    }
    if !known.isEmpty { result += Array(apply(String(known)).utf8) }
    return String(decoding: result, as: UTF8.self)
  }

  private func apply(_ text: String) -> String {
    var text = text
    for form in forms {
      // ASCII is the same in all forms; anything below the first combining mark is already composed.
      let inert: UInt32 = form == .nfc ? 0x300 : 0x80
      if text.unicodeScalars.allSatisfy({ $0.value < inert }) { continue }
      switch form {
      case .nfc: text = text.precomposedStringWithCanonicalMapping
      case .nfd: text = text.decomposedStringWithCanonicalMapping
      case .nfkc: text = text.precomposedStringWithCompatibilityMapping
      case .nfkd: text = text.decomposedStringWithCompatibilityMapping
      }
    }
    return text
  }

  private static func isKnown(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    // No later assignments in these ranges.
    case 0..<0x300, 0x4E00..<0x9FD6, 0xAC00..<0xD7A4: return true
    default: break
    }
    guard let age = scalar.properties.age else { return false }
    return age.major <= unicodeVersion
  }
}
