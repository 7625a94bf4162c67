internal import ByteStreams
internal import Checkpoint
internal import Quantization
package import ShardPlanning
public import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

extension Manifest {
  /// The manifest as it is written: the same value gives the same bytes.
  var text: [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    do {
      return Array(try encoder.encode(self)) + [UInt8(ascii: "\n")]
    } catch {
      preconditionFailure("a manifest has no number that JSON has not: \(error)")
    }
  }

  /// Reads the manifest of an output directory.
  ///
  /// - Throws: `.notFound` if there is none, `.unfinished` if the directory is not complete, `.malformed` if it is
  ///   no manifest, `.unsupported` if a later version of the toolkit wrote it.
  public static func read(from directory: String) throws(CheckpointError) -> Manifest {
    let path = "\(directory)/\(OutputMarkers.manifest)"
    guard FileSystem.kind(of: path) == .file else {
      if FileSystem.kind(of: "\(directory)/\(OutputMarkers.journal)") == .file {
        throw CheckpointError(
          .unfinished, "this is the unfinished output of an interrupted conversion", path: directory,
          remedy: "run the same step3-convert command again")
      }
      throw CheckpointError(.notFound, "there is no manifest.json", path: directory)
    }
    let file = try InputFile(path)
    guard file.byteCount <= OutputMarkers.largestTextFile else {
      throw CheckpointError(.malformed, "\(file.byteCount) bytes are too many for a manifest", path: path)
    }
    let bytes = Data(try file.readBytes(0..<file.byteCount))
    struct Version: Decodable { let version: Int }
    do {
      let version = try JSONDecoder().decode(Version.self, from: bytes).version
      guard version == currentVersion else {
        throw CheckpointError(
          .unsupported, "the manifest has version \(version), this tool knows \(currentVersion)", path: path,
          remedy: "use the version of step3-toolkit that wrote it")
      }
      return try JSONDecoder().decode(Manifest.self, from: bytes)
    } catch let error as CheckpointError {
      throw error
    } catch {
      throw CheckpointError(.malformed, "is no manifest: \(error)", path: path)
    }
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

extension ShardPlan.Tensor {
  /// Whether every value is the source's, so that there is no error to measure. Scales and shapes have none of their
  /// own: the codes' error is that of both.
  var isLossless: Bool {
    switch derivation {
    case .scales, .matrixScales, .shape: true
    case .codes: making != .encode && !movesMatrixScale
    case .values:
      making == .encode
        ? (source.scaling == nil ? source.elementType.isExact(in: elementType) : elementType == .f32)
        : !movesMatrixScale
    }
  }

  /// Whether the scales of its matrices are stored as their reciprocals, which rounds them.
  var movesMatrixScale: Bool {
    guard making == .repack, derivation == .codes || derivation == .values,
      source.scaling?.matrixScales != nil
    else { return false }
    return source.scaling?.scheme?.dividesByMatrixScale ?? false != scheme?.dividesByMatrixScale ?? false
  }
}
