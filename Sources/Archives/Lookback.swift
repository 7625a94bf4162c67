internal import TensorFormats

/// What a stream has given lately and nobody has read yet, for reads that come late.
struct Lookback {
  /// Where the bytes that are kept lie in the stream.
  private(set) var range = 0..<0
  /// They follow each other; the first one may begin before ``range``.
  private var chunks: [(start: Int, bytes: [UInt8])] = []
  private let largest: Int
  /// Everything before has been read.
  private var read = 0
  /// What has been read behind that, by its start.
  private var early: [Int: Int] = [:]

  /// - Parameter largest: How many bytes are kept at the most.
  init(largest: Int) { self.largest = largest }

  /// Forgets everything: the stream begins again.
  mutating func restart() { self = Lookback(largest: largest) }

  /// Takes in the bytes that follow.
  mutating func append(_ bytes: [UInt8]) {
    chunks.append((range.upperBound, bytes))
    range = range.lowerBound..<range.upperBound + bytes.count
  }

  /// Copies what there is from `offset` on.
  ///
  /// - Precondition: `offset` is not in front of ``range``.
  /// - Returns: How many bytes; 0 if they have not come yet.
  /// - Complexity: O(*n*) for *n* chunks, and the bytes.
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

  /// Notes that something has been read. Bytes that are not going to be missed are forgotten.
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
