internal import TensorFormats

/// Recent stream output that has not been read yet, for out-of-order reads.
struct Lookback {
  /// The stream range of the bytes that are kept.
  private(set) var range = 0..<0
  /// Consecutive; the first may begin before ``range``.
  private var chunks: [(start: Int, bytes: [UInt8])] = []
  private let largest: Int
  /// Everything before this has been read.
  private var read = 0
  /// The ranges read beyond that, by their start.
  private var early: [Int: Int] = [:]

  /// - Parameter largest: The maximum number of bytes kept.
  init(largest: Int) { self.largest = largest }

  /// Forgets everything: the stream starts over.
  mutating func restart() { self = Lookback(largest: largest) }

  /// Appends the next bytes.
  mutating func append(_ bytes: [UInt8]) {
    chunks.append((range.upperBound, bytes))
    range = range.lowerBound..<range.upperBound + bytes.count
  }

  /// Copies what is available from `offset` on.
  ///
  /// - Precondition: `offset` is not before ``range``.
  /// - Returns: The number of bytes; 0 if they have not arrived yet.
  /// - Complexity: O(*n*) for *n* chunks, plus the bytes copied.
  func copy(from offset: Int, into target: UnsafeMutableRawBufferPointer) -> Int {
    guard range.contains(offset), let index = chunks.lastIndex(where: { $0.start <= offset }) else {
      return 0
    }
    var done = 0
    for chunk in chunks[index...] where done < target.count {
      let inside = offset + done - chunk.start
      let count = min(target.count - done, chunk.bytes.count - inside)
      unsafe chunk.bytes.withUnsafeBytes {
        unsafe UnsafeMutableRawBufferPointer(rebasing: target[done...]).copyMemory(
          from: UnsafeRawBufferPointer(rebasing: $0[inside..<inside + count]))
      }
      done += count
    }
    return done
  }

  /// Records that a range has been read. Bytes that are no longer needed are dropped.
  mutating func note(_ range: Range<Int>) {
    if range.lowerBound <= read {
      read = max(read, range.upperBound)
      while let next = early.keys.filter({ $0 <= read }).min(), let end = early.removeValue(forKey: next) {
        read = max(read, end)
      }
    } else {
      early[range.lowerBound] = max(range.upperBound, early[range.lowerBound] ?? 0)
    }
    let start = max(self.range.lowerBound, min(read, self.range.upperBound), self.range.upperBound - largest)
    self.range = start..<self.range.upperBound
    if let kept = chunks.firstIndex(where: { $0.start + $0.bytes.count > start }) {
      chunks.removeFirst(kept)
    } else {
      chunks = []
    }
  }
}
