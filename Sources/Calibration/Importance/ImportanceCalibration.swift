internal import ByteStreams
internal import Checkpoint
internal import GGUF
public import ParallelWork
internal import Step3Model
public import Step3Runtime
public import StoredWeights
internal import TensorFormats

/// Measures how much each column of each weight matters on a text, and writes it as an importance matrix in the GGUF form
/// of llama.cpp's `llama-imatrix`.
///
/// For every linear layer of every block: the sum of squares of its input, column by column, and the number of
/// rows; for routed experts one sum each, over the tokens routed to it, not weighted by the router; for down
/// projections over the output of SwiGLU.
///
/// Source of the format and of the sums: llama.cpp, `tools/imatrix/imatrix.cpp`.
public struct ImportanceCalibration: Sendable {
  /// The settings that affect the result.
  public struct Settings: Hashable, Sendable {
    /// Experts that saw fewer tokens are filled up to that many.
    public var minimumExpertTokens: Int

    /// Makes settings.
    public init(minimumExpertTokens: Int = 128) { self.minimumExpertTokens = minimumExpertTokens }
  }

  /// The result.
  public struct Outcome: Sendable {
    /// The number of weights in the file.
    public let entries: Int
    /// The experts that were filled up.
    public let scarce: [ExpertCoverage]
    /// The fewest tokens routed to any expert; `nil` for a model without experts.
    public let fewestExpertTokens: Int?
    /// The size of the file.
    public let bytes: Int
    /// Layers that an earlier run had done.
    public let layersResumed: Int
  }

  private let weights: ModelWeights
  private let input: CalibrationInput
  private let settings: Settings
  private let options: RuntimeOptions

  /// Prepares a calibration.
  public init(
    _ weights: ModelWeights, _ input: CalibrationInput, settings: Settings = Settings(),
    options: RuntimeOptions
  ) {
    self.weights = weights
    self.input = input
    self.settings = settings
    self.options = options
  }

  /// Runs the text through the model and writes the file.
  ///
  /// - Parameters:
  ///   - path: The file. What is needed to resume is in a directory beside it until it is complete.
  ///   - resume: Whether to resume what an interrupted run left.
  ///   - overwrite: Whether to replace an existing file, and discard what an interrupted run left.
  ///   - begin: Called once with the total bytes that the monitor will be told about.
  /// - Throws: `.cannotCreate` if something is in the way, `.unsupported` if it is not a Step-3, `.invalidRequest` for
  ///   tokens that the model does not have or too little memory, `.nonFinite`, and what reading throws;
  ///   `CancellationError`, after which finished work is kept.
  public func run(
    to path: String, resume: Bool = false, overwrite: Bool = false, begin: (Int) -> WorkMonitor
  ) throws -> Outcome {
    let isTaken = try FileSystem.isTaken(path)
    guard overwrite || !isTaken else {
      throw CheckpointError(
        .cannotCreate, "already exists", path: path, remedy: "choose another name, or give --overwrite")
    }
    guard let configuration = weights.configuration, let model = weights.model else {
      throw CheckpointError(
        .unsupported,
        "\(weights.checkpoint.architecture ?? "this model") is not a Step-3, and only that can be run",
        path: weights.checkpoint.path)
    }
    let directory = try WorkingDirectory(
      for: path,
      .init(
        purpose: "importance, experts of \(settings.minimumExpertTokens) tokens", weights.checkpoint, input),
      resume: resume, overwrite: overwrite)
    let collector = ImportanceCollector(
      model, expertCount: configuration.text.expertCount, minimum: settings.minimumExpertTokens,
      threads: options.threads, directory: directory)
    let quiet = try LayerwiseRun(
      weights, input, visitor: collector, options: options, directory: directory)
    let run = quiet.monitored(by: begin(quiet.byteCount))
    try run.run(after: directory.layersDone) { try directory.note(layersDone: $0) }
    let layers = try (0..<configuration.text.layerCount).map {
      try ImportanceLayer(reading: directory.path(of: ImportanceLayer.name($0)))
    }
    let bytes = try write(layers, to: path, overwrite: overwrite)
    try directory.remove()
    let counts = layers.flatMap(\.entries).filter(\.isStack).flatMap(\.counts).map { Int($0) }
    let scarce = layers.flatMap(\.scarce)
    return Outcome(
      entries: layers.reduce(0) { $0 + $1.entries.count }, scarce: scarce,
      fewestExpertTokens: scarce.map(\.tokens).min() ?? counts.min(), bytes: bytes,
      layersResumed: directory.layersDone)
  }

  /// Writes the file under a temporary name and renames it when complete.
  private func write(
    _ layers: [ImportanceLayer], to path: String, overwrite: Bool
  ) throws(CheckpointError) -> Int {
    let entries = layers.flatMap(\.entries).sorted { $0.name.precedesBytewise($1.name) }
    var metadata = GGUFMetadata([
      .init("general.type", .string("imatrix")),
      .init("imatrix.datasets", .array(.string(input.datasets))),
      .init("imatrix.chunk_count", .uint32(UInt32(clamping: input.sequences.count))),
      .init("imatrix.chunk_size", .uint32(UInt32(clamping: input.longest))),
    ])
    let scarce = layers.flatMap(\.scarce)
    if !scarce.isEmpty {
      // So that readers can tell what the counts originally were.
      metadata.set(
        "step3_toolkit.filled_experts",
        .array(.string(scarce.map { "layer \($0.layer), expert \($0.expert): \($0.tokens) tokens" })))
    }
    var tensors: [GGUFLayout.Tensor] = []
    for entry in entries {
      let matrices = entry.counts.count
      tensors.append(
        .init(
          name: entry.name + ".in_sum2", elementType: .f32,
          shape: TensorShape(entry.isStack ? [matrices, entry.columns] : [entry.columns])))
      tensors.append(
        .init(
          name: entry.name + ".counts", elementType: .f32,
          shape: TensorShape(entry.isStack ? [matrices, 1] : [1])))
    }
    let layout = try GGUFLayout(metadata: metadata, tensors: tensors)
    let unfinished = path + ".unfinished"
    if try FileSystem.kind(of: unfinished) == .file { try FileSystem.removeFile(unfinished) }
    var writer = try GGUFWriter(unfinished, layout: layout)
    for (index, entry) in entries.enumerated() {
      try unsafe writer.append(entry.sums.span.bytes, toTensor: 2 * index)
      try unsafe writer.append(entry.counts.span.bytes, toTensor: 2 * index + 1)
    }
    try writer.finish()
    let isTaken = try FileSystem.isTaken(path)
    guard overwrite || !isTaken else {
      throw CheckpointError(.cannotCreate, "has meanwhile been created by another process", path: path)
    }
    try FileSystem.rename(unfinished, to: path)
    return layout.byteCount
  }
}
