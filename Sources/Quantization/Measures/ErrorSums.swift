internal import CBlockKernels
public import TensorFormats

/// How far restored values are from the originals: five sums that add up over any parts of a tensor.
///
/// Differences are taken in F32, products and sums in F64. Within one call element *i* is added in lane *i* mod 16
/// and the lanes in order, so every kernel tier gives the same bits; merging partial sums in another order changes
/// the last bits only.
public struct ErrorSums: Hashable, Sendable {
  /// Elements compared, those known to be exact included.
  public var count: Int
  /// Σ (x - y)².
  public var squaredErrors: Double
  /// Σ x² of the originals. Elements known to be exact without a comparison add nothing here, and to the next two.
  public var originalSquares: Double
  /// Σ y² of the restored values.
  public var restoredSquares: Double
  /// Σ x y.
  public var products: Double
  /// max |x - y|.
  public var maximumAbsoluteError: Float

  /// The sums over nothing.
  public init() {
    count = 0
    squaredErrors = 0
    originalSquares = 0
    restoredSquares = 0
    products = 0
    maximumAbsoluteError = 0
  }

  /// The sums over `count` elements that are known to be restored exactly.
  public init(exact count: Int) {
    self.init()
    self.count = count
  }

  /// Compares finite values.
  ///
  /// - Throws: `.malformed` if there are not as many restored values as original ones.
  /// - Complexity: O(*n*).
  public init(
    original: Span<Float>, restored: Span<Float>, tier: KernelTier = .active
  ) throws(CheckpointError) {
    guard original.count == restored.count else {
      throw CheckpointError(
        .malformed, "\(restored.count) restored values for \(original.count) original ones")
    }
    var running = RunningErrorSums()
    running.add(original: original, restored: restored, tier: tier)
    self = running.total
  }

  /// Adds the sums of another part.
  public mutating func merge(_ other: ErrorSums) {
    count += other.count
    squaredErrors += other.squaredErrors
    originalSquares += other.originalSquares
    restoredSquares += other.restoredSquares
    products += other.products
    maximumAbsoluteError = max(maximumAbsoluteError, other.maximumAbsoluteError)
  }

  /// The root of the mean squared error; 0 over nothing.
  public var rmse: Double { count == 0 ? 0 : (squaredErrors / Double(count)).squareRoot() }

  /// The root of the squared error over the squared originals: 0 if there is no error, infinite if only zeros were
  /// changed.
  public var relativeRMSE: Double {
    squaredErrors == 0 ? 0 : (squaredErrors / originalSquares).squareRoot()
  }

  /// The cosine of the angle between the two vectors, at most 1. 1 if there is no error, 0 if one of them is zero.
  public var cosineSimilarity: Double {
    if squaredErrors == 0 { return 1 }
    // Two roots: the product of the sums could overflow.
    let norms = originalSquares.squareRoot() * restoredSquares.squareRoot()
    return norms == 0 ? 0 : min(1, products / norms)
  }

  /// The definition of the sums, which the kernels must match.
  public static func reference(original: Span<Float>, restored: Span<Float>) -> ErrorSums {
    precondition(original.count == restored.count, "unequal counts")
    var lanes = [ErrorSums](repeating: ErrorSums(), count: 16)
    for i in 0..<original.count {
      let (x, y) = (original[i], restored[i])
      let difference = x - y
      lanes[i % 16].squaredErrors += Double(difference) * Double(difference)
      lanes[i % 16].originalSquares += Double(x) * Double(x)
      lanes[i % 16].restoredSquares += Double(y) * Double(y)
      lanes[i % 16].products += Double(x) * Double(y)
      lanes[i % 16].maximumAbsoluteError = max(lanes[i % 16].maximumAbsoluteError, difference.magnitude)
    }
    var sums = lanes[0]
    for lane in lanes.dropFirst() { sums.merge(lane) }
    sums.count = original.count
    return sums
  }
}

/// Error sums over values that arrive in chunks, bit for bit those of ``ErrorSums/init(original:restored:tier:)`` over
/// all of them at once.
struct RunningErrorSums {
  private var count = 0
  private var lanes = cbk_lane_sums()

  /// The largest error so far; not finite once a difference is not.
  var maximumAbsoluteError: Float { lanes.largest_error }

  /// Adds a chunk.
  ///
  /// - Precondition: There are as many restored values as original ones, and a multiple of 16 before them.
  mutating func add(original: Span<Float>, restored: Span<Float>, tier: KernelTier) {
    precondition(
      original.count == restored.count && count % 16 == 0, "chunks of different or unaligned sizes")
    count += original.count
    unsafe original.withUnsafeBufferPointer { x in
      unsafe restored.withUnsafeBufferPointer { y in
        guard let x = x.baseAddress, let y = y.baseAddress else { return }
        unsafe cbk_add_errors(tier.kernelValue, x, y, original.count, &lanes)
      }
    }
  }

  /// The sums over everything added.
  var total: ErrorSums {
    let totals = unsafe withUnsafePointer(to: lanes) { unsafe cbk_total_errors($0) }
    var sums = ErrorSums(exact: count)
    sums.squaredErrors = totals.squared_errors
    sums.originalSquares = totals.original_squares
    sums.restoredSquares = totals.restored_squares
    sums.products = totals.products
    sums.maximumAbsoluteError = lanes.largest_error
    return sums
  }
}
