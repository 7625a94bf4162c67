public import Checkpoint
public import Quantization
public import TensorFormats

/// Where every byte of a conversion goes: the program that the pipeline runs.
///
/// A plan is made from headers, the configuration, the recipe and the options; it reads no weights. Everything
/// downstream (dry run, execution, progress, verification) follows it and makes no decisions of its own. Equal
/// plans give equal output, byte for byte.
public struct ShardPlan: Codable, Hashable, Sendable {
  /// The layout of this value; raised when a field changes its meaning.
  public static let currentVersion = 4

  /// ``currentVersion`` at the time of planning.
  public var version: Int = ShardPlan.currentVersion
  /// The toolkit's version: another one may place bytes differently.
  public var tool: String
  /// What is converted.
  public var source: Source
  /// What was asked for.
  public var request: Request
  /// The output directories: one for an unpartitioned model, one per instance of a partition.
  public var parts: [Part]
  /// Tensors that are in more than one part on purpose.
  public var replicated: [Replication]
  /// Tensors that are stored otherwise than the recipe asked, and why.
  public var fallbacks: [Fallback]
  /// Source tensors that are not output tensors of their own, and why.
  public var absorbed: [Absorption]
  /// Source tensors that were left out on request.
  public var excluded: [Exclusion] = []
  /// What the output lacks, besides tensors, that the source has or a reader may expect.
  public var omissions: [Omission] = []
  /// What is odd about the source but does not prevent converting it.
  public var warnings: [String] = []
  /// Which matrices share a scale, for schemes that have one for each matrix.
  public var scaleGroups: [ScaleGroup]
  /// Changes to the source's configuration, besides quantisation.
  public var amendments: [Amendment]
  /// The importance matrix that weights the encoders' errors; `nil` without one.
  public var importance: Importance?
}

// MARK: - The source

extension ShardPlan {
  /// The checkpoint that is converted, as described by its headers.
  public struct Source: Codable, Hashable, Sendable {
    /// The container format.
    public var format: Checkpoint.Format
    /// `model_type` or `general.architecture`; `nil` if not stated.
    public var architecture: String?
    /// The weight files in the order in which they are read; see ``SourceFile/isDerived``.
    public var files: [SourceFile]
    /// The number of tensors.
    public var tensorCount: Int
    /// Derived tensors, which are not on disk in this form: renamed, stacked, merged or decoded ones.
    public var derived: [DerivedTensor] = []
    /// Whether its tensors are copied as stored, without interpreting them.
    public var isRaw: Bool
    /// XXH3-128 of `config.json`, which determines what codes mean; for a partition set, that of the merged model.
    /// `nil` if there is none.
    public var configurationXXH3: String?
  }

  /// A tensor that is made from others each time it is read.
  public struct DerivedTensor: Codable, Hashable, Sendable {
    /// Its name in the plan.
    public var tensor: String
    /// What is done: `renamed`, `stacked`, `merged`, `decoded from ...`.
    public var operation: String
    /// The tensors on disk.
    public var origins: [String]
  }

  /// One weight file of the source.
  public struct SourceFile: Codable, Hashable, Sendable {
    /// The path below the source's directory.
    public var path: String
    /// Its size.
    public var bytes: Int
    /// Where its tensor data starts.
    public var dataOffset: Int
    /// XXH3-128 of everything before ``dataOffset``: a different header means a different plan.
    public var headerXXH3: String
    /// Whether it is not on disk, but holds derived tensors: ``Source/derived``.
    public var isDerived: Bool = false
    /// Where the origins of its tensors end, in file order: reading the source in order, they have just been read at
    /// that point.
    public var origins: [Origin] = []

    /// Where the origins of one derived tensor end.
    public struct Origin: Codable, Hashable, Sendable {
      /// The derived tensor's first byte in its file.
      public var offset: Int
      /// The last file on disk that holds any of them.
      public var file: Int
      /// The end of the last one there.
      public var end: Int
    }
  }
}

// MARK: - The request

extension ShardPlan {
  /// The options that shape the output.
  public struct Request: Codable, Hashable, Sendable {
    /// The container format to write.
    public var format: Checkpoint.Format
    /// The recipe's name.
    public var recipe: String
    /// How the model is partitioned.
    public var partition: Partition
    /// No output file grows beyond this, unless a single tensor does; `nil` for no limit.
    public var maximumShardBytes: Int?
    /// How the scales of schemes are chosen; `nil` for the default: `mse` for codes of four bits,
    /// `absmax` for longer ones.
    public var scaleSearch: ScaleSearch?
    /// Regular expressions: tensors whose names, or whose weights' names, contain one are left out.
    public var exclude: [String] = []
    /// Whether a copy of a Step-3 gets its published names, with experts stacked; every other conversion does so
    /// anyway.
    public var publishedNames = false
    /// The value of `tokenizer.ggml.pre`; `nil` to recognise the tokenizer.
    public var tokenizerPre: String?
    /// Whether NaN and infinite weights are kept where the target type can hold them; otherwise they end the
    /// conversion.
    public var allowNonFinite = false
    /// How codes are calibrated; `nil` if they depend only on the weights.
    public var calibration: Calibration?
    /// The limit that the recipe was chosen to keep; `nil` for a given recipe.
    public var budget: Budget?

