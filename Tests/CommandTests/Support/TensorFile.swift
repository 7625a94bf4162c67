import Foundation
import Testing

/// Reads safetensors files for tests, without any code of the product.
struct TensorFile {
  private let header: [String: Any]
  private let data: Data

  init(_ path: String) throws {
    let bytes = try Data(contentsOf: URL(filePath: path))
    let length = Int(bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) })
    header = try #require(try JSONSerialization.jsonObject(with: bytes[8..<8 + length]) as? [String: Any])
    data = Data(bytes[(8 + length)...])
  }

  var names: Set<String> { Set(header.keys).subtracting(["__metadata__"]) }

  private func entry(_ name: String) throws -> [String: Any] {
    try #require(header[name] as? [String: Any], "there is no \(name)")
  }

  func shape(_ name: String) throws -> [Int] { try #require(try entry(name)["shape"] as? [Int]) }
  func type(_ name: String) throws -> String { try #require(try entry(name)["dtype"] as? String) }

  private func values<T: BitwiseCopyable>(_ name: String, _: T.Type) throws -> [T] {
    let range = try #require(try entry(name)["data_offsets"] as? [Int])
    return data[range[0]..<range[1]].withUnsafeBytes { bytes in
      (0..<bytes.count / MemoryLayout<T>.size).map {
        bytes.loadUnaligned(fromByteOffset: $0 * MemoryLayout<T>.size, as: T.self)
      }
    }
  }

  func floats(_ name: String) throws -> [Float] {
    try #require(try type(name) == "F32")
    return try values(name, Float.self)
  }

  func integers(_ name: String) throws -> [Int] {
    try type(name) == "I64" ? values(name, Int64.self).map(Int.init) : values(name, Int32.self).map(Int.init)
  }
}

/// Whether a document has no value for a key; optional members without a value are `null`.
func isAbsent(_ value: Any?) -> Bool { value == nil || value is NSNull }

/// The largest difference of two lists of one length.
func largestDifference(_ a: [Float], _ b: [Float]) throws -> Float {
  try #require(a.count == b.count && !a.isEmpty)
  return zip(a, b).reduce(0) { max($0, abs($1.0 - $1.1)) }
}
