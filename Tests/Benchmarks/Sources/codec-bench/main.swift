// Encode and decode rates of every codec and rates of the digests, per core, and the error that each codec leaves.
//
//     swift run -c release codec-bench [--format Q4_K]... [--seconds 0.5] [--json]
//
// For formats with a plus, scales are searched for the least squared error; without it they are the library's.
// STEP3_KERNELS=portable|avx2|avx512 chooses the kernels.
import Quantization
import TensorFormats

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

let usage = "usage: codec-bench [--format NAME]... [--seconds S] [--json]"

struct Options {
  var formats: [String] = []
  var seconds = 0.3
  var json = false

  init(_ arguments: ArraySlice<String>) throws {
    var rest = arguments
    while let option = rest.popFirst() {
      switch option {
      case "--json": json = true
      case "--format":
        guard let name = rest.popFirst() else { throw BenchmarkError.usage(usage) }
        formats.append(name)
      case "--seconds":
        guard let value = rest.popFirst().flatMap({ Double($0) }), value > 0 else {
          throw BenchmarkError.usage(usage)
        }
        seconds = value
      default: throw BenchmarkError.usage(usage)
      }
    }
  }
}

func run() throws {
  let options = try Options(CommandLine.arguments.dropFirst())
  let known =
    ElementType.allCases.filter { BlockCodec.codec(for: $0) != nil }.map(\.rawValue) + ["FP8_BLOCK"]
    + BenchmarkedScheme.all.map(\.name)
  let names = options.formats.isEmpty ? known : options.formats
  if let unknown = names.first(where: { !known.contains($0) }) {
    throw BenchmarkError.usage("\(unknown) has no codec; there are \(known.joined(separator: ", "))")
  }
  let benchmark = CodecBenchmark(seconds: options.seconds, tier: .active)
  let copyRate = try benchmark.copyRate()
  let digests = try DigestRates(seconds: options.seconds)
  let table = Table(tier: KernelTier.active, copyRate: copyRate, digests: digests, asJSON: options.json)
  table.begin()
  for (index, name) in names.enumerated() {
    let result =
      if let type = ElementType(rawValue: name) {
        try benchmark.run(type, copyRate: copyRate)
      } else if let scheme = BenchmarkedScheme.all.first(where: { $0.name == name }) {
        try benchmark.run(scheme, copyRate: copyRate)
      } else {
        try benchmark.runBlockFP8(copyRate: copyRate)
      }
    table.add(result, isLast: index == names.count - 1)
  }
  table.end()
}

do {
  try run()
} catch {
  let text = Array("codec-bench: \(error)\n".utf8)
  _ = write(2, text, text.count)
  exit(2)
}
