import Archives
import ByteStreams
import CheckpointTesting
import Foundation
import TensorFormats
import Testing

/// Pieces are encoded as frames and decoded again.
@Suite struct PieceTests {
  /// Every possible method.
  static let methods = ArchiveTransform.allCases.flatMap { transform in
    let planes = [ArchiveTransform.none: 1, .planes16: 2, .planes32: 4][transform] ?? 1
    return (0..<planes).flatMap { first in (first...planes).map { first..<$0 } }.flatMap { coded in
      [ArchiveMethod.Coding.literals, .matches].map {
        ArchiveMethod(transform: transform, coded: coded, coding: $0)
      }
    }
  }

  /// Contents that exercise every kind of block.
  static func contents(_ count: Int) -> [[UInt8]] {
    let phrase = Array("the embers of the evening ".utf8)
    return [
      Weights.random(count, seed: 1),
      [UInt8](repeating: 0, count: count),
      Array(Weights.bytes(.bf16, count: count / 2 + 1, seed: 2).prefix(count)),
      (0..<count).map { phrase[$0 % phrase.count] },
      // Half of the content repeats: entropy-coded planes with matches next to planes without.
      (0..<count).map { $0 < count / 2 ? UInt8($0 % 7) : UInt8(truncatingIfNeeded: $0 &* 0x9E3779B1 >> 11) },
    ]
  }

  @Test(arguments: methods) func piecesRoundTrip(method: ArchiveMethod) throws {
    for count in [1, 2, 3, 4, 5, 7, 255, 256, 1000, 65_791, 65_792, 131_072, 262_144, 300_001] {
      for content in Self.contents(count) {
        let archive = try SmallArchive.make([.init(bytes: content, method: method)])
        let source = try ArchiveSource(MemorySource(archive))
        #expect(source.isContainer && source.byteCount == count)
        #expect(try source.readBytes(0..<count) == content, "\(count) bytes, \(method.name) \(method.coded)")
        #expect(archive.count <= count + count / 64 + 256, "\(count) bytes become \(archive.count)")
      }
    }
  }

  @Test func sameBytesFromAnyEncoder() throws {
    let used = PieceEncoder()
    var dump: [UInt8] = []
    for method in Self.methods {
      for content in Self.contents(70_000) {
        var (first, second): ([UInt8], [UInt8]) = ([], [])
        _ = try used.encode(content.span.bytes, by: method, appendingTo: &first)
        _ = try used.encode(Weights.random(3000, seed: 9).span.bytes, by: method, appendingTo: &dump)
        _ = try PieceEncoder().encode(content.span.bytes, by: method, appendingTo: &second)
        #expect(first == second)
      }
    }
  }

  @Test func weightsCompressToNearlyTheirEntropy() throws {
    let count = 1 << 20
    let weights = Weights.bytes(.bf16, count: count, seed: 3)
    var frequencies = [Double](repeating: 0, count: 256)
    for index in 0..<count { frequencies[Int(weights[2 * index + 1] << 1 | weights[2 * index] >> 7)] += 1 }
    let entropy = frequencies.reduce(0.0) {
      $1 == 0 ? $0 : $0 - $1 / Double(count) * log2($1 / Double(count))
    }
    let layout = try #require(
      ArchiveLayout(byteCount: weights.count, tensors: [(0..<weights.count, .bf16)]))
    let share = Double(try SmallArchive.make(weights, layout).count) / Double(weights.count)
    #expect(share < (entropy + 8) / 16 + 0.005, "\(share), entropy \(entropy)")
  }

  @Test func theMethodIsChosenFromTheSample() throws {
    let encoder = PieceEncoder()
    func choose(_ type: ElementType?, _ bytes: [UInt8]) throws -> ArchiveMethod {
      try ArchiveMethod.choose(for: type, sample: [bytes], encoder: encoder).method
    }
    #expect(try choose(.bf16, Weights.bytes(.bf16, count: 50_000, seed: 4)).name == "2 planes, 1 by Huffman")
    #expect(try choose(.f32, Weights.bytes(.f32, count: 50_000, seed: 4)).name == "4 planes, 1 by Huffman")
    #expect(try choose(.q4K, Weights.random(50_000, seed: 4)) == .stored)
    #expect(try choose(.bf16, Weights.random(50_000, seed: 4)) == .stored)
    #expect(try choose(.u8, Weights.random(100, seed: 4)) == .stored)
    let header = (0..<500).map {
      "\"model.layers.\($0 / 9).mlp.\($0 % 9).weight\":{\"dtype\":\"BF16\",\"offset\":\($0 * 61_441)},"
    }
    #expect(try choose(nil, Array(header.joined().utf8)).name == "matches")
    #expect(try choose(.bf16, [UInt8](repeating: 0, count: 50_000)).name == "Huffman")
    #expect(try choose(.f8E4M3, Weights.random(50_000, seed: 4).map { $0 % 16 }).name == "Huffman")
  }

  @Test func samplesLieWithinTheirRange() {
    for count in [0, 1, 1000, 262_144, 262_145, 262_147, 10_000_001] {
      for start in [0, 5, 4096] {
        let parts = ArchiveMethod.sample(of: start..<start + count)
        #expect(parts.allSatisfy { $0.lowerBound >= start && $0.upperBound <= start + count })
        #expect(parts.reduce(0) { $0 + $1.count } == min(count, 262_144))
      }
    }
  }
}
