internal import CBlockKernels
public import TensorFormats

/// Moves MXFP4 and NVFP4 weights between GGML's blocks and the codes and scales of safetensors, without loss.
///
/// Both keep E2M1 codes under the same scales, in different orders: byte *j* of a GGML group of 2 *n* elements
/// holds elements *j* and *j* + *n*, a byte of safetensors holds neighbours, the first in its lower half.
///
/// | | GGML | safetensors |
/// |---|---|---|
/// | MXFP4 | 17 bytes for 32 elements: E8M0, 16 bytes of codes | U8 codes, U8 scales (E8M0) |
/// | NVFP4 | 36 bytes for 64 elements: 4 UE4M3, 4 x 8 bytes of codes | U8 codes, F8_E4M3 scales |
///
/// Every value stays what it is, except that GGML has no -0: its code is kept, so that a round trip is the
/// identity, and means 0 in GGML and -0 in safetensors. What the other layout cannot represent is refused:
///
/// - MXFP4, exponent 255: 2^128 in GGML, NaN in safetensors. (Over codes of 0 alone, which GGML's own encoder writes
///   for groups below 2^-125, it becomes exponent 0.)
/// - NVFP4 of GGML with the scale FF: 480 there, NaN in safetensors. (7F is 0 there, and otherwise the top bit is
///   ignored; such scales are written as the values they mean.)
/// - NVFP4 of safetensors with a scale that is negative or NaN, which GGML does not have.
///
/// NVFP4's scale of the whole matrix is in neither layout's blocks. It is a factor in GGUF (the F32 tensor
/// `<name>.scale`; 1 where there is none) and under the names of ModelOpt, and a divisor under those of
/// compressed-tensors: ``matrixScale(_:from:to:)`` converts it.
public enum FourBitRepacking {
  /// Whether ``unpack(_:type:columns:codes:scales:tier:)`` and ``pack(codes:scales:type:columns:into:tier:)`` take
  /// this element type: MXFP4 and NVFP4.
  public static func applies(to type: ElementType) -> Bool { Groups(type) != nil }

  /// From GGML's blocks to safetensors.
  ///
  /// - Parameters:
  ///   - blocks: Whole rows of blocks.
  ///   - type: `.mxfp4` or `.nvfp4`.
  ///   - columns: The elements of a row, whole blocks.
  ///   - codes: Receives `columns` / 2 bytes for each row.
  ///   - scales: Receives `columns` / 32 bytes (MXFP4) or `columns` / 16 (NVFP4) for each row.
  ///   - tier: The kernels to use.
  /// - Throws: `.malformed` if the sizes do not match, `.unsupported` for other types, and for a block that
  ///   safetensors cannot hold, naming the row and the column.
  /// - Complexity: O(*n*), at memory speed; allocates nothing.
  public static func unpack(
    _ blocks: RawSpan, type: ElementType, columns: Int, codes: inout MutableRawSpan,
    scales: inout MutableRawSpan, tier: KernelTier = .active
  ) throws(CheckpointError) {
    let groups = try groups(
      type, columns: columns, blocks: blocks.byteCount, codes: codes.byteCount, scales: scales.byteCount)
    let count = blocks.byteCount / type.block.bytes
    var bad = -1
    unsafe blocks.withUnsafeBytes { blocks in
      unsafe codes.withUnsafeMutableBytes { codes in
        unsafe scales.withUnsafeMutableBytes { scales in
          guard let from = unsafe blocks.baseAddress?.assumingMemoryBound(to: UInt8.self),
            let codes = unsafe codes.baseAddress?.assumingMemoryBound(to: UInt8.self),
            let scales = unsafe scales.baseAddress?.assumingMemoryBound(to: UInt8.self)
          else { return }
          switch groups {
          case .mxfp4: bad = unsafe cbk_unpack_mxfp4(tier.kernelValue, from, count, codes, scales)
          case .nvfp4: bad = unsafe cbk_unpack_nvfp4(tier.kernelValue, from, count, codes, scales)
          }
        }
      }
    }
    guard bad >= 0 else { return }
    throw refusal(
      bad, groups, columns,
      groups == .mxfp4
        ? "has the exponent 255, which is 2^128 in GGUF and NaN in safetensors"
        : "has the scale FF, which is 480 in GGUF and NaN in safetensors")
  }

