public import Checkpoint
internal import ByteStreams
public import ParallelWork
internal import Synchronization
public import TensorFormats

/// The figures and the digest of every tensor.
public struct StatisticsReport: Encodable, Sendable {
  /// One tensor.
  public struct Tensor: Encodable, Sendable {
    /// The name in the file.
    public let name: String
    /// The element type.
    public let dtype: ElementType
    /// Row-major.
    public let shape: TensorShape
    /// The stored bytes.
    public let bytes: Int
    /// The file that holds it, below the checkpoint's directory.
    public let file: String
    /// XXH3-128 of the bytes as they are in the file.
    public let xxh3: String
    /// The figures; `nil` for types without ordered values, and for types that cannot be decoded.
    public let values: ValueStatistics?
    /// The distribution of values; `nil` if not requested, and without values.
    public let distribution: ValueDistribution?

    private enum CodingKeys: String, CodingKey {
      case name, dtype, shape, bytes, file, minimum, maximum, mean, rms, zeros, nan, infinite, distribution,
        xxh3
    }

    /// Encodes the figures beside the rest; they are `null` if there are none.
    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(name, forKey: .name)
      try container.encode(dtype, forKey: .dtype)
      try container.encode(shape, forKey: .shape)
      try container.encode(bytes, forKey: .bytes)
      try container.encode(file, forKey: .file)
      try container.encodeIfPresent(values?.minimum, forKey: .minimum)
      try container.encodeIfPresent(values?.maximum, forKey: .maximum)
      try container.encodeIfPresent(values?.mean, forKey: .mean)
      try container.encodeIfPresent(values?.rms, forKey: .rms)
      try container.encodeIfPresent(values?.zeros, forKey: .zeros)
      try container.encodeIfPresent(values?.nan, forKey: .nan)
      try container.encodeIfPresent(values?.infinite, forKey: .infinite)
      try container.encodeIfPresent(distribution, forKey: .distribution)
      try container.encode(xxh3, forKey: .xxh3)
    }
  }

  /// The user's path.
  public let path: String
  /// The container format.
  public let format: Checkpoint.Format
  /// In the requested order.
  public let tensors: [Tensor]
}

extension StatisticsReport {
  /// Reads every byte of the tensors once and describes them.
  ///
  /// Memory: about ``PieceReader/unitByteCount`` plus 128 KiB per thread, and 0.5 MiB to 2 MiB more for counting,
  /// whatever the size of a tensor. The result does not depend on the number of threads.
  /// - Parameter histogramBins: The number of histogram bins for each tensor; `nil` for no distributions, which saves
  ///   about half of the time.
  /// - Throws: `CheckpointError` if a file cannot be read, `CancellationError`.
  public init(
    of checkpoint: Checkpoint, tensors: [Checkpoint.Tensor], histogramBins: Int? = nil, threads: Int,
    monitor: WorkMonitor = WorkMonitor()
  ) async throws {
    let types = Set(tensors.map(\.elementType))
    let values = Dictionary(uniqueKeysWithValues: types.map { ($0, TensorValues($0)) })
    let collected = Mutex(Collector(histogramBins: histogramBins))
    try await ParallelWork(threads: threads).run(
      IteratorSequence(PieceSequence(tensors)), scratch: { PieceReader(counting: histogramBins != nil) }
    ) {
      pieces, reader in
      try reader.read(pieces, of: tensors, in: checkpoint)
      var figures: [PieceFigures?] = []
      for (index, piece) in pieces.enumerated() {
        let tensor = tensors[piece.tensor]
        if piece.isFirst { monitor.item(tensor.name) }
        figures.append(
          try reader.figures(
            index, values[tensor.elementType], swapping: checkpoint.files[tensor.file].byteOrder))
      }
      monitor.advance(reader.byteCount)
      return figures
    } takeIn: { pieces, figures, reader in
      // In order, so that a digest can run over bytes that many threads read.
      collected.withLock { collector in
        for (index, piece) in pieces.enumerated() {
          let tensor = tensors[piece.tensor]
          collector.take(
            piece, tensor, in: checkpoint.files[tensor.file], reader.bytes(index), figures[index])
        }
      }
    }
    path = checkpoint.path
    format = checkpoint.format
    self.tensors = collected.withLock { $0.finished }
  }

  /// The tensor whose pieces are being collected, and the completed ones.
  private struct Collector: ~Copyable {
    let histogramBins: Int?
    var digester = XXH3Digester()
    var figures: PieceFigures?
    var finished: [Tensor] = []

    init(histogramBins: Int?) { self.histogramBins = histogramBins }

    mutating func take(
      _ piece: TensorPiece, _ tensor: Checkpoint.Tensor, in file: Checkpoint.File, _ bytes: RawSpan,
      _ part: PieceFigures?
    ) {
      if piece.isFirst {
        digester = XXH3Digester()
        figures = part
      } else if let part {
        figures?.merge(part)
      }
      digester.update(bytes)
      guard piece.isLast else { return }
      finished.append(
        Tensor(
          name: tensor.name, dtype: tensor.elementType, shape: tensor.shape, bytes: tensor.byteRange.count,
          file: file.name, xxh3: digester.finalize().description, values: figures?.statistics,
          distribution: figures.flatMap { ValueDistribution($0, bins: histogramBins) }))
    }
  }
}
