internal import JSON
internal import TensorFormats

extension Step3Configuration {
  /// The rotary embedding in `config.json`, under either of its names.
  ///
  /// Older files have `rope_theta` and `rope_scaling`; newer versions of transformers write `rope_parameters`, with
  /// `rope_theta` in it, and one such object for each kind of layer if there are several. If a file has both, the
  /// older name is used, unless it is empty; a base inside the object takes precedence over one beside it.
  struct RopeDescription {
    let base: Double
    /// The base, if the file states one.
    let statedBase: Double?
    let scaling: RopeScaling?
    /// The object that is used.
    let object: JSONObject?

    init(_ text: JSONObject) throws(CheckpointError) {
      let older = try Self.object("rope_scaling", of: text)
      let newer = try Self.object("rope_parameters", of: text)
      object = older ?? newer
      let places = [older ?? newer, text, newer].compactMap(\.self)
      let place = places.first { $0.value("rope_theta") != nil } ?? text
      base = try place.positive("rope_theta", default: 500_000)
      statedBase = place.value("rope_theta") == nil ? nil : base
      if let object { scaling = try RopeScaling(object) } else { scaling = nil }
    }

    /// One of the two objects; `nil` if absent or empty.
    private static func object(_ key: String, of text: JSONObject) throws(CheckpointError) -> JSONObject? {
      guard let object = try text.object(key) else { return nil }
      let members = object.values.keeping { object.values[$0] != .null }
      guard !members.isEmpty else { return nil }
      let kinds = members.keeping { members[$0]?.members != nil }
      guard !kinds.isEmpty else { return object }
      let names = kinds.keys.sorted()
      if kinds.count == members.count {
        if let only = onlyKind(of: text), kinds[only] != nil { return try object.object(only) }
        if Set(kinds.values).count == 1 { return try object.object(names[0]) }
      }
      throw CheckpointError(
        .unsupported,
        "\(object.place.dropLast()): expected one description of the rotary embedding for all layers of a Step-3, "
          + "found several: \(members.keys.sorted().map(\.printable).joined(separator: ", "))",
        remedy: "state rope_theta and rope_type once, or remove the kinds that no layer has")
    }

    /// The kind that `layer_types` gives to all layers.
    private static func onlyKind(of text: JSONObject) -> String? {
      guard case .array(let kinds)? = text.value("layer_types"), case .string(let first)? = kinds.first,
        kinds.allSatisfy({ $0 == .string(first) })
      else { return nil }
      return first
    }
  }
}
