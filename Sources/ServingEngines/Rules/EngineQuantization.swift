internal import Step3Model

/// An engine's reading of `quantization_config`: a scheme for each module.
struct EngineQuantization {
  /// How the method assigns schemes to modules.
  enum Rule {
    /// One for all linear layers and one for all experts.
    case uniform(linear: EngineLayout, experts: EngineLayout)
    /// The first group that has the module among its targets.
    case groups([CompressedTensorsGroup])
  }

  /// The result for a module.
  enum Resolution {
    case layout(EngineLayout)
    case refused(EngineRefusal)
  }

  let model: EngineModel
  /// `quant_method`.
  let method: String
  let rule: Rule
  /// The modules left unquantised.
  let ignored: ModuleList

  private var engine: Engine { model.engine }

  /// Patterns that could not be read: what is wrong with each.
  var unreadable: [String] {
    guard case .groups(let groups) = rule else { return ignored.unreadable }
    return ignored.unreadable + groups.flatMap(\.targets.unreadable)
  }

  /// The scheme of a module.
  func resolve(_ module: EngineModule) -> Resolution {
    if module.kind == .lmHead { return resolve(head: module) }
    switch ignored.contains(module) {
    case .yes: return .layout(.plain)
    case .mixed:
      return .refused(
        EngineRefusal(
          .mixedModule, "the list leaves only some of the module's weights unquantised",
          "\(engine.name) stops: ValueError, the weights of one module need one scheme",
          "list all weights of the module, and the module by its fused name"))
    case .unknown(let reason): return unknown(reason)
    case .no: break
    }
    switch rule {
    case .uniform(let linear, let experts): return checked(module.kind == .experts ? experts : linear, module)
    case .groups(let groups): return resolve(module, in: groups)
    }
  }

  /// The output projection is quantised only by ModelOpt, or by a group of compressed-tensors that names it, if the
  /// class passes the configuration to it at all.
  private func resolve(head module: EngineModule) -> Resolution {
    guard model.rules.quantizesHead, ignored.contains(module) == .no else { return .layout(.plain) }
    switch rule {
    case .uniform(let linear, _):
      return method.hasPrefix("modelopt") ? checked(linear, module) : .layout(.plain)
    case .groups(let groups):
      guard let group = groups.first(where: { $0.targets.contains(module) == .yes }) else {
        return .layout(.plain)
      }
      return resolution(of: group, for: module)
    }
  }

  private func unknown(_ reason: String) -> Resolution {
    .refused(
      EngineRefusal(
        .patternUnreadable, reason, "\(engine.name) may take as long, without limit",
        "write patterns without repetitions of repetitions, such as (a+)+ or (.*)*"))
  }

  private func resolve(_ module: EngineModule, in groups: [CompressedTensorsGroup]) -> Resolution {
    for group in groups {
      switch group.targets.contains(module) {
      case .yes: return resolution(of: group, for: module)
      case .mixed:
        return .refused(
          EngineRefusal(
            .mixedModule, "only some of the module's weights are among a group's targets",
            "\(engine.name) stops: ValueError, the weights of one module need one scheme",
            "name all weights of the module, or the class Linear"))
      case .unknown(let reason): return unknown(reason)
      case .no: break
      }
    }
    if let group = groups.first(where: { $0.namesClass(of: module) }) {
      return resolution(of: group, for: module)
    }
    guard engine == .sglang else { return .layout(.plain) }
    return .refused(
      EngineRefusal(
        .quantizationConfig, "the module is neither ignored nor among the targets of a group",
        "SGLang stops: ValueError, unable to find matching target",
        "add the module to 'ignore', under its fused name and those of its weights"))
  }

  private func resolution(of group: CompressedTensorsGroup, for module: EngineModule) -> Resolution {
    guard let layout = group.layout, group.suitsExperts || module.kind != .experts else {
      return .refused(
        EngineRefusal(
          "these rules do not know how \(engine.name) loads \(group.description) for \(module.kind.rawValue)",
          "\(engine.name) stops: unsupported scheme",
          "use a scheme listed in the manual, or convert the weights to one"))
    }
    return checked(layout, module)
  }

  private func checked(_ layout: EngineLayout, _ module: EngineModule) -> Resolution {
    if let refusal = layout.refusal(by: model, for: module.kind) { return .refused(refusal) }
    return .layout(layout)
  }

  /// The entries that keep a module unquantised in both engines.
  static func namesToList(_ module: EngineModule, method: String?) -> [String] {
    guard module.kind == .experts else {
      return Array(Set([module.stem] + module.members.map(\.stem))).sorted()
    }
    let names = ["\(module.stem).experts", "\(module.stem.dropLast(3))mlp.experts"]
    guard method == "compressed-tensors" else { return names }
    // vLLM looks up the projections of the first expert, which only a pattern covers at once.
    return names.map { "re:.*\($0.split(separator: ".").joined(separator: "\\.")).*" }
  }
}
