internal import ByteStreams
internal import Checkpoint
internal import Step3Model
internal import TensorFormats
internal import Tokenization

/// Fills one output directory: weight files, configuration, and copied files.
struct OutputPart {
  let model: SourceModel
  let request: ShardPlan.Request
  /// The tokenizer, if the output's format stores it differently from the source's.
  let tokenizer: Step3Tokenizer?
  /// The weights, and how they are stored.
  let weights: [PlacedTensor]
  /// The tensors that they become.
  let tensors: [OutputTensor]

  /// Adds files, documents and copies to `part`, and the files' headers to `headers`.
  ///
  /// - Returns: Changes to the configuration, and what the part lacks.
  /// - Throws: What the formats' layouts throw, `.malformed` for a broken configuration or tokenizer, and
  ///   `.invalidRequest` for anything that no configuration can describe.
  func fill(
    _ part: inout ShardPlan.Part, headers: inout [String: [UInt8]]
  ) throws(CheckpointError) -> (amendments: [ShardPlan.Amendment], omissions: [ShardPlan.Omission]) {
    let (metadata, losses) = headerMetadata
    switch request.format {
    case .safetensors:
      let (files, index) = try SafetensorsPacking.pack(
        tensors, directory: part.directory, maximumBytes: request.maximumShardBytes, metadata: metadata,
        headers: &headers)
      part.files = files
      if let index { part.documents.append(index) }
    case .gguf:
      part.files = try ggufFiles(part, headers: &headers)
    }
    let (text, amendments) = try configuration(for: part)
    if let text { part.documents.append(ShardPlan.Document(path: path("config.json", in: part), text: text)) }
    guard servesText(part) else { return (amendments, losses) }
    let side = try sideFiles()
    part.copies = side.files.map {
      ShardPlan.Copy(from: $0.from, path: path($0.name, in: part), bytes: $0.bytes)
    }
    try addTokenizerFiles(to: &part)
    return (amendments, losses + side.omissions)
  }

  /// Vision and FFN parts do not serve text on their own.
  func servesText(_ part: ShardPlan.Part) -> Bool { part.role == .model || part.role == .attention }

  /// `__metadata__` of every safetensors file of the output: the source files' entries, as far as they agree, and
  /// `format`, which transformers requires. Dropped entries are returned with a reason.
  private var headerMetadata: (metadata: [String: String], losses: [ShardPlan.Omission]) {
    var metadata: [String: String] = [:]
    var contested: Set<String> = []
    for file in model.checkpoint.files {
      for (key, value) in file.safetensorsMetadata {
        if let known = metadata[key], known != value { contested.insert(key) }
        metadata[key] = metadata[key] ?? value
      }
    }
    func loss(_ key: String, _ reason: String) -> ShardPlan.Omission {
      ShardPlan.Omission(what: "__metadata__.\(key)", reason: reason)
    }
    let format = "format"
    guard request.format == .safetensors else {
      let lost = metadata.keys.filter { $0 != format }.sorted()
      return ([:], lost.map { loss($0, "GGUF has no place for safetensors header metadata") })
    }
    let losses = contested.sorted().map { loss($0, "the source's files do not agree on it") }
    for key in contested { metadata[key] = nil }
    metadata[format] = metadata[format] ?? "pt"
    return (metadata, losses)
  }

  private func path(_ name: String, in part: ShardPlan.Part) -> String {
    joinPath(part.directory, name)
  }
}

// MARK: - Companions

extension OutputPart {
  /// The small files beside the weights: all of them beside a copy, otherwise what an engine needs.
  private func sideFiles() throws(CheckpointError) -> SideFiles {
    let (checkpoint, directory) = (model.checkpoint, model.sideDirectory)
    return model.isRaw
      ? try .all(beside: checkpoint, in: directory) : try .needed(beside: checkpoint, in: directory)
  }

  /// A GGUF source's tokenizer, as the files that Hugging Face's readers expect. Files beside the source say more,
  /// and take precedence.
  private func addTokenizerFiles(to part: inout ShardPlan.Part) throws(CheckpointError) {
    guard request.format == .safetensors, let tokenizer, let step3 = model.step3 else { return }
    let copied = Set(part.copies.map(\.path))
    if !copied.contains(path("tokenizer.json", in: part)) {
      let text = try tokenizer.tokenizerJSON()
      part.documents.append(document("tokenizer.json", text, in: part))
    }
    if !copied.contains(path("tokenizer_config.json", in: part)) {
      let text = try tokenizer.tokenizerConfigJSON(contextLength: step3.text.contextLength)
      part.documents.append(document("tokenizer_config.json", text, in: part))
    }
    if !copied.contains(path("generation_config.json", in: part)) {
      part.documents.append(
        document("generation_config.json", try tokenizer.generationConfigJSON(), in: part))
    }
  }

  private func document(_ name: String, _ text: [UInt8], in part: ShardPlan.Part) -> ShardPlan.Document {
    ShardPlan.Document(path: path(name, in: part), text: String(decoding: text, as: UTF8.self))
  }
}
