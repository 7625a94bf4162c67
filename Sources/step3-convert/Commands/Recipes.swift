import ArgumentParser
import Checkpoint
import CommandSupport
import QuantizationRecipes
import ShardPlanning
import TensorFormats

/// `step3-convert recipes`: lists the built-in recipes.
struct Recipes: ToolCommand {
  static let configuration = CommandConfiguration(
    abstract: "List the built-in recipes with their bits per weight for the full Step-3.")

  @OptionGroup var common: CommonOptions

  private struct Entry: Encodable {
    let name: String
    let summary: String
    let formats: [String]
    let bitsPerWeight: Double?
  }

  func run() async throws {
    let entries = RecipeCatalogue.entries.map {
      Entry(
        name: $0.name, summary: $0.summary, formats: $0.formats.map(\.rawValue),
        bitsPerWeight: $0.bitsPerWeight)
    }
    if common.json {
      try StandardStream.output.write(json: entries, as: .recipe)
      return
    }
    var table = TextTable([
      TextTable.Column("recipe"), TextTable.Column("files"), TextTable.Column("bits/weight", .right),
      TextTable.Column("what it does", isProse: true),
    ])
    for entry in entries {
      table.append([
        entry.name, entry.formats.count > 1 ? "both" : entry.formats.joined(),
        entry.bitsPerWeight.map { NumberText.decimals($0, 3) } ?? "as is",
        entry.summary,
      ])
    }
    try StandardStream.output.write(table.rendered(width: StandardStream.output.columns))
  }
}
