internal import ByteStreams
internal import Checkpoint
internal import StoredWeights
internal import Quantization
internal import ShardPlanning
internal import TensorFormats

/// Reads what units declare: the only place in a conversion where the source is read.
struct UnitReader: Sendable {
  let context: UnitContext

  /// Reads everything a unit needs, and what an earlier run left of it.
  ///
  /// - Throws: `.truncated` and `.inputOutput` if a file fails.
  func read(_ unit: WorkUnit) throws(CheckpointError) -> FetchedUnit {
    do throws(CheckpointError) {
      return try fetch(unit)
    } catch {
      throw context.locating(error, unit)
    }
  }

  private func fetch(_ unit: WorkUnit) throws(CheckpointError) -> FetchedUnit {
    let source = try read(unit.source)
    let (companions, decoder) = (unit.companions, unit.view?.decoder)
    let scales = try read(optional: companions.scales)
    let matrixScale = try scale(companions.matrixScale, decoder)
    var groupScales: [Float] = []
    if let group = unit.groupOfScales(context.work) {
      for (member, range) in zip(group.members, companions.groupScales) {
        groupScales.append(try scale(range, member.decoder))
      }
    }
    return FetchedUnit(
      unit: unit, source: source, scales: scales, matrixScale: matrixScale, groupScales: groupScales,
      written: readable(unit))
  }

  /// Reads a piece of a matrix whose largest magnitude is needed.
  ///
  /// - Throws: As ``read(_:)``.
  func read(_ scan: MatrixMaxima.Scan) throws(CheckpointError) -> FetchedRows {
    let reads = scan.reads
    do throws(CheckpointError) {
      let codes = try read(reads.codes)
      let scales = try read(optional: reads.scales)
      let matrixScale = try scale(reads.matrixScale, scan.member.decoder)
      return FetchedRows(codes: codes, scales: scales, matrixScale: matrixScale)
    } catch {
      var named = error.at(path: context.checkpoint.files[reads.codes.file].source.path)
      named.tensor = error.tensor ?? scan.member.slice.tensor
      throw named
    }
  }

  private func read(_ range: FileRange) throws(CheckpointError) -> BufferPool.Buffer {
    let buffer = context.pool.take(range.bytes.count)
    let source = context.checkpoint.files[range.file].source
    try buffer.fill { (span) throws(CheckpointError) in
      try source.read(into: &span, at: range.bytes.lowerBound)
    }
    return buffer
  }

  private func read(optional range: FileRange?) throws(CheckpointError) -> BufferPool.Buffer? {
    guard let range else { return nil }
    return try read(range)
  }

  private func scale(_ range: FileRange?, _ decoder: RowDecoder?) throws(CheckpointError) -> Float {
    guard let range, let decoder else { return 1 }
    let buffer = try read(range)
    return decoder.matrixScale(buffer.bytes)
  }

  /// Reads what a share or an earlier run has written of a unit.
  ///
  /// - Throws: `.unfinished` if it is not recorded, or is incomplete; `.inputOutput`.
  func readWritten(_ unit: WorkUnit) throws(CheckpointError) -> WrittenUnit {
    let gone = CheckpointError(
      .unfinished, "what was written for it is missing", remedy: UnitMaker.remaking)
    do throws(CheckpointError) {
      guard let written = try written(unit) else { throw gone }
      return written
    } catch {
      // For an output that cannot be read back, this says where.
      guard error.code == .inputOutput else { throw context.locating(gone, unit) }
      throw error
    }
  }

  /// The output's bytes for a unit that the journal calls finished; `nil` if it is not, or they cannot be read: it is
  /// then made again, and written in place.
  private func readable(_ unit: WorkUnit) -> WrittenUnit? {
    do throws(CheckpointError) { return try written(unit) } catch { return nil }
  }

  private func written(_ unit: WorkUnit) throws(CheckpointError) -> WrittenUnit? {
    guard let record = context.journal?.finished[unit.number],
      record.deliveries.count == unit.deliveries.count,
      zip(unit.deliveries, record.deliveries).allSatisfy({ delivery, record in
        context.work.targets[delivery.target].tensor.isLossless
          || record.errors.sums.count == delivery.elementCount
      })
    else { return nil }
    var deliveries: [BufferPool.Buffer] = []
    for delivery in unit.deliveries {
      let output = context.outputs[context.work.targets[delivery.target].file]
      let buffer = context.pool.take(delivery.byteCount)
      try buffer.fill { (span) throws(CheckpointError) in try output.read(into: &span, at: delivery.offset) }
      deliveries.append(buffer)
    }
    return WrittenUnit(record: record, deliveries: deliveries)
  }
}

/// Rows of a matrix that have been read.
struct FetchedRows: Sendable {
  let codes: BufferPool.Buffer
  let scales: BufferPool.Buffer?
  let matrixScale: Float
}

extension WorkUnit {
  /// The group whose scales it carries over.
  fileprivate func groupOfScales(_ work: WorkList) -> ScaleGroup? {
    guard !companions.groupScales.isEmpty else { return nil }
    for delivery in deliveries {
      if case .carry(.matrixScales, _, let group?) = work.targets[delivery.target].tensor.operation {
        return work.scaleGroups[group]
      }
    }
    return nil
  }
}
