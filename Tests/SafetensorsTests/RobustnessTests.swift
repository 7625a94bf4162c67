import ByteStreams
import CheckpointTesting
import Safetensors
import TensorFormats
import Testing

/// Damaged files: a changed header is refused, or it is sound.
@Suite struct RobustnessTests {
  @Test(arguments: 0..<32)
  func survivesMutations(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let layout = try SafetensorsLayout(randomItems(6, using: &generator), metadata: ["format": "pt"])
    let sound = layout.emptyFile
    var refused = 0
    for _ in 0..<200 {
      var file = sound
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        let position = Int.random(in: 0..<layout.headerBytes.count, using: &generator)
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: file[position] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 1: file[position] = UInt8.random(in: 0...255, using: &generator)
        case 2: file[position] = #"{}[]",:\0-u"#.utf8.randomElement(using: &generator) ?? 0
        default: file.swapAt(position, Int.random(in: 0..<layout.headerBytes.count, using: &generator))
        }
      }
      guard let header = try? parse(file) else {
        refused += 1
        continue
      }
      expectSound(header, fileByteCount: file.count)
    }
    #expect(refused > 100)
  }

  @Test func survivesEveryTruncation() throws {
    var generator = SeededGenerator(seed: 7)
    let layout = try SafetensorsLayout(randomItems(8, using: &generator), metadata: ["a": "b"])
    let file = layout.emptyFile
    for count in 0..<file.count {
      #expect(throws: CheckpointError.self) { try parse(Array(file.prefix(count))) }
      // A complete file of which too little was read.
      if count < layout.headerBytes.count {
        let error = failure { () throws(CheckpointError) in
          let prefix = Array(file.prefix(count))
          _ = try SafetensorsHeader.parse(prefix.span.bytes, fileByteCount: file.count)
        }
        #expect(error?.code == .truncated)
      }
    }
    #expect(throws: CheckpointError.self) { try parse(file + [0]) }
    #expect(try parse(file) == layout.header)
  }

  @Test(arguments: 0..<32)
  func survivesMutationsOfAnIndex(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let sound = try SafetensorsIndex(
      weightMap: ["a": "model-00001-of-00002.safetensors", "é": "model-00002-of-00002.safetensors"],
      totalSize: 24)
    let text = sound.serialized()
    for _ in 0..<200 {
      var mutated = text
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        let position = Int.random(in: 0..<mutated.count, using: &generator)
        if Bool.random(using: &generator) {
          mutated[position] = UInt8.random(in: 0...255, using: &generator)
        } else {
          mutated.remove(at: position)
        }
      }
      guard let index = try? SafetensorsIndex.parse(mutated.span.bytes) else { continue }
      #expect(try SafetensorsIndex.parse(index.serialized().span.bytes) == index)
    }
  }

  private func expectSound(_ header: SafetensorsHeader, fileByteCount: Int) {
    var end = header.dataOffset
    for tensor in header.tensors {
      #expect(tensor.byteRange.lowerBound == end)
      #expect(tensor.shape.byteCount(as: tensor.elementType) == tensor.byteRange.count)
      end = tensor.byteRange.upperBound
    }
    #expect(end == fileByteCount)
    #expect(Set(header.tensors.map(\.name)).count == header.tensors.count)
  }
}
