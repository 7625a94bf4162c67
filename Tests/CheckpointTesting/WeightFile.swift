public import Foundation

/// Writes safetensors files for tests, without any code of the product.
public struct WeightFile {
  private var header: [(String, String)] = []
  private var data = Data()

  /// Makes an empty file.
  public init() {}

  /// Appends a tensor of little-endian bytes.
  public mutating func add(_ name: String, _ dtype: String, _ shape: [Int], _ bytes: Data) {
    header.append(
      (
        name,
        #"{"dtype":"\#(dtype)","shape":\#(shape),"data_offsets":[\#(data.count),\#(data.count + bytes.count)]}"#
      ))
    data += bytes
  }

  /// Appends a tensor of numbers.
  public mutating func add<T: BitwiseCopyable>(_ name: String, _ dtype: String, _ values: [T]) {
    add(name, dtype, [values.count], values.withUnsafeBytes { Data($0) })
  }

  /// Appends a tensor of numbers in some shape.
  public mutating func add<T: BitwiseCopyable>(_ name: String, _ dtype: String, _ shape: [Int], _ values: [T])
  {
    add(name, dtype, shape, values.withUnsafeBytes { Data($0) })
  }

  /// Writes the file.
  public func write(to path: String) throws {
    let text = "{" + header.map { "\"\($0.0)\":\($0.1)" }.joined(separator: ",") + "}"
    var length = UInt64(text.utf8.count).littleEndian
    let bytes = withUnsafeBytes(of: &length) { Data($0) } + Data(text.utf8) + data
    try bytes.write(to: URL(filePath: path))
  }

  /// The upper half of each float: BF16, for values that BF16 holds exactly.
  public static func bfloat16(_ values: [Float]) -> [UInt16] { values.map { UInt16($0.bitPattern >> 16) } }
}
