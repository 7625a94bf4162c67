public import ByteStreams
public import TensorFormats
internal import YAML

extension DeploymentRequest {
  /// Reads a deployment file.
  ///
  /// - Throws: As ``init(yaml:path:)``; `.malformed` too if it is larger than 1 MiB or not UTF-8.
  public init(file: some ByteSource) throws(CheckpointError) {
    try self.init(yaml: YAMLReader.text(of: file, kind: "a deployment file"), path: file.path)
  }

  /// Reads a deployment in the form that `Manuals/deployment.md` describes.
  ///
  /// - Throws: `.malformed` with line and column for bad YAML, aliases, unknown keys, missing keys, quantities in
  ///   wrong units or not above 0, and undescribed cards.
  public init(yaml: String, path: String) throws(CheckpointError) {
    do throws(CheckpointError) {
      self = try YAMLReader(text: yaml).deployment()
    } catch {
      throw error.at(path: path)
    }
  }
}

// MARK: - The parts of a deployment file

extension YAMLReader {
  fileprivate func deployment() throws(CheckpointError) -> DeploymentRequest {
    let fields = try fields([
      "accelerators", "attention", "ffn", "context", "batch", "time_per_token", "stages", "precision",
      "cards_per_machine", "efficiency", "memory_share",
    ])
    let list = try required("accelerators", fields, "describe at least one card")
    var accelerators: [Accelerator] = []
    for entry in try list.list() {
      let card = try entry.accelerator()
      guard !accelerators.contains(where: { $0.name == card.name }) else {
        throw entry.problem("'\(card.name.printable)' appears twice")
      }
      accelerators.append(card)
    }
    guard !accelerators.isEmpty else { throw list.problem("'accelerators' is an empty list") }
    let context = try required("context", fields, "give the number of tokens before the decoded one")
    var request = DeploymentRequest(accelerators: accelerators, context: try context.tokens())
    let names = accelerators.map(\.name)
    request.attention = try fields["attention"]?.card(among: names)
    request.feedForward = try fields["ffn"]?.card(among: names)
    request.batch = try fields["batch"]?.count(in: 1...1 << 30)
    let usual = DeploymentRequest.usualPipeline
    request.pipeline = Pipeline(
      secondsPerToken: try fields["time_per_token"]?.quantity(.seconds) ?? usual.secondsPerToken,
      stages: try fields["stages"]?.count(in: 1...64) ?? usual.stages)
    request.cardsPerMachine =
      try fields["cards_per_machine"]?.count(in: 1...1024) ?? DeploymentRequest.usualMachine
    request.efficiency = try fields["efficiency"]?.share() ?? 1
    request.memoryShare = try fields["memory_share"]?.share() ?? DeploymentRequest.usualMemoryShare
    if let precision = fields["precision"] {
      let fields = try precision.fields(["compute", "cache", "weights"])
      request.compute = try fields["compute"]?.precision() ?? request.compute
      request.cache = try fields["cache"]?.precision() ?? request.cache
      request.weights = try fields["weights"]?.precision() ?? request.weights
    }
    return request
  }

  private func accelerator() throws(CheckpointError) -> Accelerator {
    let fields = try fields(["name", "price", "bf16", "fp8", "bandwidth", "memory", "network"])
    func quantity(_ key: String, _ unit: Quantity, _ what: String) throws(CheckpointError) -> Double {
      try required(key, fields, what).quantity(unit)
    }
    return Accelerator(
      name: try required("name", fields, "give the card a name").scalarText(),
      pricePerHour: try required("price", fields, "give the price of a card per hour, in US dollars")
        .number(),
      bf16: try quantity("bf16", .operationsPerSecond, "give its operations per second in BF16"),
      fp8: try fields["fp8"]?.quantity(.operationsPerSecond),
      bandwidth: try quantity("bandwidth", .bytesPerSecond, "give its memory bandwidth"),
      memory: try quantity("memory", .bytes, "give its memory"),
      network: try quantity("network", .bytesPerSecond, "give its share of the network bandwidth"))
  }

  private func required(
    _ key: String, _ fields: [String: YAMLReader], _ remedy: String
  ) throws(CheckpointError) -> YAMLReader {
    guard let value = fields[key] else { throw problem("'\(key)' is missing", remedy: remedy) }
    return value
  }

  // MARK: Values

  private func quantity(_ unit: Quantity) throws(CheckpointError) -> Double {
    let text = try scalarText()
    guard let value = unit.parse(text) else {
      throw problem(
        "'\(text.printable)' is not a quantity of this kind above 0", remedy: "write it as \(unit.example)")
    }
    return value
  }

  private func number() throws(CheckpointError) -> Double {
    let text = try scalarText()
    guard text.allSatisfy({ $0.isASCII && ($0.isNumber || ".eE+-".contains($0)) }), let value = Double(text),
      Quantity.range.contains(value)
    else { throw problem("'\(text.printable)' is not a number above 0") }
    return value
  }

  private func share() throws(CheckpointError) -> Double {
    let value = try number()
    guard value <= 1 else { throw problem("\(value) is not a share: it must be above 0 and at most 1") }
    return value
  }

  private func count(in range: ClosedRange<Int>) throws(CheckpointError) -> Int {
    let value = try count()
    guard range.contains(value) else {
      throw problem("\(value) is not from \(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }

  private func tokens() throws(CheckpointError) -> Int {
    let text = try scalarText()
    guard let count = TokenCount(text) else {
      throw problem(
        "'\(text.printable)' is not a number of tokens",
        remedy: "write it as 32768 or 32K (1K is 1024), up to \(TokenCount.largest)")
    }
    return count.tokens
  }

  private func precision() throws(CheckpointError) -> Precision {
    let text = try scalarText()
    guard let precision = Precision(rawValue: text.lowercased()) else {
      throw problem(
        "'\(text.printable)' is not a supported precision",
        remedy: "there are \(Precision.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    return precision
  }

  private func card(among names: [String]) throws(CheckpointError) -> String {
    let text = try scalarText()
    guard !names.contains(text) else { return text }
    let known = "there are \(names.map(\.printable).joined(separator: ", "))"
    let question = Suggestion.question(for: text, among: names)?.printable
    throw problem(
      "'\(text.printable)' is not one of the accelerators", remedy: question.map { "\($0) \(known)" } ?? known
    )
  }
}
