/// A text taken apart for matching: its scalars, their categories and where each begins among the bytes.
struct ScalarText {
  /// The scalars' values.
  private(set) var values: [UInt32] = []
  /// Their categories, numbered as in ``ScalarCategory``.
  private(set) var categories: [UInt8] = []
  /// The byte at which each begins, and after the last the byte at which the text ends.
  private(set) var offsets: [Int] = []

  /// How many scalars there are.
  var count: Int { values.count }

  /// Takes `range` of `bytes` apart.
  ///
  /// - Precondition: The range holds whole, well-formed UTF-8 sequences.
  init(_ bytes: [UInt8], _ range: Range<Int>) {
    values.reserveCapacity(range.count)
    categories.reserveCapacity(range.count)
    offsets.reserveCapacity(range.count + 1)
    var index = range.lowerBound
    // Neighbours are often of the same script, and the same few characters come again: remember what was looked up.
    var recent = [UInt64](repeating: .max, count: 1024)
    while index < range.upperBound {
      let lead = UInt32(bytes[index])
      offsets.append(index)
      var value = lead
      switch lead {
      case 0..<0x80: index += 1
      case 0xC0..<0xE0:
        value = (lead & 0x1F) << 6 | Self.tail(bytes, index + 1)
        index += 2
      case 0xE0..<0xF0:
        value = (lead & 0x0F) << 12 | Self.tail(bytes, index + 1) << 6 | Self.tail(bytes, index + 2)
        index += 3
      default:
        value = (lead & 0x07) << 18 | Self.tail(bytes, index + 1) << 12 | Self.tail(bytes, index + 2) << 6
        value |= Self.tail(bytes, index + 3)
        index += 4
      }
      values.append(value)
      let slot = Int(value & 1023)
      if recent[slot] >> 8 == UInt64(value) {
        categories.append(UInt8(truncatingIfNeeded: recent[slot]))
      } else {
        let category = Unicode.Scalar(value).map(ScalarCategory.of) ?? ScalarCategory.unassigned
        recent[slot] = UInt64(value) << 8 | UInt64(category)
        categories.append(category)
      }
    }
    offsets.append(range.upperBound)
  }

  private static func tail(_ bytes: [UInt8], _ index: Int) -> UInt32 { UInt32(bytes[index] & 0x3F) }
}
