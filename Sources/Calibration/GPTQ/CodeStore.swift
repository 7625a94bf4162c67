internal import Step3Model
internal import ByteStreams
internal import Conversion
internal import QuantizationRecipes
internal import Safetensors
internal import StoredWeights
internal import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// The codes of one layer, while being made: a file in the working directory with `TENSOR.codes` and, if they are not
/// in blocks, `TENSOR.scales`, [matrices, rows, bytes] U8, and the scales of whole matrices, `TENSOR.matrixScales`,
/// [matrices] F32.
struct LayerCodes {
  private let writer: SafetensorsWriter

  static func name(_ layer: Int) -> String { "layer-\(layer).codes" }
  static func notes(_ layer: Int) -> String { "layer-\(layer).notes" }

  /// What is recorded for a layer when its codes are complete.
  struct Notes: Codable {
    /// XXH3-128 of its file.
    var xxh3: String
    var fallbacks: [CalibrationFallback]
  }

  /// Creates the file of a layer, replacing what an interrupted run left of it.
  init(_ jobs: [GPTQJob], layer: Int, in directory: WorkingDirectory) throws(CheckpointError) {
    var items: [SafetensorsLayout.Item] = []
    for job in jobs {
      let layout = try CodeLayout(job.format, columns: job.weight.columns)
      let (matrices, rows) = (job.weight.matrixCount, job.weight.rows)
      items.append(
        .init(
          name: job.tensor + ".codes", elementType: .u8,
          shape: TensorShape([matrices, rows, layout.codeBytes])))
      if layout.scaleBytes > 0 {
        items.append(
          .init(
            name: job.tensor + ".scales", elementType: .u8,
            shape: TensorShape([matrices, layout.scaleRows(of: rows), layout.scaleBytes])))
      }
      if layout.hasMatrixScale {
        items.append(
          .init(name: job.tensor + ".matrixScales", elementType: .f32, shape: TensorShape([matrices])))
      }
    }
    let path = directory.path(of: Self.name(layer))
    if try FileSystem.isTaken(path) { try FileSystem.removeFile(path) }
    writer = try SafetensorsWriter(path, layout: SafetensorsLayout(items))
  }

  /// Writes rows of a matrix.
  func write(
    _ job: GPTQJob, matrix: Int, firstRow: Int, codes: [UInt8], scales: [UInt8], _ layout: CodeLayout
  ) throws(CheckpointError) {
    try unsafe writer.write(
      tensor: job.tensor + ".codes", at: (matrix * job.weight.rows + firstRow) * layout.codeBytes,
      bytes: codes.span.bytes)
    guard layout.scaleBytes > 0 else { return }
    let row = matrix * layout.scaleRows(of: job.weight.rows) + firstRow / layout.scaleHeight
    try unsafe writer.write(
      tensor: job.tensor + ".scales", at: row * layout.scaleBytes, bytes: scales.span.bytes)
  }

  /// Writes the scale of a whole matrix, as it is stored.
  func write(_ job: GPTQJob, matrix: Int, matrixScale: Float) throws(CheckpointError) {
    let bits = [matrixScale.bitPattern.littleEndian]
    try unsafe writer.write(tensor: job.tensor + ".matrixScales", at: 4 * matrix, bytes: bits.span.bytes)
  }

  /// Completes the file and records its contents.
  func finish(
    layer: Int, _ fallbacks: [CalibrationFallback], in directory: WorkingDirectory
  ) throws(CheckpointError) {
    try writer.finish()
    let file = try InputFile(directory.path(of: Self.name(layer)))
    let notes = Notes(xxh3: try CodeStore.digest(file), fallbacks: fallbacks)
    let text: Data
    do {
      text = try JSONEncoder().encode(notes)
    } catch {
      preconditionFailure("notes can always be encoded: \(error)")
    }
    try FileSystem.writeAtomically(unsafe Array(text).span.bytes, to: directory.path(of: Self.notes(layer)))
  }
}

/// The finished codes of all layers, for the conversion.
struct CodeStore: PreparedCodes {
  private struct Place {
    var file: InputFile
    var format: StorageFormat
    var scaleHeight: Int
    var codes: SafetensorsHeader.Tensor
    var scales: SafetensorsHeader.Tensor?
    var matrixScales: SafetensorsHeader.Tensor?
  }

  private var places: [String: Place] = [:]
  /// Matrices that were not made as requested.
  private(set) var fallbacks: [CalibrationFallback] = []

