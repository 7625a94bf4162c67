internal import Checkpoint
internal import Conversion
internal import Quantization
internal import QuantizationRecipes
internal import ShardPlanning
internal import Step3Model
internal import StoredWeights
internal import TensorFormats

/// The linear layers that a plan encodes, and those among them that GPTQ cannot encode.
struct GPTQJobs {
  private(set) var all: [GPTQJob] = []
  /// Weights that the conversion encodes as without calibration, by name.
  private(set) var fallbacks: [CalibrationFallback] = []

  private let plan: ShardPlan
  private let weights: ModelWeights
  private let model: ModelDescription

  /// - Throws: `.invalidRequest` if GPTQ has nothing to do; `.unsupported` for a model that is not a Step-3, and for weights
  ///   that cannot be told from their neighbours in a tensor, or are stored in two formats.
  init(_ plan: ShardPlan, _ weights: ModelWeights) throws(CheckpointError) {
    guard let model = weights.model else {
      throw CheckpointError(
        .unsupported,
        "\(weights.checkpoint.architecture ?? "this model") is not a Step-3, and only that can be calibrated",
        path: weights.checkpoint.path)
    }
    self.plan = plan
    self.weights = weights
    self.model = model
    var jobs: [String: GPTQJob] = [:]
    var refused: [String: ElementType] = [:]
    for tensor in plan.files.flatMap(\.tensors) {
      guard let (format, encoding) = Self.format(of: tensor) else { continue }
      for slice in tensor.sources {
        guard let (name, weight) = try weight(slice) else { continue }
        if let other = jobs[slice.tensor]?.format ?? refused[slice.tensor].map(StorageFormat.element) {
          try Self.check(other == format, slice.tensor)
          continue
        }
        if case .element(let type) = format, BlockGrid(type) == nil {
          refused[slice.tensor] = type
          continue
        }
        jobs[slice.tensor] = GPTQJob(
          name: name, tensor: slice.tensor, weight: weight, format: format, search: encoding?.search ?? .mse,
          sharing: try sharing(encoding))
      }
    }
    guard !jobs.isEmpty else {
      guard let type = refused.values.map({ "\($0)" }).min() else {
        throw CheckpointError(
          .invalidRequest, "nothing is encoded that GPTQ supports",
          remedy: "choose a format such as --quantize W4A16 or Q4_K_M, or leave out --method")
      }
      throw CheckpointError(
        .unsupported,
        "GPTQ chooses a code for each element, but \(type) has none, or no search for its scales",
        remedy:
          "choose a format such as Q4_K_M, or give an importance matrix instead: step3-convert calibrate")
    }
    all = jobs.values.sorted { $0.tensor.precedesBytewise($1.tensor) }
    fallbacks = refused.keys.sorted { $0.precedesBytewise($1) }.map {
      CalibrationFallback(tensor: $0, reason: .format)
    }
  }

  /// The format that a tensor is encoded in; `nil` for scalars, and for tensors that are not encoded.
  private static func format(
    of tensor: ShardPlan.Tensor
  ) -> (format: StorageFormat, encoding: ShardPlan.Encoding?)? {
    switch tensor.operation {
    case .encode(.codes, let scheme, let encoding): (.scheme(scheme), encoding)
    case .convert where tensor.elementType.isBlockQuantized: (.element(tensor.elementType), nil)
    case .copy, .convert, .encode, .pack, .unpack, .carry, .shape: nil
    }
  }

  /// The weight that a slice belongs to; `nil` if it is not a linear layer of the language model's blocks.
  private func weight(
    _ slice: ShardPlan.Slice
  ) throws(CheckpointError) -> (name: Step3TensorName, weight: ModelWeights.Weight)? {
    guard
      let name = (model.tensor(published: slice.tensor) ?? model.tensor(gguf: slice.tensor))?.weight,
      let row = model[name.module]
    else {
      throw CheckpointError(
        .unsupported, "is stored as one tensor with others, so GPTQ cannot make its codes",
        tensor: slice.tensor, remedy: "convert to BF16 first, or leave out --method")
    }
    guard let layer = name.layer, row.isLinear else { return nil }
    guard let weight = weights[name], layer < weights.configuration?.text.layerCount ?? 0 else {
      throw CheckpointError(
        .unsupported, "is in a layer that the forward pass does not run, so GPTQ cannot make its codes",
        tensor: slice.tensor, remedy: "leave out --method, or keep it as it is with --tensor-type")
    }
    return (name, weight)
  }

  /// The weights whose matrices share a scale.
  private func sharing(_ encoding: ShardPlan.Encoding?) throws(CheckpointError) -> [ModelWeights.Weight] {
    guard let group = encoding?.scaleGroup else { return [] }
    var sharing: [ModelWeights.Weight] = []
    for slice in plan.scaleGroups[group].members {
      guard let (_, weight) = try weight(slice) else { continue }
      sharing.append(weight)
    }
    return sharing
  }

  private static func check(_ isOne: Bool, _ tensor: String) throws(CheckpointError) {
    guard isOne else {
      throw CheckpointError(
        .unsupported, "is stored in different formats in different parts, but GPTQ makes its codes only once",
        tensor: tensor, remedy: "choose parts that can all be stored in one format, or leave out --method")
    }
  }
}
