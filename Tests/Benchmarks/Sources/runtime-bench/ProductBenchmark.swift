import Foundation
import StoredWeights
import Step3Runtime

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// Seconds on the clock, and of processor time of all threads.
struct Seconds {
  var wall: Double
  var processor: Double

  static var now: Seconds {
    var usage = rusage()
    // RUSAGE_SELF, whose type in Glibc differs from the parameter's.
    getrusage(0, &usage)
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) * 1e-6 }
    return Seconds(
      wall: Double(DispatchTime.now().uptimeNanoseconds) * 1e-9,
      processor: seconds(usage.ru_utime) + seconds(usage.ru_stime))
  }
}

/// One matrix and one number of tokens, all variants in rotation.
struct ProductBenchmark {
  let matrix: StoredMatrix
  let plain: PlainProducts
  let tokens: Int
  let threads: Int
  let seconds: Double

  struct Result {
    let title: String
    let operations: Double
    let bytes: Double
    let times: [String: Seconds]

    var line: String {
      func rate(_ name: String, _ work: Double) -> String {
        guard let time = times[name] else { return "-" }
        return "\(text(work / time.wall * 1e-9)) | \(text(work / max(time.processor, 1e-6) * 1e-9))"
      }
      func share(_ name: String) -> String {
        guard let own = times["runtime"], let other = times[name] else { return "-" }
        return "\(Int((other.wall / own.wall * 100).rounded())) | "
          + "\(Int((other.processor / max(own.processor, 1e-6) * 100).rounded())) %"
      }
      return "\(title)  \(rate("runtime", operations)) GFLOP/s, \(rate("runtime", bytes)) GB/s;"
        + "  of F32 tiles (\(rate("tiles", operations))): \(share("tiles"));"
        + "  of F32 BLAS (\(rate("whole", operations))): \(share("whole"));"
        + "  of decoding (\(rate("decode", bytes)) GB/s): \(share("decode"));"
        + "  of pread (\(rate("pread", bytes)) GB/s): \(share("pread"))"
    }

    private func text(_ value: Double) -> String { String(format: value < 10 ? "%.2f" : "%.1f", value) }
  }

  func run() throws -> Result {
    let input = Activations(
      rows: tokens, columns: matrix.columns,
      (0..<tokens * matrix.columns).map { Float($0 % 127) * 0.01 - 0.6 })
    let output = Activations(rows: tokens, columns: matrix.rows)
    let products = Products(threads: threads)
    let plainInput = input.array
    var plainOutput = [Float](repeating: 0, count: tokens * matrix.rows)
    let variants: [(String, () throws -> Void)] = [
      ("runtime", { try products.multiply(input, matrix.reader, into: output) }),
      ("tiles", { plain.tiles(plainInput, tokens: tokens, into: &plainOutput) }),
      ("whole", { plain.whole(plainInput, tokens: tokens, into: &plainOutput) }),
      ("decode", { try decode() }),
      ("pread", { try readPlainly() }),
    ]
    for (_, body) in variants { try body() }
    var times: [String: [Seconds]] = [:]
    let start = Seconds.now.wall
    var rounds = 0
    while rounds < 3 || Seconds.now.wall - start < seconds {
      for (name, body) in variants {
        let before = Seconds.now
        try body()
        let after = Seconds.now
        times[name, default: []].append(
          Seconds(wall: after.wall - before.wall, processor: after.processor - before.processor))
      }
      rounds += 1
    }
    return Result(
      title: "\(matrix.format) \(matrix.rows)x\(matrix.columns) at \(tokens):",
      operations: 2 * Double(tokens) * Double(matrix.rows) * Double(matrix.columns),
      bytes: Double(matrix.byteCount),
      times: times.mapValues { samples in
        func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
        return Seconds(wall: median(samples.map(\.wall)), processor: median(samples.map(\.processor)))
      })
  }

  /// Reads and decodes all rows on all threads, and nothing else.
  private func decode() throws {
    let height = max(1, (1 << 17) / matrix.columns)
    let count = (matrix.rows + height - 1) / height
    nonisolated(unsafe) var failure: (any Error)?
    let (reader, threads) = (matrix.reader, threads)
    DispatchQueue.concurrentPerform(iterations: threads) { thread in
      var scratch = MatrixReader.Scratch()
      var values = [Float](repeating: 0, count: height * reader.columns)
      for tile in stride(from: thread, to: count, by: threads) {
        let rows = tile * height..<min((tile + 1) * height, reader.rows)
        var all = values.mutableSpan
        var span = all._mutatingExtracting(0..<rows.count * reader.columns)
        do { try reader.read(rows, into: &span, &scratch) } catch { failure = error }
      }
    }
    if let failure { throw failure }
  }

  /// Reads the file on all threads, half a megabyte at a time.
  private func readPlainly() throws {
    let descriptor = open(matrix.path, O_RDONLY)
    guard descriptor >= 0 else { throw BenchmarkError("\(matrix.path) cannot be opened") }
    defer { close(descriptor) }
    let portion = 1 << 19
    let (count, threads) = ((matrix.byteCount + portion - 1) / portion, threads)
    DispatchQueue.concurrentPerform(iterations: threads) { thread in
      let buffer = UnsafeMutableRawPointer.allocate(byteCount: portion, alignment: 64)
      defer { buffer.deallocate() }
      for index in stride(from: thread, to: count, by: threads) {
        _ = pread(descriptor, buffer, portion, off_t(index * portion))
      }
    }
  }
}
