import ByteStreams
import QuantizationRecipes
import TensorFormats
import Testing

@Suite struct ImportanceMatrixGGUFTests {
  static let plain = GGUFTensor("blk.0.ffn_up.weight.in_sum2", [4], [4, 8, 0, 2])
  static let plainCount = GGUFTensor("blk.0.ffn_up.weight.counts", [1], [4])
  static let stack = GGUFTensor("blk.1.ffn_up_exps.weight.in_sum2", [3, 2], [2, 4, 7, 9, 6, 8])
  static let stackCounts = GGUFTensor("blk.1.ffn_up_exps.weight.counts", [3, 1], [2, 0, 4])

  @Test(arguments: [false, true])
  func ggufMatricesAreRead(isBigEndian: Bool) throws {
    let sums = GGUFTensor("blk.0.ffn_up.weight.in_sum", [4], [-1, 0, 1, 2])
    let bytes = GGUFBytes.file(
      [Self.plain, Self.plainCount, Self.stack, Self.stackCounts, sums], datasets: ["a.txt", "b.txt"],
      isBigEndian: isBigEndian)
    let matrix = try ImportanceMatrix(MemorySource(bytes))
    #expect(matrix.form == .gguf)
    #expect(matrix.datasets == ["a.txt", "b.txt"])
    #expect(matrix.chunkCount == 5)
    #expect(matrix.chunkSize == 512)
    #expect(matrix.entries.count == 2)
    #expect(try matrix.weights(for: "blk.0.ffn_up.weight", columns: 4, expert: nil) == [1, 2, 0, 0.5])
    let stack = "blk.1.ffn_up_exps.weight"
    #expect(try matrix.weights(for: stack, columns: 2, expert: 0) == [1, 2])
    #expect(try matrix.weights(for: stack, columns: 2, expert: 1) == [1, 1], "no token came to this expert")
    #expect(try matrix.weights(for: stack, columns: 2, expert: 2) == [1.5, 2])
    #expect(try matrix.covers(stack, columns: 2, expertCount: 3))
  }

  /// This form states the rows, so a wrong width is found even where the product fits.
  @Test func rowsMustAgreeWithTheCounts() throws {
    let matrix = try ImportanceMatrix(MemorySource(GGUFBytes.file([Self.stack, Self.stackCounts])))
    let error = #expect(throws: CheckpointError.self) {
      try matrix.weights(for: "blk.1.ffn_up_exps.weight", columns: 3, expert: 0)
    }
    #expect(error?.message == "the importance matrix has 6 values in 3 rows, the tensor needs rows of 3")
  }

  @Test func countsAreRounded() throws {
    let count = GGUFTensor("blk.0.ffn_up.weight.counts", [1], [3.5])
    let matrix = try ImportanceMatrix(MemorySource(GGUFBytes.file([Self.plain, count])))
    #expect(try matrix.weights(for: "blk.0.ffn_up.weight", columns: 4, expert: nil) == [1, 2, 0, 0.5])
  }

  @Test(arguments: [
    (GGUFBytes.file([plain]), "has sums of squares but no counts"),
    (GGUFBytes.file([plainCount]), "has counts but no sums of squares"),
    (GGUFBytes.file([]), "without any '<name>.in_sum2' tensor"),
    (GGUFBytes.file([plain, plainCount], type: "model"), "is a GGUF file of type 'model'"),
    (
      GGUFBytes.file([plain, GGUFTensor("blk.0.ffn_up.weight.counts", [3], [1, 1, 1])]),
      "has 4 sums and 3 counts"
    ),
    (
      GGUFBytes.file([GGUFTensor("a.in_sum2", [2], [1, .nan]), GGUFTensor("a.counts", [1], [1])]),
      "the value nan"
    ),
    (
      GGUFBytes.file([GGUFTensor("a.in_sum2", [2], [1, 1]), GGUFTensor("a.counts", [1], [-1])]),
      "the value -1.0"
    ),
    (
      GGUFBytes.file([
        GGUFTensor("a.in_sum2", [1], [1], type: 24), GGUFTensor("a.counts", [1], [1]),
      ]), "is I8; an importance matrix is F32"
    ),
    (Array("GGUF".utf8), ""),
    (Array(GGUFBytes.file([plain, plainCount]).dropLast(40)), ""),
  ])
  func faultyMatricesAreRefused(bytes: [UInt8], message: String) {
    let error = #expect(throws: CheckpointError.self) {
      try ImportanceMatrix(MemorySource(bytes, path: "bad.gguf"))
    }
    #expect(error?.path == "bad.gguf")
    #expect(message.isEmpty || error?.message.contains(message) == true, "\(error?.message ?? "none")")
  }
}

/// A tensor to write; the shape is row-major.
struct GGUFTensor {
  var name: String
  var shape: [Int]
  var values: [Float]
  var type: Int

  init(_ name: String, _ shape: [Int], _ values: [Float], type: Int = 0) {
    self.name = name
    self.shape = shape
    self.values = values
    self.type = type
  }
}

/// Builds the GGUF form byte by byte, without the toolkit's own writer.
struct GGUFBytes {
  private(set) var bytes: [UInt8] = []
  let isBigEndian: Bool

  static func file(
    _ tensors: [GGUFTensor], type: String = "imatrix", datasets: [String] = [], isBigEndian: Bool = false
  ) -> [UInt8] {
    var file = GGUFBytes(isBigEndian: isBigEndian)
    file.bytes = Array("GGUF".utf8)
    file.put(3, bytes: 4)
    file.put(tensors.count, bytes: 8)
    file.put(datasets.isEmpty ? 1 : 4, bytes: 8)
    file.key("general.type", valueType: 8)
    file.text(type)
    if !datasets.isEmpty {
      file.key("imatrix.datasets", valueType: 9)
      file.put(8, bytes: 4)
      file.put(datasets.count, bytes: 8)
      for dataset in datasets { file.text(dataset) }
      file.key("imatrix.chunk_count", valueType: 4)
      file.put(5, bytes: 4)
      file.key("imatrix.chunk_size", valueType: 4)
      file.put(512, bytes: 4)
    }
    var offset = 0
    for tensor in tensors {
      file.text(tensor.name)
      file.put(tensor.shape.count, bytes: 4)
      for dimension in tensor.shape.reversed() { file.put(dimension, bytes: 8) }
      file.put(tensor.type, bytes: 4)
      file.put(offset, bytes: 8)
      offset += (tensor.values.count * 4 + 31) / 32 * 32
    }
    for tensor in tensors {
      file.pad()
      for value in tensor.values { file.put(Int(value.bitPattern), bytes: 4) }
    }
    file.pad()
    return file.bytes
  }

  private init(isBigEndian: Bool) { self.isBigEndian = isBigEndian }

  private mutating func put(_ value: Int, bytes count: Int) {
    let little = (0..<count).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
    bytes += isBigEndian ? little.reversed() : little
  }

  private mutating func text(_ text: String) {
    put(text.utf8.count, bytes: 8)
    bytes += Array(text.utf8)
  }

  private mutating func key(_ name: String, valueType: Int) {
    text(name)
    put(valueType, bytes: 4)
  }

  private mutating func pad() { bytes += [UInt8](repeating: 0, count: (32 - bytes.count % 32) % 32) }
}
