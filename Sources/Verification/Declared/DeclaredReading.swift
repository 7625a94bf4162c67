internal import ByteStreams
internal import Checkpoint
internal import TensorFormats

/// How a module's weight is stored, by the configuration and the existing tensors.
enum DeclaredReading: Sendable {
  /// Plain values.
  case values
  case codes(DefinedCodes)
  /// Codes, or possible codes, that are not decoded here.
  case unclear(String)
  /// The configuration and the tensors contradict each other.
  case contradicts(String)

  /// - Parameter tensor: The tensor of the module that has the values or codes.
  /// - Throws: What reading `weight_shape` throws.
  init(_ module: DeclaredModule, of tensor: Checkpoint.Tensor) throws(CheckpointError) {
    do throws(Fault) {
      let suffix = DeclaredModules.split(tensor.name).suffix
      self =
        DeclaredModule.codes.contains(suffix)
        ? try Reader(module).reading() : try Reader(module).reading(named: suffix, tensor.elementType)
    } catch {
      switch error {
      case .unclear(let reason): self = .unclear(reason)
      case .contradicts(let reason): self = .contradicts(reason)
      case .reading(let error): throw error
      }
    }
  }

  /// Whether tensors of a type can be codes.
  static func canBeCodes(_ type: ElementType) -> Bool {
    switch type {
    case .f8E4M3, .f8E5M2, .f8E4M3FNUZ, .f8E5M2FNUZ, .f4, .f6E2M3, .f6E3M2, .i8, .u8, .i32, .u32, .i16, .u16:
      true
    default: false
    }
  }

  private enum Fault: Error {
    case unclear(String)
    case contradicts(String)
    case reading(CheckpointError)
  }

  /// Examines one module.
  private struct Reader {
    let module: DeclaredModule
    let weights: DeclaredConfiguration.Weights
    /// Whether the configuration says that the module is quantised.
    let isDeclared: Bool

    init(_ module: DeclaredModule) {
      self.module = module
      if case .quantized(let weights) = module.entry {
        (self.weights, isDeclared) = (weights, true)
      } else {
        (weights, isDeclared) = (DeclaredConfiguration.Weights(), false)
      }
    }

    private static let real: Set<ElementType> = [.f64, .f32, .f16, .bf16]
    private static let eightBits: Set<ElementType> = [.f8E4M3, .f8E5M2, .f8E4M3FNUZ, .f8E5M2FNUZ]
    private static let scaleNames = ["weight_scale_inv", "weight_scale", "scale", "scales", "scale_inv"]

    private func part(_ suffix: String) -> Checkpoint.Tensor? { module.parts[suffix] }

    /// A tensor that is not a module's weight by its name, such as a stack of experts in a parameter of its own.
    func reading(named suffix: String, _ type: ElementType) throws(Fault) -> DeclaredReading {
      guard DeclaredReading.canBeCodes(type), !DeclaredModule.isCompanion(suffix) else { return .values }
      let stem = Self.ends.first { suffix.hasSuffix($0) }.map { suffix.dropLast($0.count) } ?? suffix[...]
      let others = module.parts.keys.filter { $0 != suffix && $0.hasPrefix(stem + "_") }
      if let other = others.sorted().first(where: { DeclaredModule.isCompanion($0) }) {
        throw .unclear(
          "\(other.printable) is beside it, but its name does not belong to any weight with scales")
      }
      if Self.eightBits.contains(type),
        case .quantized = module.configuration.entry(for: "\(module.stem).\(suffix)")
      {
        throw .unclear("it is declared as quantised, but there are no scales with a known name")
      }
      return .values
    }

    /// Suffixes of codes' names whose scales have a different suffix.
    private static let ends = ["_blocks", "_packed", "_codes"]

