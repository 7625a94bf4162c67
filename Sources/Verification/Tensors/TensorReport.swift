public import Comparison
public import TensorFormats

/// What comparing every tensor of an output with its source found.
public struct TensorReport: Encodable, Sendable {
  /// Whether everything is there and no error is larger than the formats make it.
  public internal(set) var ok = true
  /// What the user named.
  public let output: String
  public let source: String
  /// Whether the output is one part of a partition set, of which nobody expects all tensors.
  public let partial: Bool
  /// Elements compared, copies in several parts each counted.
  public internal(set) var elements = 0
  /// What is wrong, the worst first.
  public internal(set) var findings: [Finding] = []
  /// The sums over all tensors that go from one format to another.
  public internal(set) var formats: [FormatSummary] = []
  /// The figures of each tensor, in the order of the output's files. A tensor that several parts hold, or hold pieces of,
  /// is there for each of them.
  public internal(set) var tensors: [TensorFigures] = []

  /// What reading the weights in another way found.
  public internal(set) var crossCheck = CrossCheckReport()
  /// What in one of the checkpoints is not read, so that every tensor is compared as it is stored; `nil` if everything is.
  public internal(set) var unread: String?
  /// The weights that the output's manifest says were left out on purpose.
  public internal(set) var leftOut: [String] = []

  init(output: String, source: String, partial: Bool) {
    self.output = output
    self.source = source
    self.partial = partial
  }

  /// One thing that is not as it should be.
  public struct Finding: Encodable, Hashable, Sendable {
    /// What kind of thing.
    public enum Kind: String, Encodable, Hashable, Sendable {
      /// The source has the tensor, the output has not.
      case missing
      /// The output has the tensor, the source has not.
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
      /// Values differ where the output's type holds the source's exactly.
      case notExact
      /// Single blocks are further away than their format makes them.
      case block
      /// The tensor on the whole is further away than its format makes it.
      case tensor
      /// It is read otherwise than the configuration, or the tensors beside it, say.
      case declaration
      /// The output's configuration does not describe what is stored.
      case undescribed
      /// Elements are read otherwise than the definition of their format has it.
      case crossCheck
    }

    public let kind: Kind
    /// The published name.
    public let tensor: String
    /// The part of a partition set; `nil` where it is no matter of one part.
    public let part: String?
    /// One sentence for people.
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
    /// What is usual; `nil` for formats without error.
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
  /// The largest that ``relativeRMSE`` may be: what the format makes of these very weights.
  public let limit: Double
  /// What is usual; `nil` for formats without error.
  public let expected: ErrorBound.Expected?
  public let maxAbs: Double
  /// Where ``maxAbs`` is; `nil` if it is 0.
  public let maxAbsAt: Place?
  /// The cosine of the angle between the two.
  public let cosine: Double
  /// The signal-to-noise ratio in dB; `nil` if there is no error.
  public let snr: Double?
  /// The row, the block and, of a stack, the matrix whose error is the largest share of what it may be; `nil` if there is no
  /// error.
  public let worstRow: RowRange?
  public let worstBlock: RowRange?
  public let worstMatrix: MatrixError?
  /// The errors of all matrices of a stack, such as the experts; `nil` for what is none, and without any error.
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
    /// The number in a stack, such as the expert; `nil` for a tensor that is none.
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
