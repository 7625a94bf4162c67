public import TensorFormats

/// How the bytes of a piece are ordered inside its frame. The raw value is what the container records.
public enum ArchiveTransform: UInt8, Hashable, Sendable, CaseIterable {
  /// As they are.
  case none = 0
  /// `BytePlanes` of elements of two bytes.
  case planes16 = 1
  /// `BytePlanes` of elements of four bytes.
  case planes32 = 2

  /// The bytes of an element, which is also the number of planes.
  var width: Int {
    switch self {
    case .none: 1
    case .planes16: 2
    case .planes32: 4
    }
  }

  /// The ranges of a piece's planes in its frame's content; the bytes after the last whole element come at the end.
  func planes(of byteCount: Int) -> [Range<Int>] {
    let count = byteCount / width
    var ranges = (0..<width).map { $0 * count..<($0 + 1) * count }
    if count * width < byteCount { ranges.append(count * width..<byteCount) }
    return ranges
  }
}

/// How the pieces of a tensor are stored. Reading them only requires ``transform``.
public struct ArchiveMethod: Hashable, Sendable {
  /// How planes are entropy coded.
  public enum Coding: Hashable, Sendable {
    /// Byte frequencies alone (Huffman): fast, and all that weights have to gain.
    case literals
    /// With matches, for repetitive data.
    case matches
  }

  /// The order of the bytes.
  public let transform: ArchiveTransform
  /// The planes that are coded. The others are stored, without spending time on compressing them.
  public let coded: Range<Int>
  /// How they are coded.
  public let coding: Coding

  package init(transform: ArchiveTransform, coded: Range<Int>, coding: Coding) {
    self.transform = transform
    self.coded = coded
    self.coding = coding
  }

  /// Nothing is compressed.
  public static let stored = ArchiveMethod(transform: .none, coded: 0..<0, coding: .literals)

  /// Its name in reports: `2 planes, 1 coded`.
  public var name: String {
    let coding = self.coding == .matches ? "matches" : "Huffman"
    guard transform != .none else { return coded.isEmpty ? "stored" : coding }
    return "\(transform.width) planes, \(coded.count) by \(coding)"
  }
}

// MARK: - Choosing

extension ArchiveMethod {
  /// The share of bytes that a more expensive method must save over a cheaper one.
  private static let worthwhile = 0.03
  /// Anything shorter is stored.
  private static let smallest = 512
  /// What is sampled: all of a short tensor, otherwise four stretches.
  private static let stretchByteCount = 64 << 10
  private static let stretchCount = 4

  /// The parts of a tensor that are sampled.
  public static func sample(of range: Range<Int>) -> [Range<Int>] {
    guard range.count > stretchCount * stretchByteCount else { return [range] }
    return (0..<stretchCount).map { number in
      let last = range.count - stretchByteCount
      // At a multiple of every element size.
      let start = range.lowerBound + last / (stretchCount - 1) * number / 256 * 256
      return start..<start + stretchByteCount
    }
  }

  /// Chooses a method for a tensor by trying all that its type allows, from the cheapest to the most expensive: equal
  /// samples give equal methods.
  ///
  /// - Parameters:
  ///   - elementType: What the tensor holds; `nil` for anything that is not a tensor.
  ///   - sample: Its parts, as ``sample(of:)`` selects them.
  ///   - encoder: Compresses the sample.
  /// - Returns: The method, and the compressed size as a share of the sample.
  public static func choose(
    for elementType: ElementType?, sample: [[UInt8]], encoder: PieceEncoder
  ) throws(CheckpointError) -> (method: ArchiveMethod, share: Double) {
    let total = sample.reduce(0) { $0 + $1.count }
    guard total >= smallest else { return (.stored, 1) }
    let transforms: [ArchiveTransform] =
      switch elementType {
      case .bf16, .f16: [.none, .planes16]
      case .f32: [.none, .planes32]
      default: [.none]
      }
    var best = ArchiveMethod.stored
    var fewest = total
    for coding in [Coding.literals, .matches] {
      for transform in transforms {
        let trial = try trial(transform, coding, sample, encoder)
        guard Double(fewest - trial.byteCount) >= worthwhile * Double(total) else { continue }
        (best, fewest) = (trial.method, trial.byteCount)
      }
    }
    return (best, Double(fewest) / Double(total))
  }

  /// The compressed size of a sample when only the planes that gain from coding are coded.
  private static func trial(
    _ transform: ArchiveTransform, _ coding: Coding, _ sample: [[UInt8]], _ encoder: PieceEncoder
  ) throws(CheckpointError) -> (method: ArchiveMethod, byteCount: Int) {
    var plain = [Int](repeating: 0, count: transform.width)
    var coded = plain
    for stretch in sample {
      for (plane, sizes) in try unsafe encoder.planeSizes(of: stretch.span.bytes, transform, coding)
        .enumerated()
      {
        plain[plane] += sizes.plain
        coded[plane] += sizes.coded
      }
    }
    let gaining = plain.indices.filter { Double(plain[$0] - coded[$0]) >= worthwhile * Double(plain[$0]) }
    // Coded planes depend on their predecessors, so those in between are coded too.
    let range = gaining.first.map { $0..<gaining[gaining.count - 1] + 1 } ?? 0..<0
    let method = ArchiveMethod(transform: transform, coded: range, coding: coding)
    return (method, plain.indices.reduce(0) { $0 + (range.contains($1) ? coded[$1] : plain[$1]) })
  }
}
