// Encoding and decoding rates of the container's codec, per core, and the compressed size of weights.
//
//     swift run -c release archive-bench
//
// Weights are normally distributed, with row scales spread over a factor of e. Rates are of the original's bytes, by
// processor time, beside copying and SHA-256 of the same bytes. STEP3_KERNELS chooses the byte-plane kernels.
import Archives
import ByteStreams
import TensorFormats

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

func seconds(_ body: () throws -> Void) rethrows -> Double {
  func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }
  var best = Double.infinity
  for _ in 0..<5 {
    let start = now()
    try body()
    best = min(best, now() - start)
  }
  return best
}

func weights(_ type: ElementType, bytes count: Int) -> [UInt8] {
  var state: UInt64 = 1
  func uniform() -> Float {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return (Float(state >> 40) + 0.5) * 0x1p-24
  }
  var scale: Float = 1
  var bytes: [UInt8] = []
  bytes.reserveCapacity(count)
  var index = 0
  while bytes.count < count {
    if index % 4096 == 0 { scale = 0.02 * expf(uniform() - 0.5) }
    index += 1
    let value = scale * (-2 * logf(uniform())).squareRoot() * cosf(2 * .pi * uniform())
    let bits = value.bitPattern
    switch type {
    case .bf16:
      let rounded = (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16
      bytes += [UInt8(rounded & 255), UInt8(rounded >> 8)]
    case .f16:
      let half = Float16(value).bitPattern
      bytes += [UInt8(half & 255), UInt8(half >> 8)]
    default: bytes += (0..<4).map { UInt8(bits >> (8 * $0) & 255) }
    }
  }
  return bytes
}

/// The size that remains if every byte plane takes its order-0 entropy.
func bound(_ bytes: [UInt8], width: Int) -> Double {
  var counts = [[Double]](repeating: [Double](repeating: 0, count: 256), count: width)
  for start in stride(from: 0, to: bytes.count, by: width) {
    let (high, low) = (bytes[start + width - 1], bytes[start + width - 2])
    counts[0][Int(high << 1 | low >> 7)] += 1
    counts[1][Int(high & 0x80 | low & 0x7F)] += 1
    for plane in 2..<max(2, width) { counts[plane][Int(bytes[start + width - 1 - plane])] += 1 }
  }
  let total = Double(bytes.count / width)
  let bits = counts.joined().reduce(0.0) { $1 == 0 ? $0 : $0 - $1 / total * log2($1 / total) }
  return bits / Double(8 * width)
}

func percent(_ share: Double) -> String { "\((share * 1000).rounded() / 10) %" }
func rate(_ bytes: Int, _ seconds: Double) -> String {
  "\((Double(bytes) / seconds / 1e7).rounded() / 100) GB/s"
}

let size = 64 << 20
print("| type | method | remains | entropy | in | out | copy | SHA-256 |\n|---|---|---|---|---|---|---|---|")
for (type, width) in [(ElementType.bf16, 2), (.f16, 2), (.f32, 4)] {
  let original = weights(type, bytes: size)
  let layout = ArchiveLayout(byteCount: size, tensors: [(0..<size, type)])!
  let encoder = PieceEncoder()
  let sample = ArchiveMethod.sample(of: 0..<size).map { Array(original[$0]) }
  let method = try ArchiveMethod.choose(for: type, sample: sample, encoder: encoder).method
  var archive: [UInt8] = []
  archive.reserveCapacity(size + size / 8)
  let encoding = try seconds {
    archive.removeAll(keepingCapacity: true)
    var table = ArchiveTable()
    for piece in layout.sections[0].pieces {
      let frame = try encoder.encode(original.span.bytes.extracting(piece), by: method, appendingTo: &archive)
      try table.append(frame, method.transform)
    }
    archive += table.closing
  }
  let source = try ArchiveSource(MemorySource(archive))
  var target = [UInt8](repeating: 0, count: size)
  let decoding = try seconds {
    var span = target.mutableSpan
    var bytes = span.mutableBytes
    try source.read(into: &bytes, at: 0)
  }
  precondition(target == original)
  let copying = seconds {
    target.withUnsafeMutableBytes { to in original.withUnsafeBytes { to.copyMemory(from: $0) } }
  }
  let hashing = seconds {
    var digester = SHA256Digester()
    digester.update(original)
    precondition(digester.finalize().bytes.count == 32)
  }
  print(
    "| \(type) | \(method.name) | \(percent(Double(archive.count) / Double(size))) | \(percent(bound(original, width: width)))"
      + " | \(rate(size, encoding)) | \(rate(size, decoding)) | \(rate(size, copying)) | \(rate(size, hashing)) |"
  )
}