  /// Opens the files of all layers and checks that they hold what was written.
  ///
  /// - Parameter others: Weights that were not made at all.
  /// - Throws: `.digestMismatch` if one does not, `.notFound` if a weight is in none.
  init(
    _ jobs: [GPTQJob], layers: [Int], others: [CalibrationFallback], in directory: WorkingDirectory
  ) throws(CheckpointError) {
    fallbacks = others
    for layer in layers {
      let file = try InputFile(directory.path(of: LayerCodes.name(layer)))
      let notesFile = try InputFile(directory.path(of: LayerCodes.notes(layer)))
      let text = try notesFile.readBytes(0..<notesFile.byteCount)
      guard let notes = try? JSONDecoder().decode(LayerCodes.Notes.self, from: Data(text)),
        try Self.digest(file) == notes.xxh3
      else {
        throw CheckpointError(
          .digestMismatch, "does not hold the codes that were written there", path: file.path,
          remedy: "start afresh with --overwrite")
      }
      fallbacks += notes.fallbacks
      let header = try SafetensorsHeader.read(from: file)
      for job in jobs where job.name.layer == layer {
        let layout = try CodeLayout(job.format, columns: job.weight.columns)
        guard let codes = header.tensor(named: job.tensor + ".codes") else { continue }
        let place = Place(
          file: file, format: job.format, scaleHeight: layout.scaleHeight, codes: codes,
          scales: header.tensor(named: job.tensor + ".scales"),
          matrixScales: header.tensor(named: job.tensor + ".matrixScales"))
        guard (place.scales != nil) == (layout.scaleBytes > 0),
          (place.matrixScales != nil) == layout.hasMatrixScale
        else { continue }
        places[job.tensor] = place
      }
    }
    for job in jobs where places[job.tensor] == nil {
      throw CheckpointError(
        .notFound, "has no codes", path: directory.path(of: ""), tensor: job.tensor,
        remedy: "start afresh with --overwrite")
    }
  }

  static func digest(_ file: InputFile) throws(CheckpointError) -> String {
    var digester = XXH3Digester()
    for start in stride(from: 0, to: file.byteCount, by: 1 << 20) {
      let bytes = try file.readBytes(start..<min(start + 1 << 20, file.byteCount))
      unsafe digester.update(bytes.span.bytes)
    }
    return "\(digester.finalize())"
  }

  func covers(_ tensor: String, as format: StorageFormat) -> Bool { places[tensor]?.format == format }

  func matrixScale(ofMatrix matrix: Int, of tensor: String) throws(CheckpointError) -> Float? {
    guard let place = places[tensor], let scales = place.matrixScales else { return nil }
    let bytes = try place.file.readBytes(
      scales.byteRange.lowerBound + 4 * matrix..<scales.byteRange.lowerBound + 4 * matrix + 4)
    return Float(bitPattern: bytes.reversed().reduce(0) { $0 << 8 | UInt32($1) })
  }

  func read(
    _ rows: Range<Int>, ofMatrix matrix: Int, of tensor: String, codes: inout MutableRawSpan,
    scales: inout MutableRawSpan
  ) throws(CheckpointError) {
    guard let place = places[tensor] else {
      throw CheckpointError(.notFound, "has no codes", tensor: tensor)
    }
    try read(rows, matrix, place.codes, of: place.file, into: &codes)
    guard let stored = place.scales else { return }
    let height = place.scaleHeight
    guard rows.lowerBound % height == 0 else {
      throw CheckpointError(
        .malformed, "rows \(rows) do not start on a group that shares scales", path: place.file.path,
        tensor: tensor)
    }
    try read(
      rows.lowerBound / height..<(rows.upperBound + height - 1) / height, matrix, stored, of: place.file,
      into: &scales)
  }

  private func read(
    _ rows: Range<Int>, _ matrix: Int, _ tensor: SafetensorsHeader.Tensor, of file: InputFile,
    into bytes: inout MutableRawSpan
  ) throws(CheckpointError) {
    let dimensions = tensor.shape.dimensions
    guard dimensions.count == 3, matrix < dimensions[0], rows.upperBound <= dimensions[1],
      bytes.byteCount == rows.count * dimensions[2]
    else {
      throw CheckpointError(
        .malformed, "does not have rows \(rows) of matrix \(matrix)", path: file.path, tensor: tensor.name)
    }
    let row = matrix * dimensions[1] + rows.lowerBound
    try file.read(into: &bytes, at: tensor.byteRange.lowerBound + row * dimensions[2])
  }
}