    /// Makes a request.
    public init(
      format: Checkpoint.Format, recipe: String, partition: Partition = .none, maximumShardBytes: Int? = nil,
      scaleSearch: ScaleSearch? = nil, tokenizerPre: String? = nil, exclude: [String] = [],
      publishedNames: Bool = false, allowNonFinite: Bool = false, calibration: Calibration? = nil,
      budget: Budget? = nil
    ) {
      self.budget = budget
      self.allowNonFinite = allowNonFinite
      self.calibration = calibration
      self.exclude = exclude
      self.publishedNames = publishedNames
      self.format = format
      self.recipe = recipe
      self.partition = partition
      self.maximumShardBytes = maximumShardBytes
      self.scaleSearch = scaleSearch
      self.tokenizerPre = tokenizerPre
    }

    /// Reads a request. Older plans do not say whether non-finite weights are allowed: they are not.
    public init(from decoder: any Decoder) throws {
      let values = try decoder.container(keyedBy: CodingKeys.self)
      format = try values.decode(Checkpoint.Format.self, forKey: .format)
      recipe = try values.decode(String.self, forKey: .recipe)
      partition = try values.decode(Partition.self, forKey: .partition)
      maximumShardBytes = try values.decodeIfPresent(Int.self, forKey: .maximumShardBytes)
      scaleSearch = try values.decodeIfPresent(ScaleSearch.self, forKey: .scaleSearch)
      exclude = try values.decode([String].self, forKey: .exclude)
      publishedNames = try values.decode(Bool.self, forKey: .publishedNames)
      tokenizerPre = try values.decodeIfPresent(String.self, forKey: .tokenizerPre)
      allowNonFinite = try values.decodeIfPresent(Bool.self, forKey: .allowNonFinite) ?? false
      calibration = try values.decodeIfPresent(Calibration.self, forKey: .calibration)
      budget = try values.decodeIfPresent(Budget.self, forKey: .budget)
    }

    /// The side of the router; without a partition it does not matter.
    var router: RouterSide {
      if case .afd(let layout) = partition { layout.router } else { .attention }
    }
  }

  /// How codes are calibrated by the activations of a text.
  public struct Calibration: Codable, Hashable, Sendable {
    /// The available methods.
    public enum Method: String, Codable, Hashable, Sendable, CaseIterable {
      /// Column by column, each column's error compensated in the following ones.
      case gptq
    }

    /// The method.
    public var method: Method
    /// What is added to the diagonal of the second moments, relative to its mean.
    public var damping: Double
    /// Experts that saw fewer tokens are rounded to nearest.
    public var minimumExpertTokens: Int
    /// The names of the texts.
    public var datasets: [String]
    /// Its tokens.
    public var tokens: Int
    /// XXH3-128 of their ids.
    public var xxh3: String

    /// Describes a calibration.
    public init(
      _ method: Method, damping: Double, minimumExpertTokens: Int, datasets: [String], tokens: Int,
      xxh3: String
    ) {
      self.method = method
      self.damping = damping
      self.minimumExpertTokens = minimumExpertTokens
      self.datasets = datasets
      self.tokens = tokens
      self.xxh3 = xxh3
    }
  }

  /// How a model is partitioned.
  public enum Partition: Codable, Hashable, Sendable {
    /// One part.
    case none
    /// Attention-FFN disaggregation: `attentionTP` attention parts, `ffnEP` x `ffnTP` FFN parts, and a vision part if
    /// the model has one.
    case afd(AFDLayout)
  }

  /// The instances of an attention-FFN disaggregated deployment.
  public struct AFDLayout: Codable, Hashable, Sendable {
    /// The number of FFN instances that the routed experts are divided between, whole experts each.
    public var ffnEP: Int
    /// The number of ranks within each instance that the intermediate dimension of every expert is divided between.
    public var ffnTP: Int
    /// The number of ranks that the attention heads are divided between.
    public var attentionTP: Int
    /// The side of the router.
    public var router: RouterSide

