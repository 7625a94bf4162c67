internal import QuantizationRecipes
internal import Conversion
internal import ParallelWork
internal import Quantization
internal import Step3Model
internal import Step3Runtime
internal import StoredWeights
internal import Synchronization
internal import TensorFormats

/// Accumulates the second moments of the input of each weight to be encoded by GPTQ, and encodes it as soon as no more
/// input can come: a layer's attention, its dense network or shared expert, then one routed expert after the other.
///
/// An expert that saw fewer than ``minimum`` tokens is rounded to nearest. So that its scale search does not rely on
/// too little data, gate and up projections weight columns as if it had that many, with the missing ones at the layer's
/// average; in down projections, where no average over experts makes sense, the missing ones have equal squares.
final class GPTQCollector: LayerVisitor {
  private let weights: ModelWeights
  /// By layer.
  private let jobs: [Int: [GPTQJob]]
  private let damping: Double
  private let minimum: Int
  private let threads: Int
  private let directory: WorkingDirectory

  private struct Key: Hashable {
    let weights: [Step3TensorName]
    let matrix: Int?
  }

  private struct Sharing: Hashable {
    let weights: [String]
    let matrix: Int
  }

  private struct State {
    var times = GPTQTimes()
    var moments: [Key: SecondMoments] = [:]
    var codes: LayerCodes?
    var fallbacks: [CalibrationFallback] = []
    /// How many matrices of each weight are encoded.
    var encoded: [Step3TensorName: Int] = [:]
    /// The mean square of each column over the inputs of all experts of the layer.
    var common: ColumnSquares?
    /// The largest magnitudes of matrices that share a scale.
    var largest: [Sharing: Float] = [:]
  }
  private let state = Mutex(State())

  init(
    _ weights: ModelWeights, jobs: [GPTQJob], damping: Double, minimum: Int, threads: Int,
    directory: WorkingDirectory
  ) {
    self.weights = weights
    self.jobs = Dictionary(grouping: jobs) { $0.name.layer ?? 0 }
    self.damping = damping
    self.minimum = minimum
    self.threads = threads
    self.directory = directory
  }

  func note(entering names: [Step3TensorName], matrix: Int?, _ rows: Activations) throws {
    try state.withLock { state in
      if names.contains(where: { $0.module == .sharedGate }) {
        let squares = state.common ?? ColumnSquares(columns: rows.columns)
        try squares.add(rows, threads: threads)
        state.common = squares
      }
      guard let layer = names.first?.layer, let own = jobs[layer],
        own.contains(where: { names.contains($0.name) })
      else { return }
      let key = Key(weights: names, matrix: matrix)
      let moments = state.moments[key] ?? SecondMoments(columns: rows.columns)
      try GPTQTimes.timing(\.moments, &state.times) { try moments.add(rows, threads: threads) }
      state.moments[key] = moments
    }
  }

  func finished(_ part: LayerPart, layer: Int) throws {
    guard let own = jobs[layer] else { return }
    try state.withLock { state in
      var done: Set<Step3TensorName> = []
      // In a fixed order, so that fallbacks are listed in it.
      for key in state.moments.keys.sorted(by: { "\($0.weights)" < "\($1.weights)" }) {
        guard let moments = state.moments.removeValue(forKey: key) else { continue }
        let members = own.filter { key.weights.contains($0.name) }
        done.formUnion(members.map(\.name))
        try encode(members, matrix: key.matrix, moments, &state)
      }
      guard case .expert(let expert) = part else { return }
      // No token was routed to it.
      for job in own where job.weight.shape.rank > 2 && !done.contains(job.name) {
        try encode([job], matrix: expert, SecondMoments(columns: job.weight.columns), &state)
      }
    }
  }

  func finished(layer: Int) throws {
    guard let own = jobs[layer] else { return }
    try state.withLock { state in
      // Anything not encoded would be zero in the file.
      for job in own where state.encoded[job.name] != job.weight.matrixCount {
        throw CheckpointError(
          .unsupported, "the forward pass does not expose its input, so GPTQ cannot make its codes",
          tensor: job.tensor, remedy: "leave out --method, or keep it as it is with --tensor-type")
      }
      try codes(of: layer, &state).finish(layer: layer, state.fallbacks, in: directory)
      let times = state.times
      state = State()
      state.times = times
    }
  }

  /// The time spent here.
  var times: GPTQTimes { state.withLock { $0.times } }

  private func codes(of layer: Int, _ state: inout State) throws -> LayerCodes {
    if let codes = state.codes { return codes }
    let codes = try LayerCodes(jobs[layer] ?? [], layer: layer, in: directory)
    state.codes = codes
    return codes
  }

