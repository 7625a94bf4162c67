internal import ByteStreams
internal import Checkpoint
internal import Quantization
internal import TensorFormats

extension CodeRecognition {
  /// The tensors of a module that has codes, being recognised.
  struct Module {
    let stem: String
    let codes: Checkpoint.Tensor
    let recognition: CodeRecognition

    private var checkpoint: Checkpoint { recognition.checkpoint }
    private var settings: QuantizationSettings { recognition.settings }

    private func companion(_ suffix: String) -> Checkpoint.Tensor? { checkpoint["\(stem).\(suffix)"] }

    /// GGUF keeps scales in its blocks, except that of a matrix of NVFP4.
    ///
    /// Source: llama.cpp, which multiplies the product of an NVFP4 matrix with it.
    func blocks() throws(CheckpointError) -> Found {
      guard codes.elementType == .nvfp4, let factors = companion("scale") else { return .values(codes) }
      guard factors.elementType == .f32, factors.shape.elementCount == matrices(codes.shape) else {
        throw misfit(factors, "[\(matrices(codes.shape))] of F32")
      }
      return .stored(StoredWeight(nil, codes, codes.shape, scales: nil, matrixScales: factors))
    }

    /// What the codes of a safetensors file are; `nil` if nothing makes codes of them.
    func scaled() throws(CheckpointError) -> Found? {
      if codes.name.hasSuffix(".qweight") { return try transposedIntegers() }
      if codes.name.hasSuffix(".weight_packed") {
        guard [nil, "compressed-tensors"].contains(settings.method) else {
          throw unread(
            "codes under this name are compressed-tensors', and the configuration says \(settings.description)"
          )
        }
        switch codes.elementType {
        case .i32: return try packedIntegers()
        case .u8: return try packedFloats()
        default: throw unread("packed codes are I32 or U8, and these are \(codes.elementType)")
        }
      }
      switch codes.elementType {
      case .f8E4M3, .f8E5M2, .f8E4M3FNUZ, .f8E5M2FNUZ: return try smallFloats()
      case .i8: return try smallIntegers()
      case .u8:
        guard companion("weight_scale") != nil else { return nil }
        return try packedFloats()
      default: return nil
      }
    }

    // MARK: Errors

    func unread(_ message: String) -> CheckpointError {
      CheckpointError(
        .unsupported, message, path: checkpoint.path(of: codes), tensor: codes.name,
        remedy: CodeRecognition.wayOut)
    }

    private func misfit(_ scales: Checkpoint.Tensor, _ expected: String?) -> CheckpointError {
      CheckpointError(
        .malformed,
        "has the shape \(scales.shape), which does not fit a weight stored as \(codes.elementType) \(codes.shape)"
          + (expected.map { "; expected \($0)" } ?? ""),
        path: checkpoint.path(of: scales), tensor: scales.name)
    }

    private func matrices(_ shape: TensorShape) -> Int { shape.rank == 3 ? shape.dimensions[0] : 1 }
  }
}

// MARK: - One code to an element

extension CodeRecognition.Module {
  typealias Found = CodeRecognition.Found

  /// How scales lie over a weight.
  private enum ScaleGrid {
    /// One for each matrix.
    case matrix
    /// One for each row.
    case row
    /// One for each tile.
    case tile(rows: Int, columns: Int)
    /// One for so many neighbours in a row.
    case group(Int)
  }

  /// The only scale of the weight.
  private func scale() throws(CheckpointError) -> Checkpoint.Tensor? {
    let found = ["weight_scale_inv", "weight_scale"].compactMap(companion)
    guard found.count < 2 else { throw unread("it has both weight_scale_inv and weight_scale") }
    return found.first
  }

