import Foundation
import Synchronization

/// Fills tensors with numbers that look like weights, as fast as a disk takes them.
///
/// BF16 drawn from a normal distribution (sigma about 0.02, a little different for each tensor), three columns of
/// each matrix eight times as large, as trained models have outlier channels; vectors, which are the norms' weights,
/// near 1. A number is one of 65,536 that were drawn beforehand, so that sixteen random bits make one.
public enum RandomWeights {
  /// How many elements are drawn and written at a time.
  private static let chunkLength = 1 << 21

  private struct Chunk: Sendable {
    let region: SparseCheckpoint.Region
    let number: Int
    let range: Range<Int>
  }

  /// Fills BF16 tensors in existing files. The bytes depend only on the seed and on each tensor's name and shape.
  public static func fill(
    _ regions: [SparseCheckpoint.Region], seed: UInt64,
    threads: Int = 2
  ) throws {
    var chunks: [Chunk] = []
    for region in regions {
      precondition(region.entry.type == "BF16", "random weights are BF16 only")
      let count = region.entry.bytes / 2
      for (number, start) in stride(from: 0, to: count, by: chunkLength).enumerated() {
        chunks.append(Chunk(region: region, number: number, range: start..<min(start + chunkLength, count)))
      }
    }
    let all = chunks
    let failure = Mutex<(any Error)?>(nil)
    DispatchQueue.concurrentPerform(iterations: threads) { thread in
      do {
        var buffer = [UInt16](repeating: 0, count: chunkLength)
        var weights: TensorWeights?
        for chunk in stride(from: thread, to: all.count, by: threads).lazy.map({ all[$0] }) {
          if weights?.entry.name != chunk.region.entry.name {
            weights = TensorWeights(chunk.region.entry, seed: seed)
          }
          weights?.fill(&buffer, chunk: chunk.number, range: chunk.range)
          try write(
            buffer[..<chunk.range.count], to: chunk.region.path,
            at: chunk.region.offset + 2 * chunk.range.lowerBound)
        }
      } catch {
        failure.withLock { $0 = error }
      }
    }
    if let error = failure.withLock({ $0 }) { throw error }
  }

  private static func write(_ elements: ArraySlice<UInt16>, to path: String, at offset: Int) throws {
    let descriptor = open(path, O_WRONLY)
    guard descriptor >= 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
    defer { close(descriptor) }
    try elements.withUnsafeBytes { bytes in
      var done = 0
      while done < bytes.count {
        let count = pwrite(descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(offset + done))
        guard count > 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
        done += count
      }
    }
  }
}

/// The numbers of one tensor.
private struct TensorWeights {
  let entry: SparseCheckpoint.Entry
  /// BF16, indexed by sixteen random bits.
  private let table: [UInt16]
  private let columns: Int
  private let outliers: [Int]
  private let seed: UInt64

  init(_ entry: SparseCheckpoint.Entry, seed: UInt64) {
    self.entry = entry
    // FNV-1a, to make the name a number.
    let hash = entry.name.utf8.reduce(0xCBF2_9CE4_8422_2325 as UInt64) {
      ($0 ^ UInt64($1)) &* 0x100_0000_01B3
    }
    var generator = SeededGenerator(seed: hash ^ seed)
    self.seed = generator.next()
    let isNorm = entry.shape.count == 1
    let sigma: Float = isNorm ? 0.1 : 0.015 + 0.01 * Float(generator.next() >> 40) * 0x1p-24
    table = Self.gaussians.map { Self.bf16($0 * sigma + (isNorm ? 1 : 0)) }
    let columns = entry.shape.last ?? 1
    self.columns = columns
    outliers = isNorm ? [] : (0..<3).map { _ in Int(generator.next() % UInt64(columns)) }
  }

  /// Draws the elements of `range` to the start of `buffer`.
  func fill(_ buffer: inout [UInt16], chunk: Int, range: Range<Int>) {
    var generator = SeededGenerator(seed: seed &+ UInt64(chunk) &* 0xD134_2543_DE82_EF95)
    table.withUnsafeBufferPointer { table in
      buffer.withUnsafeMutableBufferPointer { buffer in
        var index = 0
        while index + 4 <= range.count {
          let bits = generator.next()
          buffer[index] = table[Int(bits & 0xFFFF)]
          buffer[index + 1] = table[Int(bits >> 16 & 0xFFFF)]
          buffer[index + 2] = table[Int(bits >> 32 & 0xFFFF)]
          buffer[index + 3] = table[Int(bits >> 48)]
          index += 4
        }
        while index < range.count {
          buffer[index] = table[Int(generator.next() >> 48)]
          index += 1
        }
        for column in Set(outliers) {
          let first = (column - range.lowerBound % columns + columns) % columns
          for index in stride(from: first, to: range.count, by: columns) {
            buffer[index] = Self.bf16(Float(bitPattern: UInt32(buffer[index]) << 16) * 8)
          }
        }
      }
    }
  }

  /// A normally distributed number, by the Box-Muller method.
  private static let gaussians: [Float] = {
    var generator = SeededGenerator(seed: 3)
    // Above 0 and at most 1.
    func uniform() -> Double { Double((generator.next() >> 11) + 1) * 0x1p-53 }
    return (0..<65_536).map { _ in Float((-2 * log(uniform())).squareRoot() * cos(2 * .pi * uniform())) }
  }()

  /// Rounded to nearest, ties to even.
  private static func bf16(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    return UInt16(truncatingIfNeeded: (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
  }
}
