internal import ByteStreams
internal import Safetensors
internal import TensorFormats

/// Which safetensors files of a directory make up the model.
///
/// Directories hold more than one model: the same weights under their author's names (`consolidated.safetensors`), an
/// adapter, another precision. If it is clear which is the model, the others are named in a warning.
struct SafetensorsChoice {
  /// The index to follow; `nil` if there is none.
  private(set) var index: String?
  /// The files to open without an index.
  private(set) var shards: [String] = []
  /// What is left out, and why.
  private(set) var warnings: [String] = []

  /// - Returns: `nil` if there are no safetensors files.
  /// - Throws: `.unsupported` if it is not clear which files are the model, `.notFound` for a numbered set that is not
  ///   whole.
  init?(_ listing: DirectoryListing) throws(CheckpointError) {
    let files = listing.names(endingIn: ".safetensors")
    if try chooseIndex(listing, files) { return }
    guard !files.isEmpty else { return nil }
    let models = Self.models(files, in: listing.store)
    shards = models
    let others = files.filter { !models.contains($0) }
    if !others.isEmpty {
      warnings.append("\(listing.path): not part of the model and ignored: \(others.joined(separator: ", "))")
    }
    try checkSets(listing.path)
    if shards.count > 1 {
      warnings.append("\(listing.path): \(shards.count) safetensors files without an index")
    }
    let ggufs = listing.names(endingIn: ".gguf")
    if !ggufs.isEmpty {
      warnings.append("\(listing.path): there are GGUF files too, which are ignored: \(listed(ggufs))")
    }
  }

  /// Looks for the index to follow.
  private mutating func chooseIndex(
    _ listing: DirectoryListing, _ files: [String]
  ) throws(CheckpointError) -> Bool {
    let usual = "model.safetensors.index.json"
    let indexes = listing.names(endingIn: ".safetensors.index.json")
    if indexes.contains(usual) {
      index = usual
      note(indexes.filter { $0 != usual }, listing)
      return true
    }
    let own = indexes.filter { !Self.isConsolidated($0) }
    guard own.count <= 1 else {
      throw CheckpointError(
        .unsupported, "there are several indexes: \(own.joined(separator: ", "))", path: listing.path,
        remedy: "name the one to open")
    }
    if let only = own.first {
      index = only
      note(indexes.filter { $0 != only }, listing)
      return true
    }
    let hasOwnFiles = files.contains { !Self.isConsolidated($0) && !Self.isAdapter($0, in: listing.store) }
    if let consolidated = indexes.first, !hasOwnFiles {
      index = consolidated
      return true
    }
    // The indexes of other frameworks' files say nothing about these.
    let others = listing.names(endingIn: ".index.json").filter { name in
      !indexes.contains(name) && ![".bin.", ".h5.", ".msgpack."].contains(where: name.contains)
    }
    guard !files.isEmpty, let other = others.first else { return false }
    index = other
    return true
  }

  private mutating func note(_ indexes: [String], _ listing: DirectoryListing) {
    guard !indexes.isEmpty else { return }
    warnings.append("\(listing.path): other indexes, which are ignored: \(indexes.joined(separator: ", "))")
  }

  /// The files that are the model, of those in a directory without an index.
  private static func models(_ files: [String], in store: any ByteStore) -> [String] {
    guard files.count > 1 else { return files }
    let weights = files.filter { !isAdapter($0, in: store) }
    let own = weights.filter { !isConsolidated($0) }
    let models = !own.isEmpty ? own : !weights.isEmpty ? weights : files
    // Every loader takes this file if it exists. A numbered set beside it is ambiguous.
    let single = "model.safetensors"
    if models.contains(single), !models.contains(where: { NumberedName($0) != nil }) { return [single] }
    return models
  }

  /// The weights under the author's own names, as Mistral publishes them beside Hugging Face's.
  private static func isConsolidated(_ name: String) -> Bool { name.hasPrefix("consolidated") }

  /// Adapters, which only modify another model: files of that name, and those with nothing but low-rank matrices.
  private static func isAdapter(_ name: String, in store: any ByteStore) -> Bool {
    if name.hasPrefix("adapter_model") { return true }
    guard NumberedName(name) == nil, let file = try? store.open(name),
      let header = try? SafetensorsHeader.read(from: file), !header.tensors.isEmpty
    else { return false }
    return header.tensors.allSatisfy { tensor in
      ["lora_A", "lora_B", "lora_up", "lora_down", "lora_embedding", ".lora.", ".alpha"].contains(
        where: tensor.name.contains)
    }
  }

  /// Numbered sets have to be complete, and all with the same count.
  private func checkSets(_ directory: String) throws(CheckpointError) {
    var sets: [NumberedName.Family: Set<Int>] = [:]
    for name in shards.compactMap({ NumberedName($0) }) { sets[name.family, default: []].insert(name.number) }
    guard !sets.isEmpty else { return }
    let families = sets.keys.sorted { $0.name(1) < $1.name(1) }
    let single = "model.safetensors"
    let divisions = Dictionary(grouping: families, by: \.prefix).values.first { $0.count > 1 }
    if shards.contains(single) || divisions != nil {
      let sets = (divisions ?? families).map { "\($0.name(1)) (one of \($0.count))" }
      let choices = (shards.contains(single) ? [single] : []) + sets
      throw CheckpointError(
        .unsupported, "it is not clear which files are the model: \(listed(choices))", path: directory,
        remedy: "move the others away, or add the index that says which to use")
    }
    for family in families {
      let missing = NumberedName.missing(from: family, found: sets[family] ?? [])
      guard !missing.isEmpty else { continue }
      throw Self.missing(missing, of: family.count, path: directory)
    }
  }

  /// The error for shards that are not there.
  static func missing(_ names: [String], of count: Int, path: String, remedy: String? = nil)
    -> CheckpointError
  {
    CheckpointError(
      .notFound,
      "\(names.count) of \(count) shards \(names.count == 1 ? "is" : "are") missing: \(listed(names))",
      path: path,
      remedy: "the download is incomplete: fetch the missing files" + (remedy.map { ", or \($0)" } ?? ""))
  }
}
