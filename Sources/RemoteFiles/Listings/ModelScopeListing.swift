internal import ByteStreams
internal import JSON
internal import TensorFormats

/// The files of a directory of ModelScope.
///
/// Source: the API as `modelscope` 1.40.2 and `modelscope_hub` 0.5.1 use it, which also mention that a list is silently
/// truncated at 3000 entries. ModelScope does not report the commit of a branch, so a file is only checked against the
/// size and SHA-256 in this list.
struct ModelScopeListing {
  let files: [RemoteFile]

  private static let truncation = 3000

  init(_ repository: RemoteAddress.Repository, _ client: HTTPClient, path: String) throws(CheckpointError) {
    let root = repository.directory.joined(separator: "/")
    let query =
      "Revision=\(WebAddress.encoded(repository.revision ?? "master"))&Recursive=False"
      + (root.isEmpty ? "" : "&Root=\(WebAddress.encoded(root))")
    let answer = try client.document(
      repository.address("api/v1/models/\(repository.name)/repo/files?\(query)"), most: 64 << 20, path: path)
    let document = try HuggingFaceListing.parse(answer.bytes, path)
    guard let items = document["Data"]?["Files"]?.items else {
      let words = document["Message"]?.text.map { ": \(client.redacted(String($0.prefix(160))))" } ?? ""
      throw CheckpointError(.notFound, "ModelScope gives no list of files\(words)", path: path)
    }
    guard items.count < Self.truncation else {
      throw CheckpointError(
        .unsupported, "ModelScope lists no more than \(Self.truncation) files of a directory", path: path,
        remedy: "name a directory with fewer files, or download the model")
    }
    files = items.compactMap { item in
      guard item["Type"]?.text != "tree", let name = item["Name"]?.text, RemoteFile.isPlain(name) else {
        return nil
      }
      let digest = (item["Sha256"]?.text).flatMap { Digest(hexadecimal: $0) }
      return RemoteFile(
        name, byteCount: item["Size"]?.whole.flatMap { $0 >= 0 ? $0 : nil },
        sha256: digest?.bytes.count == 32 ? digest : nil)
    }
  }

  /// The address of a file.
  static func address(
    of name: String, in repository: RemoteAddress.Repository
  ) throws(CheckpointError) -> WebAddress {
    let file = (repository.directory + [name]).joined(separator: "/")
    return try repository.address(
      "api/v1/models/\(repository.name)/repo?Revision=\(WebAddress.encoded(repository.revision ?? "master"))"
        + "&FilePath=\(WebAddress.encoded(file))")
  }
}
