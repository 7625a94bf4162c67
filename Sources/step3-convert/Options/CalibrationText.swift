import ByteStreams
import Calibration
import Checkpoint
import Step3Model
import Step3Runtime
import StoredWeights
import TensorFormats
import Tokenization

/// Where the tokens of a calibration come from, independent of the options' names.
struct CalibrationText {
  /// Files of token ids.
  var tokens: [String]
  /// Files of running text.
  var text: [String]
  var sequenceLength: Int
  var startsWithBOS: Bool

  var isEmpty: Bool { tokens.isEmpty && text.isEmpty }

  /// The tokens, by the model's own tokenizer and configuration.
  func input(for checkpoint: Checkpoint) throws -> CalibrationInput {
    var sequences: [[Int]] = []
    for path in tokens { sequences += try TokenFile.read(path) }
    if !text.isEmpty {
      let tokenizer = try Tokenizer(of: checkpoint)
      let first = startsWithBOS ? try Step3Configuration(of: checkpoint)?.bosTokenID : nil
      for path in text {
        let file = try InputFile(path)
        guard let content = String(validating: try file.readBytes(0..<file.byteCount), as: UTF8.self) else {
          throw CheckpointError(.malformed, "is not UTF-8", path: path)
        }
        do throws(CheckpointError) {
          sequences += try CalibrationInput(
            cutting: tokenizer.encode(content, addSpecialTokens: false), length: sequenceLength, first: first,
            datasets: []
          ).sequences
        } catch {
          throw error.at(path: path)
        }
      }
    }
    return try CalibrationInput(
      sequences, datasets: (tokens + text).map { $0.split(separator: "/").last.map(String.init) ?? $0 })
  }
}
