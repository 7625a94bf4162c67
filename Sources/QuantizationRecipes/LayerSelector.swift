public import TensorFormats

/// A set of layers, in terms that work for a model of any depth.
public enum LayerSelector: Hashable, Sendable {
  /// These layers, counted from 0.
  case range(ClosedRange<Int>)
  /// The first *n*.
  case first(Int)
  /// The last *n*.
  case last(Int)
  /// The first *n*th of the layers, rounded down: layer < layerCount / n.
  case firstFraction(Int)
  /// The last layers after (n - 1)/n of them, that bound rounded down: layer >= (n - 1) * layerCount / n.
  case lastFraction(Int)
  /// The layers that the K mixtures give more bits: the first eighth, the last, and every third between.
  ///
  /// Source: `use_more_bits` in llama.cpp's `src/llama-quant.cpp`.
  case moreBits

  /// Whether `layer` of a model with `count` layers is one of them.
  public func contains(_ layer: Int, of count: Int) -> Bool {
    switch self {
    case .range(let range): range.contains(layer)
    case .first(let n): layer < n
    case .last(let n): layer >= count - n
    case .firstFraction(let n): layer < count / max(n, 1)
    case .lastFraction(let n): layer >= (n - 1) * count / max(n, 1)
    case .moreBits:
      layer < count / 8 || layer >= 7 * count / 8 || (layer - count / 8) % 3 == 2
    }
  }
}

extension LayerSelector: CustomStringConvertible {
  /// As recipe files spell it; ``parse(_:)`` reads it back.
  public var description: String {
    switch self {
    case .range(let range):
      range.count == 1 ? "\(range.lowerBound)" : "\(range.lowerBound)-\(range.upperBound)"
    case .first(let n): "first \(n)"
    case .last(let n): "last \(n)"
    case .firstFraction(let n): "first 1/\(n)"
    case .lastFraction(let n): "last 1/\(n)"
    case .moreBits: "more-bits"
    }
  }

  /// Reads a list such as `0-3, 60`, `first 4`, `last 1/8`, `more-bits`.
  ///
  /// - Throws: `.invalidRequest` naming the part that cannot be read.
  public static func parse(_ text: String) throws(CheckpointError) -> [LayerSelector] {
    var result: [LayerSelector] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let words = part.split { $0 == " " || $0 == "\t" }
      result.append(try parse(words: words, part: String(part)))
    }
    return result
  }

  private static func parse(words: [Substring], part: String) throws(CheckpointError) -> LayerSelector {
    switch words.count {
    case 1 where words[0] == "more-bits": return .moreBits
    case 1:
      let ends = words[0].split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
      let numbers = ends.compactMap(layerNumber)
      guard numbers.count == ends.count, let low = numbers.first, let high = numbers.last else { break }
      guard low <= high else {
        throw CheckpointError(.invalidRequest, "the layer range '\(words[0])' runs backwards")
      }
      return .range(low...high)
    case 2 where words[0] == "first" || words[0] == "last":
      let isFirst = words[0] == "first"
      if words[1].hasPrefix("1/"), let n = layerNumber(words[1].dropFirst(2)), n >= 2 {
        return isFirst ? .firstFraction(n) : .lastFraction(n)
      }
      guard let n = layerNumber(words[1]), n >= 1 else { break }
      return isFirst ? .first(n) : .last(n)
    default: break
    }
    throw CheckpointError(
      .invalidRequest, "'\(part.printable)' selects no layers",
      remedy: "write '7', '0-3', 'first 4', 'last 1', 'first 1/8' or 'more-bits', several with commas between"
    )
  }

  /// Digits only, and few enough that no arithmetic on layer numbers can overflow.
  private static func layerNumber(_ text: Substring) -> Int? {
    guard (1...6).contains(text.utf8.count), text.utf8.allSatisfy({ (48...57).contains($0) }) else {
      return nil
    }
    return Int(text)
  }
}

extension LayerSelector: Codable {
  /// Reads the spelling of recipe files.
  public init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    let selectors = try LayerSelector.parse(text)
    guard selectors.count == 1 else {
      throw CheckpointError(.malformed, "'\(text.printable)' is more than one layer selector")
    }
    self = selectors[0]
  }

  /// Writes the spelling of recipe files.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}
