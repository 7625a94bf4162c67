public import ByteStreams
public import Checkpoint
internal import Patterns
internal import Quantization
public import TensorFormats
internal import YAML

extension Recipe {
  /// The recipe that a command line names: a built-in, or a file.
  ///
  /// - Parameters:
  ///   - argument: A built-in's name, in any letter case; anything else is a path.
  ///   - container: The files it is for.
  ///   - scope: Which layers a scheme is for; `nil` for the default.
  ///   - groupSize: The elements that share a scale; `nil` for the size implied by the name.
  /// - Throws: `.invalidRequest` if it is neither, or for a scope or group size that the recipe does not have;
  ///   otherwise what ``init(yaml:path:)`` throws.
  public static func named(
    _ argument: String, for container: Checkpoint.Format? = nil, scope: SchemeRecipe.Scope? = nil,
    groupSize: Int? = nil
  ) throws(CheckpointError) -> Recipe {
    if scope != nil || groupSize != nil {
      guard container != .gguf, let scheme = SchemeRecipe.named(argument) else {
        throw CheckpointError(
          .invalidRequest,
          "'\(argument.printable)' is not a recipe of one scheme, so it has no \(scope == nil ? "group size" : "scope")",
          remedy: "use a recipe file, or choose one of "
            + SchemeRecipe.all.map(\.name).joined(separator: ", "))
      }
      return try scheme.groupSize(groupSize).recipe(scope)
    }
    if let recipe = builtIn(named: argument, for: container) { return recipe }
    if let type = ElementType(rawValue: argument.uppercased()), try FileSystem.kind(of: argument) == nil {
      // Not every type that can be encoded is one to store weights in: Q8_K is what products are computed with.
      let isStorable = StorageFormat.all.contains(.element(type))
      throw CheckpointError(
        isStorable ? .invalidRequest : .unsupported,
        isStorable
          ? "\(type) is a format for single tensors, not for a whole model"
          : "\(type) can be read, but weights cannot be stored in it",
        remedy: isStorable
          ? "ask for it with --tensor-type or in a recipe file"
          : "choose one that step3-convert recipes lists")
    }
    let looksLikePath = argument.contains("/") || argument.hasSuffix(".yaml") || argument.hasSuffix(".yml")
    do throws(CheckpointError) {
      return try Recipe(file: InputFile(argument))
    } catch {
      guard error.code == .notFound, !looksLikePath else { throw error }
      throw CheckpointError(
        .invalidRequest, "'\(argument.printable)' is neither a built-in recipe nor a file",
        remedy: suggestion(for: argument, container) ?? "step3-convert recipes lists the built-in ones")
    }
  }

  /// The built-in recipes nearest to a name, those for the output's kind of files first.
  private static func suggestion(for name: String, _ container: Checkpoint.Format?) -> String? {
    // The others say it in their names, so it is looked for.
    if name.uppercased().filter({ $0.isLetter || $0.isNumber }) == "W4A16G128" {
      return "W4A16 is the one with groups of 128"
    }
    let fitting = builtIns.filter { $0.container == nil || container == nil || $0.container == container }
    return Suggestion.question(for: name, among: fitting.map(\.name))
      ?? Suggestion.question(for: name, among: builtIns.map(\.name))
  }

  /// Reads a recipe file.
  ///
  /// - Throws: As ``init(yaml:path:)``; `.malformed` too if it is larger than 1 MiB or not UTF-8.
  public init(file: some ByteSource) throws(CheckpointError) {
    try self.init(yaml: YAMLReader.text(of: file, kind: "a recipe"), path: file.path)
  }

  /// Reads a recipe in the form that `Manuals/recipes.md` describes.
  ///
  /// - Parameters:
  ///   - yaml: One document.
  ///   - path: The file's name, for messages; its last component is the recipe's name if the text gives none.
  /// - Throws: `.malformed` with line and column for bad YAML, unknown keys, values of the wrong kind, unknown
  ///   roles, formats and bases, and layer ranges that make no sense.
  public init(yaml: String, path: String) throws(CheckpointError) {
    do throws(CheckpointError) {
      self = try Recipe(
        document: YAMLReader(text: yaml), defaultName: path.split(separator: "/").last.map(String.init)
      ).withOneBudget()
    } catch {
      throw error.at(path: path)
    }
  }

