import ByteStreams
import Foundation
import FuzzSupport
import TensorFormats
import Verification

/// Any bytes as a file of logits, `.npy` or safetensors: refused with an error, or rows that can all be read.
func check(_ file: [UInt8]) {
  guard let logits = try? LogitsFile(of: MemorySource(file)) else { return }
  require(logits.rows > 0 && logits.vocabulary > 0, "there are no logits")
  require(logits.rows <= file.count && logits.vocabulary <= file.count, "there are more logits than bytes")
  if let tokens = logits.tokens {
    require(tokens.count == logits.rows, "rows and tokens differ")
    require(tokens.allSatisfy((0..<logits.vocabulary).contains), "a token has no logit")
  }
  for row in Set([0, logits.rows / 2, logits.rows - 1]) {
    guard let values = try? logits.row(row) else { fatalError("row \(row) cannot be read") }
    require(values.count == logits.vocabulary, "a row has another length")
  }
}

exit(
  runFuzzer { bytes, count in
    check(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
  })
