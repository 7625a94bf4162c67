internal import ByteStreams
internal import Checkpoint
internal import Step3Model
internal import TensorFormats

/// Fills one output directory: its weight files, its configuration, what is copied beside them.
struct OutputPart {
  let model: SourceModel
  let request: ShardPlan.Request
  /// The tokenizer, if the output's format states it otherwise than the source's.
  let tokenizer: Step3Tokenizer?
  /// The weights, and how they are stored.
  let weights: [PlacedTensor]
  /// The tensors that they become.
  let tensors: [OutputTensor]

  /// Adds files, documents and copies to `part`, and the files' headers to `headers`.
  ///
  /// - Returns: What the configuration says otherwise than the source's.
  /// - Throws: What the formats' layouts throw, `.malformed` for a broken configuration or tokenizer, and
  ///   `.invalidRequest` for what no configuration can describe.
  func fill(
    _ part: inout ShardPlan.Part, headers: inout [String: [UInt8]]
  ) throws(CheckpointError) -> [ShardPlan.Amendment] {
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
    let (text, changes) = try configuration(for: part)
    let amendments = changes + losses
    if let text { part.documents.append(ShardPlan.Document(path: path("config.json", in: part), text: text)) }
    guard servesText(part) else { return amendments }
    part.copies = try companions(for: part)
    try addTokenizerFiles(to: &part)
    return amendments
  }

  /// The vision part and the experts serve no text by themselves.
  func servesText(_ part: ShardPlan.Part) -> Bool { part.role == .model || part.role == .attention }

  /// `__metadata__` of every safetensors file of the output: what the source's files say, as far as they agree, and
  /// `format`, which transformers asks for. What is not carried comes with its reason.
  private var headerMetadata: (metadata: [String: String], losses: [ShardPlan.Amendment]) {
    var metadata: [String: String] = [:]
    var contested: Set<String> = []
    for file in model.checkpoint.files {
      for (key, value) in file.safetensorsMetadata {
        if let known = metadata[key], known != value { contested.insert(key) }
        metadata[key] = metadata[key] ?? value
      }
    }
    func loss(_ key: String, _ reason: String) -> ShardPlan.Amendment {
      ShardPlan.Amendment(key: "\(ShardPlan.Amendment.headerMetadata).\(key)", reason: reason)
    }
    let format = "format"
    guard request.format == .safetensors else {
      let lost = metadata.keys.filter { $0 != format }.sorted()
      return ([:], lost.map { loss($0, "is left out: GGUF has no place for it") })
    }
    let losses = contested.sorted().map { loss($0, "is left out: the source's files do not agree on it") }
    for key in contested { metadata[key] = nil }
    metadata[format] = metadata[format] ?? "pt"
    return (metadata, losses)
  }

  private func path(_ name: String, in part: ShardPlan.Part) -> String {
    part.directory.isEmpty ? name : "\(part.directory)/\(name)"
  }
}

// MARK: - Companions

extension OutputPart {
  /// The small files beside the weights that an engine needs: tokenizer, generation settings, chat template, and the
  /// code of models that bring their own.
  private func companions(for part: ShardPlan.Part) throws(CheckpointError) -> [ShardPlan.Copy] {
    let directory = model.checkpoint.directory
    return try FileSystem.names(in: directory).filter(Self.isCompanion).compactMap { name in
      let path = "\(directory)/\(name)"
      guard FileSystem.kind(of: path) == .file, let bytes = FileSystem.size(of: path),
        bytes <= OutputMarkers.largestTextFile
      else { return nil }
      return ShardPlan.Copy(from: name, path: self.path(name, in: part), bytes: bytes)
    }
  }

  private static func isCompanion(_ name: String) -> Bool {
    let prefixes = [
      "tokenizer", "vocab", "merges", "special_tokens", "added_tokens", "generation_config", "chat_template",
    ]
    let suffixes = ["preprocessor_config.json", "processor_config.json", ".jinja", ".py", ".tiktoken"]
    return !name.hasPrefix(".") && !name.hasSuffix(".safetensors") && !name.hasSuffix(".gguf")
      && (prefixes.contains { name.hasPrefix($0) } || suffixes.contains { name.hasSuffix($0) })
  }

  /// What a GGUF source says about its tokenizer, as the files that Hugging Face's readers look for. Files that lie
  /// beside the source say more, and win.
  private func addTokenizerFiles(to part: inout ShardPlan.Part) throws(CheckpointError) {
    guard request.format == .safetensors, let tokenizer, let step3 = model.step3 else { return }
    let copied = Set(part.copies.map(\.from))
    if !copied.contains("tokenizer.json") {
      let text = try tokenizer.tokenizerJSON()
      part.documents.append(document("tokenizer.json", text, in: part))
    }
    if !copied.contains("tokenizer_config.json") {
      let text = try tokenizer.tokenizerConfigJSON(contextLength: step3.text.contextLength)
      part.documents.append(document("tokenizer_config.json", text, in: part))
    }
    if !copied.contains("generation_config.json") {
      part.documents.append(
        document("generation_config.json", try tokenizer.generationConfigJSON(), in: part))
    }
  }

  private func document(_ name: String, _ text: [UInt8], in part: ShardPlan.Part) -> ShardPlan.Document {
    ShardPlan.Document(path: path(name, in: part), text: String(decoding: text, as: UTF8.self))
  }
}
