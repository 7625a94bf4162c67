import CheckpointTesting
import Quantization
import TensorFormats
import Testing

/// The schemes that ``RowScheme`` reads and writes, each with the file of its library's results.
struct TestedScheme: Sendable, CustomTestStringConvertible {
  var file: String
  var stored: StoredScheme

  var testDescription: String { file }

  static let all: [TestedScheme] = [
    TestedScheme(file: "fp8-channel", stored: StoredScheme(.fp8Channel, .compressedTensors)),
    TestedScheme(file: "int8-channel", stored: StoredScheme(.int8Channel, .compressedTensors)),
    TestedScheme(file: "w8a8-int8", stored: StoredScheme(.int8Channel, .w8a8Int8)),
    TestedScheme(file: "int4-32", stored: StoredScheme(.int4Group(32), .compressedTensors)),
    TestedScheme(file: "int4-64", stored: StoredScheme(.int4Group(64), .compressedTensors)),
    TestedScheme(file: "int4-128", stored: StoredScheme(.int4Group(128), .compressedTensors)),
    TestedScheme(file: "nvfp4", stored: StoredScheme(.nvfp4, .compressedTensors)),
    TestedScheme(file: "nvfp4-modelopt", stored: StoredScheme(.nvfp4, .modelOpt)),
    TestedScheme(file: "mxfp4", stored: StoredScheme(.mxfp4, .compressedTensors)),
    TestedScheme(file: "mxfp4-ocp", stored: StoredScheme(.mxfp4, .mxfp4)),
  ]
}

/// Which implementation runs.
enum Form: Sendable, CustomStringConvertible {
  case twin
  case kernels(KernelTier)

  static let all: [Form] = [.twin] + KernelTier.runnable.map { .kernels($0) }

  var description: String {
    switch self {
    case .twin: "Swift"
    case .kernels(let tier): tier.rawValue
    }
  }
}

// MARK: - Schemes on arrays

extension RowScheme {
  typealias Encoded = (codes: [UInt8], scales: [UInt8], errors: SearchErrors?)

  func encode(
    _ values: [Float], columns: Int, importance: [Float]? = nil, matrixScale: Float = 1,
    search: ScaleSearch = .absmax, _ form: Form
  ) throws -> Encoded {
    let rows = values.count / columns
    // Previous contents must not show through.
    var codes = [UInt8](repeating: 0xA5, count: try codeBytes(columns: columns) * rows)
    var scales = [UInt8](repeating: 0x5A, count: try scaleBytes(columns: columns) * rows)
    let errors: SearchErrors?
    do {
      var codeSpan = codes.mutableSpan
      var rawCodes = codeSpan.mutableBytes
      var scaleSpan = scales.mutableSpan
      var rawScales = scaleSpan.mutableBytes
      switch form {
      case .twin:
        errors = try encodeReference(
          values.span, columns: columns, importance: importance?.span, matrixScale: matrixScale,
          search: search,
          codes: &rawCodes, scales: &rawScales)
      case .kernels(let tier):
        errors = try encode(
          values.span, columns: columns, importance: importance?.span, matrixScale: matrixScale,
          search: search,
          codes: &rawCodes, scales: &rawScales, tier: tier)
      }
    }
    return (codes, scales, errors)
  }

  func decode(
    _ codes: [UInt8], _ scales: [UInt8], columns: Int, matrixScale: Float = 1, _ form: Form
  ) throws -> [Float] {
    let rows = codes.count / (try codeBytes(columns: columns))
    var values = [Float](repeating: 0, count: rows * columns)
    var span = values.mutableSpan
    switch form {
    case .twin:
      try decodeReference(
        codes: codes.span.bytes, scales: scales.span.bytes, columns: columns, matrixScale: matrixScale,
        into: &span)
    case .kernels(let tier):
      try decode(
        codes: codes.span.bytes, scales: scales.span.bytes, columns: columns, matrixScale: matrixScale,
        into: &span, tier: tier)
    }
    return values
  }
}
