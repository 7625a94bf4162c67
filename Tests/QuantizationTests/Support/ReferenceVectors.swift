import CheckpointTesting
import Foundation

/// The output of the reference encoder and decoder of one GGML element type for the rows of `inputs.safetensors`.
///
/// Reads just enough of safetensors for files in this repository; the `Safetensors` module is tested
/// elsewhere and not trusted here.
struct ReferenceVectors {
  /// The encoder's bytes without an importance matrix.
  var plainBytes: [UInt8]?
  /// The decoder's values of `plainBytes`.
  var plainValues: [Float]?
  /// The encoder's bytes with the importance matrix; absent where it changes nothing.
  var imatrixBytes: [UInt8]?
  /// The decoder's values of `imatrixBytes`.
  var imatrixValues: [Float]?

  /// The vectors of one type, by the format's spelling (`Q4_K`).
  static func load(_ type: String) throws -> ReferenceVectors {
    let tensors = try tensors(in: "ggml/\(type).safetensors")
    return ReferenceVectors(
      plainBytes: tensors["plain.bytes"].map { [UInt8]($0.data) },
      plainValues: tensors["plain.dequantized"].map { floats($0.data) },
      imatrixBytes: tensors["imatrix.bytes"].map { [UInt8]($0.data) },
      imatrixValues: tensors["imatrix.dequantized"].map { floats($0.data) })
  }

  /// The rows that were encoded, and the importance matrix (one weight per column).
  static func inputs() throws -> (x: [Float], rows: Int, columns: Int, imatrix: [Float]) {
    let tensors = try tensors(in: "ggml/inputs.safetensors")
    guard let x = tensors["x"], x.shape.count == 2, let imatrix = tensors["imatrix"] else {
      throw BadVectors(file: "inputs.safetensors")
    }
    return (floats(x.data), x.shape[0], x.shape[1], floats(imatrix.data))
  }

  /// Every tensor of a safetensors file below `Fixtures/`, by name.
  static func tensors(in file: String) throws -> [String: (type: String, shape: [Int], data: Data)] {
    let data = try Data(contentsOf: URL(fileURLWithPath: Fixtures.path(file)))
    let headerLength = data.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    guard headerLength <= data.count - 8,
      let header = try JSONSerialization.jsonObject(with: data.dropFirst(8).prefix(headerLength))
        as? [String: [String: Any]]
    else { throw BadVectors(file: file) }
    var tensors: [String: (type: String, shape: [Int], data: Data)] = [:]
    for (name, entry) in header where name != "__metadata__" {
      guard let type = entry["dtype"] as? String, let shape = entry["shape"] as? [Int],
        let range = entry["data_offsets"] as? [Int], range.count == 2
      else { throw BadVectors(file: file) }
      tensors[name] = (type, shape, data.dropFirst(8 + headerLength + range[0]).prefix(range[1] - range[0]))
    }
    return tensors
  }

  /// Little-endian F32, as stored.
  static func floats(_ data: Data) -> [Float] {
    let bytes = [UInt8](data)
    return stride(from: 0, to: bytes.count, by: 4).map { at in
      Float(
        bitPattern: UInt32(bytes[at]) | UInt32(bytes[at + 1]) << 8 | UInt32(bytes[at + 2]) << 16
          | UInt32(bytes[at + 3]) << 24)
    }
  }
}

/// A fixture with unexpected contents.
struct BadVectors: Error {
  var file: String
}