    /// Describes a deployment.
    public init(
      ffnEP: Int = 1, ffnTP: Int = 1, attentionTP: Int = 1, router: RouterSide = .attention
    ) {
      self.ffnEP = ffnEP
      self.ffnTP = ffnTP
      self.attentionTP = attentionTP
      self.router = router
    }

    /// The FFN parts: the shared expert and the dense layers are cut between all of them.
    public var ffnRanks: Int { ffnEP * ffnTP }
  }
}

// MARK: - The output

extension ShardPlan {
  /// One output directory, which is a checkpoint of its own.
  public struct Part: Codable, Hashable, Sendable {
    /// The directory below the output; empty for an unpartitioned model, which is the output itself.
    public var directory: String
    /// The part's role.
    public var role: PartRole
    /// Its number among the parts of its role.
    public var rank: Int
    /// How many parts of its role there are.
    public var ranks: Int
    /// Which share of the experts it holds.
    public var expertParallel: PartIdentity.Position
    /// Which slice of what tensor parallelism cuts it holds.
    public var tensorParallel: PartIdentity.Position
    /// The weight files.
    public var files: [File]
    /// Text files that are generated: `config.json`, the index.
    public var documents: [Document]
    /// Files that are copied as they are: tokenizer, chat template.
    public var copies: [Copy]
  }

  /// One weight file.
  public struct File: Codable, Hashable, Sendable {
    /// The path below the output.
    public var path: String
    /// Its size.
    public var bytes: Int
    /// Where its tensor data starts.
    public var dataOffset: Int
    /// XXH3-128 of everything before ``dataOffset``.
    public var headerXXH3: String
    /// By rising offset.
    public var tensors: [Tensor]
  }

  /// One output tensor.
  public struct Tensor: Codable, Hashable, Sendable {
    /// The name in the output.
    public var name: String
    /// What the tensor is for.
    public var role: TensorRole
    /// The layer it belongs to, if any.
    public var layer: Int?
    /// How it is stored.
    public var elementType: ElementType
    /// Row-major.
    public var shape: TensorShape
    /// From the start of the file.
    public var offset: Int
    /// Its size.
    public var bytes: Int
    /// Where its elements come from: nearly always one box. Several are joined along the rows, for modules that
    /// engines fuse into one tensor.
    public var sources: [Slice]
    /// The operation on them.
    public var operation: Operation
  }

  /// A box of a source tensor.
  public struct Slice: Codable, Hashable, Sendable {
    /// The source tensor's name: of the values, or of their codes.
    public var tensor: String
    /// The index of its file in the source.
    public var file: Int
    /// From the start of that file, the whole tensor's first byte.
    public var offset: Int
    /// How the source stores it.
    public var elementType: ElementType
    /// The shape of the whole source tensor's values, row-major, before packing.
    public var shape: TensorShape
    /// The box's first element in each dimension.
    public var origin: [Int]
    /// The box's size in each dimension.
    public var extent: [Int]
    /// The scales that belong to it; `nil` for a tensor that holds the values itself.
    public var scaling: Scaling?

    /// The box; `nil` if a document states one that is not within the tensor.
    public var box: TensorBox? { TensorBox(shape, origin: origin, extent: extent) }
  }

  /// How the codes of a source tensor become values.
  public struct Scaling: Codable, Hashable, Sendable {
    /// The scheme; `nil` for GGML blocks with a separate scale for the whole matrix.
    public var scheme: StoredScheme?
    /// The scales of tiles, rows or groups.
    public var scales: Scales?
    /// The scales of matrices, one for each.
    public var matrixScales: Scales?
  }

  /// A tensor of scales in the source.
  public struct Scales: Codable, Hashable, Sendable {
    /// The tensor's name.
    public var tensor: String
    /// The index of its file in the source.
    public var file: Int
    /// From the start of that file.
    public var offset: Int
    /// How they are stored.
    public var elementType: ElementType
    /// Row-major, stacked like the weight.
    public var shape: TensorShape
  }

  /// Weights whose matrices with the same index in their stacks share one scale, because engines keep a single one for
  /// all of them: an expert's gate and up, the queries, keys and values of a layer.
  public struct ScaleGroup: Codable, Hashable, Sendable {
    /// Whole weights: the largest magnitude over all of them decides.
    public var members: [Slice]
  }

  /// A small text file that is generated rather than copied.
  public struct Document: Codable, Hashable, Sendable {
    /// The path below the output.
    public var path: String
    /// Its contents.
    public var text: String
  }

  /// A small file that is copied as it is.
  public struct Copy: Codable, Hashable, Sendable {
    /// The name below the source's directory.
    public var from: String
    /// The path below the output.
    public var path: String
    /// Its size.
    public var bytes: Int
  }
}
