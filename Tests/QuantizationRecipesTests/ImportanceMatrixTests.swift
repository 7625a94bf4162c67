import ByteStreams
import QuantizationRecipes
import TensorFormats
import Testing

@Suite struct ImportanceMatrixTests {
  @Test func legacyMatricesAreRead() throws {
    var bytes = LegacyBytes(entryCount: 2)
    bytes.entry("blk.0.ffn_up.weight", calls: 4, [4, 8, 0, 2])
    bytes.entry("blk.1.ffn_up_exps.weight", calls: 2, [2, 4, 0, 0, 6, 8])
    bytes.int(7)
    bytes.text("wiki.train.raw")
    let matrix = try ImportanceMatrix(MemorySource(bytes.bytes))
    #expect(matrix.form == .legacy)
    #expect(matrix.chunkCount == 7)
    #expect(matrix.chunkSize == nil)
    #expect(matrix.datasets == ["wiki.train.raw"])
    #expect(matrix.entries.keys.sorted() == ["blk.0.ffn_up.weight", "blk.1.ffn_up_exps.weight"])
    #expect(try matrix.weights(for: "blk.0.ffn_up.weight", columns: 4, expert: nil) == [1, 2, 0, 0.5])
    let stack = "blk.1.ffn_up_exps.weight"
    #expect(try matrix.weights(for: stack, columns: 2, expert: 0) == [1, 2])
    #expect(try matrix.weights(for: stack, columns: 2, expert: 1) == [1, 1], "an expert without data")
    #expect(try matrix.weights(for: stack, columns: 2, expert: 2) == [3, 4])
    #expect(try matrix.weights(for: "blk.2.ffn_up.weight", columns: 4, expert: nil) == nil)
  }

  @Test func legacyMatricesMayLackTrailerAndCalls() throws {
    var bytes = LegacyBytes(entryCount: 1)
    bytes.entry("a", calls: 0, [3, 5])
    let matrix = try ImportanceMatrix(MemorySource(bytes.bytes))
    #expect(matrix.chunkCount == nil)
    #expect(matrix.datasets == [])
    #expect(try matrix.weights(for: "a", columns: 2, expert: nil) == [3, 5])
    bytes.int(3)
    #expect(try ImportanceMatrix(MemorySource(bytes.bytes)).chunkCount == 3)
    bytes.int(0)
    #expect(try ImportanceMatrix(MemorySource(bytes.bytes)).datasets == [])
  }

