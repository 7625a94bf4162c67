import ByteStreams
import CheckpointTesting
import TensorFormats
import Testing

@Suite struct SHA256StreamTests {
  /// Two streams, in pieces of random lengths that end anywhere in a block: whatever they share, each has the digest that
  /// swift-crypto gives for its own bytes.
  @Test(arguments: 0..<200) func pairsOfRandomLengths(seed: Int) {
    var generator = SeededGenerator(seed: UInt64(seed))
    let bytes = (0..<2).map { _ in
      (0..<Int.random(in: 0...2_000, using: &generator)).map { _ in
        UInt8.random(in: 0...255, using: &generator)
      }
    }
    var one = SHA256Stream()
    var other = SHA256Stream()
    var positions = [0, 0]
    while positions != bytes.map(\.count) {
      let ends = (0..<2).map { stream in
        let left = bytes[stream].count - positions[stream]
        return positions[stream] + min(left, Int.random(in: 0...300, using: &generator))
      }
      let (piece, otherPiece) = (bytes[0][positions[0]..<ends[0]], bytes[1][positions[1]..<ends[1]])
      switch Int.random(in: 0..<4, using: &generator) {
      case 0:
        one.update(piece.span.bytes)
        other.update(otherPiece.span.bytes)
      case 1: SHA256Stream.update(&other, otherPiece.span.bytes, &one, piece.span.bytes)
      default: SHA256Stream.update(&one, piece.span.bytes, &other, otherPiece.span.bytes)
      }
      positions = ends
    }
    #expect(one.finalize() == .sha256(of: bytes[0]))
    #expect(other.finalize() == .sha256(of: bytes[1]))
  }

  /// Every length up to three blocks: the end of a message has one block or two.
  @Test func everyLengthOfTheLastBlock() {
    for length in 0...192 {
      let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 37) }
      var stream = SHA256Stream()
      stream.update(bytes.span.bytes)
      #expect(stream.finalize() == .sha256(of: bytes), "\(length) bytes")
    }
  }

  /// A stream that swift-crypto hashes, as where the processor has no instructions for it, beside one that may be another.
  @Test func withoutThePairedInstructions() {
    let bytes = [UInt8](repeating: 7, count: 1_000)
    let part = Array(bytes[..<777])
    for otherInPairs in [false, true] {
      var one = SHA256Stream(inPairs: false)
      var other = SHA256Stream(inPairs: otherInPairs)
      SHA256Stream.update(&one, bytes.span.bytes, &other, part.span.bytes)
      #expect(one.finalize() == .sha256(of: bytes))
      #expect(other.finalize() == .sha256(of: part))
    }
  }

  /// A digest may be asked for in between.
  @Test func aDigestLeavesTheStreamAsItIs() {
    var stream = SHA256Stream()
    let (beginning, end) = (Array("abc".utf8), Array("defgh".utf8))
    stream.update(beginning.span.bytes)
    #expect("\(stream.finalize())" == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    stream.update(end.span.bytes)
    #expect(stream.finalize() == .sha256(of: beginning + end))
  }
}
