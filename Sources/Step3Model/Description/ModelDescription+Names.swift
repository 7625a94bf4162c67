public import Checkpoint

extension ModelDescription {
  /// A module's name within its scope.
  struct NameKey: Hashable {
    let scope: Scope
    let stem: String
  }

  /// Parses a published name; `nil` if the model has no such tensor.
  public func tensor(published name: String) -> Step3TensorName? {
    tensor(name, layers: \.published, modules: published)
  }

  /// Parses a GGUF name, of the language model's file or of the vision file; `nil` if there is no such tensor.
  public func tensor(gguf name: String) -> Step3TensorName? { tensor(name, layers: \.gguf, modules: gguf) }

  /// The name of a tensor in a published checkpoint.
  ///
  /// - Precondition: The family has the module, and the layer is given exactly where it occurs in layers.
  public func published(_ name: Step3TensorName) -> String {
    spelled(name, row(of: name).publishedName, layers: \.published)
  }

  /// The name of a tensor in a GGUF file; `nil` where GGUF has none. If the module has an offset, its values include
  /// it. Scales have a name only in files that store them separately, which GGUF's block types do not.
  ///
  /// - Precondition: As ``published(_:)``.
  public func gguf(_ name: Step3TensorName) -> String? {
    let row = row(of: name)
    guard let stem = row.ggufName else { return nil }
    return spelled(name, stem, layers: \.gguf)
  }

  /// What a tensor is for.
  ///
  /// - Precondition: The family has the module.
  public func role(of name: Step3TensorName) -> TensorRole {
    name.suffix.isScale ? .scale : row(of: name).role
  }

  /// Which side holds a tensor when attention and FFN run on different accelerators. A scale stays with its weight.
  ///
  /// - Precondition: The family has the module.
  public func side(of name: Step3TensorName, router: RouterSide) -> PartRole {
    let row = row(of: name)
    guard row.role == .router else { return row.side }
    return router == .ffn ? .ffn : .attention
  }

  /// The description of a tensor's module.
  ///
  /// - Precondition: The family has the module.
  public func row(of name: Step3TensorName) -> Module {
    guard let row = self[name.module] else { preconditionFailure("\(family.name) has no \(name.module)") }
    return row
  }

  /// The modules that a fused module consists of, in row order, given its published name; `nil` for any other name.
  public func members(ofFused name: String) -> (modules: [Module], layer: Int)? {
    guard let (layer, rest) = Self.layer(of: name, after: textLayers.published) else { return nil }
    let members = modules.filter { row in
      guard row.scope == .textLayer, row.expertAxis == nil, let fusion = row.fusion else { return false }
      return rest == "\(row.parentName).\(fusion.name)"
    }
    return members.isEmpty ? nil : (members, layer)
  }

  private func spelled(
    _ name: Step3TensorName, _ stem: String, layers path: KeyPath<Layers, String>
  ) -> String {
    let layers = layers(of: row(of: name).scope)
    precondition((layers == nil) == (name.layer == nil), "\(name.module) needs a layer or must have none")
    let prefix = layers.map { "\($0[keyPath: path])\(name.layer ?? 0)." } ?? ""
    return name.suffix == .none ? prefix + stem : "\(prefix)\(stem).\(name.suffix.rawValue)"
  }

  private func tensor(
    _ name: String, layers path: KeyPath<Layers, String>, modules: [NameKey: Step3Module]
  ) -> Step3TensorName? {
    for scope in [Scope.visionLayer, .textLayer] {
      guard let layers = layers(of: scope),
        let (layer, rest) = Self.layer(of: name, after: layers[keyPath: path])
      else { continue }
      return tensor(rest: rest, scope: scope, layer: layer, modules)
    }
    return tensor(rest: name[...], scope: .global, layer: nil, modules)
  }

  private func tensor(
    rest: Substring, scope: Scope, layer: Int?, _ modules: [NameKey: Step3Module]
  ) -> Step3TensorName? {
    // Only few modules have no suffix, and no others may lack one.
    if let module = modules[NameKey(scope: scope, stem: String(rest))] {
      return self[module]?.isBare == true ? Step3TensorName(module, layer: layer, suffix: .none) : nil
    }
    guard let dot = rest.lastIndex(of: "."),
      let suffix = Step3TensorName.Suffix(rawValue: String(rest[rest.index(after: dot)...])), suffix != .none,
      let module = modules[NameKey(scope: scope, stem: String(rest[..<dot]))], self[module]?.isBare == false
    else { return nil }
    return Step3TensorName(module, layer: layer, suffix: suffix)
  }

  /// The number after a prefix and what follows the next dot. Only the canonical spelling counts (no sign, no leading
  /// zero), so that parsing and printing are inverses.
  private static func layer(of name: String, after prefix: String) -> (Int, Substring)? {
    guard name.hasPrefix(prefix) else { return nil }
    let rest = name.dropFirst(prefix.count)
    guard let dot = rest.firstIndex(of: "."), let layer = Int(rest[..<dot]), String(layer) == rest[..<dot],
      layer >= 0
    else { return nil }
    return (layer, rest[rest.index(after: dot)...])
  }
}
