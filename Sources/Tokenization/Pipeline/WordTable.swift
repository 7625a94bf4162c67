/// Words and the token ids they become: a cache of earlier words, or the words of the vocabulary.
///
/// Keys and ids are in two arrays, so that a lookup does not allocate.
struct WordTable: Sendable {
  private struct Entry {
    var hash: Int
    var key: Range<Int>
    var ids: Range<Int>
  }

  /// Entry indices, -1 for a free slot; a power of two, at most half in use.
  private var slots: [Int32]
  private var entries: [Entry] = []
  private var keys: [UInt8] = []
  private var ids: [Int32] = []

  init(minimumCapacity: Int = 256) {
    var size = 512
    while size < minimumCapacity * 2 { size *= 2 }
    slots = Array(repeating: -1, count: size)
  }

  /// The number of words.
  var count: Int { entries.count }

  /// Appends the ids of `word`; `false` if it is absent.
  func append(_ word: Span<UInt8>, to output: inout [Int]) -> Bool {
    var slot = Self.hash(word) & (slots.count - 1)
    while slots[slot] >= 0 {
      let entry = entries[Int(slots[slot])]
      if matches(word, entry.key) {
        for index in entry.ids { output.append(Int(ids[index])) }
        return true
      }
      slot = (slot + 1) & (slots.count - 1)
    }
    return false
  }

  /// Adds a new word.
  mutating func insert(_ word: Span<UInt8>, _ newIDs: ArraySlice<Int>) {
    let (keyStart, idStart) = (keys.count, ids.count)
    for index in 0..<word.count { keys.append(word[index]) }
    for id in newIDs { ids.append(Int32(truncatingIfNeeded: id)) }
    let entry = Entry(hash: Self.hash(word), key: keyStart..<keys.count, ids: idStart..<ids.count)
    entries.append(entry)
    if entries.count * 2 > slots.count {
      slots = Array(repeating: -1, count: slots.count * 2)
      for (number, entry) in entries.enumerated() { place(number, entry.hash) }
    } else {
      place(entries.count - 1, entry.hash)
    }
  }

  private mutating func place(_ number: Int, _ hash: Int) {
    var slot = hash & (slots.count - 1)
    while slots[slot] >= 0 { slot = (slot + 1) & (slots.count - 1) }
    slots[slot] = Int32(number)
  }

  private func matches(_ word: Span<UInt8>, _ key: Range<Int>) -> Bool {
    guard word.count == key.count else { return false }
    for index in 0..<word.count where word[index] != keys[key.lowerBound + index] { return false }
    return true
  }

  /// The standard library's hash, seeded per process: collisions cannot be provoked.
  private static func hash(_ word: Span<UInt8>) -> Int {
    var hasher = Hasher()
    unsafe word.withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
    return hasher.finalize()
  }
}