  private init(document: YAMLReader, defaultName: String?) throws(CheckpointError) {
    let fields = try document.fields(["name", "summary", "base", "on_misfit", "precise", "rules"])
    guard let rulesField = fields["rules"] else {
      throw document.problem("'rules' is missing", remedy: "a recipe is a list of rules")
    }
    var rules: [RecipeRule] = []
    for rule in try rulesField.list() { rules.append(try rule.rule()) }
    let base = try fields["base"]?.base()
    guard !rules.isEmpty || base != nil else { throw rulesField.problem("'rules' is an empty list") }
    let precise = try fields["precise"]?.preciseFormats() ?? base?.precise ?? PreciseFormats()
    self.init(
      name: try fields["name"]?.text() ?? defaultName ?? "recipe",
      summary: try fields["summary"]?.text() ?? base.map { "based on \($0.name)" } ?? "",
      rules: rules + (base?.rules ?? []),
      onMisfit: try fields["on_misfit"]?.fallback() ?? base?.onMisfit ?? .standard,
      precise: precise)
  }
}

// MARK: - The parts of a recipe file

extension YAMLReader {
  fileprivate func rule() throws(CheckpointError) -> RecipeRule {
    let fields = try fields([
      "role", "layers", "name", "regex", "expert_stack", "experts", "tied_embedding", "format", "fallback",
      "optional",
    ])
    guard let format = fields["format"] else { throw problem("the rule has no 'format'") }
    var rule = RecipeRule(format: try format.storageFormat())
    for value in try fields["role"]?.oneOrMore() ?? [] { rule.roles.append(try value.role()) }
    for value in try fields["layers"]?.oneOrMore() ?? [] { rule.layers += try value.layers() }
    for value in try fields["name"]?.oneOrMore() ?? [] { rule.names.append(.glob(try value.text())) }
    for value in try fields["regex"]?.oneOrMore() ?? [] { rule.names.append(try value.regex()) }
    rule.isExpertStack = try fields["expert_stack"]?.flag()
    rule.expertCount = try fields["experts"]?.count()
    rule.hasTiedEmbedding = try fields["tied_embedding"]?.flag()
    rule.fallback = try fields["fallback"]?.fallback()
    rule.isOptional = try fields["optional"]?.flag() ?? false
    return rule
  }

  fileprivate func base() throws(CheckpointError) -> Recipe {
    let name = try text()
    guard let recipe = Recipe.builtIn(named: name) else {
      throw problem(
        "'\(name.printable)' is not a built-in recipe",
        remedy: "there are " + Recipe.builtIns.map(\.name).joined(separator: ", "))
    }
    return recipe
  }

  fileprivate func preciseFormats() throws(CheckpointError) -> PreciseFormats {
    guard isMapping else {
      let format = try preciseFormat()
      return PreciseFormats(safetensors: format, gguf: format)
    }
    let fields = try fields(Checkpoint.Format.allCases.map(\.rawValue))
    return PreciseFormats(
      safetensors: try fields[Checkpoint.Format.safetensors.rawValue]?.preciseFormat(),
      gguf: try fields[Checkpoint.Format.gguf.rawValue]?.preciseFormat())
  }

  private func preciseFormat() throws(CheckpointError) -> StorageFormat {
    let format = try storageFormat()
    guard PreciseFormats.choices.contains(format) else {
      let choices = PreciseFormats.choices.map(\.spelling).joined(separator: ", ")
      throw problem("\(format) is not precise", remedy: "choose one of \(choices)")
    }
    return format
  }

  private func storageFormat() throws(CheckpointError) -> StorageFormat {
    let text = try text()
    return try located { () throws(CheckpointError) in try StorageFormat(spelling: text) }
  }

  fileprivate func fallback() throws(CheckpointError) -> Fallback {
    if isScalar {
      switch try text() {
      case "standard": return .standard
      case "error": return .error
      default: break
      }
    }
    var formats: [StorageFormat] = []
    for value in try oneOrMore() { formats.append(try value.storageFormat()) }
    return .chain(formats)
  }

  private func role() throws(CheckpointError) -> TensorRole {
    let text = try text()
    guard let role = TensorRole(rawValue: text) else {
      let known = TensorRole.allCases.map(\.rawValue).joined(separator: ", ")
      throw problem("'\(text.printable)' is not a role", remedy: "there are \(known)")
    }
    return role
  }

  private func layers() throws(CheckpointError) -> [LayerSelector] {
    let text = try textOrNumber()
    return try located { () throws(CheckpointError) in try LayerSelector.parse(text) }
  }

  private func regex() throws(CheckpointError) -> NamePattern {
    let text = try text()
    return try located { () throws(CheckpointError) in try .regex(text) }
  }
}
