public import TensorFormats

extension ShardPlan {
  /// A limit on the output, and the recipe chosen to keep it, by the error of each tensor in each format, measured on
  /// some of its rows.
  ///
  /// Only the recipe shapes the output. Everything else documents where it comes from.
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
    /// XXH3-128 of everything the choice depends on, besides the weights.
    public var basis: String
    /// The recipe as a recipe file.
    public var recipe: String
    /// How much one more byte would lower the estimate, in nats.
    public var multiplier: Double
    /// The sum of the tensors' estimates.
    public var estimatedKL: Double
    /// The value reached for what is bounded: bytes of files or tensors.
    public var bytes: Int
    /// The least and the most bytes that the candidates allow, in the same measure.
    public var reachable: ClosedRange<Int>
    /// How many rows were measured.
    public var sampledRows: Int
    /// How many bytes of the source were read for it.
    public var sampledBytes: Int
    /// The tensors that formats were chosen for, in output order.
    public var choices: [Choice]
    /// The built-in recipes that take about as much, the best first.
    public var fixed: [Fixed]

    /// What was chosen for one tensor.
    public struct Choice: Codable, Hashable, Sendable {
      /// Its name in the output.
      public var tensor: String
      /// Its format.
      public var format: ElementType
      /// The expected squared error of its layer's output, relative to the output's square.
      public var relativeError: Double
      /// The expected contribution to the KL divergence.
      public var estimatedKL: Double

      /// Describes a choice.
      public init(tensor: String, format: ElementType, relativeError: Double, estimatedKL: Double) {
        self.tensor = tensor
        self.format = format
        self.relativeError = relativeError
        self.estimatedKL = estimatedKL
      }
    }

    /// A built-in recipe for comparison.
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
