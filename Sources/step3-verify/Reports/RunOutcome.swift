import CommandSupport
import Foundation
import Step3Runtime
import TensorFormats
import Tokenization

/// The result of a forward pass, as text and as JSON.
struct RunOutcome: Encodable, Sendable {
  let path: String
  let tokens: Int
  var prompts: [Prompt] = []
  /// Bytes of weights that this process read.
  var bytesRead = 0
  /// The FFN ranks of a disaggregated run.
  var ranks: [Rank]?
  var seconds = 0.0
  var peakMemoryBytes = 0

  init(path: String, tokens: Int) {
    self.path = path
    self.tokens = tokens
  }

  struct Prompt: Encodable, Sendable {
    let tokens: [Int]
    /// The exponential of the mean negative log-likelihood of all tokens but the first; `nil` for a single one.
    let perplexity: Double?
    /// The top tokens after the last one, best first.
    var next: [Successor]
    /// The greedy continuation, if one was asked for.
    var generated: [Int]?
    var generatedText: String?
  }

  /// An FFN rank of a disaggregated run, and what went over its connection.
  struct Rank: Encodable, Sendable {
    let part: String
    let bytesSent: Int
    let bytesReceived: Int
    let weightBytesRead: Int

    init(_ traffic: AFDSession.Traffic) {
      part = traffic.part
      bytesSent = traffic.bytesSent
      bytesReceived = traffic.bytesReceived
      weightBytesRead = traffic.weightBytesRead
    }
  }

  struct Successor: Encodable, Sendable {
    let token: Int
    var text: String?
    let logit: Float
    let probability: Double
  }

  /// Adds texts to token ids.
  mutating func name(with tokenizer: Tokenizer?) {
    peakMemoryBytes = ProcessUsage.peakMemoryBytes
    guard let tokenizer else { return }
    for index in prompts.indices {
      for place in prompts[index].next.indices {
        prompts[index].next[place].text = tokenizer.decode([prompts[index].next[place].token])
      }
      prompts[index].generatedText = prompts[index].generated.map { tokenizer.decode($0) }
    }
  }

  func text(named: Bool, width: Int?) -> String {
    var text = ""
    for (index, prompt) in prompts.enumerated() {
      if prompts.count > 1 { text += "prompt \(index + 1), " }
      text += "\(prompt.tokens.count) tokens"
      if let perplexity = prompt.perplexity { text += ", perplexity \(number(perplexity))" }
      text += "\n"
      var table = TextTable([
        .init("next", .right), .init("token", .right), .init("text"), .init("probability", .right),
        .init("logit", .right),
      ])
      for (rank, successor) in prompt.next.enumerated() {
        table.append([
          "\(rank + 1)", "\(successor.token)", successor.text.map { "'\($0)'" } ?? "",
          percent(successor.probability), NumberText.decimals(Double(successor.logit), 4),
        ])
      }
      text += table.rendered(width: width)
      if let generated = prompt.generated {
        text += "generated  " + generated.map(String.init).joined(separator: ",") + "\n"
        if let words = prompt.generatedText { text += "           '\(words.escapingControlCharacters)'\n" }
      }
      text += "\n"
    }
    text += Self.text(ranks, width: width)
    let rate = seconds > 0 ? ByteSize(bytes: Int(Double(bytesRead) / seconds)).decimal : "-"
    return text
      + "\(ByteSize(bytes: bytesRead).decimal) of weights in \(NumberText.decimals(seconds, 1)) s, \(rate)/s, "
      + "peak memory \(ByteSize(bytes: peakMemoryBytes).binary)\n"
  }
}

extension RunOutcome {
  /// The ranks of a disaggregated run as a table; nothing for other runs.
  static func text(_ ranks: [Rank]?, width: Int?) -> String {
    guard let ranks else { return "" }
    var table = TextTable([
      .init("FFN rank"), .init("tokens sent", .right), .init("sums received", .right),
      .init("weights read", .right),
    ])
    for rank in ranks {
      table.append([
        rank.part, ByteSize(bytes: rank.bytesSent).decimal, ByteSize(bytes: rank.bytesReceived).decimal,
        ByteSize(bytes: rank.weightBytesRead).decimal,
      ])
    }
    return table.rendered(width: width) + "\n"
  }

  /// Accumulates the logits, token by token.
  struct Summary {
    private(set) var prompts: [Prompt] = []
    private let batch: TokenBatch
    private var loss = 0.0

    private static let successors = 5

    init(_ batch: TokenBatch) { self.batch = batch }

    mutating func add(_ logits: Span<Float>, token: Int) {
      guard let range = batch.ranges.first(where: { $0.contains(token) }) else { return }
      // In F64, over all of the vocabulary.
      var largest = -Float.infinity
      for index in logits.indices { largest = max(largest, logits[index]) }
      var sum = 0.0
      for index in logits.indices { sum += exp(Double(logits[index]) - Double(largest)) }
      let normaliser = Double(largest) + log(sum)
      guard token + 1 == range.upperBound else {
        let next = batch.tokens[token + 1]
        if logits.indices.contains(next) { loss += normaliser - Double(logits[next]) }
        return
      }
      let best = Self.best(logits)
      prompts.append(
        Prompt(
          tokens: Array(batch.tokens[range]),
          perplexity: range.count > 1 ? exp(loss / Double(range.count - 1)) : nil,
          next: best.map {
            Successor(token: $0, logit: logits[$0], probability: exp(Double(logits[$0]) - normaliser))
          }))
      loss = 0
    }

    /// The token ids of the largest logits, largest first.
    private static func best(_ logits: Span<Float>) -> [Int] {
      var best: [Int] = []
      for index in logits.indices {
        if best.count == successors, let last = best.last, logits[index] <= logits[last] { continue }
        let place = best.firstIndex { logits[index] > logits[$0] } ?? best.count
        best.insert(index, at: place)
        if best.count > successors { best.removeLast() }
      }
      return best
    }
  }
}
