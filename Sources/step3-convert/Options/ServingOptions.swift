public import ArgumentParser
import CommandSupport
public import Deployment

extension TokenCount: ExpressibleByArgument {
  /// Reads a number of tokens given on the command line.
  public init?(argument: String) { self.init(argument) }
}

extension Precision: ExpressibleByArgument {}

/// The hardware that a model is to be served on: options that make `plan` answer that question instead.
struct ServingOptions: ParsableArguments {
  @Option(
    name: .customLong("gpu-memory"),
    help: ArgumentHelp(
      "Say whether it fits on cards with this much memory, and how many it takes (GB is 10^9 bytes, GiB 2^30).",
      valueName: "size"))
  var gpuMemory: ByteSize?

  @Option(
    name: .long,
    help: ArgumentHelp("The tokens of each sequence; 32K is 32768.", valueName: "tokens"))
  var context: TokenCount?

  @Option(name: .long, help: ArgumentHelp("The number of concurrent sequences.", valueName: "n"))
  var batch: Int?

  @Option(
    name: .long, help: ArgumentHelp("The cards available (default: as many as it takes).", valueName: "n"))
  var gpus: Int?

  @Option(
    name: .customLong("gpus-per-machine"),
    help: ArgumentHelp("The cards per machine (default: 8).", valueName: "n"))
  var gpusPerMachine: Int?

  @Option(name: .customLong("kv-cache"), help: "How the KV cache is stored (default: bf16).")
  var cache: Precision?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Tensor-parallel ranks of an unpartitioned model (default: what fits best within a machine).",
      valueName: "n"))
  var tp: Int?

  @Option(
    name: .customLong("memory-share"),
    help: ArgumentHelp("The share of a card's memory that may be used (default: 0.9).", valueName: "x"))
  var memoryShare: Double?

  @Option(
    name: .customLong("prefill-tokens"),
    help: ArgumentHelp(
      "Prompt tokens that the engine processes at once (default: 8192).", valueName: "n"))
  var prefillTokens: Int?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Say what decoding costs on the hardware that this file describes, and how many machines it takes.",
      valueName: "file"), completion: .file())
  var deployment: String?

  @Flag(name: .long, help: "With --deployment: compare with the models of the Step-3 report.")
  var compare = false

  /// Whether one of these questions is asked, which need no format.
  var isGiven: Bool { gpuMemory != nil || deployment != nil }

  func validate() throws {
    if gpuMemory != nil, deployment != nil {
      throw ValidationError(
        "--gpu-memory and --deployment answer different questions; give only one of them.")
    }
    if compare, deployment == nil { throw ValidationError("--compare needs --deployment.") }
    guard gpuMemory != nil else {
      for (option, isThere) in [("--context", context != nil), ("--batch", batch != nil)]
      where isThere && deployment == nil {
        throw ValidationError("\(option) needs --gpu-memory or --deployment.")
      }
      for (option, isThere) in [
        ("--gpus", gpus != nil), ("--tp", tp != nil), ("--gpus-per-machine", gpusPerMachine != nil),
        ("--kv-cache", cache != nil), ("--memory-share", memoryShare != nil),
        ("--prefill-tokens", prefillTokens != nil),
      ] where isThere {
        throw ValidationError("\(option) needs --gpu-memory.")
      }
      try check("--batch", batch, in: 1...1 << 30)
      return
    }
    guard context != nil else {
      throw ValidationError("--gpu-memory needs --context, the tokens of a sequence.")
    }
    guard batch != nil else {
      throw ValidationError("--gpu-memory needs --batch, the number of concurrent sequences.")
    }
    if gpuMemory?.bytes == 0 { throw ValidationError("--gpu-memory must be more than 0.") }
    try check("--batch", batch, in: 1...1 << 30)
    try check("--gpus", gpus, in: 1...MemoryRequest.mostCards)
    try check("--gpus-per-machine", gpusPerMachine, in: 1...MemoryRequest.mostCards)
    try check("--tp", tp, in: 1...MemoryRequest.mostCards)
    try check("--prefill-tokens", prefillTokens, in: 1...1 << 30)
    if let memoryShare, !(memoryShare > 0 && memoryShare <= 1) {
      throw ValidationError("--memory-share must be more than 0 and at most 1; got \(memoryShare).")
    }
  }

  private func check(_ option: String, _ value: Int?, in range: ClosedRange<Int>) throws {
    guard let value, !range.contains(value) else { return }
    throw ValidationError("\(option) must be from \(range.lowerBound) to \(range.upperBound); got \(value).")
  }

  /// The question that --gpu-memory asks; `nil` without it.
  var memoryRequest: MemoryRequest? {
    guard let gpuMemory, let context, let batch else { return nil }
    var request = MemoryRequest(
      cardBytes: gpuMemory.bytes, context: context.tokens, batch: batch, cards: gpus, tensorParallel: tp)
    request.memoryShare = memoryShare ?? request.memoryShare
    request.cache = cache ?? request.cache
    request.prefillTokens = prefillTokens ?? request.prefillTokens
    request.cardsPerMachine = gpusPerMachine ?? request.cardsPerMachine
    return request
  }
}
