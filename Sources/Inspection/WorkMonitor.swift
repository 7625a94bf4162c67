/// How long work tells of itself and asks whether to go on; the caller decides what that looks like.
public struct WorkMonitor: Sendable {
  /// That many more bytes have been read and dealt with. Called from many threads.
  public var advance: @Sendable (_ bytes: Int) -> Void
  /// This tensor is being worked on. Called from many threads.
  public var item: @Sendable (_ name: String) -> Void
  /// Whether to stop; the work then throws `CancellationError`.
  public var isCancelled: @Sendable () -> Bool

  /// Tells nobody and never stops, unless told otherwise.
  public init(
    advance: @escaping @Sendable (Int) -> Void = { _ in },
    item: @escaping @Sendable (String) -> Void = { _ in },
    isCancelled: @escaping @Sendable () -> Bool = { false }
  ) {
    self.advance = advance
    self.item = item
    self.isCancelled = isCancelled
  }
}
