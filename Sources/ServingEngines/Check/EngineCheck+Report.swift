extension EngineCheck {
  private struct Placed: Hashable {
    let kind: EngineModuleKind
    let layout: EngineLayout
  }

  /// The report of all findings, with the limits of tensor parallelism.
  mutating func report(tensorParallel: Int?) -> EngineReport {
    checkAlignment()
    let limits = TensorParallelLimits(self)
    if let tensorParallel { check(tensorParallel, limits) }
    var counts: [Placed: Int] = [:]
    for (module, layout) in placed { counts[Placed(kind: module.kind, layout: layout), default: 0] += 1 }
    var schemes = counts.map { key, count in
      EngineReport.Scheme(
        kind: key.kind, scheme: key.layout.description, modules: count,
        largestTP: limits.largest { limits.obstacle($0, kind: key.kind, layout: key.layout) == nil })
    }
    schemes += refused.map {
      EngineReport.Scheme(kind: $0, scheme: $1.description, modules: $1.count, largestTP: nil)
    }
    schemes.sort { ($0.kind, $0.scheme) < ($1.kind, $1.scheme) }
    let largest = refused.isEmpty && !placed.isEmpty ? limits.largest { limits.obstacle($0) == nil } : nil
    let found = findings.findings
    return EngineReport(
      engine: engine, version: engine.version, ok: !found.contains { $0.severity.isFatal }, schemes: schemes,
      largestTP: largest, limit: largest.flatMap { $0 < 64 ? limits.obstacle(2 * $0) : nil },
      requestedTP: tensorParallel, findings: found, findingsDropped: findings.dropped, checksSkipped: skipped)
  }

  /// Reports, for every module that does not allow this many ranks, why not.
  private mutating func check(_ ranks: Int, _ limits: TensorParallelLimits) {
    // Not every number below the largest divides the model.
    let fitting = [1, 2, 4, 8, 16, 32, 64].filter { limits.obstacle($0) == nil }.map(String.init)
    let remedy =
      fitting.isEmpty ? "see the other findings" : "--tp \(fitting.joined(separator: ", ")) would work"
    func add(_ module: String?, _ obstacle: String) {
      findings.add(
        .error, .tensorParallel, tensor: module, obstacle,
        consequence: "\(engine.name) stops at --tp \(ranks)",
        remedy: remedy)
    }
    if let obstacle = limits.modelObstacle(ranks) { add(nil, obstacle) }
    for (module, layout) in placed {
      // Obstacles for a single rank have already been reported.
      guard limits.obstacle(1, module, layout) == nil, let obstacle = limits.obstacle(ranks, module, layout)
      else {
        continue
      }
      add(module.stem, obstacle)
    }
  }
}
