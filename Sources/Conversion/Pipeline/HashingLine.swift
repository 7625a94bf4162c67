package import ByteStreams
internal import Synchronization
internal import TensorFormats

/// Both digests of one file, as far as its bytes have been taken in.
///
/// `@unchecked Sendable`: at any time one task takes bytes in, the lane of the file or one that does it for it, and they
/// pass it on to each other through ``HashingLine``.
package final class RunningDigests: @unchecked Sendable {
  private var xxh3 = XXH3Digester()
  private var sha256 = SHA256Stream()

  /// Those of nothing.
  package init() {}

  /// Takes in the next bytes.
  func update(_ bytes: RawSpan) {
    sha256.update(bytes)
    xxh3.update(bytes)
  }

  /// Takes in the next bytes of two files.
  static func update(_ one: RunningDigests, _ bytes: RawSpan, _ other: RunningDigests, _ otherBytes: RawSpan)
  {
    SHA256Stream.update(&one.sha256, bytes, &other.sha256, otherBytes)
    one.xxh3.update(bytes)
    other.xxh3.update(otherBytes)
  }

  /// The digests of what has been taken in.
  package var digests: FileDigests { FileDigests(xxh3: xxh3.finalize(), sha256: sha256.finalize()) }
}

/// Hashes what the lanes of several files have, on a few cores, each of which takes in two files at a time.
///
/// Two files together take a core little longer than one (``SHA256Stream``). So there are only half as many lanes at work
/// as threads may compute; whoever comes while all are at work waits, and one of those takes its bytes along. A lane whose
/// own bytes have been taken in goes back to its queue, and whom it has taken along goes on in its place: there is no
/// thread that does nothing but hash. A lane that has nothing further in its queue, and nobody to take along, can wait for
/// a moment until somebody comes: it is not what holds the others up.
package final class HashingLine: Sendable {
  /// - Parameter threads: How many threads may compute.
  package init(threads: Int) { width = max(1, (threads + 1) / 2) }

  private let width: Int
  private let state = Mutex(State())

  private struct State {
    /// How many lanes are at work.
    var working = 0
    /// Who waits, the first to be taken along first.
    var waiting: [Request] = []

    mutating func next() -> Request? { waiting.isEmpty ? nil : waiting.removeFirst() }
  }

  /// What a lane has.
  ///
  /// `@unchecked Sendable`: it belongs to whoever is at work on it.
  private final class Request: @unchecked Sendable {
    let digests: RunningDigests
    let buffer: BufferPool.Buffer
    let meter: Meter
    /// Whether it can wait for company.
    let isPatient: Bool
    /// What has not been taken in.
    var range: Range<Int>
    /// Wakes the lane.
    var continuation: CheckedContinuation<Turn, Never>?

    init(
      _ digests: RunningDigests, _ buffer: BufferPool.Buffer, _ range: Range<Int>, isPatient: Bool,
      _ meter: Meter
    ) {
      (self.digests, self.buffer, self.range, self.meter) = (digests, buffer, range, meter)
      self.isPatient = isPatient
    }

    func wake(_ turn: Turn) {
      continuation?.resume(returning: turn)
    }
  }

  private enum Turn {
    /// The lane is to go to work on what is left.
    case toWork
    case done
  }

  /// What is taken in at a time: two of them stay in a core's second-level cache from one digest to the next.
  private static let pieceBytes = 1 << 16

  /// How long a lane waits for company: longer than others keep a thread from a core, and not so long that memory runs out.
  private static let patience = Duration.milliseconds(5)
  /// Shorter pieces are not worth a wait.
  private static let patientBytes = 1 << 20

  /// Takes bytes into a file's digests. Returns when that is done.
  ///
  /// - Parameters:
  ///   - isUrgent: Whether the lane has more to take in, so that it should not wait for company.
  ///   - meter: Counts the time that it takes, half of it where two files share it.
  package func take(
    _ range: Range<Int>, of buffer: BufferPool.Buffer, into digests: RunningDigests, isUrgent: Bool = true,
    meter: Meter
  ) async {
    let isPatient = SHA256Stream.gainsByPairs && !isUrgent && range.count >= Self.patientBytes
    let request = Request(digests, buffer, range, isPatient: isPatient, meter)
    let turn = await withCheckedContinuation { continuation in
      request.continuation = continuation
      let (isFree, isAlone) = state.withLock { state in
        let isFree = state.working < width
        if isFree, !(isPatient && state.waiting.isEmpty) {
          state.working += 1
          return (true, false)
        }
        state.waiting.append(request)
        return (false, isFree)
      }
      if isFree { request.wake(.toWork) }
      if isAlone { waitForCompany(request) }
    }
    // What others have taken in for it happened before this, also for ThreadSanitizer.
    state.withLock { _ in }
    if turn == .toWork { work(on: request) }
  }

  /// Sets a lane to work on what it has if nobody has come by then.
  private func waitForCompany(_ request: Request) {
    Task {
      try? await Task.sleep(for: Self.patience)
      start(request)
    }
  }

  private func start(_ request: Request) {
    let isLeft = state.withLock { state in
      guard state.working < width, let index = state.waiting.firstIndex(where: { $0 === request }) else {
        return false
      }
      state.waiting.remove(at: index)
      state.working += 1
      return true
    }
    if isLeft { request.wake(.toWork) }
  }

  private func work(on own: Request) {
    var companion: Request?
    while !own.range.isEmpty {
      if companion == nil { companion = state.withLock { $0.next() } }
      guard let other = companion else {
        Self.hash(own)
        continue
      }
      Self.hash(own, other)
      if other.range.isEmpty {
        companion = nil
        state.withLock { _ in }
        other.wake(.done)
      }
    }
    let (successor, isLeftAlone) = state.withLock { state -> (Request?, Bool) in
      let successor = companion ?? state.next()
      if let successor, !successor.isPatient || !state.waiting.isEmpty { return (successor, false) }
      state.working -= 1
      if let successor { state.waiting.append(successor) }
      return (successor, successor != nil)
    }
    guard let successor else { return }
    if isLeftAlone { waitForCompany(successor) } else { successor.wake(.toWork) }
  }

  private static func hash(_ request: Request) {
    let buffer = request.buffer
    let piece = request.range.prefix(pieceBytes)
    request.meter.measure { request.digests.update(buffer.bytes.extracting(piece)) }
    request.range = piece.upperBound..<request.range.upperBound
  }

  private static func hash(_ one: Request, _ other: Request) {
    let (buffer, otherBuffer) = (one.buffer, other.buffer)
    let count = min(pieceBytes, one.range.count, other.range.count)
    let (piece, otherPiece) = (one.range.prefix(count), other.range.prefix(count))
    let start = ContinuousClock.now
    RunningDigests.update(
      one.digests, buffer.bytes.extracting(piece), other.digests, otherBuffer.bytes.extracting(otherPiece))
    let half = start.duration(to: .now) / 2
    one.meter.add(half)
    other.meter.add(half)
    one.range = piece.upperBound..<one.range.upperBound
    other.range = otherPiece.upperBound..<other.range.upperBound
  }
}