    func reading() throws(Fault) -> DeclaredReading {
      let present = DeclaredModule.codes.filter { part($0) != nil }
      guard let suffix = present.first, let codes = part(suffix) else { return .values }
      let type = codes.elementType
      if Self.real.contains(type), suffix == "weight" { return .values }
      guard present.count == 1 else {
        throw .unclear("the weight exists as \(present.joined(separator: " and "))")
      }
      guard module.configuration.isKnown || !isDeclared else {
        throw .unclear("quant_method \((module.configuration.method ?? "").printable) is not known here")
      }
      guard isDeclared || suffix != "weight" || module.companions.contains(where: DeclaredModule.isCompanion)
      else {
        return .values
      }
      let layout: DefinedCodes
      switch (suffix, type) {
      case ("qweight", .i32): layout = try turned(codes)
      case ("weight_packed", .i32): layout = try packed(codes)
      case ("weight_packed", .u8), ("weight", .u8): layout = try pairs(codes)
      case ("weight", _) where Self.eightBits.contains(type) || type == .i8: layout = try elements(codes)
      default: throw .unclear("\(suffix) is \(type)")
      }
      let used = Set(layout.tensors.map { DeclaredModules.split($0.name).suffix } + ["weight_shape"])
      if let other = module.companions.first(where: {
        !used.contains($0) && !DeclaredModule.activations.contains($0) && DeclaredModule.isCompanion($0)
      }) {
        throw .unclear("nothing says what \(other.printable) is for")
      }
      return .codes(layout)
    }

    // MARK: One code per element

    private func elements(_ codes: Checkpoint.Tensor) throws(Fault) -> DefinedCodes {
      let isInteger = codes.elementType == .i8
      let names = Self.scaleNames.filter { part($0) != nil }
      guard let name = names.first, let scales = part(name) else {
        throw .unclear(
          (isDeclared ? "it is declared as quantised, but " : "") + "there are no scales with a known name")
      }
      guard names.count == 1 else {
        throw .unclear("there are scales as \(names.joined(separator: " and "))")
      }
      try expect(bits: 8, isFloat: !isInteger)
      let (matrices, rows, columns) = try extent(codes)
      let types: Set<ElementType> = [.f32, .f16, .bf16, .f64, .f8E8M0]
      guard types.contains(scales.elementType) || scales.elementType == .u8 && !isInteger else {
        throw .unclear("its scales are \(scales.elementType)")
      }
      let areExponents = scales.elementType == .u8 || scales.elementType == .f8E8M0
      let spread = try spread(
        of: scales, codes.shape.dimensions, areExponents: areExponents, isInteger: isInteger)
      if scales.elementType == .u8, spread != .group(count: columns / 32) {
        throw .unclear("its scales are bytes, but not for groups of 32")
      }
      var layout = DefinedCodes(
        form: .elements, spread: spread, matrices: matrices, rows: rows, columns: columns, codes: codes,
        scales: scales, areExponents: scales.elementType == .u8)
      if let points = part("weight_zero_point") {
        guard isInteger, points.shape.elementCount == scales.shape.elementCount,
          [.i8, .i32].contains(points.elementType)
        else { throw .unclear("its zero points do not match its scales") }
        layout.zeroPoints = points
      } else if isInteger, weights.isSymmetric == false {
        throw .contradicts("it is declared as asymmetric, but there are no zero points")
      }
      return layout
    }

    private func spread(
      of scales: Checkpoint.Tensor, _ shape: [Int], areExponents: Bool, isInteger: Bool
    ) throws(Fault) -> DefinedCodes.Spread {
      var sides = scales.shape.dimensions
      let outer = Array(shape.dropLast(2))
      let (rows, columns) = (shape[shape.count - 2], shape[shape.count - 1])
      let isGrouped = weights.strategy == "group"
      if areExponents || isGrouped, columns > 0 {
        let length = areExponents && !isGrouped ? 32 : weights.group ?? 32
        if length > 0, columns % length == 0, sides == outer + [rows, columns / length] {
          return .group(count: columns / length)
        }
        guard !isGrouped else { throw misfit(scales, "groups of \(length)") }
      }
      if scales.shape.elementCount == 1 { return .everything }
      if !outer.isEmpty, scales.shape.elementCount == outer.reduce(1, *), sides.starts(with: outer) {
        return .matrix
      }
      if sides == outer + [rows] || sides == outer + [rows, 1] { return .row }
      // Tiles as [n, 1, k] and [n, 1, k, 1].
      if sides.count == shape.count + 2, sides.last == 1 { sides.removeLast() }
      if sides.count == shape.count + 1, sides[sides.count - 2] == 1 { sides.remove(at: sides.count - 2) }
      let tile = weights.tile ?? DeclaredConfiguration.Tile(rows: 128, columns: 128)
      guard rows > 0, columns > 0,
        sides == outer + [(rows - 1) / tile.rows + 1, (columns - 1) / tile.columns + 1]
      else { throw misfit(scales, "tiles of \(tile.rows) x \(tile.columns)") }
      return .tile(rows: tile.rows, columns: tile.columns)
    }

