internal import Checkpoint
internal import Comparison
internal import StoredWeights
internal import TensorFormats

/// Reads the weights of one side independently, and compares.
struct CrossCheck {
  /// What was found; empty until ``run(isWanted:)``.
  private(set) var report = CrossCheckReport()
  private(set) var findings: [TensorReport.Finding] = []
  /// Tensors that a weight was made from in either reading.
  private(set) var used: Set<String> = []
  private let side: CrossCheckReport.Module.Side
  private let weights: ModelWeights
  private let holders: [Holder]
  /// Whether codes are only copied, along with a configuration that may not describe them.
  private let isCopied: (Checkpoint.Tensor) -> Bool
  /// The checkpoints of the other side.
  private let counterparts: [Checkpoint]
  /// Whether tensors were taken as stored, because something in one of the checkpoints is not supported.
  private let isAsStored: Bool

  /// A checkpoint, or a part of a set, and the index of its first file.
  private struct Holder {
    let firstFile: Int
    let fileCount: Int
    let part: String?
    let modules: DeclaredModules
  }

  /// - Parameters:
  ///   - part: The name of the part that `weights` belong to.
  ///   - counterparts: The checkpoints of the other side.
  ///   - isCopied: Whether codes, and the configuration's statements about them, come from the source.
  /// - Throws: As ``DeclaredConfiguration/init(_:)``.
  init(
    _ weights: ModelWeights, _ side: CrossCheckReport.Module.Side, part: String? = nil, isAsStored: Bool,
    counterparts: [Checkpoint], isCopied: @escaping (Checkpoint.Tensor) -> Bool
  ) throws(CheckpointError) {
    self.counterparts = counterparts
    self.weights = weights
    self.isAsStored = isAsStored
    self.side = side
    self.isCopied = isCopied
    let checkpoint = weights.encoded
    guard !checkpoint.parts.isEmpty else {
      // Decoded weights are in one more file.
      holders = [
        Holder(
          firstFile: 0, fileCount: weights.checkpoint.files.count, part: part,
          modules: try DeclaredModules(checkpoint))
      ]
      return
    }
    var holders: [Holder] = []
    var first = 0
    for part in checkpoint.parts {
      let count = part.checkpoint.files.count
      holders.append(
        Holder(
          firstFile: first, fileCount: count, part: part.name, modules: try DeclaredModules(part.checkpoint))
      )
      first += count
    }
    self.holders = holders
  }

  /// Checks every weight.
  ///
  /// - Parameter isWanted: Which published names are selected.
  /// - Throws: What reading throws, `CancellationError`.
  /// - Complexity: A few thousand elements of each weight are read.
  mutating func run(isWanted: (String) throws(CheckpointError) -> Bool) throws {
    guard weights.checkpoint.format == .safetensors else { return }
    for name in weights.names where try isWanted(name) {
      try Task.checkCancellation()
      guard let weight = weights[name] else { continue }
      // Fused and shared tensors are checked for each of their weights.
      for piece in weight.pieces { try check(piece, of: weight) }
    }
  }

  private mutating func check(_ piece: ModelWeights.Piece, of weight: ModelWeights.Weight)
    throws(CheckpointError)
  {
    let stored = piece.stored
    guard
      let holder = holders.first(where: {
        ($0.firstFile..<$0.firstFile + $0.fileCount).contains(stored.codes.file)
      })
    else { return }
    let module = holder.modules.module(of: stored.codes.name)
    used.formUnion(stored.components.map(\.name))
    let isDecoded = weights.encoded[stored.codes.name] != stored.codes
    let isPlain = stored.components.count == 1 && stored.scheme == nil && !isDecoded
    let codes = isDecoded ? DeclaredModule.codes.lazy.compactMap { module.parts[$0] }.first : stored.codes
    switch try DeclaredReading(module, of: codes ?? stored.codes) {
    case .values:
      if isPlain {
        report.plain += 1
      } else {
        note(module, holder, piece, .notChecked, "it is read with scales, but nothing says that it has any")
      }
    case .unclear(let reason):
      if isPlain, try isCopy(module) {
        note(module, holder, piece, .notChecked, "\(reason); its bytes are compared")
      } else if isPlain, DeclaredReading.canBeCodes(stored.codes.elementType) {
        fail(module, holder, piece, .declaration, "\(reason); it is read as if its codes were values")
      } else {
        note(module, holder, piece, .notChecked, reason)
      }
    case .contradicts(let reason):
      fail(
        module, holder, piece, .declaration,
        "the configuration and the tensors contradict each other: \(reason)")
    case .codes(let layout):
      used.formUnion(layout.tensors.map(\.name))
      used.insert("\(module.stem).weight_shape")
      if isPlain, try isCopy(module) {
        note(module, holder, piece, .notChecked, "its bytes are compared")
      } else if isPlain {
        fail(module, holder, piece, .declaration, "it has scales, but is read as if its codes were values")
      } else if let reason = misdescription(of: module, stored.codes) {
        fail(module, holder, piece, .undescribed, reason)
      } else {
        try compare(layout, module, holder, piece, weight)
      }
    }
  }

  /// Whether a module need not be decoded, because its bytes are compared.
  private func isCopy(_ module: DeclaredModule) throws(CheckpointError) -> Bool {
    if isAsStored { return true }
    return try module.isTheSame(in: counterparts)
  }

