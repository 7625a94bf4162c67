/// What a lane still has to take in, in order.
///
/// Without a bound of its own: whatever waits here holds permits for its memory.
struct LaneInput<Element: Sendable>: Sendable {
  private let stream: AsyncStream<Element>
  private let continuation: AsyncStream<Element>.Continuation

  init() { (stream, continuation) = AsyncStream.makeStream(of: Element.self) }

  /// Adds something at the end.
  func put(_ element: Element) { continuation.yield(element) }

  /// Nothing more will come.
  func finish() { continuation.finish() }

  /// What comes, in order.
  var elements: AsyncStream<Element> { stream }
}
