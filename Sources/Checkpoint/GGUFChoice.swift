internal import ByteStreams
internal import GGUF
internal import TensorFormats

/// Which GGUF files of a directory make up the model: by what they say about themselves, not by their names.
struct GGUFChoice {
  /// The model's file, or the first of its parts, and the vision companion's.
  private(set) var names: [String] = []
  /// What is left out, and why.
  private(set) var warnings: [String] = []

  private enum Kind: Hashable {
    case model, vision, importance, adapter
  }

  /// - Returns: `nil` if there are no GGUF files.
  /// - Throws: `.unsupported` if there are several models or several vision sides, `.notFound` for a split set that is
  ///   not whole, and what reading headers throws.
  init?(_ listing: DirectoryListing) throws(CheckpointError) {
    let files = try Self.firstParts(listing)
    guard !files.isEmpty else { return nil }
    guard files.count > 1 else {
      names = files
      return
    }
    var kinds: [Kind: [String]] = [:]
    for file in files { kinds[try Self.kind(of: file, in: listing.store), default: []].append(file) }
    let models = kinds[.model] ?? []
    let visions = kinds[.vision] ?? []
    guard models.count <= 1 else {
      throw CheckpointError(
        .unsupported, "there are several models: \(models.joined(separator: ", "))", path: listing.path,
        remedy: "name the one to open")
    }
    guard visions.count <= 1 else {
      throw CheckpointError(
        .unsupported, "there are several vision companions: \(visions.joined(separator: ", "))",
        path: listing.path,
        remedy: models.isEmpty
          ? "name the one to open"
          : "keep only one of them beside \(models[0]), or name that file to open it alone")
    }
    names = models + visions
    let extras: [(Kind, String)] = [(.importance, "importance matrices"), (.adapter, "adapters")]
    guard !names.isEmpty else {
      throw CheckpointError(
        .unsupported, "there is no model among these GGUF files: \(listed(files))", path: listing.path,
        remedy: "name the one to open")
    }
    for (kind, words) in extras {
      guard let found = kinds[kind] else { continue }
      warnings.append(
        "\(listing.path): \(words) are not part of the model and are ignored: \(found.joined(separator: ", "))"
      )
    }
  }

  /// The files that are not part of a split set, and the first of each set, which leads to the others.
  private static func firstParts(_ listing: DirectoryListing) throws(CheckpointError) -> [String] {
    var files: [String] = []
    var sets: Set<String> = []
    let all = listing.names(endingIn: ".gguf")
    let names = Set(all)
    for name in all {
      guard let split = GGUFSplitName(path: name), split.count <= NumberedName.largestCount else {
        files.append(name)
        continue
      }
      let first = split.sibling(0).path
      guard sets.insert(first).inserted else { continue }
      let missing = (0..<split.count).map { split.sibling($0).path }.filter { !names.contains($0) }
      guard missing.isEmpty else {
        throw CheckpointError(
          .notFound,
          "\(missing.count) of \(split.count) parts \(missing.count == 1 ? "is" : "are") missing: \(listed(missing))",
          path: listing.path, remedy: "put all parts into one folder")
      }
      files.append(first)
    }
    return files
  }

  private static func kind(of name: String, in store: any ByteStore) throws(CheckpointError) -> Kind {
    let lowercased = name.lowercased()
    let metadata: GGUFMetadata
    do throws(CheckpointError) {
      metadata = try GGUFHeader.read(from: store.open(name)).metadata
    } catch {
      // A file that would be left out anyway need not be sound.
      guard lowercased.contains("imatrix") else { throw error }
      return .importance
    }
    switch metadata.string("general.type") {
    case "model"?: return .model
    case "mmproj"?: return .vision
    case "imatrix"?: return .importance
    case "adapter"?: return .adapter
    default: break
    }
    let architecture = metadata.string("general.architecture")
    if architecture == "clip" { return .vision }
    if architecture == nil, metadata["imatrix.chunk_count"] != nil || metadata["imatrix.datasets"] != nil {
      return .importance
    }
    return lowercased.contains("mmproj") ? .vision : .model
  }
}
