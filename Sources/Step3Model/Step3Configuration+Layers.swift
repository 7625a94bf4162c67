extension Step3Configuration.Text {
  /// Whether layer `index` sees only the last positions. O(log n).
  public func isSliding(layer index: Int) -> Bool {
    guard let layers = sliding?.layers else { return false }
    let place = layers.firstPlace { $0 >= index }
    return place < layers.count && layers[place] == index
  }

  /// Query heads of a layer.
  public func headCount(layer index: Int) -> Int {
    if let sliding, isSliding(layer: index) { sliding.headCount } else { headCount }
  }

  /// Key and value heads of a layer.
  public func keyValueHeadCount(layer index: Int) -> Int {
    if let sliding, isSliding(layer: index) { sliding.keyValueHeadCount } else { keyValueHeadCount }
  }

  /// The elements of a head that a layer's rotary embedding rotates.
  public func rotaryDimension(layer index: Int) -> Int {
    if let sliding, isSliding(layer: index) { return sliding.rotaryDimension ?? headDimension }
    return rotaryDimension ?? headDimension
  }

  /// The largest activation in a layer's routed experts; `nil` for no limit.
  public func expertLimit(layer index: Int) -> Double? { Self.limit(expertLimits, index) }

  /// The largest activation in a layer's shared expert or dense network; `nil` for no limit.
  public func sharedExpertLimit(layer index: Int) -> Double? { Self.limit(sharedExpertLimits, index) }

  private static func limit(_ limits: [Double], _ index: Int) -> Double? {
    limits.indices.contains(index) && limits[index] > 0 ? limits[index] : nil
  }

  /// The largest number of ranks that tensor parallelism can divide the heads between: every rank needs the same number
  /// of each kind that is cut. Step-3's key and value head stays whole.
  public func dividedHeads(of family: ModelFamily) -> Int {
    var counts = [headCount]
    if family != .step3 { counts.append(keyValueHeadCount) }
    if let sliding { counts += [sliding.headCount, sliding.keyValueHeadCount] }
    return counts.reduce(0) { a, b in
      var (a, b) = (a, b)
      while b != 0 { (a, b) = (b, a % b) }
      return a
    }
  }
}

extension Step3Configuration {
  /// Whether a tensor is in a layer that predicts further tokens.
  public func predicts(_ name: Step3TensorName) -> Bool {
    family.model.row(of: name).scope == .textLayer && (name.layer ?? 0) >= text.layerCount
  }

  /// Whether serving engines load a weight as a linear layer that a scheme may quantise.
  ///
  /// Layers that predict further tokens are published in BF16 even if the others are quantised. In a layer with an
  /// indexer, vLLM fuses queries, keys and values with it into one product, which it never quantises.
  ///
  /// Sources: the published FP8 release of Step-3.7-Flash; vLLM 0.33, `models/step5/nvidia/model.py`.
  ///
  /// - Precondition: The family has the module.
  public func isLinear(_ name: Step3TensorName) -> Bool {
    let row = family.model.row(of: name)
    guard row.isLinear, !predicts(name) else { return false }
    let isBesideIndexer = text.indexer != nil && name.layer.map { !text.isSliding(layer: $0) } == true
    return !(isBesideIndexer && row.fusion == .queryKeyValue)
  }
}

extension [Int] {
  /// The first place from which a condition holds to the end. O(log n).
  fileprivate func firstPlace(where holds: (Int) -> Bool) -> Int {
    var (low, high) = (0, count)
    while low < high {
      let middle = (low + high) / 2
      if holds(self[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }
}
