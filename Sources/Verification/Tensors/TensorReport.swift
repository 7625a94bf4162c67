public import Comparison
public import TensorFormats

/// The result of comparing every tensor of an output with its source.
public struct TensorReport: Encodable, Sendable {
  /// Whether everything exists and no error is larger than the formats explain.
  public internal(set) var ok = true
  /// The user's path.
  public let output: String
  public let source: String
  /// Whether the output is one part of a partition set, which is not expected to have all tensors.
  public let partial: Bool
  /// Elements compared, counting every copy.
  public internal(set) var elements = 0
  /// What is wrong, the worst first.
  public internal(set) var findings: [Finding] = []
  /// Summaries for all tensors that go from one format to another.
  public internal(set) var formats: [FormatSummary] = []
  /// The figures of each tensor, in the order of the output's files. A tensor that several parts hold, wholly or in
  /// pieces, is listed for each of them.
  public internal(set) var tensors: [TensorFigures] = []

  /// The result of decoding weights independently.
  public internal(set) var crossCheck = CrossCheckReport()
  /// What in one of the checkpoints is not supported, so that every tensor is compared as stored; `nil` if everything
  /// is.
  public internal(set) var unread: String?
  /// The weights that the output's manifest says were left out on purpose.
  public internal(set) var leftOut: [String] = []

  init(output: String, source: String, partial: Bool) {
    self.output = output
    self.source = source
    self.partial = partial
  }

  /// One discrepancy.
  public struct Finding: Encodable, Hashable, Sendable {
    /// The kind of finding.
    public enum Kind: String, Encodable, Hashable, Sendable {
      /// The source has the tensor, but not the output.
      case missing
      /// The output has the tensor, but not the source.
      case unexpected
      /// The shapes differ.
      case shape
      /// The parts do not hold all elements.
      case incomplete
      /// The source does not hold all elements that the output does.
      case sourceIncomplete
      /// There is no way to compare the values.
      case notComparable
      /// Values are NaN or infinite on one side only.
      case nonFinite
      /// Values differ although the output's type can hold the source's exactly.
      case notExact
      /// Single blocks have larger errors than their format explains.
      case block
      /// The tensor overall has a larger error than its format explains.
      case tensor
      /// It is not read as the configuration, or its companions, say.
      case declaration
      /// The output's configuration does not describe what is stored.
      case undescribed
      /// Elements are not read as the definition of their format says.
      case crossCheck
    }

    public let kind: Kind
    /// The published name.
    public let tensor: String
    /// The part of a partition set; `nil` where it is not about a single part.
    public let part: String?
    /// One sentence.
    public let message: String
  }

  /// All tensors that go from one format to another.
  public struct FormatSummary: Encodable, Sendable {
    /// How the source stores them, and the output.
    public let from: String
    public let to: String
    public internal(set) var tensors = 0
    public internal(set) var elements = 0
    /// Tensors with a finding.
    public internal(set) var outOfLine = 0
    /// The root of all squared errors over all squared values.
    public internal(set) var relativeRMSE = 0.0
    /// The largest of the tensors.
    public internal(set) var worstRelativeRMSE = 0.0
    public internal(set) var worstTensor: String?
    public internal(set) var maxAbs = 0.0
    /// The usual error; `nil` for lossless formats.
    public let expected: ErrorBound.Expected?
  }
}

/// How far one tensor is from its source.
public struct TensorFigures: Encodable, Sendable {
  /// The published name.
  public let name: String
  /// The part of a partition set that it is in.
  public let part: String?
  /// Of the whole tensor, row-major.
  public let shape: TensorShape
  /// What was compared, if not all of it.
  public let slices: [Slice]?
  /// How the source stores it, and the output.
  public let from: String
  public let to: String
  /// Elements compared.
  public let elements: Int
  public let ok: Bool
  /// The root of the mean squared error.
  public let rmse: Double
  /// The root of the squared error over the squared source; `null` if only zeros were changed.
  public let relativeRMSE: Double
  /// The limit for ``relativeRMSE``: what the format explains for these particular weights.
  public let limit: Double
  /// The usual error; `nil` for lossless formats.
  public let expected: ErrorBound.Expected?
  public let maxAbs: Double
  /// Where ``maxAbs`` is; `nil` if it is 0.
  public let maxAbsAt: Place?
  /// The cosine of the angle between the two.
  public let cosine: Double
  /// The signal-to-noise ratio in dB; `nil` if there is no error.
  public let snr: Double?
  /// The row, the block and, for a stack, the matrix whose error is largest relative to its limit; `nil` if there is no
  /// error.
  public let worstRow: RowRange?
  public let worstBlock: RowRange?
  public let worstMatrix: MatrixError?
  /// The errors of all matrices of a stack, such as the experts; `nil` if it is not a stack, or without any error.
  public let matrices: [MatrixError]?
  /// Rows with a block that is out of line, and such blocks.
  public let rowsOutOfLine: Int
  public let blocksOutOfLine: Int
  /// Elements that are NaN or infinite on one side, or differently on both, and on both alike.
  public let nonFinite: Int
  public let sameNonFinite: Int

  /// A box of the tensor.
  public struct Slice: Encodable, Hashable, Sendable {
    public let origin: [Int]
    public let extent: [Int]
  }

  /// Where an element is.
  public struct Place: Encodable, Hashable, Sendable {
    /// The number in a stack, such as the expert; `nil` if the tensor is not a stack.
    public let matrix: Int?
    public let row: Int
    public let column: Int
  }

  /// Some elements of a row.
  public struct RowRange: Encodable, Sendable {
    public let matrix: Int?
    public let row: Int
    /// The first column, and how many there are.
    public let column: Int
    public let count: Int
    public let relativeRMSE: Double
    public let limit: Double
  }

  /// One matrix of a stack.
  public struct MatrixError: Encodable, Sendable {
    public let matrix: Int
    public let relativeRMSE: Double
  }
}
