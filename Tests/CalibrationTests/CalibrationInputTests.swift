import Calibration
import TensorFormats
import Testing

@Suite("Calibration input")
struct CalibrationInputTests {
  @Test("running text is cut like llama-imatrix cuts it")
  func cuts() throws {
    let tokens = Array(10..<31)
    let input = try CalibrationInput(cutting: tokens, length: 5, first: 0, datasets: ["a.txt"])
    #expect(input.sequences.count == 4)
    #expect(input.sequences[0] == [0, 11, 12, 13, 14])
    #expect(input.sequences[3] == [0, 26, 27, 28, 29])
    #expect(input.tokenCount == 20 && input.longest == 5 && input.datasets == ["a.txt"])
    let bare = try CalibrationInput(cutting: tokens, length: 7, first: nil, datasets: [])
    #expect(bare.sequences.map(\.first) == [10, 17, 24])
  }

  @Test("a text shorter than one sequence becomes one sequence")
  func short() throws {
    #expect(try CalibrationInput(cutting: [7, 8], length: 5, first: 0, datasets: []).sequences == [[0, 8]])
  }

  @Test("a text without tokens is refused")
  func empty() {
    #expect(throws: CheckpointError.self) {
      try CalibrationInput(cutting: [], length: 5, first: 0, datasets: [])
    }
    #expect(throws: CheckpointError.self) { try CalibrationInput([[1], []], datasets: []) }
  }

  @Test("the digest depends on the tokens and the ends of sequences alone")
  func digest() throws {
    let digest = try CalibrationInput([[1, 2], [3]], datasets: ["a"]).digest
    #expect(try CalibrationInput([[1, 2], [3]], datasets: ["b"]).digest == digest)
    #expect(try CalibrationInput([[1], [2, 3]], datasets: ["a"]).digest != digest)
    #expect(try CalibrationInput([[1, 2], [4]], datasets: ["a"]).digest != digest)
  }
}
