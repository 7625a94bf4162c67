internal import Synchronization

/// A bounded set of reusable buffers, which keeps a conversion's memory predictable.
///
/// Buffers return to the pool when their last reference goes away. The pool itself sets no limit on buffers in
/// use; its callers do.
@safe public final class BufferPool: Sendable {
  /// Page-aligned memory on its way through a pipeline.
  ///
  /// `@unchecked Sendable`: a buffer is written by the one task that took it and only read after that task has passed
  /// it on; the memory lives as long as the object.
  @safe public final class Buffer: @unchecked Sendable {
    /// How many bytes it holds.
    public let byteCount: Int
    private let memory: UnsafeMutableRawPointer
    private let capacity: Int
    private let pool: BufferPool

    fileprivate init(byteCount: Int, memory: UnsafeMutableRawPointer, capacity: Int, pool: BufferPool) {
      self.byteCount = byteCount
      unsafe self.memory = memory
      self.capacity = capacity
      self.pool = pool
    }

    deinit { unsafe pool.takeBack(memory, capacity: capacity) }

    /// The contents.
    public var bytes: RawSpan {
      @_lifetime(borrow self)
      get {
        let span = unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(start: memory, count: byteCount))
        return unsafe _overrideLifetime(span, borrowing: self)
      }
    }

    /// Lets `body` fill the buffer.
    ///
    /// - Precondition: The caller holds the only reference to the buffer.
    public func fill<Failure: Error, Result>(
      _ body: (inout MutableRawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
      var span = unsafe MutableRawSpan(
        _unsafeBytes: UnsafeMutableRawBufferPointer(start: memory, count: byteCount))
      return try body(&span)
    }
  }

  /// Unused memory. `@unchecked Sendable`: it has one owner, the list it is in.
  @safe private struct Free: @unchecked Sendable {
    let memory: UnsafeMutableRawPointer
    let capacity: Int
  }

  private let free = Mutex<[Free]>([])
  private let keep: Int

  /// Makes a pool that keeps at most `keep` unused buffers for later.
  public init(keep: Int) { self.keep = keep }

  deinit {
    free.withLock { buffers in
      for buffer in buffers { unsafe buffer.memory.deallocate() }
    }
  }

  /// A buffer of `byteCount` bytes with undefined contents.
  ///
  /// - Complexity: O(number of unused buffers); allocates only if none of them is large enough.
  public func take(_ byteCount: Int) -> Buffer {
    // Sizes are rounded up, so that units of nearly the same size share buffers.
    let granule = 1 << 16
    let capacity = max(granule, (byteCount + granule - 1) / granule * granule)
    let reused = free.withLock { buffers -> Free? in
      // Of several that fit alike the one that came back last: more of it is still in the processor's caches.
      let index = buffers.indices.reversed().filter { buffers[$0].capacity >= capacity }
        .min { buffers[$0].capacity < buffers[$1].capacity }
      return index.map { buffers.remove(at: $0) }
    }
    if let reused {
      return unsafe Buffer(byteCount: byteCount, memory: reused.memory, capacity: reused.capacity, pool: self)
    }
    return unsafe Buffer(
      byteCount: byteCount, memory: .allocate(byteCount: capacity, alignment: 4096), capacity: capacity,
      pool: self)
  }

  private func takeBack(_ memory: UnsafeMutableRawPointer, capacity: Int) {
    let surplus = unsafe Free(memory: memory, capacity: capacity)
    let unwanted = free.withLock { buffers -> Free? in
      buffers.append(surplus)
      guard buffers.count > keep else { return nil }
      // The oldest goes first: its size may no longer be in demand.
      return buffers.removeFirst()
    }
    if let unwanted { unsafe unwanted.memory.deallocate() }
  }
}
