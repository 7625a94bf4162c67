/// The general category of a scalar as a number below 30, so that a set of categories is a bit mask.
///
/// Frozen at Unicode 16, the tables of the Oniguruma that the `tokenizers` library is built with. Swift's own tables
/// are newer: what they assign later counts as unassigned here, so that text divides in the same places.
enum ScalarCategory {
  /// The version of Unicode that the reference knows.
  static let unicodeVersion = (major: 16, minor: 0)

  /// Categories by number, under the names that `\p{…}` knows.
  static let names = [
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf",
    "Po",
    "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn",
  ]

  /// All categories.
  static let everything: UInt32 = 1 << 30 - 1
  /// The number of `Nd`, decimal digits.
  static let decimalNumber: UInt8 = 8
  /// The number of `Cn`.
  static let unassigned: UInt8 = 29

  /// The mask of a category (`Lu`) or a group of them (`L`); `nil` for another name.
  static func mask(named name: String) -> UInt32? {
    var mask: UInt32 = 0
    for (number, category) in names.enumerated() where category == name || String(category.prefix(1)) == name
    {
      mask |= 1 << UInt32(number)
    }
    return mask == 0 ? nil : mask
  }

  /// The category of a scalar.
  static func of(_ scalar: Unicode.Scalar) -> UInt8 {
    if scalar.value < 0x80 { return ascii[Int(scalar.value)] }
    // The one scalar whose category changed from 16 to 17: from Ll to Lo.
    if scalar.value == 0x295 { return 1 }
    let category = number(scalar.properties.generalCategory)
    // CJK and Hangul need no look at their age; most of the text outside the Latin script is theirs.
    switch scalar.value {
    case 0x80..<0x250, 0x3041...0x3096, 0x30A1...0x30FF, 0x4E00...0x9FFF, 0xAC00...0xD7A3: return category
    default: break
    }
    guard category != unassigned, let age = scalar.properties.age else { return category }
    return age.major > unicodeVersion.major ? unassigned : category
  }

  private static let ascii: [UInt8] = (0..<0x80 as Range<UInt8>).map {
    number(Unicode.Scalar($0).properties.generalCategory)
  }

  private static func number(_ category: Unicode.GeneralCategory) -> UInt8 {
    switch category {
    case .uppercaseLetter: 0
    case .lowercaseLetter: 1
    case .titlecaseLetter: 2
    case .modifierLetter: 3
    case .otherLetter: 4
    case .nonspacingMark: 5
    case .spacingMark: 6
    case .enclosingMark: 7
    case .decimalNumber: 8
    case .letterNumber: 9
    case .otherNumber: 10
    case .connectorPunctuation: 11
    case .dashPunctuation: 12
    case .openPunctuation: 13
    case .closePunctuation: 14
    case .initialPunctuation: 15
    case .finalPunctuation: 16
    case .otherPunctuation: 17
    case .mathSymbol: 18
    case .currencySymbol: 19
    case .modifierSymbol: 20
    case .otherSymbol: 21
    case .spaceSeparator: 22
    case .lineSeparator: 23
    case .paragraphSeparator: 24
    case .control: 25
    case .format: 26
    case .surrogate: 27
    case .privateUse: 28
    case .unassigned: unassigned
    @unknown default: unassigned
    }
  }
}
