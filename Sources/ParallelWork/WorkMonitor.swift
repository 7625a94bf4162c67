/// Receives the progress of long-running work.
public struct WorkMonitor: Sendable {
  /// Called with the number of further bytes processed, from many threads.
  public var advance: @Sendable (_ bytes: Int) -> Void
  /// Called with the tensor being processed, from many threads.
  public var item: @Sendable (_ name: String) -> Void

  /// Ignores everything by default.
  public init(
    advance: @escaping @Sendable (Int) -> Void = { _ in },
    item: @escaping @Sendable (String) -> Void = { _ in }
  ) {
    self.advance = advance
    self.item = item
  }
}
