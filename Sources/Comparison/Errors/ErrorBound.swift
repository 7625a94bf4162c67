internal import Quantization
internal import TensorFormats

/// What error a format makes: the most that it can be in one block, and how much of that it is on the whole.
///
/// *Block by block.* Values that share a scale are judged together. Of a block with the values x, restored as y,
///
///     ‖x - y‖  <=  relative · ‖x‖ + √n · (ofLargest · L + absolute)
///
/// where n counts the block's elements and L is the largest magnitude within ``reach``, which is wider than the block
/// where scales have scales of their own. For rounding this holds for any values; for formats that are searched
/// it is measured. A block that is zero, has a doubled scale or belongs elsewhere misses by its own norm or more, so that
/// it is found wherever the right side is less than ‖x‖, however small its part of the tensor.
///
/// *On the whole.* Errors are hardly ever the largest possible. Over many blocks the root of the mean squared error stays
/// below ``typical`` times the root of the mean square of the right sides, whatever the distribution of the weights,
/// because the right sides follow it. A mistake that makes every block somewhat worse is found here. What does not average
/// out, blocks of one magnitude and what the smallest steps lose, is counted whole (``RowJudge``).
///
/// Source: the formats' encoders, run on twelve distributions of 524,288 BF16 values: normal, Student's t with three
/// degrees of freedom, Laplace, Cauchy, uniform, shifted, nine tenths zeros, columns of outliers (8 and 60 times), rows and
/// columns of log-normal size, and very small ones; those with a search also with an importance matrix. The figures in
/// the table are the largest found plus 15 % (`typical`: 20 %). Q2_K, IQ1, IQ2 and IQ3 were not held to Cauchy and mostly
/// zeros: their encoders fail on such weights, and saying so is right.
public struct ErrorBound: Hashable, Sendable {
  /// Where the largest magnitude counts.
  public enum Reach: Hashable, Sendable {
    /// In so many neighbours, a multiple of the block.
    case neighbours(Int)
    /// In the row.
    case row
    /// In a tile.
    case tile(rows: Int, columns: Int)
  }

  /// How many neighbours in a row are judged together.
  public var block: Int
  /// Where the largest magnitude counts.
  public var reach: Reach
  /// The part of the bound that grows with the block's norm.
  public var relative: Double
  /// The part that grows with the largest magnitude within reach: steps of equal width.
  public var ofLargest: Double
  /// The part that is always there: steps at the lower end of a scale's or a type's range.
  public var absolute: Double
  /// Whether a block may be off by more than rounding is, because its codes were chosen by what enters its layer.
  public private(set) var isCalibrated = false
  /// The root mean square of the errors over that of the bounds, at most.
  public var typical: Double
  /// Where ``reach`` is wider than the block: the most that the error of all of it may be of its norm.
  public var ceiling: Double
  /// The relative RMSE on normal and on heavy-tailed weights, for people; `nil` where there is none.
  public var expected: Expected?

  /// What the relative RMSE usually is.
  public struct Expected: Hashable, Sendable, Encodable {
    /// On normal weights.
    public let gaussian: Double
    /// On weights of Student's t with three degrees of freedom.
    public let heavyTailed: Double
  }

  /// Whether no error at all is allowed.
  public var isExact: Bool { relative == 0 && ofLargest == 0 && absolute == 0 }

  init(
    block: Int, reach: Reach? = nil, relative: Double = 0, ofLargest: Double = 0, absolute: Double = 0,
    typical: Double = 1, ceiling: Double = zeros, expected: (Double, Double)? = nil
  ) {
    self.block = block
    self.reach = reach ?? .neighbours(block)
    self.relative = relative
    self.ofLargest = ofLargest
    self.absolute = absolute
    self.typical = typical
    self.ceiling = ceiling
    self.expected = expected.map { Expected(gaussian: $0.0, heavyTailed: $0.1) }
  }

  /// The most that rounding makes the norm of a block's error.
  func limit(norm: Double, largest: Float, count: Int) -> Double {
    relative * norm + Double(count).squareRoot() * (ofLargest * Double(largest) + absolute)
  }

  /// The most that the norm of a block's error may be.
  ///
  /// - Parameters:
  ///   - limit: The most that rounding makes it.
  ///   - fixed: What the smallest steps make of it.
  func most(_ limit: Double, norm: Double, fixed: Double) -> Double {
    guard isCalibrated else { return limit }
    // Where rounding alone may lose the block, nothing tells zeros from it.
    return limit < norm ? min(4 * limit, max(0.9 * norm + fixed, limit)) : 1.5 * limit
  }

  /// The same for codes that were chosen by what enters the weight's layer (GPTQ), not for the weight's own sake: the error
  /// of one column is made good in others, so that a code may be some steps away from its nearest.
  ///
  /// A block may be off by four times as much, as long as it is not by nine tenths of its norm, which would hide zeros; where
  /// rounding may lose all of it, by half as much again; the tensor by twice as much. On the trained model of the
  /// tests it was by up to 1.7 and 1.6 times.
  func calibrated() -> ErrorBound {
    var bound = self
    bound.isCalibrated = true
    bound.typical *= 2
    bound.expected = nil
    return bound
  }
}

// MARK: - Of a pair

extension ErrorBound {
  /// What `candidate` may be away from `source`.
  ///
  /// Numbers that the candidate's type has must be exactly the same. Where both are stored in steps their errors add:
  /// either may have been made from a third.
  public init(_ candidate: TensorStorage, of source: TensorStorage) {
    if let grid = FloatGrid(candidate) {
      let rounding = grid.rounding(of: FloatGrid(source) ?? .single)
      self.init(
        block: 128, relative: rounding.relative * Self.slack, absolute: rounding.absolute,
        typical: rounding.relative == 0 ? 1 : 0.6)
      if rounding.relative > 0 { expected = Self.plain[candidate.elementType] }
      return
    }
    self = Self.ofStorage(candidate)
    guard FloatGrid(source) == nil else { return }
    let other = Self.ofStorage(source)
    // The largest of normal weights is about three times their root mean square.
    relative = min(max(relative, Self.zeros), relative + other.relative + 3 * other.ofLargest)
    if let mine = expected, let its = other.expected {
      func sum(_ a: Double, _ b: Double) -> Double { (a * a + b * b).squareRoot() }
      expected = Expected(
        gaussian: sum(mine.gaussian, its.gaussian), heavyTailed: sum(mine.heavyTailed, its.heavyTailed))
    }
  }

  /// Above this share of the norm nothing is told from zeros.
  static let zeros = 0.995

  /// For sums in F32 and scales that were rounded after they were used.
  private static let slack = 1.03

  /// Relative RMSE of types without scales on weights that need rounding, standard deviation 0.02.
  private static let plain: [ElementType: Expected] = [
    .bf16: Expected(gaussian: 0.0017, heavyTailed: 0.0017),
    .f16: Expected(gaussian: 0.0002, heavyTailed: 0.0002),
    .f8E4M3: Expected(gaussian: 0.0332, heavyTailed: 0.0291),
    .f8E5M2: Expected(gaussian: 0.0527, heavyTailed: 0.0528),
  ]
}