  /// From safetensors to GGML's blocks.
  ///
  /// - Parameters: As in ``unpack(_:type:columns:codes:scales:tier:)``, from the other side.
  /// - Throws: `.malformed` if the sizes do not match, `.unsupported` for other types, and for a group that GGML's
  ///   blocks cannot hold, naming the row and the column; `blocks` is then untouched.
  /// - Complexity: O(*n*), at memory speed; allocates nothing.
  public static func pack(
    codes: RawSpan, scales: RawSpan, type: ElementType, columns: Int, into blocks: inout MutableRawSpan,
    tier: KernelTier = .active
  ) throws(CheckpointError) {
    let groups = try groups(
      type, columns: columns, blocks: blocks.byteCount, codes: codes.byteCount, scales: scales.byteCount)
    let count = blocks.byteCount / type.block.bytes
    let bad = unsafe scales.withUnsafeBytes { scales in
      guard let from = unsafe scales.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return -1 }
      return unsafe cbk_first_byte_from(tier.kernelValue, from, scales.count, groups.firstUnusable)
    }
    guard bad < 0 else {
      let scale = scales.byte(bad)
      throw refusal(
        bad, groups, columns,
        scale & 0x7F == 0x7F
          ? "has a scale that is NaN, which GGUF cannot represent"
          : "has the negative scale \(EightBitFloat.e4m3.value(scale)), which GGUF cannot represent")
    }
    unsafe blocks.withUnsafeMutableBytes { blocks in
      unsafe codes.withUnsafeBytes { codes in
        unsafe scales.withUnsafeBytes { scales in
          guard let to = unsafe blocks.baseAddress?.assumingMemoryBound(to: UInt8.self),
            let codes = unsafe codes.baseAddress?.assumingMemoryBound(to: UInt8.self),
            let scales = unsafe scales.baseAddress?.assumingMemoryBound(to: UInt8.self)
          else { return }
          switch groups {
          case .mxfp4: unsafe cbk_pack_mxfp4(tier.kernelValue, codes, scales, count, to)
          case .nvfp4: unsafe cbk_pack_nvfp4(tier.kernelValue, codes, scales, count, to)
          }
        }
      }
    }
  }
}

// MARK: - The scale of a matrix

extension FourBitRepacking {
  /// How a scale of a whole matrix is applied.
  public enum MatrixScaleForm: Hashable, Sendable {
    /// Values are multiplied with it: GGUF, ModelOpt.
    case factor
    /// Values are divided by it: compressed-tensors.
    case divisor
  }

  /// Converts the scale of a matrix to another form.
  ///
  /// - Parameters:
  ///   - scale: A positive finite number.
  ///   - from: The form of `scale`.
  ///   - to: The form wanted.
  /// - Returns: The scale, and whether it is exactly the same: a reciprocal is rounded to F32 (by half a unit in the
  ///   24th bit at most) unless the scale is a power of two. `nil` if there is none, because `scale` is not a positive
  ///   finite number, or its reciprocal is not.
  public static func matrixScale(
    _ scale: Float, from: MatrixScaleForm, to: MatrixScaleForm
  ) -> (scale: Float, isExact: Bool)? {
    guard scale > 0, scale.isFinite else { return nil }
    if from == to { return (scale, true) }
    let reciprocal = 1 / scale
    guard reciprocal > 0, reciprocal.isFinite else { return nil }
    // Exact in F64: 48 bits.
    return (reciprocal, Double(reciprocal) * Double(scale) == 1)
  }
}

extension StoredScheme {
  /// How the stored scale of a matrix is applied.
  public var matrixScaleForm: FourBitRepacking.MatrixScaleForm { dividesByMatrixScale ? .divisor : .factor }
}

// MARK: - Checking

extension FourBitRepacking {
  private enum Groups {
    case mxfp4, nvfp4

    init?(_ type: ElementType) {
      switch type {
      case .mxfp4: self = .mxfp4
      case .nvfp4: self = .nvfp4
      default: return nil
      }
    }

    /// The elements that share a scale.
    var length: Int { self == .mxfp4 ? 32 : 16 }
    /// The smallest scale byte that GGML cannot represent.
    var firstUnusable: UInt8 { self == .mxfp4 ? 0xFF : 0x7F }
  }

  private static func groups(
    _ type: ElementType, columns: Int, blocks: Int, codes: Int, scales: Int
  ) throws(CheckpointError) -> Groups {
    guard let groups = Groups(type) else {
      throw CheckpointError(.unsupported, "\(type) has no codes and scales of its own in safetensors")
    }
    let layout = type.block
    guard columns > 0, columns % layout.elements == 0 else {
      throw CheckpointError(
        .malformed,
        "rows of \(columns) elements are not a whole number of \(type) blocks (\(layout.elements) elements each)"
      )
    }
    let rows = blocks / (columns / layout.elements * layout.bytes)
    guard blocks == rows * (columns / layout.elements * layout.bytes), codes == rows * (columns / 2),
      scales == rows * (columns / groups.length)
    else {
      throw CheckpointError(
        .malformed,
        "\(blocks) bytes of \(type) blocks in rows of \(columns) elements do not match \(codes) bytes of codes and "
          + "\(scales) of scales")
    }
    return groups
  }

  private static func refusal(_ group: Int, _ groups: Groups, _ columns: Int, _ what: String)
    -> CheckpointError
  {
    let (row, inside) = group.quotientAndRemainder(dividingBy: columns / groups.length)
    return CheckpointError(
      .unsupported, "the group at row \(row), column \(inside * groups.length) \(what)",
      remedy: "decode and encode it instead of repacking")
  }
}
