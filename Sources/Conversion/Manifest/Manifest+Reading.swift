internal import ByteStreams
internal import Checkpoint
internal import JSON
public import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

extension Manifest {
  /// Reads the manifest of an output directory, and checks all of it that can be checked without the files.
  ///
  /// Memory: what the manifest itself needs and a small multiple of the file; what does not begin like a manifest is
  /// refused by its first bytes.
  ///
  /// - Throws: `.notFound` if there is none, `.unfinished` if the directory is not complete, `.malformed` if what has
  ///   its name is no manifest or contradicts itself, `.unsupported` if another version of the toolkit wrote it.
  public static func read(from directory: String) throws(CheckpointError) -> Manifest {
    let path = "\(directory)/\(OutputMarkers.manifest)"
    guard FileSystem.isTaken(path) else {
      if FileSystem.kind(of: "\(directory)/\(OutputMarkers.journal)") == .file {
        throw CheckpointError(
          .unfinished, "this is the unfinished output of an interrupted conversion", path: directory,
          remedy: "run the same step3-convert command again with --resume")
      }
      throw CheckpointError(.notFound, "there is no \(OutputMarkers.manifest)", path: directory)
    }
    switch FileSystem.kind(of: path) {
    case .file: break
    case .directory: throw noManifest("is a directory", path)
    case .other: throw noManifest("is a pipe, a socket or a device", path)
    case nil: throw noManifest("is a symbolic link that leads nowhere", path)
    }
    return try parse(InputFile(path))
  }

  /// The same in a directory that is held open, without following any link.
  ///
  /// - Throws: As ``read(from:)``, and `.cannotCreate` for a symbolic link.
  static func read(in directory: HeldDirectory) throws(CheckpointError) -> Manifest {
    try parse(InputFile(OutputMarkers.manifest, in: directory))
  }

  private static func noManifest(_ what: String, _ path: String) -> CheckpointError {
    CheckpointError(
      .malformed, "\(what), where step3-convert writes the list of what is here", path: path,
      remedy: "move it away if this directory has no manifest, or restore the manifest")
  }

  private static func parse(_ file: InputFile) throws(CheckpointError) -> Manifest {
    do throws(CheckpointError) {
      guard file.byteCount <= OutputMarkers.largestRecord else {
        throw CheckpointError(.malformed, "\(file.byteCount) bytes are too many for a manifest")
      }
      try checkStart(file.readBytes(0..<min(file.byteCount, 64)))
      let bytes = try file.readBytes(0..<file.byteCount)
      var scanner = unsafe JSONScanner(bytes.span.bytes)
      // No object of ours has more members, and no value fewer bytes on average.
      try scanner.checkDocument(JSONDocumentLimits(keys: 64, values: bytes.count / 4 + 64))
      let manifest = try decode(bytes)
      try ManifestCheck(manifest).run()
      return manifest
    } catch {
      throw error.at(path: file.path)
    }
  }

  private static func checkStart(_ bytes: [UInt8]) throws(CheckpointError) {
    var scanner = unsafe JSONScanner(bytes.span.bytes)
    var members = try scanner.openObject("a manifest")
    guard bytes.count < 64 else { return }
    // All of it: even the shortest manifest is longer.
    while try scanner.nextKey(&members) != nil { try scanner.skipValue() }
    throw CheckpointError(.malformed, "is no manifest: \(bytes.count) bytes are too few")
  }

  private static func decode(_ bytes: [UInt8]) throws(CheckpointError) -> Manifest {
    struct Version: Decodable { let version: Int }
    func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
      try unsafe bytes.withUnsafeBytes { buffer in
        guard let start = buffer.baseAddress else { return try JSONDecoder().decode(type, from: Data()) }
        // Not copied: the decoder is done with it before this closure is.
        let data = unsafe Data(
          bytesNoCopy: UnsafeMutableRawPointer(mutating: start), count: buffer.count, deallocator: .none)
        return try JSONDecoder().decode(type, from: data)
      }
    }
    let failure: any Error
    do {
      let manifest = try decode(Manifest.self)
      if manifest.version == currentVersion { return manifest }
      failure = CheckpointError(.unsupported, "")
    } catch { failure = error }
    // Another version's may have other fields, so its number is the better explanation.
    if let version = try? decode(Version.self).version, version != currentVersion {
      throw CheckpointError(
        .unsupported, "the manifest has version \(version), this tool knows \(currentVersion)",
        remedy: "use the version of step3-toolkit that wrote it")
    }
    throw CheckpointError(.malformed, "is no manifest: \("\(failure)".printable)")
  }
}
