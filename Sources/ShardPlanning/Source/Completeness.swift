internal import Checkpoint
internal import QuantizationRecipes
internal import Step3Model
internal import TensorFormats

/// Compares the weights of a model of the family with those that its configuration asks for.
struct Completeness {
  /// What is wrong, missing tensors first.
  let issues: [Step3Inventory.Issue]
  private let expected: Int
  private let name: String

  /// - Parameter excluded: Whether a tensor of that name is left out on purpose.
  /// - Throws: What a configuration of impossible dimensions throws.
  init(_ model: SourceModel, excluded: (String) throws(CheckpointError) -> Bool) throws(CheckpointError) {
    guard var configuration = model.step3, !model.isPart else {
      (issues, expected, name) = ([], 0, "")
      return
    }
    // Names and shapes are those of weights, however they are stored.
    configuration.quantization = nil
    let description = configuration.family.model
    let inventory = try Step3Inventory(configuration)
    // Tensors that GGUF computes from the configuration are not in the inventory.
    let computed = description[.rotaryFactors].map { _ in
      description.published(Step3TensorName(.rotaryFactors))
    }
    let found = model.tensors.filter { $0.role != .scale && $0.safetensorsName != computed }.map {
      ($0.safetensorsName, $0.shape)
    }
    var issues: [Step3Inventory.Issue] = []
    for issue in inventory.issues(with: found.map { (name: $0.0, shape: $0.1) }) {
      if case .missing(let name, _) = issue {
        if try excluded(name) { continue }
        // Tied weights are stored once.
        if name == description.published(Step3TensorName(.lmHead)), model.saysTied { continue }
        if model.checkpoint.format == .gguf,
          description.tensor(published: name).map({ description.row(of: $0).isVision }) == true
        {
          // The vision side of a GGUF model is a separate file, which is optional.
          if !model.tensors.contains(where: \.isVision) { continue }
        }
      }
      issues.append(issue)
    }
    self.issues = issues
    expected = inventory.tensors.count
    name = configuration.family.name
  }

  /// Refuses an incomplete model.
  ///
  /// - Throws: `.malformed` with the first few issues.
  func require(_ purpose: String, path: String) throws(CheckpointError) {
    guard !issues.isEmpty else { return }
    throw CheckpointError(
      .malformed,
      "this \(name) is not what its configuration describes, so it cannot be \(purpose): \(summary)",
      path: path,
      remedy: "complete the checkpoint, or leave tensors out on purpose with --exclude PATTERN")
  }

  /// A warning about the issues; `nil` if there are none.
  var warning: String? {
    issues.isEmpty ? nil : "this \(name) is not what its configuration describes: \(summary)"
  }

  /// The issues in one line.
  var summary: String {
    let named = issues.prefix(4).map(\.description).joined(separator: "; ")
    return issues.count > 4 ? "\(named); and \(issues.count - 4) more of \(expected) tensors" : named
  }
}
