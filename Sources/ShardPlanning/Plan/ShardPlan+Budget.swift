public import TensorFormats

extension ShardPlan {
  /// A bound on the output, and the recipe that was chosen to keep it: by what each tensor loses in each format, measured on
  /// some of its rows.
  ///
  /// The recipe alone shapes the output. All else says where it comes from.
  public struct Budget: Codable, Hashable, Sendable {
    /// What is bounded.
    public enum Target: Codable, Hashable, Sendable {
      /// All weight files of the output together, in bytes.
      case bytes(Int)
      /// Storage per parameter over all tensors, in bits.
      case bitsPerWeight(Double)
      /// The estimated mean KL divergence from the source, in nats.
      case klDivergence(Double)
    }

    /// What was asked for.
    public var target: Target
    /// XXH3-128 of all that the choice follows from, besides the weights.
    public var basis: String
    /// The recipe as a recipe file.
    public var recipe: String
    /// What a further byte would lower the estimate by, in nats.
    public var multiplier: Double
    /// The sum of the tensors' estimates.
    public var estimatedKL: Double
    /// What is bounded came to this: bytes of files or tensors.
    public var bytes: Int
    /// The least and the most bytes that the candidates allow, in the same measure.
    public var reachable: ClosedRange<Int>
    /// How many rows were measured.
    public var sampledRows: Int
    /// How many bytes of the source were read for it.
    public var sampledBytes: Int
    /// The tensors that were chosen for, in the order of the output.
    public var choices: [Choice]
    /// The built-in recipes that take about as much, the best first.
    public var fixed: [Fixed]

    /// What was chosen for one tensor.
    public struct Choice: Codable, Hashable, Sendable {
      /// Its name in the output.
      public var tensor: String
      /// Its format.
      public var format: ElementType
      /// The expected squared error of what it gives, over the square of that.
      public var relativeError: Double
      /// What that is expected to add to the KL divergence.
      public var estimatedKL: Double

      /// Describes a choice.
      public init(tensor: String, format: ElementType, relativeError: Double, estimatedKL: Double) {
        self.tensor = tensor
        self.format = format
        self.relativeError = relativeError
        self.estimatedKL = estimatedKL
      }
    }

    /// A built-in recipe beside it.
    public struct Fixed: Codable, Hashable, Sendable {
      /// Its name.
      public var recipe: String
      /// Its size in the same measure.
      public var bytes: Int
      /// Its estimate.
      public var estimatedKL: Double

      /// Describes a recipe.
      public init(recipe: String, bytes: Int, estimatedKL: Double) {
        self.recipe = recipe
        self.bytes = bytes
        self.estimatedKL = estimatedKL
      }
    }

    /// Describes a budget.
    public init(
      target: Target, basis: String, recipe: String, multiplier: Double, estimatedKL: Double, bytes: Int,
      reachable: ClosedRange<Int>, sampledRows: Int, sampledBytes: Int, choices: [Choice], fixed: [Fixed]
    ) {
      self.target = target
      self.basis = basis
      self.recipe = recipe
      self.multiplier = multiplier
      self.estimatedKL = estimatedKL
      self.bytes = bytes
      self.reachable = reachable
      self.sampledRows = sampledRows
      self.sampledBytes = sampledBytes
      self.choices = choices
      self.fixed = fixed
    }
  }
}
