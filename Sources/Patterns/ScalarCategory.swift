/// The general categories of all scalars, as members of an Oniguruma class.
///
/// Frozen at Unicode 16, the tables of the Oniguruma that the `tokenizers` library is built with. Swift's own tables
/// are newer: later assignments count as unassigned here, so that text is split in the same places.
enum ScalarCategory {
  /// The Unicode version of the reference.
  private static let unicodeVersion = (major: 16, minor: 0)

  /// Categories by number, under the names that `\p{…}` knows. There are no surrogates in UTF-8.
  private static let names = [
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf",
    "Po",
    "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cn",
  ]
  private static let unassigned = 28

  /// The members of a category (`Lu`), or of a group of them (`L`), as ranges; `nil` for another name.
  static func members(of name: String) -> String? {
    let isWanted = names.map { $0 == name || $0.prefix(1) == name }
    guard isWanted.contains(true) else { return nil }
    var ranges: [ClosedRange<UInt32>] = []
    for run in runs where isWanted[run.category] {
      if let last = ranges.last, last.upperBound + 1 == run.range.lowerBound {
        ranges[ranges.count - 1] = last.lowerBound...run.range.upperBound
      } else {
        ranges.append(run.range)
      }
    }
    func written(_ value: UInt32) -> String { "\\x{\(String(value, radix: 16))}" }
    return ranges.map {
      $0.count == 1 ? written($0.lowerBound) : "\(written($0.lowerBound))-\(written($0.upperBound))"
    }.joined()
  }

  /// Large ranges of one category, whose scalars need not be checked one by one.
  private static let large: [(range: ClosedRange<UInt32>, name: String)] = [
    (0x3400...0x4DBF, "Lo"), (0x4E00...0x9FFF, "Lo"), (0xAC00...0xD7A3, "Lo"), (0xE000...0xF8FF, "Co"),
    (0x17000...0x187F7, "Lo"), (0x20000...0x2A6DF, "Lo"), (0x30000...0x3134A, "Lo"),
    (0x323B0...0xE0000, "Cn"), (0xE01F0...0xEFFFF, "Cn"), (0xF0000...0xFFFFD, "Co"),
    (0x100000...0x10FFFD, "Co"),
  ]

  /// All scalars, in order, by runs of one category.
  private static let runs: [(category: Int, range: ClosedRange<UInt32>)] = {
    var runs: [(category: Int, range: ClosedRange<UInt32>)] = []
    func append(_ category: Int, _ range: ClosedRange<UInt32>) {
      if let last = runs.last, last.category == category, last.range.upperBound + 1 == range.lowerBound {
        runs[runs.count - 1].range = last.range.lowerBound...range.upperBound
      } else {
        runs.append((category, range))
      }
    }
    var rest = large[...]
    var value: UInt32 = 0
    while value <= 0x10FFFF {
      if let first = rest.first, first.range.lowerBound == value {
        append(names.firstIndex(of: first.name) ?? unassigned, first.range)
        value = first.range.upperBound + 1
        rest = rest.dropFirst()
      } else {
        if let scalar = Unicode.Scalar(value) { append(category(of: scalar), value...value) }
        value += 1
      }
    }
    return runs
  }()

  private static func category(of scalar: Unicode.Scalar) -> Int {
    // The one scalar whose category changed from 16 to 17: from Ll to Lo.
    if scalar.value == 0x295 { return 1 }
    let category = number(scalar.properties.generalCategory)
    guard category != unassigned, let age = scalar.properties.age else { return category }
    return age.major > unicodeVersion.major ? unassigned : category
  }

  private static func number(_ category: Unicode.GeneralCategory) -> Int {
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
    case .privateUse: 27
    case .surrogate, .unassigned: unassigned
    @unknown default: unassigned
    }
  }
}
