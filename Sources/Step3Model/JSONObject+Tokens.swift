package import JSON
package import TensorFormats

extension JSONObject {
  /// The ids of tokens. A negative one means none, as in `transformers` and llama.cpp.
  package func tokenIDs(_ key: String, in range: ClosedRange<Int>) throws(CheckpointError) -> [Int] {
    let ids = try integers(key, in: Int.min...Int.max).filter { $0 >= 0 }
    for id in ids where !range.contains(id) {
      throw mismatch(key, "whole numbers from \(range.lowerBound) to \(range.upperBound)", .integer(id))
    }
    return ids
  }

  /// The text of a token that is named by its text, or by an object with its `content`.
  package func tokenText(_ key: String) throws(CheckpointError) -> String? {
    guard case .object? = value(key) else { return try string(key) }
    return try object(key)?.string("content")
  }
}
