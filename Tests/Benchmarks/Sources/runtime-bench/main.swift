// Products of activations with stored weights, as the runtime computes them, beside plain F32 products of the same
// shapes and plain reading of the same bytes.
//
//     swift run -c release runtime-bench [--format Q4_K]... [--shape 2048x7168]... [--tokens 256]...
//                                        [--seconds 2] [--threads N] [--directory /tmp]
//
// Rates are given per second of wall-clock time, and per second of processor time of all threads together: on a busy
// machine only the latter is meaningful. Weights are in the page cache.
import Foundation

let usage = """
  usage: runtime-bench [--format NAME]... [--shape ROWSxCOLUMNS]... [--tokens N]... [--seconds S] [--threads N]
                       [--directory PATH]
  """

struct Options {
  var formats: [String] = []
  var shapes: [(rows: Int, columns: Int)] = []
  var tokens: [Int] = []
  var seconds = 2.0
  var threads = ProcessInfo.processInfo.activeProcessorCount
  var directory = FileManager.default.temporaryDirectory.path

  /// The published model's shapes: down to the low-rank query and up to the heads, experts, dense feed-forward, output of
  /// attention. Rows are outputs.
  static let publishedShapes = [
    (2048, 7168), (16384, 2048), (5120, 7168), (7168, 5120), (18432, 7168), (7168, 16384),
  ]

  init(_ arguments: ArraySlice<String>) throws {
    var rest = arguments
    while let option = rest.popFirst() {
      guard let value = rest.popFirst() else { throw BenchmarkError(usage) }
      switch option {
      case "--format": formats.append(value)
      case "--shape": shapes.append(try Self.shape(value))
      case "--tokens": tokens.append(try Self.number(value))
      case "--threads": threads = try Self.number(value)
      case "--directory": directory = value
      case "--seconds":
        guard let number = Double(value), number > 0 else { throw BenchmarkError(usage) }
        seconds = number
      default: throw BenchmarkError(usage)
      }
    }
    if formats.isEmpty {
      formats = ["BF16", "FP8_BLOCK", "Q8_0", "Q6_K", "Q4_K", "NVFP4", "MXFP4", "IQ4_XS"]
    }
    if shapes.isEmpty { shapes = Self.publishedShapes }
    if tokens.isEmpty { tokens = [1, 16, 256] }
  }

  private static func number(_ text: String) throws -> Int {
    guard let number = Int(text), (1...65_536).contains(number) else { throw BenchmarkError(usage) }
    return number
  }

  private static func shape(_ text: String) throws -> (rows: Int, columns: Int) {
    let parts = text.split(separator: "x").map(String.init)
    guard parts.count == 2 else { throw BenchmarkError(usage) }
    return (try number(parts[0]), try number(parts[1]))
  }
}

struct BenchmarkError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

do {
  let options = try Options(CommandLine.arguments.dropFirst())
  print(
    "\(options.threads) threads. GFLOP/s and GB/s of stored bytes: wall clock | per second of processor time."
  )
  print(
    "F32 tiles: sgemm on decoded weights, cut as the runtime cuts them; F32 BLAS: one call, its own threads.")
  for shape in options.shapes {
    let plain = PlainProducts(rows: shape.rows, columns: shape.columns, threads: options.threads)
    for format in options.formats {
      let matrix = try StoredMatrix(
        format, rows: shape.rows, columns: shape.columns, in: options.directory)
      for tokens in options.tokens {
        let result = try ProductBenchmark(
          matrix: matrix, plain: plain, tokens: tokens, threads: options.threads, seconds: options.seconds
        ).run()
        print(result.line)
        fflush(nil)
      }
    }
  }
} catch {
  FileHandle.standardError.write(Data("runtime-bench: \(error)\n".utf8))
  exit(2)
}
