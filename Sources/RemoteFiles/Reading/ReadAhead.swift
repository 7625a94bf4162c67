internal import Synchronization
internal import TensorFormats

/// Combines many small reads into few requests: the bytes requested are fetched together with those after them, and
/// cached.
///
/// The amount depends on earlier reads, as in a file system: small at first, doubled each time that reading reaches the
/// end of the fetched bytes. All files of a directory share the memory.
final class ReadAhead: Sendable {
  /// Reads of at least this many bytes are separate requests.
  static let largeByteCount = 1 << 20

  private static let firstByteCount = 128 << 10
  private static let mostByteCount = 4 << 20

  /// Fetched bytes of a file.
  private struct Extent {
    let file: Int
    let range: Range<Int>
    let bytes: [UInt8]
    var lastUse: Int
  }

  private struct State {
    var extents: [Extent] = []
    var uses = 0
    var byteCount = 0
  }

  private let most: Int
  private let state = Mutex(State())
  private let numbers = Atomic<Int>(0)
  /// A read of bytes that are already being fetched waits for them.
  private let lanes = (0..<16).map { _ in Lane() }

  private final class Lane: Sendable { let lock = Mutex(()) }

  /// - Parameter most: The maximum number of cached bytes.
  init(keeping most: Int) { self.most = most }

  /// Assigns a file number, which identifies the file's cached bytes.
  func register() -> Int { numbers.add(1, ordering: .relaxed).newValue }

  /// Fills `target` with a file's bytes from `offset` on.
  ///
  /// - Parameters:
  ///   - file: Its number.
  ///   - byteCount: Its size.
  ///   - fetch: Gets a range of it.
  /// - Throws: What `fetch` throws.
  func read(
    _ file: Int, of byteCount: Int, into target: UnsafeMutableRawBufferPointer, at offset: Int,
    fetch: (UnsafeMutableRawBufferPointer, Int) throws(CheckpointError) -> Void
  ) throws(CheckpointError) {
    var done = 0
    while done < target.count {
      let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: target[done...])
      var there = unsafe copy(file, into: rest, at: offset + done)
      if there == 0 {
        let lane = lanes[((offset + done) / Self.mostByteCount + file) % lanes.count]
        there = try lane.lock.withLock { (_) throws(CheckpointError) -> Int in
          let there = unsafe copy(file, into: rest, at: offset + done)
          guard there == 0 else { return there }
          unsafe try fill(file, byteCount, rest.count, offset + done, fetch)
          return unsafe copy(file, into: rest, at: offset + done)
        }
      }
      done += there
    }
  }

  /// Copies cached bytes.
  ///
  /// - Returns: The number of bytes.
  private func copy(_ file: Int, into target: UnsafeMutableRawBufferPointer, at offset: Int) -> Int {
    state.withLock { state in
      guard
        let index = state.extents.firstIndex(where: { $0.file == file && $0.range.contains(offset) })
      else { return 0 }
      state.uses += 1
      state.extents[index].lastUse = state.uses
      let extent = state.extents[index]
      let count = min(target.count, extent.range.upperBound - offset)
      unsafe extent.bytes.withUnsafeBytes { bytes in
        let start = offset - extent.range.lowerBound
        unsafe UnsafeMutableRawBufferPointer(rebasing: target[..<count])
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[start..<start + count]))
      }
      return count
    }
  }

  private func fill(
    _ file: Int, _ byteCount: Int, _ wanted: Int, _ offset: Int,
    _ fetch: (UnsafeMutableRawBufferPointer, Int) throws(CheckpointError) -> Void
  ) throws(CheckpointError) {
    let before = state.withLock { state in
      state.extents.first { $0.file == file && $0.range.upperBound == offset }?.range.count
    }
    let ahead = before.map { min(2 * $0, Self.mostByteCount) } ?? Self.firstByteCount
    let range = offset..<min(byteCount, offset + max(wanted, ahead))
    var bytes = [UInt8](repeating: 0, count: range.count)
    var failure: CheckpointError?
    unsafe bytes.withUnsafeMutableBytes { all in
      do throws(CheckpointError) { unsafe try fetch(all, offset) } catch { failure = error }
    }
    if let failure { throw failure }
    state.withLock { state in
      state.uses += 1
      state.extents.append(Extent(file: file, range: range, bytes: bytes, lastUse: state.uses))
      state.byteCount += range.count
      while state.byteCount > most, state.extents.count > lanes.count,
        let oldest = state.extents.indices.min(by: { state.extents[$0].lastUse < state.extents[$1].lastUse })
      {
        state.byteCount -= state.extents.remove(at: oldest).range.count
      }
    }
  }
}