  private func encode(
    _ members: [GPTQJob], matrix: Int?, _ moments: SecondMoments, _ state: inout State
  ) throws {
    guard let layer = members.first?.name.layer else { return }
    let codes = try codes(of: layer, &state)
    let tokens = moments.count
    let isScarce = matrix != nil && tokens < minimum
    // The factor takes over the memory of the moments.
    var importance: [Float]? = moments.meanSquares
    if isScarce {
      importance = filled(importance ?? [], tokens: tokens, members, state.common)
    }
    let order =
      isScarce
      ? nil
      : try GPTQTimes.timing(\.factors, &state.times) {
        try ColumnOrder(moments, damping: damping, threads: threads)
      }
    for job in members {
      if order == nil {
        state.fallbacks.append(
          CalibrationFallback(
            tensor: job.tensor, expert: matrix, tokens: tokens,
            reason: isScarce ? .fewTokens : .notPositiveDefinite))
      }
      let start = ContinuousClock.now
      let scale = try matrixScale(job, matrix: matrix ?? 0, &state)
      if let scale { try codes.write(job, matrix: matrix ?? 0, matrixScale: scale) }
      try encode(job, matrix: matrix ?? 0, importance, order, matrixScale: scale ?? 1, into: codes)
      state.times.codes += (ContinuousClock.now - start) / .seconds(1)
      state.encoded[job.name, default: 0] += 1
    }
  }

  private func encode(
    _ job: GPTQJob, matrix: Int, _ importance: [Float]?, _ order: ColumnOrder?, matrixScale: Float,
    into codes: LayerCodes
  ) throws {
    let reader = try MatrixReader(weights, job.weight, matrix: matrix)
    let encoder = try GPTQEncoder(
      job.format, columns: reader.columns, search: job.search,
      importance: importance.flatMap { $0.contains { $0 > 0 } ? $0 : nil }, matrixScale: matrixScale)
    let layout = encoder.layout
    try forEachBand(of: reader, encoder.band) { rows, values in
      if let index = values.firstIndex(where: { !$0.isFinite }) {
        throw CheckpointError(
          .nonFinite,
          "row \(rows.lowerBound + index / reader.columns), column \(index % reader.columns) of matrix \(matrix) is "
            + "\(values[index])", tensor: job.tensor)
      }
      var rowCodes = [UInt8](repeating: 0, count: rows.count * layout.codeBytes)
      var rowScales = [UInt8](repeating: 0, count: layout.scaleRows(of: rows.count) * layout.scaleBytes)
      try encoder.encode(values, order, codes: &rowCodes, scales: &rowScales)
      try codes.write(
        job, matrix: matrix, firstRow: rows.lowerBound, codes: rowCodes, scales: rowScales, layout)
    }
  }

  /// Reads a matrix in bands of rows, several concurrently.
  private func forEachBand(
    of reader: MatrixReader, _ height: Int,
    _ body: @Sendable (_ rows: Range<Int>, _ values: [Float]) throws -> Void
  ) throws {
    try ParallelWork.forEach(
      below: (reader.rows + height - 1) / height, threads: threads, scratch: { MatrixReader.Scratch() }
    ) { number, scratch in
      try Task.checkCancellation()
      let rows = number * height..<min((number + 1) * height, reader.rows)
      var values = [Float](repeating: 0, count: rows.count * reader.columns)
      do {
        var span = values.mutableSpan
        try reader.read(rows, into: &span, &scratch)
      }
      try body(rows, values)
    }
  }

  /// The scale of a matrix as it is stored, from the largest magnitude of all that share it; `nil` if there is none.
  private func matrixScale(_ job: GPTQJob, matrix: Int, _ state: inout State) throws -> Float? {
    guard case .scheme(let stored) = job.format, !job.sharing.isEmpty else { return nil }
    let key = Sharing(weights: job.sharing.map(\.name), matrix: matrix)
    if let known = state.largest[key] { return try RowScheme(stored).matrixScale(amax: known) }
    var largest: Float = 0
    for weight in job.sharing {
      let reader = try MatrixReader(weights, weight, matrix: matrix)
      let height = 64
      let magnitudes = SharedBuffer<Float>(count: (reader.rows + height - 1) / height)
      try forEachBand(of: reader, height) { rows, values in
        let magnitude = try LargestMagnitude.of(unsafe values.span.bytes, type: .f32)
        guard magnitude.isFinite else {
          throw CheckpointError(
            .nonFinite,
            "an element of rows \(rows) of matrix \(matrix) is NaN or infinite, so it has no scale",
            tensor: weight.name)
        }
        magnitudes[rows.lowerBound / height] = magnitude
      }
      largest = max(largest, magnitudes.array.max() ?? 0)
    }
    state.largest[key] = largest
    return try RowScheme(stored).matrixScale(amax: largest)
  }

  /// The mean squares, filled up with typical tokens.
  private func filled(
    _ squares: [Float], tokens: Int, _ members: [GPTQJob], _ common: ColumnSquares?
  ) -> [Float] {
    let (own, missing) = (Float(tokens), Float(minimum - tokens))
    let isDown = members.contains { $0.name.module == .expertDown }
    if !isDown, let common, common.count > 0 {
      return zip(squares, common.values).map {
        ($0 * own + Float($1 / Double(common.count)) * missing) / (own + missing)
      }
    }
    let mean = squares.reduce(0, +) / Float(max(1, squares.count))
    return squares.map { ($0 * own + (mean > 0 ? mean : 1) * missing) / (own + missing) }
  }
}
