public import TensorFormats

/// The values that blocks of a GGML format can store under given scales, one element at a time: the counterpart of
/// ``SchemeGrid`` for schemes.
///
/// Lattice formats (IQ1, IQ2, IQ3) encode several elements by one code and have no grid. Those of one and two bits
/// without a search for their scale (TQ1_0, TQ2_0, Q1_0, Q2_0), and Q8_K, which no file holds, are left out.
public struct BlockGrid: Sendable {
  /// The values that levels under a shared scale stand for: level · scale - offset, as the format's decoder
  /// computes it.
  public struct Group: Hashable, Sendable {
    /// As the block's scales give it.
    public var scale: Float
    /// 0 where the format has none.
    public var offset: Float = 0
  }

  /// The numbers that are multiplied with a scale.
  private enum Levels: Sendable {
    /// Whole numbers; a code is the distance from the lowest.
    case steps(ClosedRange<Int>)
    /// Unevenly spaced numbers, ascending.
    case uneven([Float])
    /// Twice the numbers of E2M1.
    case fourBitFloats
  }

  /// The format.
  public let elementType: ElementType
  /// The neighbours that share a scale.
  public let groupLength: Int
  private let levels: Levels
  private let groupsOfBlock: @Sendable (_ block: borrowing SuperBlock) -> [Group]
  private let put: @Sendable (_ codes: [Int], _ block: inout SuperBlock) -> Void
  /// The bytes whose bits `put` sets.
  private let cleared: Range<Int>

  /// The grid of a format; `nil` for one whose elements have no codes of their own, and for scalars.
  public init?(_ type: ElementType) {
    guard let grid = Self.all[type] else { return nil }
    self = grid
  }

  /// The groups of blocks, in the order of their elements.
  ///
  /// - Complexity: O(*n*).
  public func groups(of blocks: RawSpan) -> [Group] {
    let size = elementType.block.bytes
    var block = SuperBlock(size: size)
    var groups: [Group] = []
    for index in 0..<blocks.byteCount / size {
      block.load(blocks.extracting(index * size..<(index + 1) * size))
      groups += groupsOfBlock(block)
    }
    return groups
  }

  /// The code whose value is nearest to `value`, and that value, bit for bit what the format's decoder gives. Ties go
  /// to the even code or level; values out of range are clamped.
  public func nearest(_ value: Float, in group: Group) -> (code: UInt8, value: Float) {
    let quotient = (value + group.offset) / group.scale
    // Under a scale of 0 or NaN, all levels stand for the same value.
    let usable = group.scale == 0 || quotient.isNaN ? 0 : quotient
    switch levels {
    case .steps(let range):
      let level = max(Float(range.lowerBound), min(Float(range.upperBound), usable)).rounded(
        .toNearestOrEven)
      return (UInt8(Int(level) - range.lowerBound), level * group.scale - group.offset)
    case .uneven(let numbers):
      let code = IQ4Twin.nearestLevel(usable)
      return (UInt8(code), numbers[code] * group.scale)
    case .fourBitFloats:
      let code = FourBitCode.code(usable / 2)
      // There is no -0.
      return (code == 8 ? 0 : code, FourBitFloats.levels[Int(code)] * group.scale)
    }
  }

  /// Replaces all codes of blocks, leaving their scales.
  ///
  /// - Parameters:
  ///   - codes: One for each element.
  ///   - blocks: Whole blocks, whose scales stay.
  public func store(_ codes: Span<UInt8>, in blocks: inout MutableRawSpan) {
    let (bytes, elements) = (elementType.block.bytes, elementType.block.elements)
    precondition(codes.count / elements * bytes == blocks.byteCount, "codes of other blocks")
    var block = SuperBlock(size: bytes)
    var own = [Int](repeating: 0, count: elements)
    for index in 0..<blocks.byteCount / bytes {
      block.load(blocks.bytes.extracting(index * bytes..<(index + 1) * bytes))
      for byte in cleared { block.bytes[byte] = 0 }
      for element in own.indices { own[element] = Int(codes[index * elements + element]) }
      put(own, &block)
      block.store(into: &blocks, at: index * bytes)
    }
  }
}

// MARK: - The formats

