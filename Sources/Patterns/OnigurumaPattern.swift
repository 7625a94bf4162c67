internal import COnig
internal import Synchronization
public import TensorFormats

/// A regular expression of `tokenizer.json`: Oniguruma on UTF-8, in its own syntax, which is the default of the crate
/// `onig`.
///
/// It is matched by Oniguruma itself, as in the `tokenizers` library, after two changes (``OnigurumaTranslation``):
/// categories are written out as in Unicode 16, the version that `tokenizers` is built with, because the system's
/// Oniguruma may have another; and callouts are inserted to count steps, because Oniguruma's own limits bound neither
/// the time of one match nor that of all.
@safe public final class OnigurumaPattern: Sendable {
  /// The pattern as written.
  public let text: String
  private let isLiteral: Bool
  /// Compiled; read only from then on, by any number of threads. Freed with this object.
  fileprivate nonisolated(unsafe) let code: OnigRegex
  /// Whether the compiled pattern matches several consecutive times.
  fileprivate let repeats: Bool
  /// Whether ASCII text cannot match, which saves a search in most pieces of a text.
  fileprivate let isBeyondASCII: Bool

  /// A regular expression.
  ///
  /// - Throws: `.malformed` for patterns that Oniguruma refuses; `.unsupported` for unsupported syntax, with its
  ///   position.
  public convenience init(_ text: String) throws(CheckpointError) {
    try self.init(text, isLiteral: false)
  }

  /// A pattern that matches exactly `text`.
  public convenience init(literal text: String) throws(CheckpointError) {
    try self.init(text, isLiteral: true)
  }

  /// Oniguruma compiles one pattern at a time.
  private static let compiling = Mutex(())

  private init(_ text: String, isLiteral: Bool) throws(CheckpointError) {
    self.text = text
    self.isLiteral = isLiteral
    isBeyondASCII = !isLiteral && Self.isBeyondASCII(text)
    guard !isLiteral else {
      repeats = false
      unsafe code = try Self.compile(text, as: text, isLiteral: true)
      return
    }
    // Without callouts first: with them, Oniguruma would accept some patterns that it otherwise refuses.
    let plain = try OnigurumaTranslation.expression(text, isCounting: false)
    unsafe onig_free(try Self.compile(text, as: plain.text, isLiteral: false))
    let counting = try OnigurumaTranslation.expression(text, isCounting: true)
    repeats = counting.repeats
    unsafe code = try Self.compile(text, as: counting.text, isLiteral: false)
  }

  /// Whether an expression is a class of characters and ranges beyond ASCII, such as `[一-龥]+`.
  private static func isBeyondASCII(_ text: String) -> Bool {
    var rest = text.unicodeScalars[...]
    if rest.last == "+" { rest.removeLast() }
    guard rest.popFirst() == "[", rest.popLast() == "]", !rest.isEmpty else { return false }
    while let low = rest.popFirst() {
      guard !low.isASCII else { return false }
      guard rest.first == "-" else { continue }
      rest.removeFirst()
      guard let high = rest.popFirst(), !high.isASCII else { return false }
    }
    return true
  }

  private static func compile(
    _ text: String, as translation: String, isLiteral: Bool
  ) throws(CheckpointError) -> OnigRegex {
    let bytes = Array(translation.utf8)
    var message = [UInt8](repeating: 0, count: Int(ONIG_MAX_ERROR_MESSAGE_LEN))
    var length: Int32 = 0
    let compiled = unsafe compiling.withLock { _ in
      unsafe (bytes + [0]).withUnsafeBufferPointer { text in
        unsafe message.withUnsafeMutableBufferPointer {
          unsafe onig_compile_utf8(text.baseAddress, bytes.count, isLiteral ? 1 : 0, $0.baseAddress, &length)
        }
      }
    }
    if let compiled = unsafe compiled { return unsafe compiled }
    let shown = text.count > 200 ? "\(text.prefix(200))..." : text
    throw CheckpointError(
      .malformed,
      "regular expression '\(shown.printable)': \(String(decoding: message.prefix(Int(length)), as: UTF8.self))"
    )
  }

  deinit { unsafe onig_free(code) }
}

extension OnigurumaPattern: Hashable {
  public static func == (a: OnigurumaPattern, b: OnigurumaPattern) -> Bool {
    a.text == b.text && a.isLiteral == b.isLiteral
  }
  public func hash(into hasher: inout Hasher) {
    hasher.combine(text)
    hasher.combine(isLiteral)
  }
}

// MARK: - Matching

/// Finds the matches of a pattern in the pieces of a text, within a number of steps that is linear in the text.
@safe public struct OnigurumaMatcher: ~Copyable {
  /// Steps: callouts, the bytes skipped between them, and retries.
  @unsafe private struct Steps {
    var left: Int
    /// Where the text begins.
    var base: UnsafePointer<UInt8>?
    var position = 0
    var retries: UInt = 0
    /// Where matches ended.
    var ends: [Int] = []
  }

  private static let matchMark = UInt8(ascii: OnigurumaTranslation.matchMark)
  private static let stepsPerByte = 256
  private static let freeSteps = 1 << 16

