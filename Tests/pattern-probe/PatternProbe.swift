internal import Foundation
internal import Patterns
internal import TensorFormats

/// Answers questions about patterns, for comparison with the libraries that define the dialects: one JSON document per line,
/// with a dialect, a pattern and texts, and one line of answers for each.
@main struct PatternProbe {
  private struct Question: Decodable {
    var dialect: String
    var pattern: String
    var texts: [String]
  }

  private struct Answer: Encodable {
    /// The fault of the pattern.
    var error: String?
    /// Whether each text matches; `nil` where matching takes too long.
    var matches: [Bool?]?
    /// For the dialect of tokenizers: where the matches in each text begin and end, in bytes.
    var places: [[[Int]]?]?
  }

  static func main() throws {
    let (decoder, encoder) = (JSONDecoder(), JSONEncoder())
    while let line = readLine() {
      let answer = answer(try decoder.decode(Question.self, from: Data(line.utf8)))
      print(String(decoding: try encoder.encode(answer), as: UTF8.self))
    }
  }

  private static func answer(_ question: Question) -> Answer {
    do throws(CheckpointError) {
      if question.dialect == "tokenizer" {
        let pattern = try OnigurumaPattern(question.pattern)
        return Answer(places: question.texts.map { try? places(of: pattern, in: Array($0.utf8)) })
      }
      let pattern =
        question.dialect == "fnmatch"
        ? try PythonPattern(shell: question.pattern) : try PythonPattern(question.pattern)
      return Answer(matches: question.texts.map { try? pattern.matchesStart(of: $0) })
    } catch {
      return Answer(error: "\(error.code.rawValue): \(error.message)")
    }
  }

  private static func places(
    of pattern: OnigurumaPattern, in bytes: [UInt8]
  ) throws(CheckpointError) -> [[Int]] {
    var places: [[Int]] = []
    var matcher = try OnigurumaMatcher(pattern, byteCount: bytes.count)
    try matcher.forEachMatch(in: bytes, 0..<bytes.count) { places.append([$0.lowerBound, $0.upperBound]) }
    return places
  }
}