extension BlockGrid {
  private init(
    _ type: ElementType, groupLength: Int, _ levels: Levels, clearing cleared: Range<Int>,
    groups: @escaping @Sendable (_ block: borrowing SuperBlock) -> [Group],
    put: @escaping @Sendable (_ codes: [Int], _ block: inout SuperBlock) -> Void
  ) {
    elementType = type
    self.groupLength = groupLength
    self.levels = levels
    self.cleared = cleared
    groupsOfBlock = groups
    self.put = put
  }

  private static let all: [ElementType: BlockGrid] = {
    let grids = [
      rounded(.q4_0, RoundedBlock(bits: 4, isAffine: false)),
      rounded(.q4_1, RoundedBlock(bits: 4, isAffine: true)),
      rounded(.q5_0, RoundedBlock(bits: 5, isAffine: false)),
      rounded(.q5_1, RoundedBlock(bits: 5, isAffine: true)),
      BlockGrid(
        .q8_0, groupLength: 32, .steps(-127...127), clearing: 2..<34,
        groups: { [Group(scale: $0.half(at: 0))] },
        put: { codes, block in
          for index in 0..<32 { block.bytes[2 + index] = UInt8(bitPattern: Int8(codes[index] - 127)) }
        }),
      BlockGrid(
        .q2K, groupLength: 16, .steps(0...3), clearing: Q2K.levelBytes, groups: Q2K.groups, put: Q2K.put),
      BlockGrid(
        .q3K, groupLength: 16, .steps(-4...3), clearing: Q3K.levelBytes, groups: Q3K.groups, put: Q3K.put),
      BlockGrid(
        .q4K, groupLength: 32, .steps(0...15), clearing: Q4K.levelBytes, groups: KAffineParts.groups,
        put: Q4K.put),
      BlockGrid(
        .q5K, groupLength: 32, .steps(0...31), clearing: Q5K.levelBytes, groups: KAffineParts.groups,
        put: Q5K.put),
      BlockGrid(
        .q6K, groupLength: 16, .steps(-32...31), clearing: Q6K.levelBytes, groups: Q6K.groups, put: Q6K.put),
      BlockGrid(
        .iq4NL, groupLength: 32, .uneven(IQ4Twin.levels), clearing: 2..<18,
        groups: { [Group(scale: $0.half(at: 0))] },
        put: { putNibbles($0, 0..<32, at: 2, &$1) }),
      BlockGrid(
        .iq4XS, groupLength: 32, .uneven(IQ4Twin.levels), clearing: 8..<136,
        groups: { IQ4Twin.scalesXS($0.bytes).map { Group(scale: $0) } },
        put: { codes, block in
          for part in 0..<8 { putNibbles(codes, 32 * part..<32 * part + 32, at: 8 + 16 * part, &block) }
        }),
      BlockGrid(
        .mxfp4, groupLength: 32, .fourBitFloats, clearing: 1..<17,
        groups: { [Group(scale: FourBitFloats.halfPower($0.bytes[0]))] },
        put: { putNibbles($0, 0..<32, at: 1, &$1) }),
      BlockGrid(
        .nvfp4, groupLength: 16, .fourBitFloats, clearing: 4..<36,
        groups: { block in
          var groups: [Group] = []
          for part in 0..<4 { groups.append(Group(scale: FourBitFloats.halfUE4M3(block.bytes[part]))) }
          return groups
        },
        put: { codes, block in
          for part in 0..<4 { putNibbles(codes, 16 * part..<16 * part + 16, at: 4 + 8 * part, &block) }
        }),
    ]
    return Dictionary(uniqueKeysWithValues: grids.map { ($0.elementType, $0) })
  }()

  private static func rounded(_ type: ElementType, _ format: RoundedBlock) -> BlockGrid {
    BlockGrid(
      type, groupLength: 32, .steps(format.levels), clearing: 0..<0,
      groups: { [format.group($0.bytes)] },
      put: { codes, block in format.put(codes.map { Int32($0) }, in: &block.bytes) })
  }

  /// Byte *j* of *n* has the element *j* in its low half, and the one *n* further on in the high half.
  private static func putNibbles(
    _ codes: [Int], _ elements: Range<Int>, at offset: Int, _ block: inout SuperBlock
  ) {
    let half = elements.count / 2
    for index in 0..<half {
      let first = elements.lowerBound + index
      block.bytes[offset + index] = UInt8(codes[first] | codes[first + half] << 4)
    }
  }
}