  /// Which scale is whose, by the shapes alone: where several readings fit, what the configuration says decides, and
  /// where it says nothing, the weight is not read.
  private func grid(of scales: Checkpoint.Tensor) throws(CheckpointError) -> ScaleGrid {
    let shape = codes.shape
    guard (2...3).contains(shape.rank) else {
      throw unread("it has scales and \(shape.rank) dimensions; matrices and stacks of them are read")
    }
    let (outer, rows, columns) = (
      Array(shape.dimensions.dropLast(2)), shape.dimensions[shape.rank - 2], shape.columns
    )
    var dimensions = scales.shape.dimensions
    // ModelOpt has dimensions of 1 after those of tiles: [n, 1, k, 1].
    if dimensions.count == outer.count + 4, dimensions[outer.count + 1] == 1, dimensions.last == 1 {
      dimensions =
        outer.isEmpty
        ? [dimensions[0], dimensions[2]] : [dimensions[0], dimensions[1], dimensions[3]]
    }
    let tile = settings.tile
    let tiles = outer + [(rows + tile.rows - 1) / tile.rows, (columns + tile.columns - 1) / tile.columns]
    let isInverse = scales.name.hasSuffix("_inv")
    if isInverse, dimensions == tiles { return .tile(rows: tile.rows, columns: tile.columns) }
    if scales.shape.elementCount == matrices(shape), rows != 1 || dimensions.allSatisfy({ $0 == 1 }),
      dimensions.dropFirst(outer.count).allSatisfy({ $0 == 1 })
    {
      return .matrix
    }
    if dimensions == outer + [rows, 1] || dimensions == outer + [rows] {
      guard settings.allowsGroups(of: columns, columns: columns) else {
        throw unread(
          "its scales are one for each row, and the configuration says groups of "
            + settings.groupLengths.sorted().map(String.init).joined(separator: " or "))
      }
      return .row
    }
    if dimensions == tiles { return .tile(rows: tile.rows, columns: tile.columns) }
    if dimensions.count == shape.rank, Array(dimensions.dropLast()) == outer + [rows],
      let groups = dimensions.last, groups > 0, columns % groups == 0
    {
      let length = columns / groups
      // MXFP8 needs no word for its 32.
      if settings.groupLengths.contains(length) || (length == 32 && Self.isExponent(scales)) {
        return .group(length)
      }
    }
    var error = misfit(
      scales, "\(tiles) for tiles of \(tile.rows) x \(tile.columns), \(outer + [rows, 1]) for rows")
    error.remedy =
      "quantization_config.weight_block_size in config.json gives the size of the tiles; \(CodeRecognition.wayOut)"
    throw error
  }

  /// What the configuration says of codes must be true of codes of eight bits.
  private func checkEightBits() throws(CheckpointError) {
    guard settings.bits.isEmpty || settings.bits.contains(8), !["awq", "gptq"].contains(settings.method)
    else {
      throw unread(
        "its codes are \(codes.elementType), and the configuration says "
          + (settings.bits.isEmpty
            ? "" : settings.bits.sorted().map(String.init).joined(separator: " or ") + " bits, ")
          + settings.description)
    }
  }

  private static func isExponent(_ scales: Checkpoint.Tensor) -> Bool {
    scales.elementType == .u8 || scales.elementType == .f8E8M0
  }

  private static let plainScaleTypes: [ElementType] = [.f32, .bf16, .f16, .f8E8M0]

  private func smallFloats() throws(CheckpointError) -> Found? {
    guard let scales = try scale() else { return nil }
    try checkEightBits()
    let grid = try grid(of: scales)
    let isExponent = Self.isExponent(scales)
    guard Self.plainScaleTypes.contains(scales.elementType) || isExponent else {
      throw unread("its scales are \(scales.elementType)")
    }
    let method: StoredScheme.Method =
      scales.name.hasSuffix("_inv") || settings.method == "fp8" ? .fp8 : .compressedTensors
    // Exponents that are called U8 are codes themselves, and only the decoder knows.
    guard codes.elementType == .f8E4M3, scales.elementType != .u8 else {
      return .decoded(decoded(scales, grid, name: "\(codes.elementType)"))
    }
    switch grid {
    case .matrix:
      let all = WeightScheme.fp8Block(
        rows: max(1, codes.shape.dimensions[codes.shape.rank - 2]), columns: max(1, codes.shape.columns))
      return .stored(StoredWeight(StoredScheme(all, method), codes, codes.shape, scales: scales))
    case .row: return stored(StoredScheme(.fp8Channel, method), scales)
    case .tile(let rows, let columns):
      return stored(StoredScheme(.fp8Block(rows: rows, columns: columns), method), scales)
    case .group: return .decoded(decoded(scales, grid, name: isExponent ? "MXFP8" : "FP8 in groups"))
    }
  }

