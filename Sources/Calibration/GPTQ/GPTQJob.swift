internal import Quantization
internal import Step3Model
internal import StoredWeights

/// A weight whose codes GPTQ makes.
struct GPTQJob: Sendable {
  let name: Step3TensorName
  /// The source tensor's name in the plan.
  let tensor: String
  let weight: ModelWeights.Weight
  let scheme: StoredScheme
  let search: ScaleSearch
}
