import CheckpointTesting
import Foundation
import Quantization
import TensorFormats
import Testing

/// For BF16 weights `absmax` gives the bytes of the schemes' own libraries, and decoding gives their values.
///
/// The vectors are made by `Tests/Interop/make_scheme_vectors.py`.
@Suite struct SchemeVectorTests {
  /// Matrices of 4 x 256 weights of many kinds.
  struct Inputs {
    var matrices: [[Float]]
    var rows: Int
    var columns: Int

    static func load() throws -> Inputs {
      let tensors = try ReferenceVectors.tensors(in: "golden/schemes/inputs.safetensors")
      let x = try #require(tensors["x"])
      #expect(x.type == "BF16" && x.shape.count == 3)
      let bytes = [UInt8](x.data)
      let values = stride(from: 0, to: bytes.count, by: 2).map {
        Float(bitPattern: UInt32(bytes[$0]) << 16 | UInt32(bytes[$0 + 1]) << 24)
      }
      let size = x.shape[1] * x.shape[2]
      return Inputs(
        matrices: (0..<x.shape[0]).map { Array(values[($0 * size)..<(($0 + 1) * size)]) }, rows: x.shape[1],
        columns: x.shape[2])
    }
  }

  @Test(arguments: TestedScheme.all) func agreesWithTheLibrary(tested: TestedScheme) throws {
    let inputs = try Inputs.load()
    let vectors = try ReferenceVectors.tensors(in: "golden/schemes/\(tested.file).safetensors")
    let codes = [UInt8](try #require(vectors["codes"]).data)
    let scales = [UInt8](try #require(vectors["scales"]).data)
    let values = ReferenceVectors.floats(try #require(vectors["values"]).data)
    let globals = vectors["global"].map { ReferenceVectors.floats($0.data) }
    let rowNumbers = [UInt8](try #require(vectors["rows"]).data)
    let rows = stride(from: 0, to: rowNumbers.count, by: 8).map {
      Int(rowNumbers[$0]) | Int(rowNumbers[$0 + 1]) << 8
    }
    let scheme = try RowScheme(tested.stored)
    let (columns, perMatrix) = (inputs.columns, inputs.rows)
    let codeBytes = try scheme.codeBytes(columns: columns)
    let scaleBytes = try scheme.scaleBytes(columns: columns)
    #expect(codes.count == codeBytes * perMatrix * inputs.matrices.count)
    #expect(scales.count == scaleBytes * perMatrix * inputs.matrices.count)
    #expect((globals != nil) == tested.stored.scheme.geometry.hasMatrixScale)
    #expect(rows.count > perMatrix * inputs.matrices.count * 3 / 4)

    for (index, matrix) in inputs.matrices.enumerated() {
      let compared = rows.filter { $0 / perMatrix == index }
      guard !compared.isEmpty else { continue }
      let matrixScale = scheme.matrixScale(amax: matrix.reduce(0) { max($0, $1.magnitude) })
      #expect(matrixScale == globals?[index] ?? 1, "matrix \(index)")
      for form in Form.all {
        let found = try scheme.encode(matrix, columns: columns, matrixScale: matrixScale, form)
        #expect(found.errors == nil)
        for row in compared {
          let local = row - index * perMatrix
          #expect(
            found.scales[(local * scaleBytes)..<((local + 1) * scaleBytes)]
              == scales[(row * scaleBytes)..<((row + 1) * scaleBytes)],
            "scales, matrix \(index), row \(local), \(form)")
          #expect(
            found.codes[(local * codeBytes)..<((local + 1) * codeBytes)]
              == codes[(row * codeBytes)..<((row + 1) * codeBytes)],
            "codes, matrix \(index), row \(local), \(form)")
          let decoded = try scheme.decode(
            Array(codes[(row * codeBytes)..<((row + 1) * codeBytes)]),
            Array(scales[(row * scaleBytes)..<((row + 1) * scaleBytes)]), columns: columns,
            matrixScale: matrixScale, form)
          // ModelOpt decodes the code of -0 as 0; the others do not.
          let wrong = decoded.indices.first {
            let expected = values[row * columns + $0]
            return tested.stored.method == .modelOpt
              ? decoded[$0] != expected : decoded[$0].bitPattern != expected.bitPattern
          }
          #expect(wrong == nil, "values, matrix \(index), row \(local), column \(wrong ?? 0), \(form)")
        }
      }
    }
  }
}
