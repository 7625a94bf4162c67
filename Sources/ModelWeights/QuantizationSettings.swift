internal import Checkpoint
internal import Step3Model
internal import TensorFormats

/// What `quantization_config` of `config.json` says about how weights are stored, as far as names, types and shapes do
/// not tell.
struct QuantizationSettings {
  /// Rows and columns of an FP8 tile.
  var tile = (rows: 128, columns: 128)
  /// The method that names the tensors; `nil` where nothing says it.
  var method: String?

  /// Nothing said.
  init() {}

  /// - Throws: `.malformed` for a tile that is no pair of positive numbers. A configuration that is missing or broken
  ///   in other ways says nothing: it is no reason not to look at the weights.
  init(_ checkpoint: Checkpoint) throws(CheckpointError) {
    guard let text = checkpoint.configuration, let root = try? JSONValue.parse(text, name: "config.json"),
      case .object(let members) = root
    else { return }
    let inner: [String: JSONValue] = if case .object(let text)? = members["text_config"] { text } else { [:] }
    let stated = [
      members["quantization_config"], inner["quantization_config"], members["compression_config"],
    ]
    guard case .object(let settings)? = stated.compactMap({ $0 }).first(where: { $0 != .null }) else {
      return
    }
    if case .string(let method)? = settings["quant_method"] { self.method = method }
    guard let sides = settings["weight_block_size"] ?? Self.blockStructure(settings), sides != .null else {
      return
    }
    guard case .array(let values) = sides, values.count == 2, case .integer(let rows) = values[0],
      case .integer(let columns) = values[1], (1...Int(Int32.max)).contains(rows),
      (1...Int(Int32.max)).contains(columns)
    else {
      throw CheckpointError(
        .malformed,
        "quantization_config.weight_block_size is \(sides.kind), not the rows and columns of a tile",
        path: "\(checkpoint.directory)/config.json")
    }
    tile = (rows, columns)
  }

  /// Where compressed-tensors states the size of a tile.
  private static func blockStructure(_ settings: [String: JSONValue]) -> JSONValue? {
    guard case .object(let groups)? = settings["config_groups"] else { return nil }
    for name in groups.keys.sorted() {
      guard case .object(let group)? = groups[name], case .object(let weights)? = group["weights"],
        let structure = weights["block_structure"], structure != .null
      else { continue }
      return structure
    }
    return nil
  }
}
