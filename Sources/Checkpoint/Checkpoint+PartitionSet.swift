internal import ByteStreams
internal import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

extension Checkpoint {
  /// Opens a directory whose subdirectories are the parts of one model, as `step3-convert --partition` writes them;
  /// `nil` if it is no such directory.
  static func openPartitionSet(
    _ path: String, _ listing: DirectoryListing
  ) throws(CheckpointError) -> Checkpoint? {
    var parts: [Part] = []
    for name in listing.names where FileSystem.kind(of: "\(path)/\(name)") == .directory {
      guard let configuration = try readConfiguration(in: "\(path)/\(name)"),
        isPart(configuration)
      else { continue }
      parts.append(Part(name: name, checkpoint: try open("\(path)/\(name)")))
    }
    guard let first = parts.first else { return nil }
    var files: [File] = []
    var tensors: [Tensor] = []
    var warnings: [String] = []
    for part in parts {
      let base = files.count
      files += part.checkpoint.files.map {
        File(
          name: "\(part.name)/\($0.name)", source: $0.source, dataOffset: $0.dataOffset,
          safetensorsMetadata: $0.safetensorsMetadata, ggufMetadata: $0.ggufMetadata, byteOrder: $0.byteOrder)
      }
      tensors += part.checkpoint.tensors.map { $0.shiftingFile(by: base) }
      warnings += part.checkpoint.warnings
    }
    return Checkpoint(
      path: path, directory: path, format: first.checkpoint.format, files: files, tensors: tensors,
      configuration: try readConfiguration(in: path) ?? first.checkpoint.configuration,
      ggufMetadata: first.checkpoint.ggufMetadata, parts: parts, warnings: warnings)
  }

  /// Whether a configuration is that of one part.
  private static func isPart(_ configuration: [UInt8]) -> Bool {
    struct Marked: Decodable {
      struct Anything: Decodable {}
      let partition: Anything?
      enum CodingKeys: String, CodingKey { case partition = "step3_partition" }
    }
    return (try? JSONDecoder().decode(Marked.self, from: Data(configuration)))?.partition != nil
  }
}
