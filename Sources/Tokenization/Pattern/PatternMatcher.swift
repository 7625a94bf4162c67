internal import TensorFormats

/// Finds the matches of a pattern in a text, by backtracking, in the order in which Perl and its kin try.
///
/// The patterns of tokenizers take time linear in the text. For others there is a limit on steps per scalar, so that
/// no file can keep the process busy for hours.
struct PatternMatcher {
  /// A state to go back to: at `program` with the position at `position`, and then with every lower one down to
  /// `lowest`.
  private struct Choice {
    var program: Int
    var position: Int
    var lowest: Int
  }

  /// Steps per scalar of the text, on average, and some for short ones.
  private static let stepsPerScalar = 256
  private static let freeSteps = 1 << 16

  private let program: PatternProgram
  private var choices: [Choice] = []
  private var stepsLeft = 0

  init(_ program: PatternProgram) { self.program = program }

  /// Calls `body` with each match in `range` from left to right; matches see nothing outside of it.
  ///
  /// - Throws: `.unsupported` if the pattern takes far more than linear time for this text.
  mutating func forEachMatch(
    in text: borrowing ScalarText, _ range: Range<Int>, _ body: (Range<Int>) -> Void
  ) throws(CheckpointError) {
    stepsLeft = Self.freeSteps + range.count * Self.stepsPerScalar
    var position = range.lowerBound
    while position < range.upperBound {
      choices.removeAll(keepingCapacity: true)
      if let end = try match(text, from: 0, at: position, in: range), end > position {
        body(position..<end)
        position = end
      } else {
        position += 1
      }
    }
  }

  /// The end of the first match that begins exactly at `start`.
  private mutating func match(
    _ text: borrowing ScalarText, from first: Int, at start: Int, in range: Range<Int>
  ) throws(CheckpointError) -> Int? {
    let base = choices.count
    var counter = first
    var position = start
    while true {
      stepsLeft -= 1
      guard stepsLeft > 0 else {
        throw CheckpointError(
          .unsupported,
          "the pre_tokenizer's regular expression takes more than \(Self.stepsPerScalar) steps per character of this text"
        )
      }
      var hasFailed = false
      switch program.instructions[counter] {
      case .set(let set):
        if position < range.upperBound,
          program.sets[set].contains(text.values[position], text.categories[position])
        {
          position += 1
          counter += 1
        } else {
          hasFailed = true
        }
      case .run(let set, let minimum, let maximum, let givesBack):
        let limit = maximum < range.upperBound - position ? position + maximum : range.upperBound
        let end = endOfRun(set, text, position..<limit)
        stepsLeft -= end - position
        counter += 1
        if end - position < minimum {
          hasFailed = true
        } else {
          if givesBack, end > position + minimum {
            choices.append(Choice(program: counter, position: end - 1, lowest: position + minimum))
          }
          position = end
        }
      case .fork(let one, let other):
        choices.append(Choice(program: other, position: position, lowest: position))
        counter = one
      case .jump(let target): counter = target
      case .lookahead(let isNegative, let end):
        let isFound = try match(text, from: counter + 1, at: position, in: range) != nil
        if isFound == isNegative { hasFailed = true } else { counter = end }
      case .anchor(let anchor):
        if holds(anchor, text, position, range) { counter += 1 } else { hasFailed = true }
      case .accept:
        choices.removeSubrange(base...)
        return position
      }
      if hasFailed {
        guard choices.count > base else { return nil }
        let top = choices.count - 1
        counter = choices[top].program
        position = choices[top].position
        if position > choices[top].lowest { choices[top].position -= 1 } else { choices.removeLast() }
      }
    }
  }

  private func endOfRun(_ set: Int, _ text: borrowing ScalarText, _ range: Range<Int>) -> Int {
    let set = program.sets[set]
    var end = range.lowerBound
    while end < range.upperBound, set.contains(text.values[end], text.categories[end]) { end += 1 }
    return end
  }

  private func holds(
    _ anchor: PatternNode.Anchor, _ text: borrowing ScalarText, _ position: Int, _ range: Range<Int>
  ) -> Bool {
    switch anchor {
    case .textStart: position == range.lowerBound
    case .textEnd: position == range.upperBound
    // After a line feed that ends the text, no line begins.
    case .lineStart:
      position == range.lowerBound || text.values[position - 1] == 0x0A && position < range.upperBound
    case .lineEnd: position == range.upperBound || text.values[position] == 0x0A
    }
  }
}
