internal import ByteStreams
package import ShardPlanning

extension Manifest {
  /// The manifest as it is written, with its root digest: the same value gives the same bytes.
  var sealed: (manifest: Manifest, text: [UInt8]) {
    var copy = self
    copy.digest = String(repeating: "0", count: 2 * Self.digestBytes)
    var text = Self.document.text(of: copy)
    guard let digest = Self.rootDigest(of: text)?.found else {
      preconditionFailure("keys are sorted, and the digest's is the first")
    }
    copy.digest = "\(digest)"
    text.replaceSubrange(Self.digestPlace, with: copy.digest.utf8)
    return (copy, text)
  }

  private static let opening = Array("{\n  \"digest\" : \"".utf8)
  private static let ending = Array("\",\n".utf8)
  private static let digestBytes = 32
  private static var digestPlace: Range<Int> { opening.count..<opening.count + 2 * digestBytes }

  /// The root digest stated in a manifest's text, and the actual one; `nil` if the text does not begin with one as
  /// written by us.
  static func rootDigest(of text: [UInt8]) -> (stated: Digest, found: Digest)? {
    let end = digestPlace.upperBound + ending.count
    guard text.count > end, text.starts(with: opening),
      text[digestPlace.upperBound..<end].elementsEqual(ending),
      let stated = Digest(hexadecimal: String(decoding: text[digestPlace], as: UTF8.self)),
      "\(stated)".utf8.elementsEqual(text[digestPlace])
    else { return nil }
    var digester = SHA256Digester()
    unsafe digester.update(text.span.bytes.extracting(end..<text.count))
    return (stated, digester.finalize())
  }

  /// Whether both describe the same files with the same contents, wherever they are.
  package func saysTheSame(as other: Manifest) -> Bool {
    var (first, second) = (self, other)
    (first.digest, second.digest) = ("", "")
    return first == second
  }

  /// How it is written and read.
  static var document: VersionedDocument<Manifest> {
    VersionedDocument(name: "manifest", version: currentVersion) { $0.version }
  }

  /// One part's share, with paths below that part's directory.
  package func restricted(to part: ShardPlan.Part) -> Manifest {
    let prefix = part.directory + "/"
    func strip(_ path: String) -> String { String(path.dropFirst(prefix.count)) }
    var result = self
    result.digest = ""
    result.plan = plan.restricted(to: part)
    result.files = files.filter { $0.path.hasPrefix(prefix) }.map {
      FileRecord(path: strip($0.path), bytes: $0.bytes, xxh3: $0.xxh3, sha256: $0.sha256)
    }
    result.tensors = tensors.filter { $0.file.hasPrefix(prefix) }.map {
      TensorRecord(name: $0.name, file: strip($0.file), xxh3: $0.xxh3, sources: $0.sources, error: $0.error)
    }
    if let roundedToNearest {
      let own = Set(result.plan.files.flatMap(\.tensors).flatMap { $0.sources.map(\.tensor) })
      result.roundedToNearest = roundedToNearest.filter { own.contains($0.tensor) }
    }
    return result
  }
}
