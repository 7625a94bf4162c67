/// A lane's input queue, in order.
///
/// It needs no bound of its own: everything waiting here holds permits for its memory.
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
