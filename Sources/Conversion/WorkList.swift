internal import ShardPlanning
internal import TensorFormats

/// The plan, cut into steps that fit into memory, in the order in which the source is read.
///
/// Every source file is covered from its first byte to its last, so that its digest falls out of the same pass: rows
/// of tensors that go somewhere, and everything else (headers, scales, which are read once more beside their weights) as bytes
/// that are only hashed. The cut follows from the plan alone, never from the memory budget or the thread count: sums
/// over a unit come out the same everywhere.
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
  /// The source, from the first byte of the first file to the last byte of the last, with tensors that are made of
  /// others in between.
  let segments: [WorkSegment]

  init(_ plan: ShardPlan) {
    let files = plan.files
    self.files = files
    let targets = files.enumerated().flatMap { file, content in
      content.tensors.map { Target(file: file, tensor: $0) }
    }
    self.targets = targets
    // Tensors that are cut or replicated share their source, which is read once.
    var users: [Origin: [SourceView.Use]] = [:]
    // An empty tensor has no bytes to read, and shares its offset with its neighbour.
    for (index, target) in targets.enumerated() where target.tensor.bytes > 0 {
      var rowsBefore = 0
      // What a module has one of is made with the first of its weights.
      let isSingle = target.tensor.derivation == .matrixScales || target.tensor.derivation == .shape
      for slice in target.tensor.sources.prefix(isSingle ? 1 : .max) {
        users[Origin(file: slice.file, offset: slice.offset), default: []].append(
          SourceView.Use(target: index, tensor: target.tensor, slice: slice, rowsBefore: rowsBefore))
        rowsBefore += slice.extent.count < 2 ? 0 : slice.extent[slice.extent.count - 2]
      }
    }
    segments = Self.segments(plan.source.files, users)
  }

  /// The source in the order in which it is read.
  private static func segments(
    _ files: [ShardPlan.SourceFile], _ users: [Origin: [SourceView.Use]]
  ) -> [WorkSegment] {
    // Tensors that are made of others follow as soon as what they are made of has been read, so that it is still in the
    // page cache when they read it once more.
    var derived: [(last: ShardPlan.SourceFile.Origin, origin: Origin)] = []
    for (file, description) in files.enumerated() {
      for last in description.origins {
        let origin = Origin(file: file, offset: last.offset)
        if users[origin] != nil { derived.append((last, origin)) }
      }
    }
    derived.sort {
      ($0.last.file, $0.last.end, $0.origin.file, $0.origin.offset)
        < ($1.last.file, $1.last.end, $1.origin.file, $1.origin.offset)
    }
    var pending = derived[...]
    var segments: [WorkSegment] = []
    func append(_ origin: Origin, _ uses: [SourceView.Use]) -> Int {
      let view = SourceView(uses)
      let range = origin.offset..<origin.offset + view.byteCount
      segments.append(WorkSegment(file: origin.file, byteRange: range, view: view))
      return range.upperBound
    }
    for (file, description) in files.enumerated() where !description.isDerived {
      var position = 0
      // Bytes that are only hashed, cut where something can be made of them.
      func hash(upTo end: Int) {
        while let (last, origin) = pending.first, (last.file, last.end) <= (file, end) {
          if last.file == file, position < last.end {
            segments.append(WorkSegment(file: file, byteRange: position..<last.end, view: nil))
            position = last.end
          }
          pending.removeFirst()
          if let uses = users[origin] { _ = append(origin, uses) }
        }
        if position < end {
          segments.append(WorkSegment(file: file, byteRange: position..<end, view: nil))
          position = end
        }
      }
      let origins = users.keys.filter { $0.file == file }.sorted { $0.offset < $1.offset }
      for origin in origins {
        guard let uses = users[origin] else { continue }
        hash(upTo: origin.offset)
        position = append(origin, uses)
      }
      hash(upTo: description.bytes)
    }
    return segments
  }

  /// The steps, made one at a time: a list of all of them would grow with the model.
  var units: some Sequence<WorkUnit> {
    segments.lazy.flatMap { segment in (0..<segment.unitCount).lazy.map { segment.unit($0) } }
  }

  private struct Origin: Hashable {
    let file: Int
    let offset: Int
  }
}

/// One step of a conversion: bytes of one source file, and what becomes of them.
struct WorkUnit: Sendable {
  /// The source file.
  let file: Int
  /// The bytes to read.
  let byteRange: Range<Int>
  /// How to look at them; `nil` if they are only hashed.
  let view: SourceView?
  /// The first row, counted over the whole tensor.
  let firstRow: Int
  /// How many rows the bytes are.
  let rowCount: Int
  /// What goes where.
  let deliveries: [Delivery]

  /// The rows of one unit that go into one output tensor.
  struct Delivery: Sendable {
    /// The index of the output tensor among ``WorkList/targets``.
    let target: Int
    /// Which of the unit's rows, as runs counted from its first row.
    let runs: [Range<Int>]
    /// Where the box begins in a matrix of the source.
    let firstRow: Int
    /// How many rows of the source one row of the output stands for.
    let height: Int
    /// Which of their elements.
    let columns: Range<Int>
    /// Where the result starts in the output file.
    let offset: Int
    /// Its size.
    let byteCount: Int
  }
}

/// A stretch of one source file: a tensor, or bytes between tensors.
struct WorkSegment: Sendable {
  let file: Int
  let byteRange: Range<Int>
  let view: SourceView?

  /// Bytes that are only hashed are read in pieces of this size.
  private static let plainBytes = 4 << 20

  var unitCount: Int {
    view?.unitCount ?? (byteRange.count + Self.plainBytes - 1) / Self.plainBytes
  }

  func unit(_ index: Int) -> WorkUnit {
    guard let view else {
      let start = byteRange.lowerBound + index * Self.plainBytes
      return WorkUnit(
        file: file, byteRange: start..<min(start + Self.plainBytes, byteRange.upperBound), view: nil,
        firstRow: 0,
        rowCount: 0, deliveries: [])
    }
    let rows = view.rows(ofUnit: index)
    let start = byteRange.lowerBound
    return WorkUnit(
      file: file,
      byteRange: (start + rows.lowerBound * view.rowBytes)..<(start + rows.upperBound * view.rowBytes),
      view: view, firstRow: rows.lowerBound, rowCount: rows.count, deliveries: view.deliveries(of: rows))
  }
}
