/// Receives the progress of long work; the caller decides what becomes of it.
public struct WorkMonitor: Sendable {
  /// That many more bytes have been read and dealt with. Called from many threads.
  public var advance: @Sendable (_ bytes: Int) -> Void
  /// This tensor is being worked on. Called from many threads.
  public var item: @Sendable (_ name: String) -> Void

  /// Tells nobody, unless told otherwise.
  public init(
    advance: @escaping @Sendable (Int) -> Void = { _ in },
    item: @escaping @Sendable (String) -> Void = { _ in }
  ) {
    self.advance = advance
    self.item = item
  }
}
