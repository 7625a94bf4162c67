import Archives
import ByteStreams
import CheckpointTesting
import Foundation
import TensorFormats

/// Archives in memory.
enum SmallArchive {
  /// The contents of an archive's frames.
  struct Part {
    let bytes: [UInt8]
    let method: ArchiveMethod
  }

  /// An archive with one frame for each of these parts.
  static func make(_ parts: [Part]) throws -> [UInt8] {
    let encoder = PieceEncoder()
    var table = ArchiveTable()
    var bytes: [UInt8] = []
    for part in parts {
      let frame = try encoder.encode(part.bytes.span.bytes, by: part.method, appendingTo: &bytes)
      try table.append(frame, part.method.transform)
    }
    return bytes + table.closing
  }

  /// An archive of a file, as the product cuts it.
  static func make(_ original: [UInt8], _ layout: ArchiveLayout) throws -> [UInt8] {
    let encoder = PieceEncoder()
    return try make(
      layout.sections.flatMap { section in
        let sample = ArchiveMethod.sample(of: section.range).map { Array(original[$0]) }
        let method = try ArchiveMethod.choose(for: section.elementType, sample: sample, encoder: encoder)
          .method
        return section.pieces.map { Part(bytes: Array(original[$0]), method: method) }
      })
  }

  /// One frame of stored blocks, made by hand.
  static func frame(_ content: [UInt8], stated: UInt64?, windowLog: UInt8 = 17) -> [UInt8] {
    var bytes: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD]
    bytes.append(stated == nil ? 0 : 3 << 6)
    bytes.append((windowLog - 10) << 3)
    if let stated { bytes += (0..<8).map { UInt8(stated >> (8 * $0) & 255) } }
    for start in stride(from: 0, to: max(1, content.count), by: 1 << 17) {
      let end = min(content.count, start + 1 << 17)
      let header = (end - start) << 3 | (end == content.count ? 1 : 0)
      bytes += [UInt8(header & 255), UInt8(header >> 8 & 255), UInt8(header >> 16)] + content[start..<end]
    }
    return bytes
  }
}

/// Bytes that look like weights.
enum Weights {
  static func bytes(_ type: ElementType, count: Int, seed: UInt64) -> [UInt8] {
    var generator = SeededGenerator(seed: seed)
    var bytes: [UInt8] = []
    for _ in 0..<count {
      let u = Float.random(in: Float.leastNormalMagnitude..<1, using: &generator)
      let v = Float.random(in: 0..<1, using: &generator)
      let value = 0.02 * (-2 * logf(u)).squareRoot() * cosf(2 * .pi * v)
      switch type {
      case .bf16:
        let bits = UInt16(value.bitPattern >> 16)
        bytes += [UInt8(bits & 255), UInt8(bits >> 8)]
      case .f32: bytes += (0..<4).map { UInt8(value.bitPattern >> (8 * $0) & 255) }
      default: bytes.append(UInt8.random(in: 0...255, using: &generator))
      }
    }
    return bytes
  }

  static func random(_ count: Int, seed: UInt64) -> [UInt8] { bytes(.u8, count: count, seed: seed) }
}
