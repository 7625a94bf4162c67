/// Numbers that threads fill concurrently, each its own range.
///
/// `@unchecked Sendable`: nobody reads a number until the threads that write it are done; `ParallelWork` keeps that order.
@safe
package final class SharedBuffer<Number: BitwiseCopyable & ExpressibleByIntegerLiteral>: @unchecked Sendable {
  package let count: Int
  let base: UnsafeMutablePointer<Number>

  /// Makes zeros.
  package init(count: Int) {
    self.count = count
    unsafe base = .allocate(capacity: max(1, count))
    unsafe base.initialize(repeating: 0, count: max(1, count))
  }

  deinit { unsafe base.deallocate() }

  package subscript(index: Int) -> Number {
    get {
      precondition(index >= 0 && index < count)
      return unsafe base[index]
    }
    set {
      precondition(index >= 0 && index < count)
      unsafe base[index] = newValue
    }
  }

  /// All of them.
  package var array: [Number] { unsafe Array(UnsafeBufferPointer(start: base, count: count)) }
}
