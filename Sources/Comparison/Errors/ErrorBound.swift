internal import Quantization
internal import TensorFormats

/// The error of a format: the most possible in one block, and the typical share of that overall.
///
/// *Block by block.* Values that share a scale are judged together. Of a block with the values x, restored as y,
///
///     ‖x - y‖  <=  relative · ‖x‖ + √n · (ofLargest · L + absolute)
///
/// where n counts the block's elements and L is the largest magnitude within ``reach``, which is wider than the block
/// if scales have their own scales. For rounding this holds for any values; for searched formats it is measured. A
/// block that is zero, has a doubled scale or belongs elsewhere is off by its own norm or more, so it is found wherever
/// the right side is less than ‖x‖, however small a part of the tensor it is.
///
/// *Overall.* Errors are rarely the largest possible. Over many blocks the root of the mean squared error stays below
/// ``typical`` times the root of the mean square of the right sides, whatever the distribution of the weights, because
/// the right sides follow it. A mistake that makes every block somewhat worse is found here. Errors that do not average
/// out, from blocks of one magnitude and from the smallest steps, are counted in full (``RowJudge``).
///
/// Source: the formats' encoders, run on twelve distributions of 524,288 BF16 values: normal, Student's t with three
/// degrees of freedom, Laplace, Cauchy, uniform, shifted, nine tenths zeros, columns of outliers (8 and 60 times), rows
/// and columns of log-normal size, and very small ones; those with a search, also with an importance matrix. The
/// figures in the table are the largest found plus 15 % (`typical`: 20 %). Q2_K, IQ1, IQ2 and IQ3 were not fitted to
/// Cauchy and mostly-zero weights: their encoders fail on those, and should be reported.
public struct ErrorBound: Hashable, Sendable {
  /// The range over which the largest magnitude is taken.
  public enum Reach: Hashable, Sendable {
    /// This many neighbours, a multiple of the block.
    case neighbours(Int)
    /// In the row.
    case row
    /// In a tile.
    case tile(rows: Int, columns: Int)
  }

  /// How many neighbours in a row are judged together.
  public var block: Int
  /// The range over which the largest magnitude is taken.
  public var reach: Reach
  /// The part of the bound that grows with the block's norm.
  public var relative: Double
  /// The part that grows with the largest magnitude within reach: steps of equal width.
  public var ofLargest: Double
  /// The constant part: steps at the lower end of a scale's or a type's range.
  public var absolute: Double
  /// Whether a block may be off by more than rounding, because its codes were calibrated.
  public private(set) var isCalibrated = false
  /// The largest ratio of the root mean square of the errors to that of the bounds.
  public var typical: Double
  /// If ``reach`` is wider than the block: the largest error over all of it, relative to its norm.
  public var ceiling: Double
  /// The relative RMSE on normal and on heavy-tailed weights, for display; `nil` if there is none.
  public var expected: Expected?

  /// The usual relative RMSE.
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

  /// The largest norm of a block's rounding error.
  func limit(norm: Double, largest: Float, count: Int) -> Double {
    relative * norm + Double(count).squareRoot() * (ofLargest * Double(largest) + absolute)
  }

  /// The largest allowed norm of a block's error.
  ///
  /// - Parameters:
  ///   - limit: The largest from rounding.
  ///   - fixed: The part from the smallest steps.
  func most(_ limit: Double, norm: Double, fixed: Double) -> Double {
    guard isCalibrated else { return limit }
    // If rounding alone may lose the block, zeros cannot be distinguished from it.
    return limit < norm ? min(4 * limit, max(0.9 * norm + fixed, limit)) : 1.5 * limit
  }

  /// The same for calibrated codes (GPTQ), which are not chosen for the weight alone: the error of one column is
  /// compensated in others, so a code may be some steps away from the nearest.
  ///
  /// A block may be off by four times as much, but not by nine tenths of its norm, which would hide zeros; if rounding
  /// may lose all of it, by one and a half times; the tensor by twice as much. On the trained model of the tests the
  /// factors were up to 1.7 and 1.6.
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
  /// The allowed error of `candidate` relative to `source`.
  ///
  /// Numbers that the candidate's type can represent must be exactly the same. If both are quantised, their errors
  /// add: both may have been made from a third.
  public init(_ candidate: StoredPrecision, of source: StoredPrecision) {
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

  /// Above this share of the norm, errors cannot be distinguished from zeros.
  static let zeros = 0.995

  /// Slack for sums in F32 and scales that were rounded after use.
  private static let slack = 1.03

  /// Relative RMSE of types without scales on weights that need rounding, standard deviation 0.02.
  private static let plain: [ElementType: Expected] = [
    .bf16: Expected(gaussian: 0.0017, heavyTailed: 0.0017),
    .f16: Expected(gaussian: 0.0002, heavyTailed: 0.0002),
    .f8E4M3: Expected(gaussian: 0.0332, heavyTailed: 0.0291),
    .f8E5M2: Expected(gaussian: 0.0527, heavyTailed: 0.0528),
  ]
}
