internal import ByteStreams
internal import JSON
internal import TensorFormats

/// The files of a directory on a server without listings: those with conventional names or listed in an index.
struct StaticListing {
  let names: [String]

  /// Possible companion files of weights. Each is requested.
  private static let companions = [
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "chat_template.jinja", "chat_template.json", "quantize_config.json", "hf_quant_config.json",
  ]
  private static let index = "model.safetensors.index.json"
  private static let single = "model.safetensors"
  private static let largestIndex = 64_000_000

  /// - Throws: `.notFound` if the directory has neither an index nor a `model.safetensors`.
  init(_ base: WebAddress, _ client: HTTPClient, path: String) throws(CheckpointError) {
    var names: [String] = []
    do throws(CheckpointError) {
      let document = try client.document(
        base.appending([Self.index]), most: Self.largestIndex, path: "\(path)/\(Self.index)")
      let value = try HuggingFaceListing.parse(document.bytes, "\(path)/\(Self.index)")
      guard let map = value["weight_map"]?.members else {
        throw CheckpointError(.malformed, "the index has no weight_map", path: "\(path)/\(Self.index)")
      }
      names = [Self.index] + Set(map.compactMap { $0.value.text }).filter(RemoteFile.isPlain)
    } catch {
      guard error.code == .notFound else { throw error }
      guard try Self.exists(Self.single, base, client, path) else {
        throw CheckpointError(
          .notFound,
          "there is neither \(Self.index) nor \(Self.single), and a plain server does not list files",
          path: path, remedy: "name one file, such as \(path)/NAME.gguf")
      }
      names = [Self.single]
    }
    let found = try Threads.map(Self.companions, width: client.options.connections) {
      (name) throws(CheckpointError) in
      try Self.exists(name, base, client, path) ? name : nil
    }
    self.names = names + found.compactMap(\.self)
  }

  private static func exists(
    _ name: String, _ base: WebAddress, _ client: HTTPClient, _ path: String
  ) throws(CheckpointError) -> Bool {
    do throws(CheckpointError) {
      _ = try HTTPSource(
        HTTPSource.Reference(address: base.appending([name])), client: client, path: "\(path)/\(name)")
      return true
    } catch {
      guard error.code == .notFound else { throw error }
      return false
    }
  }
}