    private func misfit(_ scales: Checkpoint.Tensor, _ words: String) -> Fault {
      let message = "the scales \(scales.shape) are not those of \(words)"
      return isDeclared ? .contradicts(message) : .unclear(message)
    }

    // MARK: Packed integers

    private func packed(_ codes: Checkpoint.Tensor) throws(Fault) -> DefinedCodes {
      try expect(methods: ["compressed-tensors"])
      guard let scales = part("weight_scale") else { throw .unclear("there is no weight_scale") }
      guard [.f32, .f16, .bf16].contains(scales.elementType) else {
        throw .unclear("its scales are \(scales.elementType)")
      }
      let (matrices, rows, words) = try extent(codes)
      let groups = scales.shape.columns
      guard groups > 0, scales.shape.dimensions == Array(codes.shape.dimensions.dropLast()) + [groups] else {
        throw .unclear("the scales \(scales.shape) do not match the codes \(codes.shape)")
      }
      let (columns, bits) = try width(rows: rows, words: words, groups: groups)
      try expect(bits: bits, isFloat: false)
      if weights.strategy == "group", let group = weights.group, group > 0, group * groups != columns {
        throw .contradicts("groups of \(group) are declared, but \(columns) columns have \(groups) scales")
      }
      if weights.strategy == "channel", groups != 1 {
        throw .contradicts("one scale per row is declared, but there are \(groups)")
      }
      guard columns % groups == 0 else { throw .unclear("\(columns) columns are not \(groups) groups") }
      let isDense = try isDense(codes: columns, bits: bits, words: words)
      var layout = DefinedCodes(
        form: .words(bits: bits, isDense: isDense), spread: .group(count: groups), matrices: matrices,
        rows: rows,
        columns: columns, codes: codes, scales: scales)
      layout.order = try order(part("weight_g_idx"), columns: columns, matrices: matrices)
      if let points = part("weight_zero_point") {
        guard weights.isSymmetric != true else {
          throw .contradicts("it is declared as symmetric, but there are zero points")
        }
        layout.zeroPoints = points
        if points.elementType == .i32 {
          let length = points.shape.elementCount / max(1, matrices * groups)
          guard length * matrices * groups == points.shape.elementCount, points.shape.columns == groups,
            try self.isDense(codes: rows, bits: bits, words: length) == isDense || 32 % bits == 0
          else { throw .unclear("the zero points \(points.shape) do not match") }
        } else if points.elementType != .i8 || points.shape != scales.shape {
          throw .unclear("the zero points \(points.elementType) \(points.shape) do not match")
        }
      } else if weights.isSymmetric == false {
        throw .contradicts("it is declared as asymmetric, but there are no zero points")
      }
      return layout
    }