  @Test func sizesThatDoNotFitAreErrors() throws {
    var bytes = LegacyBytes(entryCount: 1)
    bytes.entry("a", calls: 1, [1, 2, 3, 4, 5, 6])
    let matrix = try ImportanceMatrix(MemorySource(bytes.bytes, path: "m.dat"))
    #expect(try matrix.covers("a", columns: 2, expertCount: 3))
    #expect(try matrix.covers("a", columns: 6, expertCount: nil))
    #expect(try !matrix.covers("b", columns: 6, expertCount: nil))
    let wrongExperts = #expect(throws: CheckpointError.self) {
      try matrix.covers("a", columns: 2, expertCount: 4)
    }
    #expect(wrongExperts?.message == "the importance matrix has 6 values, the tensor needs 4 experts of 2")
    for (columns, expert) in [(4, nil), (0, nil), (-2, nil), (2, nil), (2, 3), (2, -1)] as [(Int, Int?)] {
      let error = #expect(throws: CheckpointError.self) {
        try matrix.weights(for: "a", columns: columns, expert: expert)
      }
      #expect(error?.code == .invalidRequest)
      #expect(error?.tensor == "a")
      #expect(error?.path == "m.dat")
    }
  }

  @Test func everyTruncatedLegacyFileIsRefused() throws {
    var bytes = LegacyBytes(entryCount: 2)
    bytes.entry("abc", calls: 1, [1, 2])
    let afterFirst = bytes.bytes.count
    bytes.entry("d", calls: 1, [1])
    let whole = bytes.bytes.count
    for length in 0..<whole {
      #expect(throws: CheckpointError.self, "\(length) bytes") {
        try ImportanceMatrix(MemorySource(Array(bytes.bytes[..<length])))
      }
    }
    #expect(afterFirst < whole)
    #expect(try ImportanceMatrix(MemorySource(bytes.bytes)).entries.count == 2)
  }

  @Test(arguments: LegacyFault.allCases)
  func faultyLegacyFilesAreRefused(fault: LegacyFault) {
    let error = #expect(throws: CheckpointError.self) {
      try ImportanceMatrix(MemorySource(fault.bytes, path: "bad.dat"))
    }
    #expect(error?.path == "bad.dat")
    #expect(error?.message.contains(fault.message) == true, "\(error?.message ?? "none")")
  }

  enum LegacyFault: CaseIterable {
    case noEntries, negativeEntries, hugeEntries, noName, hugeName, badUTF8, negativeCalls, noValues,
      hugeValues
    case twice, notANumber, infinite, negative, trailing

    var bytes: [UInt8] {
      var bytes = LegacyBytes(entryCount: self == .twice ? 2 : 1)
      switch self {
      case .noEntries: return LegacyBytes(entryCount: 0).bytes
      case .negativeEntries: return LegacyBytes(entryCount: -1).bytes
      case .hugeEntries: bytes = LegacyBytes(entryCount: .max)
      case .noName: bytes.entry("", calls: 1, [1, 2])
      case .hugeName:
        bytes.int(.max)
        bytes.bytes += [UInt8](repeating: 65, count: 100)
      case .badUTF8:
        bytes.entry("ab", calls: 1, [1])
        bytes.bytes[8] = 0xFF
      case .negativeCalls: bytes.entry("a", calls: -1, [1])
      case .noValues: bytes.entry("abcdefgh", calls: 1, [])
      case .hugeValues:
        bytes.text("a")
        bytes.int(1)
        bytes.int(.max)
        bytes.int(0)
      case .twice:
        bytes.entry("a", calls: 1, [1])
        bytes.entry("a", calls: 1, [1])
      case .notANumber: bytes.entry("a", calls: 1, [1, .nan])
      case .infinite: bytes.entry("a", calls: 1, [.infinity])
      case .negative: bytes.entry("a", calls: 1, [-1])
      case .trailing:
        bytes.entry("a", calls: 1, [1])
        bytes.int(1)
        bytes.text("set")
        bytes.bytes.append(0)
      }
      return bytes.bytes
    }

    var message: String {
      switch self {
      case .noEntries: "the number of entries is 0"
      case .negativeEntries: "the number of entries is -1"
      case .hugeEntries: "claims 2147483647 entries"
      case .noName: "the number of bytes of a tensor's name is 0"
      case .hugeName: "a tensor's name has 2147483647 bytes"
      case .badUTF8: "a tensor's name is not UTF-8"
      case .negativeCalls: "the number of calls is -1"
      case .noValues: "the number of values is 0"
      case .hugeValues: "2147483647 values are claimed, 4 bytes are left"
      case .twice: "is in the importance matrix twice"
      case .notANumber: "has the value nan"
      case .infinite: "has the value inf"
      case .negative: "has the value -1.0"
      case .trailing: "1 bytes follow after the end"
      }
    }
  }
}

/// Builds the legacy form byte by byte.
struct LegacyBytes {
  var bytes: [UInt8] = []

  init(entryCount: Int32) { int(entryCount) }

  mutating func int(_ value: Int32) { bytes += (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }

  mutating func text(_ text: String) {
    int(Int32(text.utf8.count))
    bytes += Array(text.utf8)
  }

  mutating func entry(_ name: String, calls: Int32, _ values: [Float]) {
    text(name)
    int(calls)
    int(Int32(values.count))
    for value in values { int(Int32(bitPattern: value.bitPattern)) }
  }
}
