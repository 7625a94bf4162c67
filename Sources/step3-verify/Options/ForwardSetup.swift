import Checkpoint
import CommandSupport
import ImageInput
import StoredWeights
import Step3Model
import Step3Runtime
import Locations
import TensorFormats
import Tokenization
import Verification

/// Opens what a forward pass needs: the model, its tokenizer, prompts and pictures.
struct ForwardSetup {
  let common: CommonOptions
  let prompts: PromptOptions
  let options: RuntimeOptions
  var afd = AFDRunOptions()

  /// Opens a checkpoint to run in this process.
  func runner(_ path: String) throws -> ModelRunner {
    let checkpoint = try common.location(path).open()
    CommonOptions.warn(Step3Verify.name, checkpoint.warnings)
    do throws(CheckpointError) {
      return try ModelRunner(ModelWeights(checkpoint), options: options)
    } catch {
      throw checkpoint.locating(error)
    }
  }

  /// A model, with whatever has to outlive its run.
  struct Opened: Sendable {
    let runner: ModelRunner
    /// The processes of a disaggregated run; `nil` for a run in this process.
    let session: AFDSession?

    /// Ends the processes of a disaggregated run.
    func close() { session?.close() }
  }

  /// Opens a checkpoint to run as the options say: in this process, or disaggregated.
  func open(_ path: String) throws -> Opened {
    guard afd.afd else { return Opened(runner: try runner(path), session: nil) }
    var settings = AFDOptions(threads: options.threads)
    settings.tokens = afd.tokens
    settings.silence = .seconds(afd.timeout)
    settings.results = afd.results
    let session = try AFDSession.start(path, options: settings)
    return Opened(
      runner: ModelRunner(session.model, options: options, visionWeights: try session.visionWeights()),
      session: session)
  }

  /// The prompts and pictures, by the model's own tokenizer and configuration.
  ///
  /// - Parameter fallback: The tokens to use if none were given.
  func input(for runner: ModelRunner, fallback: [Int]? = nil) throws -> ForwardInput {
    let (pixels, images) = try pictures(for: runner)
    var all: [[Int]] = []
    for list in prompts.tokens { all.append(try PromptOptions.ids(list)) }
    for path in prompts.tokensFile { all += try TokenFile.read(path) }
    if !prompts.prompt.isEmpty {
      let tokenizer = try Tokenizer(of: runner.model.weights.checkpoint)
      var left = images[...]
      for text in prompts.prompt { all.append(try ids(of: text, tokenizer, &left)) }
      guard left.isEmpty else {
        throw CheckpointError(
          .invalidRequest, "\(left.count) of \(images.count) pictures have no place in the prompts",
          remedy: "write <im_patch> where each picture belongs")
      }
    }
    if all.isEmpty, let fallback { all = [fallback] }
    guard !all.isEmpty else {
      throw CheckpointError(
        .invalidRequest, "there are no tokens to run", remedy: "give --tokens, --tokens-file or --prompt")
    }
    if let empty = all.firstIndex(where: \.isEmpty) {
      throw CheckpointError(.invalidRequest, "prompt \(empty + 1) has no tokens")
    }
    return ForwardInput(all, pixels: pixels)
  }

  private func pictures(for runner: ModelRunner) throws -> (PixelValues?, [ProcessedImage]) {
    if let path = prompts.pixelValues { return (try PixelValues(safetensors: path), []) }
    guard !prompts.image.isEmpty else { return (nil, []) }
    guard let vision = runner.visionWeights.configuration?.vision else {
      throw CheckpointError(
        .unsupported, "is only the language model; it cannot see pictures",
        path: runner.model.weights.checkpoint.path)
    }
    let processor = try Step3ImageProcessor(
      imageSize: vision.imageSize, cropSize: prompts.cropSize, patchSize: vision.patchSize,
      projectorStride: vision.projectorStride, filter: prompts.imageFilter.filter,
      tokenLimit: runner.model.text.contextLength)
    var images: [ProcessedImage] = []
    var held = 0
    for path in prompts.image {
      do throws(CheckpointError) {
        let image = try ImageFile.read(path) { (header) throws(CheckpointError) in
          try processor.check(header, memory: options.memory - held)
        }
        images.append(try processor.process(image))
        held += images.last.map { 8 * ($0.pixelValues.count + $0.cropValues.count) } ?? 0
      } catch {
        throw error.at(path: path)
      }
    }
    return (try PixelValues(images), images)
  }

  /// The tokens of a text, each placeholder replaced by the tokens of the next picture.
  private func ids(
    of text: String, _ tokenizer: Tokenizer, _ images: inout ArraySlice<ProcessedImage>
  ) throws(CheckpointError) -> [Int] {
    let encoded = try tokenizer.encode(text, addSpecialTokens: !prompts.noSpecialTokens)
    guard let placeholder = tokenizer.id(ofSpecial: ImageTokens().feature), !images.isEmpty else {
      return encoded
    }
    var ids: [Int] = []
    for id in encoded {
      guard id == placeholder, let image = images.popFirst() else {
        ids.append(id)
        continue
      }
      for token in image.prompt.tokens {
        guard let number = tokenizer.id(ofSpecial: token.name) else {
          throw CheckpointError(
            .unsupported, "the tokenizer has no token '\(token.name)', which a picture's tokens need")
        }
        ids += [Int](repeating: number, count: token.count)
      }
    }
    return ids
  }
}
