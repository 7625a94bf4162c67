import Checkpoint
import Quantization
import TensorFormats
import Testing

/// A module of a checkpoint that is stored in a scheme, and its values by the scheme's definition.
struct StoredModule {
  let scheme: StoredScheme
  let module: String
  let checkpoint: Checkpoint

  init(_ module: String, _ scheme: StoredScheme, in checkpoint: Checkpoint) {
    self.module = module
    self.scheme = scheme
    self.checkpoint = checkpoint
  }

  var codesName: String { "\(module).\(scheme.codesSuffix)" }
  var scalesName: String { "\(module).\(scheme.scalesSuffix)" }

  func bytes(_ name: String) throws -> [UInt8] { try TensorBytes(name, in: checkpoint).bytes }

  /// The shape of the values.
  var shape: [Int] {
    get throws {
      let codes = try #require(checkpoint[codesName], "no tensor \(codesName)")
      return codes.shape.dimensions.dropLast() + [
        codes.shape.columns * scheme.scheme.geometry.codesPerElement
      ]
    }
  }

  /// The scales of its matrices, as they are stored.
  var matrixScales: [Float]? {
    get throws {
      guard let suffix = scheme.matrixScaleSuffix else { return nil }
      return try bytes("\(module).\(suffix)").withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    }
  }

  /// Every value, decoded with the definitions of the codecs.
  var values: [Float] {
    get throws {
      if scheme.scheme == .fp8Tiles {
        return try tensorValues(of: "\(module).weight", in: checkpoint)
      }
      let codec = try RowScheme(scheme)
      let shape = try shape
      let (codes, scales, matrixScales) = (try bytes(codesName), try bytes(scalesName), try matrixScales)
      let matrices = shape.count == 3 ? shape[0] : 1
      let count = shape.reduce(1, *) / matrices
      var values: [Float] = []
      for matrix in 0..<matrices {
        var some = [Float](repeating: 0, count: count)
        var span = some.mutableSpan
        let codeBytes = codes.count / matrices
        let scaleBytes = scales.count / matrices
        try codec.decodeReference(
          codes: codes.span.bytes.extracting(matrix * codeBytes..<(matrix + 1) * codeBytes),
          scales: scales.span.bytes.extracting(matrix * scaleBytes..<(matrix + 1) * scaleBytes),
          columns: shape[shape.count - 1], matrixScale: matrixScales?[matrix] ?? 1, into: &span)
        values += some
      }
      return values
    }
  }
}

/// The function `values(of:in:)` of the harness, where a member of that name hides it.
func tensorValues(of name: String, in checkpoint: Checkpoint) throws -> [Float] {
  try values(of: name, in: checkpoint)
}

/// Values encoded by the definition of a scheme's codec.
struct EncodedModule {
  var codes: [UInt8] = []
  var scales: [UInt8] = []

  /// - Parameter importance: The weights of a matrix's columns.
  init(
    _ values: [Float], _ stored: StoredScheme, matrices: Int, columns: Int, matrixScales: [Float]? = nil,
    search: ScaleSearch, importance: (Int) throws -> [Float]? = { _ in nil }
  ) throws {
    let codec = try RowScheme(stored)
    let count = values.count / matrices
    for matrix in 0..<matrices {
      var some = [UInt8](repeating: 0, count: count / columns * (try codec.codeBytes(columns: columns)))
      var rest = [UInt8](repeating: 0, count: count / columns * (try codec.scaleBytes(columns: columns)))
      let weights = try importance(matrix)
      do {
        var codeSpan = some.mutableSpan
        var codeBytes = codeSpan.mutableBytes
        var scaleSpan = rest.mutableSpan
        var scaleBytes = scaleSpan.mutableBytes
        try codec.encodeReference(
          values.span.extracting(matrix * count..<(matrix + 1) * count), columns: columns,
          importance: weights?.span, matrixScale: matrixScales?[matrix] ?? 1, search: search,
          codes: &codeBytes,
          scales: &scaleBytes)
      }
      codes += some
      scales += rest
    }
  }
}

/// The root of the summed squares of the differences over that of the originals.
func relativeError(_ restored: [Float], of original: [Float]) -> Double {
  let (errors, squares) = zip(original, restored).reduce((0.0, 0.0)) { sums, pair in
    let difference = Double(pair.0) - Double(pair.1)
    return (sums.0 + difference * difference, sums.1 + Double(pair.0) * Double(pair.0))
  }
  return (errors / squares).squareRoot()
}
