internal import Synchronization
public import TensorFormats

/// A regular expression for names, usable from any thread.
public final class NamePattern: Sendable {
  // `Regex` is not `Sendable`: it may hold the closures of a builder. This one is made of text.
  private let regex: Mutex<Regex<AnyRegexOutput>>

  /// Compiles a pattern.
  ///
  /// - Throws: `.invalidRequest`, with what is wrong.
  public init(_ pattern: String) throws(CheckpointError) {
    do {
      regex = Mutex(try Regex(pattern))
    } catch {
      throw CheckpointError(.invalidRequest, "\(error)")
    }
  }

  /// Whether the name has a match anywhere.
  public func matches(_ name: String) -> Bool { regex.withLock { name.firstMatch(of: $0) != nil } }
}