    /// Columns, and bits of a code.
    private func width(rows: Int, words: Int, groups: Int) throws(Fault) -> (columns: Int, bits: Int) {
      if let stated = part("weight_shape") {
        let numbers = try integers(stated)
        guard numbers.count >= 2, numbers.count % 2 == 0, numbers[0] == rows else {
          throw .unclear("weight_shape says \(numbers.prefix(4)), but there are \(rows) rows")
        }
        let columns = numbers[1]
        guard
          stride(from: 0, to: numbers.count, by: 2).allSatisfy({
            numbers[$0] == rows && numbers[$0 + 1] == columns
          }),
          (1...words * 32).contains(columns)
        else { throw .unclear("weight_shape does not match the codes") }
        guard let bits = weights.bits ?? [4, 8].first(where: { columns * $0 == words * 32 }) else {
          throw .unclear("nothing says how many bits a code has")
        }
        return (columns, bits)
      }
      if weights.strategy == "group", let group = weights.group, group > 0, let bits = weights.bits {
        return (groups * group, bits)
      }
      let bits = weights.bits ?? 4
      guard (1...32).contains(bits), 32 % bits == 0 else {
        throw .unclear("nothing says how many columns there are")
      }
      return (words * 32 / bits, bits)
    }

    /// Whether this many words hold the codes without gaps; contradicts if they match neither layout.
    private func isDense(codes: Int, bits: Int, words: Int) throws(Fault) -> Bool {
      guard (1...8).contains(bits) else { throw .contradicts("codes of \(bits) bits are declared") }
      let perWord = 32 / bits
      let (dense, whole) = ((codes * bits + 31) / 32 == words, (codes + perWord - 1) / perWord == words)
      guard dense || whole else {
        throw .contradicts("\(words) words are not \(codes) codes of \(bits) bits")
      }
      if dense, whole, 32 % bits != 0, codes > perWord {
        throw .unclear("\(words) words match \(codes) codes of \(bits) bits both with and without gaps")
      }
      return dense
    }

    private func order(
      _ tensor: Checkpoint.Tensor?, columns: Int, matrices: Int
    ) throws(Fault) -> Checkpoint.Tensor? {
      guard let tensor else { return nil }
      guard [.i32, .i64].contains(tensor.elementType),
        [columns, columns * matrices].contains(tensor.shape.elementCount)
      else { throw .unclear("the order \(tensor.shape) is not that of \(columns) columns") }
      return tensor
    }

    private func integers(_ tensor: Checkpoint.Tensor) throws(Fault) -> [Int] {
      guard tensor.elementType == .i64, tensor.byteRange.count <= 1 << 20 else {
        throw .unclear("weight_shape is \(tensor.elementType)")
      }
      do throws(CheckpointError) {
        let bytes = try module.checkpoint.files[tensor.file].source.readBytes(tensor.byteRange)
        return stride(from: 0, to: bytes.count, by: 8).map { start in
          Int(
            truncatingIfNeeded: (0..<8).reduce(UInt64(0)) { $0 | UInt64(bytes[start + $1]) << UInt64(8 * $1) }
          )
        }
      } catch {
        throw .reading(error)
      }
    }

    // MARK: GPTQ and AWQ

