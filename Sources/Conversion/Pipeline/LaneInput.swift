internal import Synchronization

/// A lane's input queue, in order.
///
/// It needs no bound of its own: everything waiting here holds permits for its memory.
struct LaneInput<Element: Sendable>: Sendable {
  private let stream: AsyncStream<Element>
  private let continuation: AsyncStream<Element>.Continuation
  private let waiting = Counter()

  private final class Counter: Sendable {
    let count = Atomic<Int>(0)
  }

  init() { (stream, continuation) = AsyncStream.makeStream(of: Element.self) }

  /// Adds something at the end.
  func put(_ element: Element) {
    waiting.count.add(1, ordering: .relaxed)
    continuation.yield(element)
  }

  /// Notes that one of the elements has been taken.
  ///
  /// - Returns: Whether there are more.
  func taken() -> Bool { waiting.count.subtract(1, ordering: .relaxed).newValue > 0 }

  /// Nothing more will come.
  func finish() { continuation.finish() }

  /// What comes, in order.
  var elements: AsyncStream<Element> { stream }
}
