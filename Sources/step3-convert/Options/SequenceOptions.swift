import ArgumentParser

/// How a text is cut into the sequences that go through a model.
struct SequenceOptions: ParsableArguments {
  @Option(
    name: .customLong("sequence-length"),
    help: ArgumentHelp("The tokens per sequence that a text is cut into.", valueName: "n"))
  var sequenceLength = 512

  @Flag(name: .customLong("no-bos"), help: "Do not start each sequence of a text with the model's BOS token.")
  var noBOS = false

  func validate() throws {
    guard (2...1 << 20).contains(sequenceLength) else {
      throw ValidationError("--sequence-length must be from 2 to 1048576; got \(sequenceLength).")
    }
  }
}
