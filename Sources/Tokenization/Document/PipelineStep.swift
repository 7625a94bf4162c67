internal import JSON
internal import Patterns
internal import TensorFormats

/// One step of a pipeline in `tokenizer.json`: an object with a type.
struct PipelineStep {
  let type: String
  let object: JSONObject

  /// The steps of a value: none for null, one, or those of a `Sequence`, whose list is under `list`.
  static func flattened(
    _ value: JSONValue, place: String, list: String
  ) throws(CheckpointError) -> [PipelineStep] {
    if value == .null { return [] }
    let object = try JSONObject(value, place: "\(place).")
    guard let type = try object.string("type") else { throw object.mismatch("type", "a string", nil) }
    guard type == "Sequence" else { return [PipelineStep(type: type, object: object)] }
    guard case .array(let items)? = object.value(list) else {
      throw object.mismatch(list, "a list", object.value(list))
    }
    var steps: [PipelineStep] = []
    for (index, item) in items.enumerated() {
      steps += try flattened(item, place: "\(place).\(list)[\(index)]", list: list)
    }
    return steps
  }

  /// The error for a type that is not supported.
  var unknown: CheckpointError {
    CheckpointError(.unsupported, "\(object.place)type: '\(type.printable)' is not supported")
  }
}

extension Normalizer {
  /// Reads the `normalizer` of a document.
  init(_ value: JSONValue) throws(CheckpointError) {
    self.init()
    for step in try PipelineStep.flattened(value, place: "normalizer", list: "normalizers") {
      guard let form = Form(rawValue: step.type) else { throw step.unknown }
      forms.append(form)
    }
  }
}

extension PreTokenizer {
  /// Reads the `pre_tokenizer` of a document: divisions, and at last the byte level.
  init(_ value: JSONValue) throws(CheckpointError) {
    self.init()
    let steps = try PipelineStep.flattened(value, place: "pre_tokenizer", list: "pretokenizers")
    guard let last = steps.last, last.type == "ByteLevel" else {
      throw CheckpointError(
        .unsupported,
        "pre_tokenizer: expected ByteLevel at the end, found \(steps.last?.type.printable ?? "nothing")")
    }
    for step in steps.dropLast() {
      switch step.type {
      case "Split": splits.append(try Split(step.object))
      case "Digits":
        let isEach = try step.object.bool("individual_digits", default: false)
        splits.append(
          Split(pattern: try OnigurumaPattern(#"\p{N}"#), behavior: isEach ? .isolated : .contiguous))
      default: throw step.unknown
      }
    }
    addsPrefixSpace = try last.object.bool("add_prefix_space", default: true)
    if try last.object.bool("use_regex", default: true) { lastSplit = try Split(isolating: Self.gpt2Pattern) }
  }
}

extension PreTokenizer.Split {
  fileprivate init(_ object: JSONObject) throws(CheckpointError) {
    let name = try object.string("behavior") ?? ""
    guard let behavior = PreTokenizer.Behavior(rawValue: name) else {
      throw object.mismatch("behavior", "a split behaviour", object.value("behavior"))
    }
    guard let pattern = try object.object("pattern") else {
      throw object.mismatch("pattern", "an object", nil)
    }
    do throws(CheckpointError) {
      if let text = try pattern.string("String") {
        self.pattern = try OnigurumaPattern(literal: text)
      } else if let expression = try pattern.string("Regex") {
        self.pattern = try OnigurumaPattern(expression)
      } else {
        throw CheckpointError(.malformed, "expected String or Regex, found neither")
      }
    } catch {
      var placed = error
      placed.message = "\(pattern.place) \(error.message)"
      throw placed
    }
    self.behavior = behavior
    isInverted = try object.bool("invert", default: false)
  }
}
