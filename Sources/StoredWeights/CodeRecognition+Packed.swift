internal import ByteStreams
internal import Checkpoint
internal import Quantization
internal import TensorFormats

/// Modules that pack several codes into one element, row by row.
extension CodeRecognition.Module {
  /// Integers as compressed-tensors packs them.
  func packedIntegers() throws(CheckpointError) -> Found {
    guard let scales = companion("weight_scale") else {
      throw unread("its scales, weight_scale, are missing")
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
        "it has one scale for \(length) elements, but the configuration says "
          + settings.groupLengths.sorted().map(String.init).joined(separator: " or "))
    }
    let zeros = companion("weight_zero_point")
    if zeros == nil, settings.isSymmetric == false {
      throw unread("the configuration says that it has zero points, but there is no weight_zero_point")
    }
    guard zeros == nil || settings.isSymmetric != true else {
      throw unread("it has zero points, but the configuration says that it has none")
    }
    guard settings.isFloat != true else {
      throw unread("its codes are integers, but the configuration says otherwise")
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
        throw unread("it has too many elements")
      }
      return shape
    }
    guard let companion = companion("weight_shape"), companion.elementType == .i64 else {
      guard stated.count == 1, let bits = stated.first, 32 % bits == 0 else {
        throw unread(
          "the number of codes per word is not stated: there is no weight_shape, and no single num_bits in "
            + "quantization_config that divides 32")
      }
      return (WordPacking(bits: bits, isDense: false), try shape(words * (32 / bits)))
    }
    let numbers = try integers(companion)
    guard let columns = numbers.last, numbers.count >= 2, columns > 0,
      numbers[numbers.count - 2] == codes.shape.dimensions[codes.shape.rank - 2]
    else {
      throw unread("weight_shape says \(numbers.suffix(2)), but the codes are \(codes.shape)")
    }
    let fitting = (2...8).flatMap { WordPacking.fitting(bits: $0, codes: columns, words: words) }
    // Rarely used widths are accepted only if stated.
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

  func groupIndex(
    _ tensor: Checkpoint.Tensor?, columns: Int
  ) throws(CheckpointError) -> Checkpoint.Tensor? {
    guard let tensor else {
      guard !settings.isOrdered else {
        throw unread(
          "the configuration says that its columns are reordered, but there is no index of columns")
      }
      return nil
    }
    let (stack, one) = ([matrices(codes.shape), columns], [columns])
    guard tensor.elementType == .i32,
      tensor.shape.dimensions == one || (codes.shape.rank == 3 && tensor.shape.dimensions == stack)
    else { throw misfit(tensor, "\(one) of I32") }
    return tensor
  }

  func packedFloats() throws(CheckpointError) -> Found {
    guard let scales = companion("weight_scale") else {
      throw unread("its scales, weight_scale, are missing")
    }
    guard settings.isFloat != false, settings.bits.isEmpty || settings.bits.contains(4) else {
      throw unread("its codes are 4-bit floating-point numbers, but the configuration says otherwise")
    }
    guard
      let shape = TensorShape(checking: codes.shape.dimensions.dropLast() + [codes.shape.columns * 2])
    else { throw unread("it has too many elements") }
    guard scales.elementType == .f8E4M3 else {
      let method: StoredScheme.Method = codes.name.hasSuffix("_packed") ? .compressedTensors : .mxfp4
      guard Self.isExponent(scales) else { throw unread("its scales are \(scales.elementType)") }
      return try fourBits(StoredScheme(.mxfp4, method), shape, scales)
    }
    let method: StoredScheme.Method = companion("weight_scale_2") == nil ? .compressedTensors : .modelOpt
    let stored = StoredScheme(.nvfp4, method)
    guard let suffix = stored.matrixScaleSuffix, let matrixScales = companion(suffix) else {
      throw CheckpointError(
        .malformed, "has eight-bit scales but none for the whole matrix",
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
  /// The stated shape before packing of unsupported codes, which still gives their number of values. `nil` if none is
  /// stated, or it does not match the words.
  func statedShape(ofCodes codes: Checkpoint.Tensor, _ stem: String) -> TensorShape? {
    guard codes.elementType == .i32, let stated = checkpoint["\(stem).weight_shape"],
      stated.elementType == .i64,
      let columns = (try? Module(stem: stem, codes: codes, recognition: self).integers(stated))?.last,
      let words = codes.shape.dimensions.last, words > 0, columns >= words, columns / words <= 32
    else { return nil }
    return TensorShape(checking: codes.shape.dimensions.dropLast() + [columns])
  }
}
