internal import JSON

/// A snapshot of progress, and the ways to print it.
struct ProgressState {
  let done: Int
  let total: Int
  /// Seconds since the start.
  let seconds: Double
  /// Bytes per second; `nil` while it is not known.
  let rate: Double?
  let item: String

  private var fraction: Double { total > 0 ? min(1, Double(done) / Double(total)) : 1 }
  private var percent: Int { Int(fraction * 100) }

  /// Seconds left at this rate; `nil` while that would be a guess.
  private var remaining: Double? {
    guard let rate, rate > 1, done < total else { return nil }
    let seconds = Double(total - done) / rate
    return seconds < 1e7 ? seconds : nil
  }

  /// `hashing  42% ████▌      12.3/29.1 GB  2.31 GB/s  0:07  model.layers.3.…`, within `width` columns.
  func bar(_ activity: String, width: Int) -> String {
    let percentText = String(repeating: " ", count: percent < 10 ? 2 : percent < 100 ? 1 : 0) + "\(percent)%"
    let figures = ([amount] + [rateText, remaining.map(Self.duration)].compactMap { $0 }).joined(
      separator: "  ")
    let fixedWidth = activity.terminalWidth + 1 + percentText.count + 2 + figures.count
    let free = width - fixedWidth
    guard free >= 8 else {
      return "\(activity) \(percentText) \(figures)".truncatedInTheMiddle(to: max(0, width))
    }
    let barWidth = min(24, free - 1)
    var text = "\(activity) \(percentText) \(Self.blocks(fraction, width: barWidth)) \(figures)"
    let itemWidth = free - barWidth - 3
    if itemWidth >= 12, !item.isEmpty {
      text += "  " + item.escapingControlCharacters.truncatedInTheMiddle(to: itemWidth)
    }
    return text
  }

  /// `hashing: 42% of 29.1 GB, 2.31 GB/s, 0:07 left`
  func plainLine(_ activity: String, finished: Bool) -> String {
    if finished { return "\(activity): \(amount) in \(Self.duration(seconds))" }
    let parts = [rateText, remaining.map { Self.duration($0) + " left" }].compactMap { $0 }
    return (["\(activity): \(percent)% of \(ByteSize(bytes: total).decimal)"] + parts).joined(separator: ", ")
  }

  /// One JSON object.
  func jsonLine(_ activity: String, event: String) -> String {
    JSONText.compact(
      Event(
        event: event, activity: activity, bytesDone: done, bytesTotal: total,
        seconds: Self.milliseconds(seconds),
        bytesPerSecond: rate.map { Int($0) }, secondsLeft: remaining.map(Self.milliseconds),
        item: item.isEmpty ? nil : item))
  }

  private struct Event: Encodable {
    let event: String
    let activity: String
    let bytesDone: Int
    let bytesTotal: Int
    let seconds: Double
    let bytesPerSecond: Int?
    let secondsLeft: Double?
    let item: String?
  }

  private static func milliseconds(_ seconds: Double) -> Double { Double(Int(seconds * 1000)) / 1000 }

  private var amount: String {
    done >= total
      ? ByteSize(bytes: total).decimal : "\(ByteSize(bytes: done).decimal)/\(ByteSize(bytes: total).decimal)"
  }

  private var rateText: String? { rate.map { ByteSize(bytes: Int($0)).decimal + "/s" } }

  /// `0:07`, `12:30`, `3:05:00`
  static func duration(_ seconds: Double) -> String {
    let total = Int(seconds)
    func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
    let minutes = total / 60 % 60
    return total >= 3600
      ? "\(total / 3600):\(two(minutes)):\(two(total % 60))" : "\(minutes):\(two(total % 60))"
  }

  /// A bar of `width` columns, filled by eighths.
  private static func blocks(_ fraction: Double, width: Int) -> String {
    let eighths = Int(fraction * Double(width * 8))
    let partial = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]
    let full = String(repeating: "█", count: eighths / 8) + partial
    return full + String(repeating: " ", count: max(0, width - full.count))
  }
}
