internal import ByteStreams
internal import TensorFormats

/// The Hugging Face client's cache of one repository: `models--OWNER--NAME` with `blobs`, `snapshots` and `refs`.
///
/// Source: the documentation of `huggingface_hub`, "Understand caching".
struct HubCache: Sendable {
  /// `.../models--OWNER--NAME`.
  let root: String

  init?(_ environment: HubEnvironment, repository: String) {
    guard let directory = environment.cacheDirectory else { return nil }
    self.init(in: directory, repository: repository)
  }

  init(in directory: String, repository: String) {
    root = "\(directory)/models--" + repository.split(separator: "/").joined(separator: "--")
  }

  /// The commit of a revision when the client last saw it; a commit is returned unchanged.
  func commit(of revision: String) -> String? {
    if HuggingFaceListing.isCommit(revision) { return revision }
    guard !revision.split(separator: "/").contains(".."),
      let file = try? InputFile("\(root)/refs/\(revision)"), file.byteCount <= 1024,
      let bytes = try? file.readBytes(0..<file.byteCount)
    else { return nil }
    let text = String(decoding: bytes, as: UTF8.self).filter { !$0.isWhitespace }
    return HuggingFaceListing.isCommit(text) ? text : nil
  }

  func snapshot(_ commit: String, _ directory: [String]) -> String {
    (["\(root)/snapshots/\(commit)"] + directory).joined(separator: "/")
  }

  /// A file of a commit, if it matches the hub's listing: with the right size, and a link to a blob named by the hub's
  /// identifier. Anything else is left alone and fetched.
  func file(_ file: RemoteFile, _ commit: String, _ directory: [String]) -> InputFile? {
    let path = "\(snapshot(commit, directory))/\(file.name)"
    guard let byteCount = file.byteCount, let source = try? InputFile(path), source.byteCount == byteCount
    else {
      return nil
    }
    if let link = FileSystem.linkDestination(of: path), let blob = link.split(separator: "/").last {
      let identifier = file.sha256.map(\.description) ?? file.gitIdentifier
      guard identifier == nil || identifier == String(blob) else { return nil }
    }
    return source
  }
}