  private func smallIntegers() throws(CheckpointError) -> Found? {
    guard let scales = try scale() else { return nil }
    try checkEightBits()
    guard Self.plainScaleTypes.contains(scales.elementType) else {
      throw unread("its scales are \(scales.elementType)")
    }
    let grid = try grid(of: scales)
    let zeros = companion("weight_zero_point")
    if zeros == nil, settings.isSymmetric == false {
      throw unread("the configuration says that it has zero points, and there are none")
    }
    if zeros == nil, case .row = grid {
      let method: StoredScheme.Method = settings.method == "w8a8_int8" ? .w8a8Int8 : .compressedTensors
      return stored(StoredScheme(.int8Channel, method), scales)
    }
    if let zeros {
      guard [.i8, .i32].contains(zeros.elementType), zeros.shape.elementCount == scales.shape.elementCount
      else { throw misfit(zeros, "\(scales.shape) of I8") }
    }
    return .decoded(decoded(scales, grid, zeros: zeros, name: "INT8"))
  }

  private func decoded(
    _ scales: Checkpoint.Tensor, _ grid: ScaleGrid, zeros: Checkpoint.Tensor? = nil, name: String
  ) -> ScaledCodes {
    let shape = codes.shape
    let (rows, columns) = (shape.dimensions[shape.rank - 2], shape.columns)
    let (height, width): (Int, Int) =
      switch grid {
      case .matrix: (max(1, rows), max(1, columns))
      case .row: (1, max(1, columns))
      case .tile(let rows, let columns): (rows, columns)
      case .group(let length): (1, length)
      }
    return ScaledCodes(
      name: name, codes: codes, packing: .elements, scales: scales,
      zeros: zeros.map(ScaledCodes.Zeros.elements) ?? .constant(0), groupIndex: nil, shape: shape,
      scaleHeight: height, groupLength: width, groups: (columns + width - 1) / width)
  }

  /// A weight in a scheme that is written too. Scales may have come in other dimensions than they are written in, but
  /// not in another order.
  private func stored(_ scheme: StoredScheme, _ scales: Checkpoint.Tensor) -> Found {
    let usual = scheme.scheme.scales(of: codes.shape)?.shape ?? scales.shape
    return .stored(StoredWeight(scheme, codes, codes.shape, scales: scales.viewed(as: usual)))
  }
}

// MARK: - Several codes to an element

