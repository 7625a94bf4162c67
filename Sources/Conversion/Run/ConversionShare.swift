public import ShardPlanning

/// One of the shares that a conversion is divided into, for several processes or machines sharing a file system.
public struct ConversionShare: Hashable, Sendable, Codable, CustomStringConvertible {
  /// Counted from 1.
  public let number: Int
  /// How many there are.
  public let count: Int

  /// The most shares that a conversion can be divided into.
  public static let most = 4096

  /// A share; `nil` unless there is one of that number.
  public init?(_ number: Int, of count: Int) {
    guard (1...Self.most).contains(count), (1...count).contains(number) else { return nil }
    self.number = number
    self.count = count
  }

  /// Reads `3/16`; `nil` for anything else.
  public init?(_ text: some StringProtocol) {
    let numbers = text.split(separator: "/", omittingEmptySubsequences: false)
    guard numbers.count == 2, numbers.allSatisfy({ $0.allSatisfy { ("0"..."9").contains($0) } }),
      let number = Int(numbers[0]), let count = Int(numbers[1])
    else { return nil }
    self.init(number, of: count)
  }

  /// As the command line writes it: `3/16`.
  public var description: String { "\(number)/\(count)" }

  /// All shares of a division.
  static func all(of count: Int) -> [ConversionShare] { (0..<count).compactMap { Self($0 + 1, of: count) } }

  /// The source files that this share reads, by their indices: whole files, so that each file's digest is computed by a
  /// single share.
  ///
  /// The largest go first, each to the share that has least: no share exceeds the mean by more than one file. The
  /// result is the same on every machine.
  public func sourceFiles(of source: ShardPlan.Source) -> Set<Int> {
    var loads = [Int](repeating: 0, count: count)
    var own: Set<Int> = []
    let files = source.files.indices.filter { !source.files[$0].isDerived }
      .sorted { (source.files[$1].bytes, $0) < (source.files[$0].bytes, $1) }
    for file in files {
      let least = loads.indices.min { (loads[$0], $0) < (loads[$1], $1) } ?? 0
      loads[least] += source.files[file].bytes
      if least == number - 1 { own.insert(file) }
    }
    return own
  }
}
