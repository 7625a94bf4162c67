/// Decides which source files are in progress at the same time.
///
/// A file's digest takes its bytes one after the other, so that one file cannot keep more than one core busy, but
/// several can. Output files have digests too, and bytes that come early for those are read back later. So a file
/// starts before its turn only if most of its bytes go to outputs that no earlier file still contributes to. The output
/// does not depend on any of this.
package struct StreamOrder {
  /// How many bytes each file contributes to each output file.
  private let outputBytes: [[Int: Int]]
  private let width: Int
  /// For each output file, the source files that still have to contribute to it, in order.
  private var givers: [Int: [Int]] = [:]
  private var unbegun: [Int]
  private var running: Set<Int> = []

  /// The share of a file's bytes that may come early, as a divisor.
  private static let earlyShare = 4

  /// - Parameter width: How many may be in progress.
  init(_ streams: [SourceStream], width: Int) {
    self.init(outputBytes: streams.map(\.outputBytes), width: width)
  }

  /// - Parameter outputBytes: How many bytes each file contributes to each output file.
  package init(outputBytes: [[Int: Int]], width: Int) {
    self.outputBytes = outputBytes
    self.width = max(1, width)
    unbegun = Array(outputBytes.indices)
    for (stream, outputs) in outputBytes.enumerated() {
      for output in outputs.keys { givers[output, default: []].append(stream) }
    }
  }

  /// The next file to start; `nil` if one has to finish first, or all have started.
  package mutating func next() -> Int? {
    guard running.count < width else { return nil }
    guard let index = unbegun.firstIndex(where: { running.isEmpty || mayBegin($0) }) else { return nil }
    let stream = unbegun.remove(at: index)
    running.insert(stream)
    return stream
  }

  /// Records that a file is finished.
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
