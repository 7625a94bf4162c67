internal import Quantization
internal import QuantizationRecipes
internal import Step3Model
internal import StoredWeights

/// A weight whose codes GPTQ makes.
struct GPTQJob: Sendable {
  let name: Step3TensorName
  /// The source tensor's name in the plan.
  let tensor: String
  let weight: ModelWeights.Weight
  /// A scheme, or a block type with a ``BlockGrid``.
  let format: StorageFormat
  let search: ScaleSearch
  /// The weights whose matrices share a scale with this one's, including itself; empty if there is none.
  let sharing: [ModelWeights.Weight]
}
