internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import QuantizationRecipes
internal import Step3Model
internal import TensorFormats

/// Fills one output directory: its weight files, its configuration, what is copied beside them.
struct OutputPart {
  let model: SourceModel
  let request: ShardPlan.Request
  let tensors: [PlacedTensor]

  /// Adds files, documents and copies to `part`, and the files' headers to `headers`.
  ///
  /// - Throws: What the formats' layouts throw, and `.malformed` for a broken configuration or tokenizer.
  func fill(_ part: inout ShardPlan.Part, headers: inout [String: [UInt8]]) throws(CheckpointError) {
    switch request.format {
    case .safetensors:
      let (files, index) = try SafetensorsPacking.pack(
        tensors, directory: part.directory, maximumBytes: request.maximumShardBytes,
        metadata: ["format": "pt"],
        headers: &headers)
      part.files = files
      if let index { part.documents.append(index) }
    case .gguf:
      part.files = try ggufFiles(part, headers: &headers)
    }
    if let text = try configuration(for: part) {
      part.documents.append(ShardPlan.Document(path: path("config.json", in: part), text: text))
    }
    // The vision part and the experts serve no text by themselves.
    if part.role == .model || part.role == .attention { part.copies = try companions(for: part) }
  }

  private func path(_ name: String, in part: ShardPlan.Part) -> String {
    part.directory.isEmpty ? name : "\(part.directory)/\(name)"
  }
}

// MARK: - GGUF

extension OutputPart {
  private func ggufFiles(
    _ part: ShardPlan.Part, headers: inout [String: [UInt8]]
  ) throws(CheckpointError) -> [ShardPlan.File] {
    guard let step3 = model.step3 else {
      // Another architecture: what it says about itself stays as it is, except how it is split and stored.
      var metadata = model.checkpoint.ggufMetadata ?? GGUFMetadata()
      for key in [GGUFSplitKey.index, GGUFSplitKey.count, GGUFSplitKey.tensorCount] { metadata.remove(key) }
      if let type = fileType(tensors) { metadata.set(GGUFFileType.key, .uint32(type)) }
      return try pack(tensors, "model", metadata, part, &headers)
    }
    let language = tensors.filter { !$0.source.isVision }
    let vision = tensors.filter(\.source.isVision)
    var files: [ShardPlan.File] = []
    if !language.isEmpty {
      var metadata = step3.ggufMetadata(
        name: "Step-3", fileType: fileType(language), tokenizer: try tokenizer(step3))
      if part.role != .model {
        metadata.set("step3.partition.role", .string(part.role.rawValue))
        metadata.set("step3.partition.rank", .uint32(UInt32(part.rank)))
        metadata.set("step3.partition.ranks", .uint32(UInt32(part.ranks)))
      }
      files += try pack(language, "model", metadata, part, &headers)
    }
    if !vision.isEmpty {
      guard let metadata = step3.visionGGUFMetadata(name: "Step-3 vision", fileType: fileType(vision)) else {
        throw CheckpointError(
          .malformed, "the checkpoint has vision tensors, but its configuration has no vision_config",
          path: model.checkpoint.path, tensor: vision[0].source.tensor.name)
      }
      files += try pack(vision, "mmproj", metadata, part, &headers)
    }
    return files
  }

  private func pack(
    _ tensors: [PlacedTensor], _ name: String, _ metadata: GGUFMetadata, _ part: ShardPlan.Part,
    _ headers: inout [String: [UInt8]]
  ) throws(CheckpointError) -> [ShardPlan.File] {
    try GGUFPacking.pack(
      tensors, fileName: name, metadata: metadata, directory: part.directory,
      maximumBytes: request.maximumShardBytes, headers: &headers)
  }

  /// What most of the matrices' elements are stored as.
  private func fileType(_ tensors: [PlacedTensor]) -> UInt32? {
    var counts: [ElementType: Int] = [:]
    for tensor in tensors where tensor.shape.rank >= 2 {
      counts[tensor.elementType, default: 0] += tensor.shape.elementCount
    }
    let most = counts.max { ($0.value, $1.key.rawValue) < ($1.value, $0.key.rawValue) }
    return (GGUFFileType(name: request.recipe) ?? most.flatMap { GGUFFileType(name: $0.key.rawValue) })?
      .rawValue
  }

  private func tokenizer(_ step3: Step3Configuration) throws(CheckpointError) -> Step3Tokenizer? {
    if let metadata = model.checkpoint.ggufMetadata { return try Step3Tokenizer(metadata: metadata) }
    guard let text = try companion("tokenizer.json") else { return nil }
    do throws(CheckpointError) {
      return try Step3Tokenizer(
        tokenizerJSON: text, tokenizerConfigJSON: try companion("tokenizer_config.json"),
        generationConfigJSON: try companion("generation_config.json"), configuration: step3)
    } catch {
      throw error.at(path: "\(model.checkpoint.directory)/tokenizer.json")
    }
  }

  private func companion(_ name: String) throws(CheckpointError) -> [UInt8]? {
    let path = "\(model.checkpoint.directory)/\(name)"
    guard FileSystem.kind(of: path) == .file else { return nil }
    let file = try InputFile(path)
    guard file.byteCount <= OutputMarkers.largestTextFile else {
      throw CheckpointError(.malformed, "\(file.byteCount) bytes are too many for such a file", path: path)
    }
    return try file.readBytes(0..<file.byteCount)
  }
}

// MARK: - Configuration and companions

extension OutputPart {
  /// The part's `config.json`: the source's, changed only where the output differs from it.
  private func configuration(for part: ShardPlan.Part) throws(CheckpointError) -> String? {
    let source: [UInt8]
    if let text = model.checkpoint.configuration {
      source = text
    } else if let step3 = model.step3 {
      source = try step3.configJSON()
    } else {
      return nil
    }
    // Nothing to change: the bytes stay as they are.
    let keepsFP8 = tensors.contains { $0.elementType == .f8E4M3 }
    let dropsFP8 = !model.scales.isEmpty && !keepsFP8
    guard part.role != .model || dropsFP8 else { return String(decoding: source, as: UTF8.self) }
    var text = try ConfigurationText(source)
    if dropsFP8 { text["quantization_config"] = nil }
    if part.role != .model { text["step3_partition"] = partition(part) }
    return text.text
  }

  /// What the part is, and which boxes of the model's tensors it holds, where it does not hold all of one.
  private func partition(_ part: ShardPlan.Part) -> String {
    var lines = [
      #""role": "\#(part.role.rawValue)""#, #""rank": \#(part.rank)"#, #""ranks": \#(part.ranks)"#,
    ]
    let slices = part.tensors.filter { !$0.source.isWhole }.map { tensor in
      let name = ConfigurationText.quoted(tensor.name)
      return "      \(name): {\"shape\": \(tensor.source.shape), \"origin\": \(tensor.source.origin), "
        + "\"extent\": \(tensor.source.extent)}"
    }
    lines.append(
      slices.isEmpty ? #""slices": {}"# : "\"slices\": {\n" + slices.joined(separator: ",\n") + "\n    }")
    return "{\n" + lines.map { "    \($0)" }.joined(separator: ",\n") + "\n  }"
  }

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
}
