/// The file name of one part of a split model: `PREFIX-00002-of-00005.gguf`.
public struct GGUFSplitName: Hashable, Sendable {
  /// What the names of all parts start with, with the folder if there was one.
  public let prefix: String
  /// Counted from 0, as the metadata counts; the name counts from 1.
  public let index: Int
  /// How many parts there are.
  public let count: Int

  /// The name of part `index` of `count`.
  ///
  /// - Precondition: `0 <= index < count`.
  public init(prefix: String, index: Int, count: Int) {
    precondition(index >= 0 && index < count, "part \(index) of \(count)")
    self.prefix = prefix
    self.index = index
    self.count = count
  }

  /// Takes a path apart; `nil` if it is not named like a part. Numbers have at least five digits, with leading zeros,
  /// as `%05d` prints them.
  public init?(path: String) {
    guard path.hasSuffix(".gguf") else { return nil }
    var rest = path.dropLast(5)
    guard let count = GGUFSplitName.takeNumber(fromEndOf: &rest), rest.hasSuffix("-of-") else { return nil }
    rest = rest.dropLast(4)
    guard let number = GGUFSplitName.takeNumber(fromEndOf: &rest), rest.hasSuffix("-") else { return nil }
    guard number >= 1, number <= count else { return nil }
    self.init(prefix: String(rest.dropLast()), index: number - 1, count: count)
  }

  /// The path of this part.
  public var path: String {
    "\(prefix)-\(GGUFSplitName.fiveDigits(index + 1))-of-\(GGUFSplitName.fiveDigits(count)).gguf"
  }

  /// The name of another part of the same model.
  ///
  /// - Precondition: There is such a part.
  public func sibling(_ index: Int) -> GGUFSplitName {
    GGUFSplitName(prefix: prefix, index: index, count: count)
  }

  private static func takeNumber(fromEndOf text: inout Substring) -> Int? {
    var digits = 0
    for byte in text.utf8.reversed() {
      guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { break }
      digits += 1
    }
    let number = text.suffix(digits)
    guard digits >= 5, let value = Int(number), fiveDigits(value) == number else { return nil }
    text = text.dropLast(digits)
    return value
  }

  private static func fiveDigits(_ value: Int) -> String {
    let digits = String(value)
    return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
  }
}

/// The metadata that ties the parts of a split model together.
///
/// Source: `llama.cpp/src/llama-arch.cpp` (`LLM_KV_SPLIT_*`) and `llama.cpp/tools/gguf-split`.
public enum GGUFSplitKey {
  /// The part's index, counted from 0: u16.
  public static let index = "split.no"
  /// The number of parts: u16.
  public static let count = "split.count"
  /// The number of tensors in all parts together: i32.
  public static let tensorCount = "split.tensors.count"
}