  private let pattern: OnigurumaPattern
  private let region: UnsafeMutablePointer<OnigRegion>
  private let parameters: OpaquePointer
  private let steps: UnsafeMutablePointer<Steps>

  /// - Parameter byteCount: The length of all pieces together.
  public init(_ pattern: OnigurumaPattern, byteCount: Int) throws(CheckpointError) {
    guard let region = unsafe onig_region_new(), let parameters = unsafe onig_new_match_param() else {
      throw CheckpointError(.unsupported, "out of memory for matching a regular expression")
    }
    self.pattern = pattern
    unsafe self.region = unsafe region
    unsafe self.parameters = unsafe parameters
    unsafe steps = .allocate(capacity: 1)
    unsafe steps.initialize(to: unsafe Steps(left: Self.freeSteps + byteCount * Self.stepsPerByte))
    _ = unsafe onig_initialize_match_param(parameters)
    let stack = UInt32(clamping: Self.freeSteps + byteCount * 4)
    _ = unsafe onig_set_match_stack_limit_size_of_match_param(parameters, stack)
    _ = unsafe onig_set_callout_user_data_of_match_param(parameters, steps)
    _ = unsafe onig_set_progress_callout_of_match_param(parameters) { arguments, data in
      guard let steps = unsafe data?.assumingMemoryBound(to: Steps.self),
        let base = unsafe steps.pointee.base,
        let current = unsafe onig_get_current_by_callout_args(arguments)
      else { return ONIG_ABORT }
      let position = unsafe current - base
      let retries = unsafe onig_get_retry_counter_by_callout_args(arguments)
      // The counter restarts at every start position.
      let known = unsafe retries < steps.pointee.retries ? 0 : steps.pointee.retries
      unsafe steps.pointee.left -= unsafe 1 + Int(retries - known) + abs(position - steps.pointee.position)
      unsafe steps.pointee.position = position
      unsafe steps.pointee.retries = retries
      if unsafe onig_get_contents_by_callout_args(arguments)?.pointee == Self.matchMark {
        unsafe steps.pointee.ends.append(position)
      }
      return unsafe steps.pointee.left > 0 ? 0 : ONIG_ABORT
    }
  }

  deinit {
    unsafe onig_region_free(region, 1)
    unsafe onig_free_match_param(parameters)
    unsafe steps.deinitialize(count: 1)
    unsafe steps.deallocate()
  }

  /// Calls `body` with each match in a piece from left to right; matches do not see anything outside it.
  ///
  /// Empty matches are treated as by `find_iter` of the crate `onig`, which `tokenizers` uses.
  ///
  /// - Precondition: `range` holds whole, well-formed UTF-8 sequences.
  /// - Throws: `.unsupported` if the pattern takes far more than linear time for this text.
  public mutating func forEachMatch(
    in bytes: [UInt8], _ range: Range<Int>, _ body: (Range<Int>) -> Void
  ) throws(CheckpointError) {
    guard !range.isEmpty else { return }
    if pattern.isBeyondASCII, !range.contains(where: { bytes[$0] >= 0x80 }) { return }
    var position = range.lowerBound
    var lastEnd: Int?
    while position <= range.upperBound {
      let status = search(bytes, range, from: position)
      if status == ONIG_MISMATCH { return }
      guard status >= 0 else {
        throw CheckpointError(
          .unsupported,
          "the pre_tokenizer's regular expression '\(pattern.text.printable)' takes more than \(Self.stepsPerByte) steps "
            + "per byte of this text")
      }
      var start = range.lowerBound + Int(unsafe region.pointee.beg[0])
      let end = range.lowerBound + Int(unsafe region.pointee.end[0])
      if pattern.repeats {
        unsafe steps.pointee.left -= start - position + 1
        let ends = unsafe steps.pointee.ends
        for next in ends {
          body(start..<next)
          start = next
        }
        position = end
        continue
      }
      unsafe steps.pointee.left -= end - position + 1
      position = end
      if start == end {
        position += 1
        while position < range.upperBound, bytes[position] & 0xC0 == 0x80 { position += 1 }
      }
      // An empty match right after another counts as part of it.
      if start < end || start != lastEnd { body(start..<end) }
      lastEnd = end
    }
  }

  private mutating func search(_ bytes: [UInt8], _ range: Range<Int>, from position: Int) -> Int32 {
    let left = unsafe UInt(max(1, steps.pointee.left))
    _ = unsafe onig_set_retry_limit_in_match_of_match_param(parameters, left)
    unsafe steps.pointee.retries = 0
    unsafe steps.pointee.ends.removeAll(keepingCapacity: true)
    return unsafe bytes.withUnsafeBufferPointer { bytes in
      guard let base = bytes.baseAddress else { return ONIG_MISMATCH }
      unsafe steps.pointee.base = unsafe base
      unsafe steps.pointee.position = position
      let end = unsafe base + range.upperBound
      return unsafe onig_search_with_param(
        pattern.code, base + range.lowerBound, end, base + position, end, region, ONIG_OPTION_NONE, parameters
      )
    }
  }
}