  /// Why the configuration would mislead a loader; `nil` if it describes what is stored.
  private func misdescription(of module: DeclaredModule, _ codes: Checkpoint.Tensor) -> String? {
    guard !isCopied(codes) else { return nil }
    switch module.entry {
    // Without a configuration, no loader expects one.
    case .nothing:
      return weights.encoded.configuration == nil
        ? nil : "it is stored as codes, but no quantization_config says so"
    case .leftOut: return "it is stored as codes, but quantization_config leaves it out"
    case .quantized: return nil
    }
  }

  // MARK: Values

  private mutating func compare(
    _ layout: DefinedCodes, _ module: DeclaredModule, _ holder: Holder, _ piece: ModelWeights.Piece,
    _ weight: ModelWeights.Weight
  ) throws(CheckpointError) {
    let extent = piece.box.extent
    let matrices = extent.dropLast(2).reduce(1, *)
    let (rows, columns) = (extent.count < 2 ? 1 : extent[extent.count - 2], extent.last ?? 1)
    guard layout.columns == columns, layout.matrices == matrices, piece.firstRow + rows <= layout.rows else {
      return fail(
        module, holder, piece, .declaration,
        "\(layout.matrices) x \(layout.rows) x \(layout.columns) elements are stored, but \(extent) are read")
    }
    var definition = DefinedCodesReader(layout, in: holder.modules.checkpoint)
    var scratch = MatrixReader.Scratch()
    var values = [Float](repeating: 0, count: columns)
    var counted = 0
    var different = 0
    var first: String?
    for place in SampleRows(weight.name, matrices: matrices, rows: rows, columns: columns) {
      let reader = try MatrixReader(weights, weight, piece: piece, matrix: place.matrix)
      do {
        var span = values.mutableSpan
        try reader.read(place.row..<place.row + 1, into: &span, &scratch)
      }
      for column in place.columns {
        guard
          let exact = try definition.value(
            matrix: place.matrix, row: place.row + piece.firstRow, column: column)
        else { continue }
        counted += 1
        guard !Self.agree(exact, values[column]) else { continue }
        different += 1
        let words = matrices > 1 || extent.count > 2 ? "matrix \(place.matrix), " : ""
        first =
          first
          ?? "\(words)row \(place.row), column \(column) is read as \(values[column]), but by definition is \(exact)"
      }
    }
    report.elements += counted
    guard let first else { return note(module, holder, piece, .checked, nil, elements: counted) }
    fail(
      module, holder, piece, .crossCheck, "\(first); \(different) of \(counted) elements differ",
      elements: counted)
  }

  /// Whether two numbers are equal up to F32 rounding of a few products.
  private static func agree(_ exact: Double, _ read: Float) -> Bool {
    let value = Double(read)
    if exact.isNaN || value.isNaN { return exact.isNaN && value.isNaN }
    if exact == value { return true }
    // Beyond the range of F32, or rounded at its end.
    if value.isInfinite { return exact.sign == value.sign && exact.magnitude > 0x1.fffff0p127 }
    return (exact - value).magnitude <= 0x1p-20 * max(exact.magnitude, value.magnitude) + 0x1p-148
  }

  // MARK: Notes

  private mutating func note(
    _ module: DeclaredModule, _ holder: Holder, _ piece: ModelWeights.Piece,
    _ outcome: CrossCheckReport.Module.Outcome, _ reason: String?, elements: Int = 0
  ) {
    switch outcome {
    case .checked: report.checked += 1
    case .notChecked: report.notChecked += 1
    case .failed: break
    }
    report.modules.append(
      CrossCheckReport.Module(
        side: side, name: module.stem, part: holder.part,
        declared: module.configuration.description(of: module.stem), companions: module.companions,
        readAs: StoredPrecision(piece.stored).name, outcome: outcome, reason: reason, elements: elements))
  }

  private mutating func fail(
    _ module: DeclaredModule, _ holder: Holder, _ piece: ModelWeights.Piece,
    _ kind: TensorReport.Finding.Kind,
    _ message: String, elements: Int = 0
  ) {
    note(module, holder, piece, .failed, message, elements: elements)
    findings.append(
      TensorReport.Finding(
        kind: kind, tensor: piece.stored.codes.name, part: side == .output ? holder.part : nil,
        message: "in the \(side.rawValue), \(message)"))
  }
}

/// Some rows of a weight, and some columns of each: the first, the last, and others derived from the weight's name.
private struct SampleRows: Sequence, IteratorProtocol {
  struct Place {
    let matrix: Int
    let row: Int
    let columns: [Int]
  }

  private static let count = 16
  private static let stretch = 64

  private let rows: Int
  private let columns: Int
  private let total: Int
  private var number = 0
  private var state: UInt64

  init(_ name: String, matrices: Int, rows: Int, columns: Int) {
    self.rows = rows
    self.columns = columns
    total = columns == 0 ? 0 : matrices * rows
    // FNV-1a, so that every run samples the same elements.
    state = name.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }

  mutating func next() -> Place? {
    guard number < Swift.min(total, Self.count) else { return nil }
    let row =
      switch number {
      case 0: 0
      case 1: total - 1
      default: total <= Self.count ? number - 1 : random(below: total)
      }
    number += 1
    return Place(matrix: row / rows, row: row % rows, columns: someColumns())
  }

  private mutating func someColumns() -> [Int] {
    guard columns > 4 * Self.stretch else { return Array(0..<columns) }
    let last = columns - Self.stretch
    let starts = [0, last, random(below: last), random(below: last)]
    return Set(starts.flatMap { $0..<$0 + Self.stretch }).sorted()
  }

  /// SplitMix64.
  private mutating func random(below bound: Int) -> Int {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return Int((mixed ^ (mixed >> 31)) % UInt64(bound))
  }
}
