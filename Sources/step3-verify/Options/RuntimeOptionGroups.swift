public import ArgumentParser
import CommandSupport
import ImageInput
public import Step3Runtime
import TensorFormats
import Verification

/// The final resampling filter for pictures.
enum ImageFilter: String, CaseIterable, ExpressibleByArgument {
  case bilinear, bicubic

  var filter: ResamplingFilter { self == .bilinear ? .bilinear : .bicubic }
}

/// Where the tokens and pictures come from.
struct PromptOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Token ids, separated by commas. May be given more than once: all prompts run together.",
      valueName: "ids"))
  var tokens: [String] = []

  @Option(
    name: .customLong("tokens-file"),
    help: ArgumentHelp(
      "Token ids from a file: .safetensors with input_ids, or JSON (a list, or a list of lists).",
      valueName: "file"), completion: .file())
  var tokensFile: [String] = []

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Text, encoded with the checkpoint's own tokenizer; no chat template is applied.", valueName: "text"))
  var prompt: [String] = []

  @Flag(
    name: .customLong("no-special-tokens"),
    help: "Leave out the special tokens that the tokenizer adds around a text.")
  var noSpecialTokens = false

  @Option(
    name: .long,
    help: ArgumentHelp(
      """
      A picture (PNG or JPEG), preprocessed as published. Each <im_patch> in a --prompt stands for one and is \
      replaced by its tokens; --tokens must spell them all out. May be given more than once. Step-3 only.
      """, valueName: "file"), completion: .file())
  var image: [String] = []

  @Option(
    name: .customLong("image-filter"),
    help: "The final resampling filter for pictures: the published processor uses bilinear.")
  var imageFilter: ImageFilter = .bilinear

  @Option(
    name: .customLong("crop-size"),
    help: ArgumentHelp("The side length of a crop, in pixels.", valueName: "pixels"))
  var cropSize = 504

  @Option(
    name: .customLong("pixel-values"),
    help: ArgumentHelp(
      "Exact pixel values instead of pictures: .safetensors with pixel_values, patch_pixel_values and num_patches.",
      valueName: "file"), completion: .file())
  var pixelValues: String?

  func validate() throws {
    if !image.isEmpty, pixelValues != nil {
      throw ValidationError("--image and --pixel-values are mutually exclusive.")
    }
    for list in tokens { _ = try Self.ids(list) }
  }

  /// Whether any tokens were given.
  var hasTokens: Bool { !(tokens.isEmpty && tokensFile.isEmpty && prompt.isEmpty) }

  /// The ids of a list.
  static func ids(_ list: String) throws -> [Int] {
    try list.split(separator: ",", omittingEmptySubsequences: false).map { part in
      guard let id = Int(part.filter { $0 != " " }), id >= 0 else {
        throw ValidationError(
          "--tokens '\(list)': '\(part)' is not a token id; expected numbers separated by commas.")
      }
      return id
    }
  }
}

extension TokenWireFormat: ExpressibleByArgument {}
extension ResultWireFormat: ExpressibleByArgument {}

/// How a partition set is run.
struct AFDRunOptions: ParsableArguments {
  @Flag(
    name: .long,
    help: """
      Run a partition set as it would be served: this process opens the attention part, and each FFN part has a process \
      of its own that opens nothing else.
      """)
  var afd = false

  @Option(
    name: .customLong("afd-tokens"), help: "How tokens are sent to the FFN ranks; the Step-3 report uses fp8."
  )
  var tokens: TokenWireFormat = .f32

  @Option(
    name: .customLong("afd-results"), help: "How partial sums are sent back; the Step-3 report uses bf16.")
  var results: ResultWireFormat = .f32

  @Option(
    name: .customLong("afd-timeout"),
    help: ArgumentHelp(
      "How long an FFN rank may be silent while a reply is due.", valueName: "seconds"))
  var timeout = 600

  func validate() throws {
    guard afd || (tokens == .f32 && results == .f32) else {
      throw ValidationError("--afd-tokens and --afd-results need --afd.")
    }
    guard (1...1_000_000).contains(timeout) else {
      throw ValidationError("--afd-timeout must be from 1 to 1000000 seconds; got \(timeout).")
    }
  }
}

/// The resources of a run.
struct MemoryOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "The memory for activations, tiles of weights and logits; the weights themselves are streamed.",
      valueName: "size"))
  var memory = ByteSize(bytes: 2 << 30)

  func validate() throws {
    guard memory.bytes >= 1 << 26 else {
      throw ValidationError("--memory must be at least 64.0 MiB; got \(memory.binary).")
    }
  }
}