    private func turned(_ codes: Checkpoint.Tensor) throws(Fault) -> DefinedCodes {
      try expect(methods: ["gptq", "gptq_marlin", "awq", "awq_marlin"])
      guard let points = part("qzeros"), let scales = part("scales"), points.elementType == .i32,
        [.f16, .bf16, .f32].contains(scales.elementType), scales.shape.rank >= 2,
        scales.shape.rank == codes.shape.rank, points.shape.rank == codes.shape.rank
      else { throw .unclear("there are no matching qzeros and scales") }
      let (matrices, groups, rows) = try extent(scales)
      let length = points.shape.columns
      guard groups > 0, rows > 0, length * 32 % rows == 0,
        points.shape.dimensions == Array(scales.shape.dimensions.dropLast()) + [length],
        codes.shape.dimensions.dropLast(2) == scales.shape.dimensions.dropLast(2)
      else { throw .unclear("qzeros \(points.shape) do not match scales \(scales.shape)") }
      let bits = length * 32 / rows
      try expect(bits: bits, isFloat: false)
      let (depth, last) = (codes.shape.dimensions[codes.shape.rank - 2], codes.shape.columns)
      let method = module.configuration.method ?? ""
      let isAWQ = last == length && last != rows
      guard isAWQ || last == rows, [2, 3, 4, 8].contains(bits), !isAWQ || bits == 4 else {
        throw .unclear("codes \(codes.shape) do not match scales \(scales.shape)")
      }
      if method.hasPrefix("awq") && !isAWQ || method.hasPrefix("gptq") && isAWQ {
        throw .contradicts("the layout is not that of \(method)")
      }
      guard isAWQ || depth * 32 % bits == 0 else { throw .unclear("codes \(codes.shape) are not whole") }
      let columns = isAWQ ? depth : depth * 32 / bits
      guard (1...max(1, columns)).contains(groups) else {
        throw .unclear("there are more groups than columns")
      }
      if let group = weights.group, group > 0, (columns + group - 1) / group != groups {
        throw .contradicts("groups of \(group) are declared, but \(columns) columns have \(groups) scales")
      }
      var layout = DefinedCodes(
        form: isAWQ ? .awq : .gptq(bits: bits, isPlain: module.configuration.hasPlainZeroPoints),
        spread: .group(count: groups), matrices: matrices, rows: rows, columns: columns, codes: codes,
        scales: scales, zeroPoints: points)
      guard !isAWQ || part("g_idx") == nil else { throw .unclear("AWQ has no g_idx") }
      layout.order = try order(part("g_idx"), columns: columns, matrices: matrices)
      return layout
    }

    // MARK: Four-bit floats

    private func pairs(_ codes: Checkpoint.Tensor) throws(Fault) -> DefinedCodes {
      guard let scales = part("weight_scale") else { throw .unclear("there is no weight_scale") }
      try expect(bits: 4, isFloat: true)
      let (matrices, rows, bytes) = try extent(codes)
      let columns = bytes * 2
      let isNVFP4 = scales.elementType == .f8E4M3
      guard isNVFP4 || scales.elementType == .u8 || scales.elementType == .f8E8M0 else {
        throw .unclear("its scales are \(scales.elementType)")
      }
      let length = isNVFP4 ? 16 : 32
      guard columns % length == 0, columns > 0,
        scales.shape.dimensions == Array(codes.shape.dimensions.dropLast()) + [columns / length]
      else { throw misfit(scales, "groups of \(length)") }
      var layout = DefinedCodes(
        form: .pairs, spread: .group(count: columns / length), matrices: matrices, rows: rows,
        columns: columns,
        codes: codes, scales: scales, areExponents: scales.elementType == .u8)
      guard isNVFP4 else { return layout }
      guard let shared = part("weight_global_scale") ?? part("weight_scale_2"), shared.elementType == .f32,
        shared.shape.elementCount == matrices
      else { throw .unclear("there is no matching scale for the whole matrix") }
      layout.matrixScale = part("weight_global_scale") == nil ? .factor(shared) : .divisor(shared)
      return layout
    }

    // MARK: Common checks

    /// Checks that the method uses these tensor names; a module without a declaration may have any.
    private func expect(methods: Set<String>) throws(Fault) {
      guard isDeclared, let method = module.configuration.method, !methods.contains(method) else { return }
      throw .contradicts("\(method) does not use these tensor names")
    }

    private func expect(bits: Int, isFloat: Bool) throws(Fault) {
      if let stated = weights.bits, stated != bits {
        throw .contradicts("codes of \(stated) bits are declared, but they have \(bits)")
      }
      if let stated = weights.isFloat, stated != isFloat {
        throw .contradicts(
          "\(stated ? "floating-point" : "integer") codes are declared, but they are \(isFloat ? "floating-point" : "integers")"
        )
      }
    }

    /// Matrices, rows and the last dimension.
    private func extent(_ tensor: Checkpoint.Tensor) throws(Fault) -> (Int, Int, Int) {
      let shape = tensor.shape.dimensions
      guard shape.count >= 2 else { throw .unclear("\(tensor.elementType) \(tensor.shape) is not a matrix") }
      return (shape.dropLast(2).reduce(1, *), shape[shape.count - 2], shape[shape.count - 1])
    }
  }
}
