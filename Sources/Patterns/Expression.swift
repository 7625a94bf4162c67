internal import CPCRE2
internal import TensorFormats

/// A compiled regular expression that counts its steps.
///
/// PCRE2's own limit counts backtracking, restarts at every start position and ignores the characters skipped in
/// between, so it does not bound time. Here PCRE2 calls back before every item of the pattern, and a step is counted
/// for the item and for each character since the last one.
@safe final class Expression: Sendable {
  /// Compiled; read only from then on, by any number of threads. Freed with this object.
  private nonisolated(unsafe) let code: OpaquePointer
  /// The number of steps per item. More than one where an item can look at many characters and then fail: back
  /// references, and counted repetitions.
  private let weight: Int

  /// The longest pattern. Real ones have a few dozen characters.
  static let longest = 1 << 14

  /// - Parameter original: The original pattern in another dialect, for messages; offsets in `text` are then not
  ///   reported.
  /// - Throws: `.invalidRequest` if this is not a valid regular expression, with the reason and position.
  init(_ text: String, translating original: String? = nil) throws(CheckpointError) {
    let bytes = Array(text.utf8)
    guard bytes.count <= Self.longest else {
      throw CheckpointError(
        .invalidRequest,
        "a regular expression of \(bytes.count) bytes is too long; the limit is \(Self.longest)")
    }
    if let (message, offset) = Self.setOperation(bytes) { throw Self.error(text, message, at: offset) }
    var number: Int32 = 0
    var offset = 0
    var options = PCRE2_UTF | PCRE2_UCP | PCRE2_AUTO_CALLOUT | PCRE2_NEVER_BACKSLASH_C
    // Up to 10.42 at least, the optimisation that searches for required characters is wrong after a look-ahead:
    // `(?=x)c?x` is not found in "x".
    if text.contains("(?=") || text.contains("(*") { options |= PCRE2_NO_START_OPTIMIZE }
    let compiled = unsafe bytes.withUnsafeBufferPointer {
      unsafe pcre2_compile_8($0.baseAddress, $0.count, options, &number, &offset, nil)
    }
    guard let compiled = unsafe compiled else {
      let message = Self.message(number)
      guard let original else { throw Self.error(text, message, at: offset) }
      throw CheckpointError(.unsupported, "'\(Self.shown(original))' cannot be matched here: \(message)")
    }
    unsafe code = compiled
    var references: UInt32 = 0
    _ = unsafe pcre2_pattern_info_8(compiled, UInt32(PCRE2_INFO_BACKREFMAX), &references)
    weight = 1 + Self.largestCount(bytes) / 16 + (references > 0 ? 1 << 10 : 0)
  }

  deinit { unsafe pcre2_code_free_8(code) }

  // MARK: Matching

  private struct Steps {
    var left: Int
    let weight: Int
    var position = 0
  }

  /// Whether a name has a match.
  ///
  /// - Parameters:
  ///   - isAnchored: Whether the match must start at the beginning of the name; otherwise it may be anywhere.
  ///   - steps: The number of steps allowed; updated to the number left.
  /// - Returns: `nil` if the steps or the memory for backtracking ran out.
  func matches(_ name: NameBytes, isAnchored: Bool = false, steps: inout Int) -> Bool? {
    guard steps > 0, let data = unsafe pcre2_match_data_create_8(1, nil),
      let context = unsafe pcre2_match_context_create_8(nil)
    else { return nil }
    defer {
      unsafe pcre2_match_data_free_8(data)
      unsafe pcre2_match_context_free_8(context)
    }
    // In KiB.
    _ = unsafe pcre2_set_heap_limit_8(context, 1 << 16)
    var counter = Steps(left: steps, weight: weight)
    let result = unsafe withUnsafeMutablePointer(to: &counter) { counter in
      _ = unsafe pcre2_set_callout_8(
        context,
        { block, counter in
          guard let block = unsafe block?.pointee,
            let counter = unsafe counter?.assumingMemoryBound(to: Steps.self)
          else { return PCRE2_ERROR_CALLOUT }
          let moved = unsafe abs(block.current_position - counter.pointee.position)
          unsafe counter.pointee.position = unsafe block.current_position
          unsafe counter.pointee.left -= unsafe moved + counter.pointee.weight
          return unsafe counter.pointee.left > 0 ? 0 : PCRE2_ERROR_CALLOUT
        }, counter)
      return unsafe name.utf8.withUnsafeBufferPointer {
        // Swift's strings are well-formed.
        let options = PCRE2_NO_UTF_CHECK | (isAnchored ? PCRE2_ANCHORED : 0)
        return unsafe pcre2_match_8(code, $0.baseAddress, $0.count, 0, options, data, context)
      }
    }
    steps = counter.left
    if result == PCRE2_ERROR_NOMATCH { return false }
    return result >= 0 ? true : nil
  }

