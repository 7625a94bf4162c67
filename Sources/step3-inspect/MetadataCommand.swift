internal import ArgumentParser
internal import CommandSupport
internal import Inspection
internal import JSON

/// `step3-inspect metadata`
struct MetadataCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "metadata",
    abstract: "Show config.json, the metadata of safetensors files and the key-values of GGUF.",
    discussion: "Long arrays and texts are shortened; --json prints them in full.")

  @OptionGroup var input: CheckpointArgument
  @OptionGroup var common: CommonOptions

  func run() async throws {
    let metadata = try CheckpointMetadata(of: try input.open(common, showsConfiguration: true))
    try common.printReport(metadata, as: .metadata) { text(metadata) }
  }

  private func text(_ metadata: CheckpointMetadata) -> String {
    let width = StandardStream.output.columns
    var sections: [String] = []
    if let configuration = metadata.configuration {
      var table = TextTable([.init("config.json", wraps: true), .init("value", shrinks: true)])
      for (path, value) in configuration.flattened() { table.append([path, value.summary]) }
      sections.append(table.rendered(width: width, heading: common.heading))
    }
    // Shards usually repeat each other: files with the same metadata share a section.
    var remaining = metadata.files[...]
    while let first = remaining.first {
      let alike = remaining.prefix { $0.entries == first.entries }
      remaining = remaining.dropFirst(alike.count)
      let title = alike.count == 1 ? first.path : "\(first.path) and \(counted(alike.count - 1, "more file"))"
      guard !first.entries.isEmpty else {
        sections.append(common.heading(title.escapingControlCharacters) + "\nno metadata\n")
        continue
      }
      var table = TextTable([.init(title, shrinks: true), .init("type"), .init("value", shrinks: true)])
      for entry in first.entries { table.append([entry.key, entry.type, entry.value.summary]) }
      sections.append(table.rendered(width: width, heading: common.heading))
    }
    return sections.joined(separator: "\n")
  }
}
