package import ShardPlanning

extension Manifest {
  /// The manifest as it is written: the same value gives the same bytes.
  var text: [UInt8] {
    Self.document.text(of: self)
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
    result.plan = plan.restricted(to: part)
    result.files = files.filter { $0.path.hasPrefix(prefix) }.map {
      FileRecord(path: strip($0.path), bytes: $0.bytes, xxh3: $0.xxh3, sha256: $0.sha256)
    }
    result.tensors = tensors.filter { $0.file.hasPrefix(prefix) }.map {
      TensorRecord(name: $0.name, file: strip($0.file), xxh3: $0.xxh3, sources: $0.sources, error: $0.error)
    }
    return result
  }
}
