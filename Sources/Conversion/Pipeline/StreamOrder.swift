/// Decides which source files are under way at the same time.
///
/// A file's digest takes its bytes one after the other, so that one file cannot keep more than a core busy; several can.
/// But an output file has digests too, and what comes early for those is read back later. So a file begins before its
/// turn only if most of what it gives goes to outputs that no earlier file still has to give something to. What is
/// written does not depend on any of this.
package struct StreamOrder {
  /// What each file gives to each output file, in bytes.
  private let outputBytes: [[Int: Int]]
  private let width: Int
  /// For each output file, the source files that still have to give something to it, in order.
  private var givers: [Int: [Int]] = [:]
  private var unbegun: [Int]
  private var running: Set<Int> = []

  /// The share of what a file gives that may come early.
  private static let earlyShare = 4

  /// - Parameter width: How many may be under way.
  init(_ streams: [SourceStream], width: Int) {
    self.init(outputBytes: streams.map(\.outputBytes), width: width)
  }

  /// - Parameter outputBytes: What each file gives to each output file.
  package init(outputBytes: [[Int: Int]], width: Int) {
    self.outputBytes = outputBytes
    self.width = max(1, width)
    unbegun = Array(outputBytes.indices)
    for (stream, outputs) in outputBytes.enumerated() {
      for output in outputs.keys { givers[output, default: []].append(stream) }
    }
  }

  /// The next file to begin with; `nil` if one has to finish first, or all have begun.
  package mutating func next() -> Int? {
    guard running.count < width else { return nil }
    guard let index = unbegun.firstIndex(where: { running.isEmpty || mayBegin($0) }) else { return nil }
    let stream = unbegun.remove(at: index)
    running.insert(stream)
    return stream
  }

  /// Notes that a file is finished.
  package mutating func finish(_ stream: Int) {
    running.remove(stream)
    for output in outputBytes[stream].keys { givers[output]?.removeAll { $0 == stream } }
  }

  private func mayBegin(_ stream: Int) -> Bool {
    var (early, all) = (0, 0)
    for (output, bytes) in outputBytes[stream] {
      all += bytes
      if let first = givers[output]?.first, first < stream { early += bytes }
    }
    return early <= all / Self.earlyShare
  }
}
