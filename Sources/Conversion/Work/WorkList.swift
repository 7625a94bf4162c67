internal import ByteStreams
internal import Checkpoint
internal import StoredWeights
internal import Quantization
internal import ShardPlanning
internal import TensorFormats

/// The plan, divided into steps that fit into memory, in the order in which the source is read.
///
/// Every source file is covered from its first byte to its last, so that its digest is computed in the same pass: rows
/// of tensors that go somewhere, and everything else (headers; scales, which are read again with their weights) as
/// bytes that are only hashed. The division depends only on the plan, never on the memory budget or the thread count,
/// so sums over a unit are the same everywhere.
struct WorkList: Sendable {
  /// One output tensor and where it is.
  struct Target: Sendable {
    /// The index of its file among all files of the plan.
    let file: Int
    let tensor: ShardPlan.Tensor
  }

  /// All output files, over all parts.
  let files: [ShardPlan.File]
  /// All output tensors, file by file.
  let targets: [Target]
  /// Each file of the source that is on disk, from its first byte to its last, with derived tensors in between.
  let streams: [SourceStream]
  /// The matrices that share a scale.
  let scaleGroups: [ScaleGroup]

  /// Divides a plan.
  ///
  /// - Parameter checkpoint: The source, as the plan refers to it.
  /// - Throws: `.unsupported` for unsupported scales and types.
  init(_ plan: ShardPlan, _ checkpoint: Checkpoint) throws(CheckpointError) {
    let files = plan.files
    self.files = files
    let targets = files.enumerated().flatMap { file, content in
      content.tensors.map { Target(file: file, tensor: $0) }
    }
    self.targets = targets
    var groups: [ScaleGroup] = []
    for group in plan.scaleGroups { groups.append(try ScaleGroup(group, checkpoint)) }
    scaleGroups = groups
    // Tensors that are cut or replicated share their source, which is read once.
    var consumers: [Origin: [SourceView.Consumer]] = [:]
    // An empty tensor has no bytes to read, and shares its offset with its neighbour.
    for (index, target) in targets.enumerated() where target.tensor.bytes > 0 {
      var rowsBefore = 0
      // Tensors that a module has only once are made with the first of its weights.
      let part = target.tensor.operation.part
      let isSingle = part == .matrixScales || part == .shape
      for slice in target.tensor.sources.prefix(isSingle ? 1 : .max) {
        consumers[Origin(file: slice.file, offset: slice.offset), default: []].append(
          SourceView.Consumer(
            target: index, outputFile: target.file, tensor: target.tensor, slice: slice,
            rowsBefore: rowsBefore))
        rowsBefore += slice.extent.count < 2 ? 0 : slice.extent[slice.extent.count - 2]
      }
    }
    var views: [Origin: SourceView] = [:]
    for (origin, list) in consumers { views[origin] = try SourceView(list, checkpoint) }
    streams = Self.streams(plan.source.files, views)
  }

  /// The source in the order in which it is read.
  private static func streams(
    _ files: [ShardPlan.SourceFile], _ views: [Origin: SourceView]
  ) -> [SourceStream] {
    // Derived tensors follow as soon as their origins have been read, so that these are still in the page cache when
    // read again.
    var derived: [(last: ShardPlan.SourceFile.Origin, origin: Origin)] = []
    for (file, description) in files.enumerated() {
      for last in description.origins {
        let origin = Origin(file: file, offset: last.offset)
        if views[origin] != nil { derived.append((last, origin)) }
      }
    }
    derived.sort {
      ($0.last.file, $0.last.end, $0.origin.file, $0.origin.offset)
        < ($1.last.file, $1.last.end, $1.origin.file, $1.origin.offset)
    }
    var pending = derived[...]
    var firstUnit = 0
    var streams: [SourceStream] = []
    let byFile = Dictionary(grouping: views.keys, by: \.file)
    for (file, description) in files.enumerated() where !description.isDerived {
      var segments: [WorkSegment] = []
      var position = 0
      func append(_ range: FileRange, _ view: SourceView?) {
        let segment = WorkSegment(firstUnit: firstUnit, range: range, view: view)
        firstUnit += segment.unitCount
        segments.append(segment)
      }
      func append(_ origin: Origin) -> Int {
        guard let view = views[origin] else { return origin.offset }
        let range = origin.offset..<origin.offset + view.byteCount
        append(FileRange(file: origin.file, bytes: range), view)
        return range.upperBound
      }
      // Bytes that are only hashed, up to where a tensor begins.
      func hash(upTo end: Int) {
        while let (last, origin) = pending.first, (last.file, last.end) <= (file, end) {
          if last.file == file, position < last.end {
            append(FileRange(file: file, bytes: position..<last.end), nil)
            position = last.end
          }
          pending.removeFirst()
          _ = append(origin)
        }
        if position < end {
          append(FileRange(file: file, bytes: position..<end), nil)
          position = end
        }
      }
      for origin in (byFile[file] ?? []).sorted(by: { $0.offset < $1.offset }) {
        hash(upTo: origin.offset)
        position = append(origin)
      }
      hash(upTo: description.bytes)
      streams.append(SourceStream(file: file, segments: segments))
    }
    return streams
  }

