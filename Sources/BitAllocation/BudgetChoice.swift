internal import QuantizationRecipes
internal import ShardPlanning
internal import TensorFormats

/// How size is measured: whole files, where tensors start at multiples of 32 bytes, or only the tensors.
struct SizeMeasure {
  private let countsFiles: Bool

  init(_ target: ShardPlan.Budget.Target) {
    countsFiles = if case .bitsPerWeight = target { false } else { true }
  }

  /// Where tensors of GGUF files begin.
  private static let alignment = 32

  /// The bytes counted for a tensor of that size.
  func bytes(of size: Int) -> Int {
    countsFiles ? (size + Self.alignment - 1) / Self.alignment * Self.alignment : size
  }

  /// The bytes counted for a plan.
  func bytes(of plan: ShardPlan) -> Int {
    countsFiles
      ? plan.outputBytes : plan.files.reduce(0) { $0 + $1.tensors.reduce(0) { $0 + $1.bytes } }
  }
}

/// The choice between the formats of measured tensors, as bytes and costs.
struct BudgetChoice {
  let sizes: SizeMeasure
  private let tensors: [MeasuredTensor]
  /// For each tensor the formats that can hold all its values, with their sizes and errors.
  private let options: [[(format: ElementType, relative: Double, option: AllocationProblem.Option)]]
  private let problem: AllocationProblem

  /// - Throws: `.invalidRequest` for a tensor that none of its formats can hold.
  init(
    _ tensors: [MeasuredTensor], _ errors: [FormatErrors], sizes: SizeMeasure, sensitivity: Sensitivity
  ) throws(CheckpointError) {
    self.tensors = tensors
    self.sizes = sizes
    var options: [[(ElementType, Double, AllocationProblem.Option)]] = []
    for (index, tensor) in tensors.enumerated() {
      let shape = TensorShape(tensor.slice.extent)
      let weight = sensitivity.weight(of: tensor.name, elements: shape.elementCount)
      let fitting = zip(tensor.formats, errors[index].relative).compactMap { format, relative in
        shape.byteCount(as: format).flatMap { bytes in
          relative.isFinite
            ? (
              format, relative,
              AllocationProblem.Option(bytes: sizes.bytes(of: bytes), cost: weight * relative)
            ) : nil
        }
      }
      guard !fitting.isEmpty else {
        throw CheckpointError(
          .invalidRequest, "none of the candidates can hold its values", tensor: tensor.name,
          remedy: "add another with --candidates, or give it a type of its own with --tensor-type")
      }
      options.append(fitting)
    }
    self.options = options
    problem = AllocationProblem(options.map { $0.map(\.2) })
  }

  /// The number of sampled rows.
  var sampledRows: Int { tensors.reduce(0) { $0 + $1.sample.count } }

  /// A plan's bytes besides the tensors that formats are chosen for.
  func overhead(of plan: ShardPlan) -> Int {
    let names = Set(tensors.map(\.name))
    let chosen = plan.files.flatMap(\.tensors).filter { names.contains($0.name) }
    return sizes.bytes(of: plan) - chosen.reduce(0) { $0 + sizes.bytes(of: $1.bytes) }
  }

  /// The smallest and largest size that the candidates allow.
  func reachable(overhead: Int) -> ClosedRange<Int> {
    problem.smallest.bytes + overhead...problem.best.bytes + overhead
  }
}

// MARK: - Choosing

extension BudgetChoice {
  /// The best choice within a limit.
  ///
  /// - Throws: `.invalidRequest` for one that cannot be kept, or is out of the candidates' range.
  func allocation(
    for target: ShardPlan.Budget.Target, overhead: Int, parameters: Int
  ) throws(CheckpointError) -> Allocation {
    let (smallest, best) = (problem.smallest, problem.best)
    func refusal(_ which: String, _ from: String, _ to: String) -> CheckpointError {
      CheckpointError(
        .invalidRequest, "\(BudgetPlanner.words(target)): that is \(which)",
        remedy: "the candidates range from \(from) to \(to); give others with --candidates")
    }
    switch target {
    case .klDivergence(let limit):
      guard let allocation = problem.fewestBytes(costing: limit) else {
        throw refusal(
          "lower than the candidates can achieve", NumberText.significant(best.cost),
          NumberText.significant(smallest.cost))
      }
      guard limit <= smallest.cost else {
        throw refusal(
          "more than even the smallest output loses", NumberText.significant(best.cost),
          NumberText.significant(smallest.cost))
      }
      return allocation
    case .bytes, .bitsPerWeight:
      let limit = Self.bytes(target, parameters: parameters)
      let ends = [smallest.bytes + overhead, best.bytes + overhead].map { bytes in
        if case .bytes = target { return "\(bytes) bytes" }
        return "\(NumberText.decimals(Double(bytes) * 8 / Double(max(1, parameters)), 4)) bits"
      }
      guard let allocation = problem.leastCost(within: limit - overhead) else {
        throw refusal("below the smallest possible output", ends[0], ends[1])
      }
      guard limit <= best.bytes + overhead else {
        throw refusal("more than the largest candidates take", ends[0], ends[1])
      }
      return allocation
    }
  }

  /// The most bytes that a limit allows.
  private static func bytes(_ target: ShardPlan.Budget.Target, parameters: Int) -> Int {
    switch target {
    case .bytes(let bytes): bytes
    case .bitsPerWeight(let bits): Int((bits * Double(parameters) / 8).rounded(.down))
    case .klDivergence: Int.max
    }
  }

  /// Whether a plan keeps a limit.
  func isKept(_ target: ShardPlan.Budget.Target, by plan: ShardPlan) -> Bool {
    sizes.bytes(of: plan) <= Self.bytes(target, parameters: plan.parameters)
  }

  /// The formats of a choice, by the tensors' names.
  func formats(_ allocation: Allocation) -> [String: ElementType] {
    Dictionary(
      uniqueKeysWithValues: zip(tensors, zip(options, allocation.choices)).map {
        ($0.name, $1.0[$1.1].format)
      })
  }

  /// The same with their errors.
  func described(_ allocation: Allocation) -> [ShardPlan.Budget.Choice] {
    zip(tensors, zip(options, allocation.choices)).map { tensor, chosen in
      let option = chosen.0[chosen.1]
      return ShardPlan.Budget.Choice(
        tensor: tensor.name, format: option.format, relativeError: option.relative,
        estimatedKL: option.option.cost)
    }
  }

  /// The estimate for another plan; `nil` if it has a format that was not measured.
  func estimate(_ plan: ShardPlan) -> Double? {
    let types = Dictionary(
      plan.files.flatMap(\.tensors).map { ($0.name, $0.elementType) }, uniquingKeysWith: { first, _ in first }
    )
    var sum = 0.0
    for (tensor, options) in zip(tensors, options) {
      guard let option = options.first(where: { $0.format == types[tensor.name] }) else { return nil }
      sum += option.option.cost
    }
    return sum
  }

  /// Checks that a plan stores tensors as chosen.
  ///
  /// - Throws: `.unsupported` naming one that it does not: a recipe file cannot single out its name.
  func check(_ plan: ShardPlan, holds allocation: Allocation) throws(CheckpointError) {
    let formats = formats(allocation)
    for tensor in plan.files.flatMap(\.tensors) {
      guard let format = formats[tensor.name], format != tensor.elementType else { continue }
      throw CheckpointError(
        .unsupported, "a recipe cannot distinguish it from others of its kind", tensor: tensor.name,
        remedy: "give it a type with --tensor-type")
    }
  }
}
