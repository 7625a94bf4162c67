import Checkpoint
import CheckpointTesting
import Foundation
import Inspection
import Testing

@Suite("folded listings") struct FoldedTensorTests {
  private func fold(_ order: TensorSelection.Order = .file, _ add: (inout WeightFile) -> Void) throws
    -> [FoldedTensor]
  {
    let directory = try TemporaryDirectory()
    var file = WeightFile()
    add(&file)
    try file.write(to: directory.path("w.safetensors"))
    let checkpoint = try Checkpoint.open(directory.path("w.safetensors"))
    let listing = try TensorListing(of: checkpoint, selection: TensorSelection(order: order))
    let rows = listing.folded()
    #expect(rows.reduce(0) { $0 + $1.count } == listing.tensors.count)
    #expect(rows.reduce(0) { $0 + $1.bytes } == listing.totals.bytes)
    // The rows unfold to every tensor exactly once.
    #expect(rows.flatMap(Self.unfolded).sorted() == listing.tensors.map(\.name).sorted())
    return rows
  }

  /// The names of a row, by its pattern alone.
  static func unfolded(_ row: FoldedTensor) -> [String] {
    guard row.count > 1 else { return [row.name] }
    var names = [""]
    var rest = row.name[...]
    for axis in row.indices {
      guard let open = rest.firstIndex(of: "["), let close = rest.firstIndex(of: "]") else { return [] }
      let numbers = axis.flatMap { Array($0[0]...$0[1]) }
      names = names.flatMap { name in numbers.map { "\(name)\(rest[..<open])\($0)" } }
      rest = rest[rest.index(after: close)...]
    }
    return names.map { $0 + rest }
  }

  @Test func layersAndExpertsAreOneRow() throws {
    let rows = try fold { file in
      for layer in 0..<12 {
        file.add("model.layers.\(layer).norm.weight", "F32", [Float](repeating: 1, count: 4))
        for expert in 0..<5 where layer >= 4 {
          file.add("model.layers.\(layer).experts.\(expert).up.weight", "BF16", [2, 2], Data(count: 8))
        }
      }
      file.add("model.norm.weight", "F32", [Float](repeating: 1, count: 4))
    }
    #expect(
      rows.map { "\($0.count) \($0.name)" } == [
        "12 model.layers.[0-11].norm.weight", "40 model.layers.[4-11].experts.[0-4].up.weight",
        "1 model.norm.weight",
      ])
    #expect(rows[1].indices == [[[4, 11]], [[0, 4]]] && rows[1].bytes == 320)
  }

  @Test func tensorsThatDifferAreNotFolded() throws {
    let rows = try fold { file in
      file.add("a.0.w", "F32", [2], Data(count: 8))
      file.add("a.1.w", "F32", [1, 2], Data(count: 8))
      file.add("a.2.w", "I32", [2], Data(count: 8))
      file.add("a.03.w", "F32", [2], Data(count: 8))
      file.add("a.4.v", "F32", [2], Data(count: 8))
      file.add("a5.w", "F32", [2], Data(count: 8))
      file.add("a6.w", "F32", [2], Data(count: 8))
      file.add("a.99999999999999999999.w", "F32", [2], Data(count: 8))
      file.add("a.+7.w", "F32", [2], Data(count: 8))
      file.add("a.[0-9].w", "F32", [2], Data(count: 8))
      file.add("", "F32", [2], Data(count: 8))
    }
    #expect(rows.allSatisfy { $0.count == 1 } && rows.count == 11)
  }

  @Test func missingCombinationsAreRowsOfTheirOwn() throws {
    let rows = try fold { file in
      for layer in [0, 1, 2, 5, 7, 8] {
        for expert in 0..<4 where !(layer == 5 && expert == 2) {
          file.add("l.\(layer).e.\(expert)", "U8", [UInt8(0)])
        }
      }
    }
    #expect(rows.map(\.name) == ["l.[0-2,7-8].e.[0-3]", "l.5.e.[0-1,3]"])
    #expect(rows.map(\.indices) == [[[[0, 2], [7, 8]], [[0, 3]]], [[[0, 1], [3, 3]]]])
  }

  @Test("rows are in the order of their first tensors", arguments: [UInt64](1...20))
  func anyNamesFoldWithoutLoss(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    var names: Set<String> = []
    for _ in 0..<60 {
      let numbers = (0..<3).map { _ in Int.random(in: 0...3, using: &generator) }
      names.insert("a.\(numbers[0]).b.\(numbers[1]).\(numbers[2])")
      names.insert("a.\(numbers[0]).c")
    }
    let shuffled = names.sorted().shuffled(using: &generator)
    func add(_ file: inout WeightFile) {
      for (index, name) in shuffled.enumerated() {
        file.add(name, "U8", [index % 2 + 1], Data(count: index % 2 + 1))
      }
    }
    let rows = try fold(.file, add)
    let positions = rows.map { row in
      Self.unfolded(row).compactMap { shuffled.firstIndex(of: $0) }.min() ?? .max
    }
    #expect(positions == positions.sorted())
    #expect(try fold(.file, add) == rows)
  }
}