  /// The memory for all units of the largest matrix whose largest magnitude is needed; 0 without one.
  var largestWindow: Int {
    streams.lazy.flatMap(\.segments).map { segment in
      guard segment.unitCount > 0, let count = segment.view?.confinedUnitsPerMatrix else { return 0 }
      let first = segment.unit(0, of: self)
      return first.maximum == nil ? 0 : count * first.footprint
    }.max() ?? 0
  }

  private struct Origin: Hashable {
    let file: Int
    let offset: Int
  }
}

/// One source file from its first byte to its last, in the order of its bytes.
struct SourceStream: Sendable {
  /// The file.
  let file: Int
  let segments: [WorkSegment]

  /// The number of bytes it contributes to each output file.
  var outputBytes: [Int: Int] {
    segments.reduce(into: [:]) { sums, segment in
      for (file, bytes) in segment.view?.outputBytes ?? [:] { sums[file, default: 0] += bytes }
    }
  }
}

/// A range of one source file: a tensor, or bytes between tensors.
struct WorkSegment: Sendable {
  /// The number of its first unit in the plan.
  let firstUnit: Int
  let range: FileRange
  let view: SourceView?

  /// Bytes that are only hashed are read in pieces of this size.
  private static let plainBytes = 4 << 20

  var unitCount: Int {
    view?.unitCount ?? (range.bytes.count + Self.plainBytes - 1) / Self.plainBytes
  }

  func unit(_ index: Int, of work: WorkList) -> WorkUnit {
    guard let view else {
      let start = range.bytes.lowerBound + index * Self.plainBytes
      return WorkUnit(
        number: firstUnit + index,
        source: FileRange(
          file: range.file, bytes: start..<min(start + Self.plainBytes, range.bytes.upperBound)),
        view: nil, firstRow: 0, rowCount: 0, deliveries: [], companions: WorkUnit.Companions(), maximum: nil)
    }
    let rows = view.rows(ofUnit: index)
    let start = range.bytes.lowerBound
    let deliveries = view.deliveries(of: rows)
    let needs = UnitNeeds(deliveries, of: work)
    let matrix = view.matrixRows == 0 ? 0 : rows.lowerBound / view.matrixRows
    let first = rows.lowerBound - matrix * view.matrixRows
    return WorkUnit(
      number: firstUnit + index,
      source: FileRange(
        file: range.file,
        bytes: (start + rows.lowerBound * view.rowBytes)..<(start + rows.upperBound * view.rowBytes)),
      view: view, firstRow: rows.lowerBound, rowCount: rows.count, deliveries: deliveries,
      companions: needs.companions(view, first..<first + rows.count, matrix, work),
      maximum: needs.encodedGroup.map { MatrixMaxima.Key(group: $0, matrix: matrix) })
  }
}

/// What the deliveries of a unit need besides its own bytes.
private struct UnitNeeds {
  /// Whether the scales of its rows are needed.
  var scales = false
  /// Whether the scale of its matrix is needed.
  var matrixScale = false
  /// The group that its matrix shares a new scale with.
  var encodedGroup: Int?
  /// The group that must agree on the scale that is carried over.
  var carriedGroup: Int?

  init(_ deliveries: [WorkUnit.Delivery], of work: WorkList) {
    for delivery in deliveries {
      let tensor = work.targets[delivery.target].tensor
      switch tensor.operation {
      case .copy, .shape, .carry(.shape, _, _): break
      case .convert, .pack, .unpack: (scales, matrixScale) = (true, true)
      case .encode(_, let scheme, let encoding):
        (scales, matrixScale) = (true, true)
        if scheme.scheme.geometry.hasMatrixScale { encodedGroup = encoding.scaleGroup }
      case .carry(.codes, _, _):
        if tensor.movesMatrixScale { (scales, matrixScale) = (true, true) }
      case .carry(.scales, _, _): scales = true
      case .carry(.matrixScales, _, let group):
        matrixScale = true
        carriedGroup = group
      }
    }
  }

  func companions(
    _ view: SourceView, _ rows: Range<Int>, _ matrix: Int, _ work: WorkList
  ) -> WorkUnit.Companions {
    var companions = WorkUnit.Companions()
    guard let decoder = view.decoder else { return companions }
    let reads = decoder.reads(rows, ofMatrix: matrix)
    if scales { companions.scales = reads.scales }
    if matrixScale { companions.matrixScale = reads.matrixScale }
    if let carriedGroup {
      companions.groupScales = work.scaleGroups[carriedGroup].members.map {
        $0.decoder.matrixScaleRead(ofMatrix: matrix)
      }
    }
    return companions
  }
}
