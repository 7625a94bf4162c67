/// Reusable memory that lives as long as its owner. Not thread-safe.
@safe final class Scratch {
  private var memory = unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0)
  /// The number of bytes in use.
  private(set) var byteCount = 0

  deinit { unsafe memory.deallocate() }

  /// Resizes to the given number of bytes, with undefined contents.
  func resize(to byteCount: Int) {
    self.byteCount = byteCount
    guard unsafe memory.count < byteCount else { return }
    unsafe memory.deallocate()
    unsafe memory = .allocate(byteCount: byteCount, alignment: 64)
  }

  /// The bytes in use.
  var bytes: RawSpan {
    @_lifetime(borrow self)
    get {
      let span = unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(rebasing: memory[..<byteCount]))
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  /// Lets `body` change the bytes in use.
  func fill<Failure: Error>(
    _ body: (inout MutableRawSpan) throws(Failure) -> Void
  ) throws(Failure) {
    var span = unsafe MutableRawSpan(
      _unsafeBytes: UnsafeMutableRawBufferPointer(rebasing: memory[..<byteCount]))
    try body(&span)
  }
}
