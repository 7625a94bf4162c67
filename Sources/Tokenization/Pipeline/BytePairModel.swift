/// Byte-pair encoding of single words: bytes become tokens, and pairs are merged, best first.
struct BytePairModel: Sendable {
  /// What a byte becomes before any merge.
  enum Start: Hashable, Sendable {
    /// Its own token.
    case token(Int)
    /// The tokens `<0xNN>` of its character's UTF-8 bytes.
    case fallback([Int])
    /// The unknown token; the number is its id.
    case unknown(Int)
    /// Nothing: the vocabulary has no token for it, and no unknown token either.
    case dropped
  }

  /// A pair's merge rank and the resulting token.
  struct Merge: Hashable, Sendable {
    var rank: UInt32
    var id: Int32
  }

  /// By byte.
  var starts: [Start]
  /// By ``pair(_:_:)``.
  var merges: [UInt64: Merge]
  /// Whether a run of unknown bytes becomes one token.
  var fusesUnknown: Bool
  /// The vocabulary's words, if they are used directly without merging.
  var wholeWords: WordTable?

  /// The key of a pair of ids.
  static func pair(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }
}

/// Encodes words with its own buffers and a cache.
struct BytePairEncoder {
  private struct Symbol {
    var id: Int32
    var previous: Int32
    var next: Int32
    var isAlive = true
  }

  /// A candidate merge: rank and position in one number, so that the lowest comes next.
  private struct Candidate {
    var key: UInt64
    var id: Int32
  }

  /// Words beyond this length or this number are not cached.
  private static let longestRemembered = 256
  private static let mostRemembered = 1 << 16

  private let model: BytePairModel
  private var remembered = WordTable()
  private var symbols: [Symbol] = []
  private var queue: [Candidate] = []

  init(_ model: BytePairModel) { self.model = model }

  /// Appends the token ids of a word.
  ///
  /// - Complexity: O(n log n) in the word's bytes.
  mutating func encode(_ word: Span<UInt8>, to output: inout [Int]) {
    guard !word.isEmpty else { return }
    if let wholeWords = model.wholeWords, wholeWords.append(word, to: &output) { return }
    if remembered.append(word, to: &output) { return }
    let start = output.count
    place(word)
    join()
    var index = symbols.isEmpty ? -1 : 0
    while index >= 0 {
      output.append(Int(symbols[index].id))
      index = Int(symbols[index].next)
    }
    if word.count <= Self.longestRemembered, remembered.count < Self.mostRemembered {
      remembered.insert(word, output[start...])
    }
  }

  /// Source of the order of tokens around unknown bytes: `BPE::merge_word` of the `tokenizers` library, which holds
  /// an unknown token back until the next byte that has a token.
  private mutating func place(_ word: Span<UInt8>) {
    symbols.removeAll(keepingCapacity: true)
    var unknown: Int?
    for index in 0..<word.count {
      switch model.starts[Int(word[index])] {
      case .token(let id):
        if let waiting = unknown { append(waiting) }
        unknown = nil
        append(id)
      case .fallback(let ids): for id in ids { append(id) }
      case .unknown(let id):
        if let waiting = unknown, !model.fusesUnknown { append(waiting) }
        unknown = id
      case .dropped: break
      }
    }
    if let waiting = unknown { append(waiting) }
  }

  private mutating func append(_ id: Int) {
    let index = Int32(truncatingIfNeeded: symbols.count)
    if index > 0 { symbols[Int(index) - 1].next = index }
    symbols.append(Symbol(id: Int32(truncatingIfNeeded: id), previous: index - 1, next: -1))
  }

  /// Merges the pair with the lowest rank, leftmost first, until no more pairs can be merged.
  private mutating func join() {
    guard symbols.count > 1 else { return }
    queue.removeAll(keepingCapacity: true)
    for index in 0..<symbols.count - 1 { offer(Int32(truncatingIfNeeded: index)) }
    while let top = pop() {
      let left = Int(UInt32(truncatingIfNeeded: top.key))
      guard symbols[left].isAlive, symbols[left].next >= 0 else { continue }
      let right = symbols[Int(symbols[left].next)]
      // The pair may have changed since it was queued.
      guard model.merges[BytePairModel.pair(symbols[left].id, right.id)]?.id == top.id else { continue }
      symbols[Int(symbols[left].next)].isAlive = false
      symbols[left].id = top.id
      symbols[left].next = right.next
      if right.next >= 0 { symbols[Int(right.next)].previous = Int32(truncatingIfNeeded: left) }
      if symbols[left].previous >= 0 { offer(symbols[left].previous) }
      offer(Int32(truncatingIfNeeded: left))
    }
  }

  /// Queues the pair that begins at `index`, if it can be merged.
  private mutating func offer(_ index: Int32) {
    let left = symbols[Int(index)]
    guard left.next >= 0,
      let merge = model.merges[BytePairModel.pair(left.id, symbols[Int(left.next)].id)]
    else { return }
    queue.append(Candidate(key: UInt64(merge.rank) << 32 | UInt64(index), id: merge.id))
    var child = queue.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard queue[child].key < queue[parent].key else { break }
      queue.swapAt(child, parent)
      child = parent
    }
  }

  private mutating func pop() -> Candidate? {
    guard let top = queue.first, let last = queue.popLast() else { return nil }
    guard !queue.isEmpty else { return top }
    queue[0] = last
    var parent = 0
    while true {
      var child = parent * 2 + 1
      guard child < queue.count else { break }
      if child + 1 < queue.count, queue[child + 1].key < queue[child].key { child += 1 }
      guard queue[child].key < queue[parent].key else { break }
      queue.swapAt(child, parent)
      parent = child
    }
    return top
  }
}