extension CodeRecognition.Module {
  /// Integers as compressed-tensors packs them.
  private func packedIntegers() throws(CheckpointError) -> Found {
    guard let scales = companion("weight_scale") else {
      throw unread("its scales, weight_scale, are not there")
    }
    guard [.bf16, .f16, .f32].contains(scales.elementType) else {
      throw unread("its scales are \(scales.elementType), which packed integers do not have")
    }
    let (packing, shape) = try packedShape()
    let bits = packing.bits
    guard let groups = scales.shape.dimensions.last, scales.shape.rank == shape.rank, groups > 0,
      scales.shape.dimensions.dropLast() == shape.dimensions.dropLast(), shape.columns % groups == 0
    else { throw misfit(scales, nil) }
    let length = shape.columns / groups
    guard settings.allowsGroups(of: length, columns: shape.columns) else {
      throw unread(
        "its scales are one for \(length) elements, and the configuration says "
          + settings.groupLengths.sorted().map(String.init).joined(separator: " or "))
    }
    let zeros = companion("weight_zero_point")
    if zeros == nil, settings.isSymmetric == false {
      throw unread("the configuration says that it has zero points, and there is no weight_zero_point")
    }
    let index = try groupIndex(companion("weight_g_idx"), columns: shape.columns)
    let isPlain = bits == 4 && zeros == nil && index == nil && shape.columns % 8 == 0
    if isPlain, length % 16 == 0, (16...256).contains(length) {
      return .stored(
        StoredWeight(StoredScheme(.int4Group(length), .compressedTensors), codes, shape, scales: scales))
    }
    var zero = ScaledCodes.Zeros.constant(1 << (bits - 1))
    if let zeros {
      var expected = scales.shape.dimensions
      let rows = expected[expected.count - 2]
      expected[expected.count - 2] = packing.words(for: rows)
      guard zeros.elementType == .i32, zeros.shape.dimensions == expected else {
        throw misfit(zeros, "\(expected) of I32")
      }
      zero = .wordsOfRows(zeros, packing)
    }
    return .decoded(
      ScaledCodes(
        name: "INT\(bits), packed", codes: codes, packing: .words(packing), scales: scales, zeros: zero,
        groupIndex: index, shape: shape, scaleHeight: 1, groupLength: length, groups: groups))
  }

  /// The bits of a code and the shape before packing: stated by `weight_shape`, by the configuration, or both.
  private func packedShape() throws(CheckpointError) -> (packing: WordPacking, shape: TensorShape) {
    let words = codes.shape.columns
    guard (2...3).contains(codes.shape.rank) else {
      throw unread("packed codes have two or three dimensions")
    }
    let stated = settings.bits.filter { (2...8).contains($0) }
    func shape(_ columns: Int) throws(CheckpointError) -> TensorShape {
      guard let shape = TensorShape(checking: codes.shape.dimensions.dropLast() + [columns]) else {
        throw unread("it has more elements than can be counted")
      }
      return shape
    }
    guard let companion = companion("weight_shape"), companion.elementType == .i64 else {
      guard stated.count == 1, let bits = stated.first, 32 % bits == 0 else {
        throw unread(
          "how many codes its words hold is not said: there is no weight_shape, and no single num_bits in "
            + "quantization_config that divides 32")
      }
      return (WordPacking(bits: bits, isDense: false), try shape(words * (32 / bits)))
    }
    let numbers = try integers(companion)
    guard let columns = numbers.last, numbers.count >= 2, columns > 0,
      numbers[numbers.count - 2] == codes.shape.dimensions[codes.shape.rank - 2]
    else {
      throw unread("weight_shape says \(numbers.suffix(2)), and the codes are \(codes.shape)")
    }
    let fitting = (2...8).flatMap { WordPacking.fitting(bits: $0, codes: columns, words: words) }
    // Widths that few use are believed only if somebody states them.
    let candidates = fitting.filter { stated.isEmpty ? [4, 8].contains($0.bits) : stated.contains($0.bits) }
    guard candidates.count == 1, let packing = candidates.first else {
      let bits = Set(fitting.map(\.bits)).sorted().map(String.init).joined(separator: " or ")
      throw unread(
        "weight_shape says rows of \(columns), which \(words) words a row hold in codes of "
          + (fitting.isEmpty ? "no number of bits" : "\(bits) bits")
          + (stated.isEmpty
            ? "" : "; the configuration says \(stated.sorted().map(String.init).joined(separator: ", "))")
          + (candidates.count > 1 ? ", which fits in two ways" : ""))
    }
    return (packing, try shape(columns))
  }

  private func groupIndex(
    _ tensor: Checkpoint.Tensor?, columns: Int
  ) throws(CheckpointError) -> Checkpoint.Tensor? {
    guard let tensor else { return nil }
    let (stack, one) = ([matrices(codes.shape), columns], [columns])
    guard tensor.elementType == .i32,
      tensor.shape.dimensions == one || (codes.shape.rank == 3 && tensor.shape.dimensions == stack)
    else { throw misfit(tensor, "\(one) of I32") }
    return tensor
  }

