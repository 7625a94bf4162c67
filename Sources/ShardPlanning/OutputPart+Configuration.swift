internal import Checkpoint
internal import Step3Model
internal import TensorFormats

extension OutputPart {
  /// The member of `config.json` that says what a part is.
  static let partitionKey = "step3_partition"

  private static let quantizationKey = "quantization_config"

  /// The part's `config.json`: the source's, changed only where the output differs from it.
  func configuration(for part: ShardPlan.Part) throws(CheckpointError) -> String? {
    let source: [UInt8]
    if let text = model.checkpoint.configuration {
      source = text
    } else if let step3 = model.step3 {
      source = try step3.configJSON()
    } else {
      return nil
    }
    let quantization = quantization
    // Nothing to change: the bytes stay as they are.
    if part.role == .model, case .unchanged = quantization { return String(decoding: source, as: UTF8.self) }
    var text = try ConfigurationText(source)
    switch quantization {
    case .unchanged: break
    case .none: text[Self.quantizationKey] = nil
    case .blockFP8(let configuration): text[Self.quantizationKey] = configuration
    }
    if part.role != .model { text[Self.partitionKey] = partition(part) }
    return text.text
  }

  private enum Quantization {
    /// What the source says holds for the output.
    case unchanged
    /// Nothing is quantised any more in a way that the configuration speaks of.
    case none
    case blockFP8(String)
  }

  private var quantization: Quantization {
    let encoded = tensors.contains { $0.derivation == .blockFP8Codes }
    let absorbed = tensors.contains { $0.source.scale != nil }
    if tensors.contains(where: \.isBlockFP8) {
      guard encoded || absorbed else { return .unchanged }
      return .blockFP8(BlockFP8Modules.configuration(tensors, isStep3: model.step3 != nil))
    }
    // A part without FP8 tensors, such as the vision side, must not claim any.
    return model.scales.isEmpty ? .unchanged : .none
  }

  /// What the part is, and which boxes of the model's tensors it holds, where it does not hold all of one.
  private func partition(_ part: ShardPlan.Part) -> String {
    func position(_ position: ShardPlan.Position) -> String {
      #"{"rank": \#(position.rank), "ranks": \#(position.ranks)}"#
    }
    var lines = [
      #""role": "\#(part.role.rawValue)""#, #""rank": \#(part.rank)"#, #""ranks": \#(part.ranks)"#,
      #""expert_parallel": \#(position(part.expertParallel))"#,
      #""tensor_parallel": \#(position(part.tensorParallel))"#,
      #""router": "\#(request.router.rawValue)""#,
    ]
    // Scales are cut with their weights, which say how.
    let slices = part.tensors.filter { !$0.source.isWhole && $0.derivation != .blockFP8Scales }.map {
      tensor in
      let name = ConfigurationText.quoted(tensor.name)
      return "      \(name): {\"shape\": \(tensor.source.shape), \"origin\": \(tensor.source.origin), "
        + "\"extent\": \(tensor.source.extent)}"
    }
    lines.append(
      slices.isEmpty ? #""slices": {}"# : "\"slices\": {\n" + slices.joined(separator: ",\n") + "\n    }")
    return "{\n" + lines.map { "    \($0)" }.joined(separator: ",\n") + "\n  }"
  }
}
