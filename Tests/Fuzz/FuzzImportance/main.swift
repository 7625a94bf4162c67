import ByteStreams
import Foundation
import FuzzSupport
import QuantizationRecipes
import TensorFormats

/// Any bytes as an importance matrix, in either form: refused with an error, or entries of non-negative numbers.
func check(_ file: [UInt8]) {
  guard let matrix = try? ImportanceMatrix(MemorySource(file)) else { return }
  for (name, entry) in matrix.entries {
    let count = entry.valueCount
    require(count <= file.count / 4, "\(name) has more values than the file")
    for (columns, expert) in [(count, nil), (count, 0), (count / 2, 1)] where columns > 0 {
      guard let weights = try? matrix.weights(for: name, columns: columns, expert: expert) else { continue }
      require(weights.count == columns, "\(name) has another number of columns")
      require(weights.allSatisfy { $0 >= 0 && $0.isFinite }, "\(name) has a value that is not an importance")
    }
  }
}

exit(
  runFuzzer { bytes, count in
    check(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
  })