  private func packedFloats() throws(CheckpointError) -> Found {
    guard let scales = companion("weight_scale") else {
      throw unread("its scales, weight_scale, are not there")
    }
    guard
      let shape = TensorShape(checking: codes.shape.dimensions.dropLast() + [codes.shape.columns * 2])
    else { throw unread("it has more elements than can be counted") }
    guard scales.elementType == .f8E4M3 else {
      let method: StoredScheme.Method = codes.name.hasSuffix("_packed") ? .compressedTensors : .mxfp4
      guard Self.isExponent(scales) else { throw unread("its scales are \(scales.elementType)") }
      return try fourBits(StoredScheme(.mxfp4, method), shape, scales)
    }
    let method: StoredScheme.Method = companion("weight_scale_2") == nil ? .compressedTensors : .modelOpt
    let stored = StoredScheme(.nvfp4, method)
    guard let suffix = stored.matrixScaleSuffix, let matrixScales = companion(suffix) else {
      throw CheckpointError(
        .malformed, "has scales of eight bits but none for the whole matrix",
        path: checkpoint.path(of: codes),
        tensor: codes.name)
    }
    guard matrixScales.elementType == .f32, matrixScales.shape.elementCount == matrices(shape) else {
      throw misfit(matrixScales, "[\(matrices(shape))] of F32")
    }
    return try fourBits(stored, shape, scales, matrixScales)
  }

  private func fourBits(
    _ scheme: StoredScheme, _ shape: TensorShape, _ scales: Checkpoint.Tensor,
    _ matrixScales: Checkpoint.Tensor? = nil
  ) throws(CheckpointError) -> Found {
    if let reason = scheme.scheme.misfit(shape) { throw unread(reason) }
    guard let expected = scheme.scheme.scales(of: shape), expected.shape == scales.shape else {
      throw misfit(scales, scheme.scheme.scales(of: shape)?.shape.description)
    }
    return .stored(StoredWeight(scheme, codes, shape, scales: scales, matrixScales: matrixScales))
  }

  fileprivate func integers(_ tensor: Checkpoint.Tensor) throws(CheckpointError) -> [Int] {
    guard tensor.byteRange.count <= 1 << 20 else { throw misfit(tensor, nil) }
    let bytes = try checkpoint.files[tensor.file].source.readBytes(tensor.byteRange)
    let span = unsafe bytes.span.bytes
    return stride(from: 0, to: bytes.count, by: 8).map {
      Int(littleEndian: unsafe span.unsafeLoadUnaligned(fromByteOffset: $0, as: Int.self))
    }
  }
}

extension CodeRecognition {
  /// The shape before packing that lies beside codes which are not read: how many values they are can be told all the
  /// same. `nil` if none is stated, or it does not fit the words.
  func statedShape(ofCodes codes: Checkpoint.Tensor, _ stem: String) -> TensorShape? {
    guard codes.elementType == .i32, let stated = checkpoint["\(stem).weight_shape"],
      stated.elementType == .i64,
      let columns = (try? Module(stem: stem, codes: codes, recognition: self).integers(stated))?.last,
      let words = codes.shape.dimensions.last, words > 0, columns >= words, columns / words <= 32
    else { return nil }
    return TensorShape(checking: codes.shape.dimensions.dropLast() + [columns])
  }
}

// MARK: - AWQ and GPTQ

