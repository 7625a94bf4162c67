public import Checkpoint
internal import QuantizationRecipes
internal import Step3Model
internal import TensorFormats

/// The built-in recipes, with their sizes on the full Step-3.
public enum RecipeCatalogue {
  /// One recipe.
  public struct Entry: Sendable {
    /// The name for `--quantize`.
    public let name: String
    /// A one-line summary.
    public let summary: String
    /// The formats of files that it can be written to.
    public let formats: [Checkpoint.Format]
    /// Over the language model and the vision side, in the first of those formats; `nil` if it depends on the source.
    public let bitsPerWeight: Double?
  }

  /// All of them, in the order in which the recipes module lists them.
  ///
  /// - Complexity: Decides 1,663 tensors per recipe: some tens of milliseconds in all.
  public static var entries: [Entry] {
    let subjects = publishedSubjects
    return Recipe.builtIns.map { recipe in
      func bits(_ container: Checkpoint.Format) -> Double? {
        if let own = recipe.container, own != container { return nil }
        return try? recipe.bitsPerWeight(over: subjects, container: container)
      }
      let (safetensors, gguf) = (bits(.safetensors), bits(.gguf))
      return Entry(
        name: recipe.name, summary: recipe.summary,
        formats: (gguf == nil ? [] : [.gguf]) + (safetensors == nil ? [] : [.safetensors]),
        bitsPerWeight: gguf ?? safetensors)
    }
  }

  private static var publishedSubjects: [RecipeSubject] {
    let configuration = Step3Configuration.published
    guard let inventory = try? Step3Inventory(configuration) else { return [] }
    return inventory.tensors.map {
      RecipeSubject(
        name: $0.publishedName, otherNames: [$0.ggufName].compactMap { $0 }, role: $0.role, layer: $0.layer,
        layerCount: configuration.text.layerCount, shape: $0.shape, sourceType: $0.elementType,
        expertCount: configuration.text.expertCount)
    }
  }
}
