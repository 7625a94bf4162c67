internal import Synchronization

/// Shows the progress of work on a known number of bytes.
///
/// Safe to call from any number of threads: ``advance(by:)`` is an atomic addition and a look at the clock, and only
/// the call that finds an update due draws it.
public final class ProgressReporter: Sendable {
  /// Where the text goes.
  public typealias Output = @Sendable (String) -> Void
  /// Nanoseconds since any moment; never goes back.
  public typealias Clock = @Sendable () -> UInt64

  private let activity: String
  private let total: Int
  private let style: ProgressStyle
  private let output: Output
  private let clock: Clock
  private let width: @Sendable () -> Int
  private let start: UInt64
  private let interval: UInt64

  private let done = Atomic<Int>(0)
  private let nextDrawing: Atomic<UInt64>
  private let display: Mutex<Display>

  private struct Display {
    var item = ""
    var rate = RateEstimate()
    var drawn = false
    var finished = false
  }

  /// Begins to report.
  ///
  /// - Parameters:
  ///   - activity: What is being done, in a word or two: `hashing`.
  ///   - total: The bytes of all the work.
  ///   - style: `.auto` shows nothing; ``CommonOptions/progressReporter(_:total:)`` resolves it.
  public init(
    _ activity: String, total: Int, style: ProgressStyle,
    output: @escaping Output = { try? StandardStream.error.write($0) },
    clock: @escaping Clock = ProgressReporter.monotonicNanoseconds,
    width: @escaping @Sendable () -> Int = { StandardStream.error.columns ?? 80 }
  ) {
    self.activity = activity
    self.total = total
    self.style = style == .auto ? .none : style
    self.output = output
    self.clock = clock
    self.width = width
    // A bar moves ten times a second; lines that stay are worth one every few seconds.
    interval = style == .bar ? 100_000_000 : style == .json ? 1_000_000_000 : 5_000_000_000
    start = clock()
    nextDrawing = Atomic(start + interval)
    display = Mutex(Display())
  }

  deinit { finish() }

  /// The default clock; tests inject their own.
  public static func monotonicNanoseconds() -> UInt64 {
    let elapsed = processStart.duration(to: .now).components
    return UInt64(elapsed.seconds) * 1_000_000_000 + UInt64(elapsed.attoseconds / 1_000_000_000)
  }
  private static let processStart = ContinuousClock.now

  /// Reports that `bytes` more are done.
  public func advance(by bytes: Int) {
    done.add(bytes, ordering: .relaxed)
    drawIfDue()
  }

  /// Sets the name of the item being worked on.
  public func setItem(_ name: String) {
    guard style != .none else { return }
    display.withLock { $0.item = name }
    drawIfDue()
  }

  /// Prints a line of its own, above the bar if there is one.
  public func note(_ line: String) {
    display.withLock { display in
      if display.drawn { output("\r\u{1B}[K") }
      display.drawn = false
      output(line.escapingControlCharacters + "\n")
    }
  }

  /// Removes the bar, or prints the last line. Later calls do nothing.
  public func finish() {
    display.withLock { display in
      guard !display.finished else { return }
      display.finished = true
      let state = state(&display)
      switch style {
      case .bar: if display.drawn { output("\r\u{1B}[K") }
      case .plain:
        // Work that finished before the first line was due needs no last one.
        if display.drawn { output(state.plainLine(activity, finished: true) + "\n") }
      case .json: output(state.jsonLine(activity, event: "finished") + "\n")
      case .auto, .none: break
      }
    }
  }

  /// How much was done and how fast, for a final line: `reading: 29.1 GB in 0:07, 4.16 GB/s`.
  public var outcome: String {
    let nanoseconds = max(1, clock() - start)
    let bytes = done.load(ordering: .relaxed)
    let rate = ByteSize(bytes: Int(Double(bytes) / Double(nanoseconds) * 1e9)).decimal
    return
      "\(activity): \(ByteSize(bytes: bytes).decimal) in \(ProgressState.duration(Double(nanoseconds) / 1e9)), "
      + "\(rate)/s"
  }

  private func drawIfDue() {
    guard style != .none else { return }
    let now = clock()
    let due = nextDrawing.load(ordering: .relaxed)
    guard now >= due,
      nextDrawing.compareExchange(expected: due, desired: now + interval, ordering: .relaxed).exchanged
    else { return }
    display.withLock { display in
      guard !display.finished else { return }
      let state = state(&display)
      display.drawn = true
      switch style {
      case .bar: output("\r" + state.bar(activity, width: width() - 1) + "\u{1B}[K")
      case .plain: output(state.plainLine(activity, finished: false) + "\n")
      case .json: output(state.jsonLine(activity, event: "progress") + "\n")
      case .auto, .none: break
      }
    }
  }

  private func state(_ display: inout Display) -> ProgressState {
    let now = clock()
    let done = done.load(ordering: .relaxed)
    display.rate.update(bytes: done, nanoseconds: now - start)
    return ProgressState(
      done: done, total: total, seconds: Double(now - start) / 1e9, rate: display.rate.bytesPerSecond,
      item: display.item)
  }
}

/// Bytes per second, smoothed over about five seconds, so that neither one slow file nor the cache's first burst
/// makes the remaining time jump.
struct RateEstimate {
  private(set) var bytesPerSecond: Double?
  private var lastBytes = 0
  private var lastNanoseconds: UInt64 = 0

  mutating func update(bytes: Int, nanoseconds: UInt64) {
    let seconds = Double(nanoseconds - lastNanoseconds) / 1e9
    guard seconds > 0.01 else { return }
    let current = Double(bytes - lastBytes) / seconds
    if let old = bytesPerSecond {
      // The first-order form of 1 - exp(-t/5), exact enough and without libm.
      let weight = seconds / (seconds + 5)
      bytesPerSecond = old + weight * (current - old)
    } else {
      bytesPerSecond = current
    }
    lastBytes = bytes
    lastNanoseconds = nanoseconds
  }
}