extension CodeRecognition.Module {
  /// Integers that are stored as the weight's transpose.
  private func transposedIntegers() throws(CheckpointError) -> Found {
    guard let scales = companion("scales"), let zeros = companion("qzeros") else {
      throw unread("scales and qzeros, which codes under this name need, are not both there")
    }
    guard codes.elementType == .i32, zeros.elementType == .i32, (2...3).contains(codes.shape.rank),
      [.f16, .bf16, .f32].contains(scales.elementType), scales.shape.rank == codes.shape.rank,
      scales.shape.dimensions.dropLast(2) == codes.shape.dimensions.dropLast(2), scales.shape.elementCount > 0
    else {
      throw unread(
        "its tensors are not the I32 codes, I32 zero points and floating-point scales of AWQ or GPTQ")
    }
    let (groups, rows) = (scales.shape.dimensions[scales.shape.rank - 2], scales.shape.columns)
    switch settings.method {
    case "awq": return try awq(scales, zeros, groups: groups, rows: rows)
    case "gptq": return try gptq(scales, zeros, groups: groups, rows: rows)
    default:
      throw unread("codes under this name are AWQ's or GPTQ's, and quantization_config does not say which")
    }
  }

  private func awq(
    _ scales: Checkpoint.Tensor, _ zeros: Checkpoint.Tensor, groups: Int, rows: Int
  ) throws(CheckpointError) -> Found {
    guard settings.bits == [4] else {
      throw unread("AWQ codes of 4 bits are read, and the configuration says otherwise")
    }
    let columns = codes.shape.dimensions[codes.shape.rank - 2]
    let outer = codes.shape.dimensions.dropLast(2)
    guard rows % 8 == 0, codes.shape.dimensions == outer + [columns, rows / 8],
      zeros.shape.dimensions == outer + [groups, rows / 8]
    else { throw misfit(scales, nil) }
    return .decoded(
      try transposed(
        "AWQ", .awq, scales, .awq(zeros), groups: groups, rows: rows, columns: columns, index: nil))
  }

  private func gptq(
    _ scales: Checkpoint.Tensor, _ zeros: Checkpoint.Tensor, groups: Int, rows: Int
  ) throws(CheckpointError) -> Found {
    guard settings.bits.count == 1, let bits = settings.bits.first, [2, 3, 4, 8].contains(bits) else {
      throw unread("GPTQ codes of 2, 3, 4 and 8 bits are read, and the configuration says none of these")
    }
    let words = codes.shape.dimensions[codes.shape.rank - 2]
    let outer = codes.shape.dimensions.dropLast(2)
    guard words * 32 % bits == 0, codes.shape.columns == rows, rows * bits % 32 == 0,
      zeros.shape.dimensions == outer + [groups, rows * bits / 32]
    else { throw misfit(scales, nil) }
    let columns = words * 32 / bits
    let index = try groupIndex(companion("g_idx"), columns: columns)
    // The first version stores zero points less one.
    let zero = ScaledCodes.Zeros.transposed(zeros, bits: bits, added: settings.storesZerosLessOne ? 1 : 0)
    return .decoded(
      try transposed(
        "GPTQ of \(bits) bits", .transposed(bits: bits), scales, zero, groups: groups, rows: rows,
        columns: columns, index: index))
  }

  private func transposed(
    _ name: String, _ packing: ScaledCodes.Packing, _ scales: Checkpoint.Tensor, _ zeros: ScaledCodes.Zeros,
    groups: Int, rows: Int, columns: Int, index: Checkpoint.Tensor?
  ) throws(CheckpointError) -> ScaledCodes {
    let stated = settings.groupLengths.count == 1 ? settings.groupLengths.first : nil
    let length: Int
    if groups == 1 {
      length = columns
    } else if let stated, stated > 0, (columns - 1) / stated + 1 == groups {
      length = stated
    } else if stated == nil, columns % groups == 0 {
      length = columns / groups
    } else {
      throw unread(
        "\(groups) groups of scales do not fit rows of \(columns)"
          + (stated.map { " and the group_size \($0) of the configuration" } ?? ""))
    }
    guard let shape = TensorShape(checking: codes.shape.dimensions.dropLast(2) + [rows, columns]) else {
      throw unread("it has more elements than can be counted")
    }
    return ScaledCodes(
      name: name, codes: codes, packing: packing, scales: scales, zeros: zeros, groupIndex: index,
      shape: shape,
      scaleHeight: 1, groupLength: length, groups: groups)
  }
}