  // MARK: Errors

  private static func error(_ text: String, _ message: String, at offset: Int) -> CheckpointError {
    let position = String(decoding: text.utf8.prefix(offset), as: UTF8.self).count + 1
    return CheckpointError(
      .invalidRequest, "'\(shown(text))' is not a regular expression: \(message), at character \(position)")
  }

  /// The beginning of a pattern, as shown in errors.
  static func shown(_ text: String) -> String {
    (text.count > 200 ? "\(text.prefix(200))..." : text).printable
  }

  private static func message(_ number: Int32) -> String {
    var buffer = [UInt8](repeating: 0, count: 256)
    let length = unsafe buffer.withUnsafeMutableBufferPointer {
      unsafe pcre2_get_error_message_8(number, $0.baseAddress, $0.count)
    }
    return length > 0 ? String(decoding: buffer.prefix(Int(length)), as: UTF8.self) : "error \(number)"
  }
}

// MARK: - The text of patterns

extension Expression {
  /// Other dialects have nested sets, unions and differences, `[a-z&&[^b]]`, which would be interpreted differently
  /// here.
  private static func setOperation(_ text: [UInt8]) -> (message: String, offset: Int)? {
    func byte(_ index: Int) -> UInt8 { index < text.count ? text[index] : 0 }
    var index = 0
    var isInSet = false
    while index < text.count {
      switch text[index] {
      case UInt8(ascii: "\\"):
        if byte(index + 1) == UInt8(ascii: "Q") {
          while index < text.count,
            !(text[index] == UInt8(ascii: "\\") && byte(index + 1) == UInt8(ascii: "E"))
          {
            index += 1
          }
        }
        index += 1
      case UInt8(ascii: "[") where !isInSet:
        isInSet = true
        if byte(index + 1) == UInt8(ascii: "^") { index += 1 }
        if byte(index + 1) == UInt8(ascii: "]") { index += 1 }
      case UInt8(ascii: "[") where byte(index + 1) == UInt8(ascii: ":"):
        // A named set: `[:alpha:]`.
        while index < text.count, text[index] != UInt8(ascii: "]") { index += 1 }
      case UInt8(ascii: "["): return ("nested sets are not supported (write \\[ for the character)", index)
      case UInt8(ascii: "]"): isInSet = false
      case UInt8(ascii: "&"), UInt8(ascii: "-"):
        guard isInSet, byte(index + 1) == text[index] else { break }
        return ("operations on sets are not supported", index)
      default: break
      }
      index += 1
    }
    return nil
  }

  /// The largest number in a quantifier, as in `a{3,5}`; 0 if there is none.
  private static func largestCount(_ text: [UInt8]) -> Int {
    var largest = 0
    var number: Int?
    for byte in text {
      switch byte {
      case UInt8(ascii: "{"): number = 0
      case UInt8(ascii: ","): number = number.map { _ in 0 }
      case UInt8(ascii: "0")...UInt8(ascii: "9"):
        number = number.map { min(1 << 16, $0 * 10 + Int(byte - UInt8(ascii: "0"))) }
        largest = max(largest, number ?? 0)
      default: number = nil
      }
    }
    return largest
  }
}
