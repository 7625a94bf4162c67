internal import OrderedCollections
internal import ShardPlanning

/// The on-disk names of the tensors that a plan's tensors are made from, as recorded in manifests.
struct SourceNames {
  /// The origins of derived tensors.
  private let origins: [String: [String]]

  init(_ plan: ShardPlan) {
    origins = Dictionary(
      plan.source.derived.map { ($0.tensor, $0.origins) }, uniquingKeysWith: { first, _ in first })
  }

  /// The tensors on disk that an output tensor is made from, including scales, each once.
  func sources(of tensor: ShardPlan.Tensor) -> [String] {
    Array(OrderedSet(tensor.sources.flatMap(\.tensors).flatMap { origins[$0] ?? [$0] }))
  }
}

extension ShardPlan.Slice {
  /// The tensor and its scales.
  fileprivate var tensors: [String] {
    [tensor] + [scaling?.scales, scaling?.matrixScales].compactMap { $0?.tensor }
  }
}
