import ByteStreams

/// GB/s of the digests, per core, from buffers that stay in the cache, as a pipeline's mostly do.
struct DigestRates {
  var xxh3: Double
  var sha256: Double

  /// Measures both on 64 MiB, fed in pieces of 1 MiB.
  init(seconds: Double) throws {
    let piece = [UInt8](unsafeUninitializedCapacity: 1 << 20) { buffer, count in
      var state: UInt64 = 1
      for index in buffer.indices {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        buffer[index] = UInt8(truncatingIfNeeded: state >> 56)
      }
      count = buffer.count
    }
    let pieces = 64
    let times = try medianSeconds(
      [
        Variant(name: "xxh3") {
          var digester = XXH3Digester()
          for _ in 0..<pieces { digester.update(piece.span.bytes) }
          guard digester.finalize().bytes.count == 16 else { throw BenchmarkError.noCodec("XXH3") }
        },
        Variant(name: "sha256") {
          var digester = SHA256Digester()
          for _ in 0..<pieces { digester.update(piece.span.bytes) }
          guard digester.finalize().bytes.count == 32 else { throw BenchmarkError.noCodec("SHA-256") }
        },
      ], seconds: seconds)
    let rate = { (name: String) in times[name].map { Double(piece.count * pieces) / $0 / 1e9 } ?? 0 }
    xxh3 = rate("xxh3")
    sha256 = rate("sha256")
  }
}
