internal import ByteStreams
public import TensorFormats

/// The tokens that calibration runs through a model: sequences that do not see each other.
public struct CalibrationInput: Sendable {
  /// The token ids of each sequence.
  public let sequences: [[Int]]
  /// The names of the texts, for the output: file names.
  public let datasets: [String]
  /// The length of the longest sequence.
  public let longest: Int
  /// All tokens.
  public let tokenCount: Int
  /// XXH3-128 of the ids and where sequences end.
  public let digest: String

  /// Takes sequences unchanged.
  ///
  /// - Throws: `.invalidRequest` if there are no tokens.
  public init(_ sequences: [[Int]], datasets: [String]) throws(CheckpointError) {
    guard !sequences.isEmpty, sequences.allSatisfy({ !$0.isEmpty }) else {
      throw CheckpointError(
        .invalidRequest, "there are no tokens to calibrate with", remedy: "give a longer text")
    }
    self.sequences = sequences
    self.datasets = datasets
    longest = sequences.map(\.count).max() ?? 0
    tokenCount = sequences.reduce(0) { $0 + $1.count }
    var digester = XXH3Digester()
    for sequence in sequences {
      let numbers = ([sequence.count] + sequence).map { Int64($0).littleEndian }
      unsafe digester.update(numbers.span.bytes)
    }
    digest = "\(digester.finalize())"
  }

  /// Cuts running text into sequences of one length, as `llama-imatrix` does: the first token of each is replaced by
  /// the one that texts begin with, and the rest at the end is dropped, unless there is nothing else.
  ///
  /// - Parameters:
  ///   - tokens: The text, without special tokens.
  ///   - length: Tokens of a sequence, at least 2.
  ///   - first: The token that texts begin with; `nil` if there is none.
  ///   - datasets: Names of the texts, as the importance matrix records them.
  /// - Throws: `.invalidRequest` if there are no tokens.
  public init(
    cutting tokens: [Int], length: Int, first: Int?, datasets: [String]
  ) throws(CheckpointError) {
    precondition(length > 1)
    let cuts =
      tokens.count < length
      ? [tokens[...]]
      : stride(from: 0, through: tokens.count - length, by: length)
        .map { tokens[$0..<$0 + length] }
    try self.init(
      cuts.filter { !$0.isEmpty }.map { cut in first.map { [$0] + cut.dropFirst() } ?? Array(cut) },
      datasets: datasets)
  }
}
