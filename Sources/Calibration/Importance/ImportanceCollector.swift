internal import ByteStreams
internal import Safetensors
internal import Step3Model
internal import Step3Runtime
internal import Synchronization
internal import TensorFormats

/// Collects the data for an importance matrix, in a file for each layer.
///
/// An expert that saw fewer than ``minimum`` tokens is filled up to that many. Its gate and up projections read the
/// layer's common input, so they get rows of its mean square over all experts' tokens. Down projections of different
/// experts have no column in common, so they get rows with the same mean square in all columns, which leaves only
/// the weights' magnitudes to matter.
final class ImportanceCollector: LayerVisitor {
  private let description: ModelDescription
  private let directory: WorkingDirectory
  private let expertCount: Int
  private let minimum: Int
  private let threads: Int

  private struct Sums {
    /// One for each matrix of the stack.
    let squares: [ColumnSquares]
    let isStack: Bool
  }

  /// The sums of the current layer, by the weights that share the input.
  private let layer = Mutex<[[Step3TensorName]: Sums]>([:])

  init(
    _ model: ModelDescription, expertCount: Int, minimum: Int, threads: Int, directory: WorkingDirectory
  ) {
    description = model
    self.expertCount = expertCount
    self.minimum = minimum
    self.threads = threads
    self.directory = directory
  }

  func note(entering weights: [Step3TensorName], matrix: Int?, _ rows: Activations) throws {
    try layer.withLock { layer in
      let sums =
        layer[weights]
        ?? Sums(
          squares: (0..<(matrix == nil ? 1 : expertCount)).map { _ in ColumnSquares(columns: rows.columns) },
          isStack: matrix != nil)
      try sums.squares[matrix ?? 0].add(rows, threads: threads)
      layer[weights] = sums
    }
  }

  func finished(_ part: LayerPart, layer: Int) throws {}

  func finished(layer number: Int) throws {
    let collected = layer.withLock { layer in
      defer { layer = [:] }
      return layer
    }
    var entries: [ImportanceEntry] = []
    var scarce: Set<ExpertCoverage> = []
    for (weights, sums) in collected {
      if sums.isStack { scarce.formUnion(fill(sums, weights, layer: number)) }
      for weight in weights {
        guard let name = description.gguf(weight) else { continue }
        entries.append(
          ImportanceEntry(
            name: name, columns: sums.squares[0].columns, isStack: sums.isStack,
            sums: sums.squares.flatMap { $0.values.map { Float($0) } },
            counts: sums.squares.map { Float($0.count) }))
      }
    }
    entries.sort { $0.name.precedesBytewise($1.name) }
    for entry in entries {
      guard let index = entry.sums.firstIndex(where: { !$0.isFinite }) else { continue }
      throw CheckpointError(
        .nonFinite,
        "column \(index % entry.columns) of its input has squares that sum to \(entry.sums[index])",
        tensor: entry.name)
    }
    try ImportanceLayer(entries: entries, scarce: scarce.sorted { $0.expert < $1.expert }).write(
      to: directory.path(of: ImportanceLayer.name(number)))
  }

  /// Fills up experts with too few tokens.
  private func fill(_ sums: Sums, _ weights: [Step3TensorName], layer: Int) -> [ExpertCoverage] {
    let few = sums.squares.indices.filter { sums.squares[$0].count < minimum }
    guard !few.isEmpty else { return [] }
    let rows = sums.squares.reduce(0) { $0 + $1.count }
    var typical = [Double](repeating: 0, count: sums.squares[0].columns)
    for expert in sums.squares {
      let values = expert.values
      for column in typical.indices { typical[column] += values[column] / Double(max(1, rows)) }
    }
    if weights.contains(where: { $0.module == .expertDown }) {
      let mean = typical.reduce(0, +) / Double(typical.count)
      typical = [Double](repeating: mean, count: typical.count)
    }
    return few.map { expert in
      let tokens = sums.squares[expert].count
      sums.squares[expert].fill(with: typical, count: minimum - tokens)
      return ExpertCoverage(layer: layer, expert: expert, tokens: tokens)
    }
  }
}
