internal import ByteStreams
internal import Checkpoint
internal import Step3Model
internal import TensorFormats
internal import Tokenization

extension SourceModel {
  /// The tokenizer, if the output cannot simply copy the source's files: GGUF stores it in its metadata.
  ///
  /// - Returns: The tokenizer, and what the output will lack or state differently.
  /// - Throws: `.unsupported` for a pre-tokenizer that GGUF readers have no name for, `.invalidRequest` for a name that
  ///   they do not know, `.malformed` for broken files.
  func tokenizer(
    for request: ShardPlan.Request
  ) throws(CheckpointError) -> (tokenizer: Step3Tokenizer?, notes: [(what: String, reason: String)]) {
    if let name = request.tokenizerPre { try check(tokenizerPre: name, request) }
    guard let step3, request.format != checkpoint.format else { return (nil, []) }
    if let metadata = checkpoint.ggufMetadata {
      do throws(CheckpointError) {
        let tokenizer = try Step3Tokenizer(metadata: metadata)
        return (tokenizer, Self.described(tokenizer?.notes ?? []))
      } catch {
        throw error.at(path: checkpoint.path)
      }
    }
    guard let text = try companion(Name.tokenizer) else {
      if request.tokenizerPre != nil {
        throw CheckpointError(
          .invalidRequest, "--tokenizer-pre names a tokenizer, but there is no tokenizer.json",
          path: sideStore.path)
      }
      return (nil, [try missingTokenizer()])
    }
    do throws(CheckpointError) {
      let documents = try documents(tokenizer: text)
      let (name, notes) = try preTokenizer(of: documents, request)
      let tokenizer = try Step3Tokenizer(documents, configuration: step3, preTokenizer: name)
      return (tokenizer, Self.described(notes + tokenizer.notes))
    } catch {
      throw placed(error)
    }
  }

  private static func described(_ notes: [Step3Tokenizer.Note]) -> [(what: String, reason: String)] {
    notes.map { (what: $0.what, reason: $0.reason) }
  }

  // MARK: The pre-tokenizer

  private func check(tokenizerPre name: String, _ request: ShardPlan.Request) throws(CheckpointError) {
    guard KnownPreTokenizer.readersNames.contains(name) else {
      let question =
        Suggestion.question(for: name, among: KnownPreTokenizer.readersNames).map { $0 + " " } ?? ""
      throw CheckpointError(
        .invalidRequest, "--tokenizer-pre: no reader of GGUF knows '\(name.printable)'",
        remedy: question + "The names are: " + KnownPreTokenizer.readersNames.joined(separator: ", "))
    }
    guard request.format == .gguf, checkpoint.format != .gguf else {
      throw CheckpointError(
        .invalidRequest, "--tokenizer-pre is for conversions from safetensors to GGUF", path: checkpoint.path,
        remedy: "leave it out: the tokenizer is copied as it is")
    }
  }

  /// The requested name, or the one recognised from the tokenizer.
  private func preTokenizer(
    of documents: Step3Tokenizer.Documents, _ request: ShardPlan.Request
  ) throws(CheckpointError) -> (name: String, notes: [Step3Tokenizer.Note]) {
    func recognised() throws(CheckpointError) -> PreTokenizerRecognition {
      try PreTokenizerRecognition(
        tokenizerJSON: documents.tokenizer, tokenizerConfigJSON: documents.tokenizerConfiguration)
    }
    guard let name = request.tokenizerPre else {
      let found = try recognised()
      return (found.name, found.notes)
    }
    guard let found = try? recognised() else { return (name, []) }
    let isSame =
      found.name == name || KnownPreTokenizer.named(found.name)?.names.contains(name) == true
    let doubt = Step3Tokenizer.Note(
      "tokenizer.ggml.pre", "\(name), as --tokenizer-pre says; tokenizer.json does what \(found.name) does")
    return (name, found.notes + (isSame ? [] : [doubt]))
  }

  // MARK: Files

  private enum Name {
    static let tokenizer = "tokenizer.json"
    static let all = [
      tokenizer, "tokenizer_config.json", "generation_config.json", "config.json", "chat_template.jinja",
      "chat_template.json",
    ]
    static let templates = "additional_chat_templates"
    static let jinja = ".jinja"
  }

  private func documents(tokenizer: [UInt8]) throws(CheckpointError) -> Step3Tokenizer.Documents {
    var documents = Step3Tokenizer.Documents(tokenizer: tokenizer)
    documents.tokenizerConfiguration = try companion("tokenizer_config.json")
    documents.generationConfiguration = try companion("generation_config.json")
    documents.modelConfiguration = checkpoint.configuration
    documents.chatTemplate = try companion("chat_template.jinja")
    documents.chatTemplateJSON = try companion("chat_template.json")
    if try sideStore.kind(of: Name.templates) == .directory {
      for file in try sideStore.names(in: Name.templates) where file.hasSuffix(Name.jinja) {
        guard let text = try companion(joinPath(Name.templates, file)) else { continue }
        documents.namedChatTemplates.append((String(file.dropLast(Name.jinja.count)), text))
      }
    }
    return documents
  }

  private func companion(_ name: String) throws(CheckpointError) -> [UInt8]? {
    guard try sideStore.kind(of: name) == .file else { return nil }
    try SideFiles.checkContent(name, in: sideStore)
    return try sideStore.read(name, limit: OutputMarkers.largestTextFile)
  }

  /// The error with the file name at the start of its message as its path.
  private func placed(_ error: CheckpointError) -> CheckpointError {
    guard error.path == nil else { return error }
    var error = error
    let names = Name.all + [error.message.split(separator: ":").first.map(String.init) ?? ""]
    let name = names.first { name in
      error.message.hasPrefix("\(name): ")
        && (Name.all.contains(name) || name.hasPrefix("\(Name.templates)/"))
    }
    if let name { error.message = String(error.message.dropFirst(name.count + 2)) }
    error.path = sideStore.path(of: name ?? Name.tokenizer)
    return error
  }

  /// The note for a missing `tokenizer.json`.
  private func missingTokenizer() throws(CheckpointError) -> (what: String, reason: String) {
    let others = try sideStore.names().filter { name in
      ["tekken.json", "tokenizer.model", "vocab.json", "merges.txt", "spiece.model", "tokenizer_config.json"]
        .contains(name) || name.hasSuffix(".tiktoken") || name.hasSuffix(".spm")
        || name.hasPrefix("chat_template.")
    }
    let list =
      others.count > 1
      ? "\(others.dropLast().joined(separator: ", ")) and \(others[others.count - 1])" : others.first ?? ""
    let rest = others.isEmpty ? "" : "; nothing is taken from \(list)"
    return (
      "tokenizer", "the GGUF will have none, and no chat template, because there is no tokenizer.json\(rest)"
    )
  }
}
