internal import Checkpoint
internal import TensorFormats

/// Modules of AWQ and GPTQ, which store the transpose of a weight.
extension CodeRecognition.Module {
  /// Integers that are stored as the weight's transpose.
  func transposedIntegers() throws(CheckpointError) -> Found {
    guard let scales = companion("scales"), let zeros = companion("qzeros") else {
      throw unread("codes under this name need scales and qzeros, and at least one is missing")
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
      throw unread("codes under this name are AWQ's or GPTQ's, but quantization_config does not say which")
    }
  }

  private func awq(
    _ scales: Checkpoint.Tensor, _ zeros: Checkpoint.Tensor, groups: Int, rows: Int
  ) throws(CheckpointError) -> Found {
    guard settings.bits == [4] else {
      throw unread("only 4-bit AWQ codes are supported, but the configuration says otherwise")
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
      throw unread(
        "only 2, 3, 4 and 8-bit GPTQ codes are supported, but the configuration says none of these")
    }
    let words = codes.shape.dimensions[codes.shape.rank - 2]
    let outer = codes.shape.dimensions.dropLast(2)
    guard words * 32 % bits == 0, codes.shape.columns == rows, rows * bits % 32 == 0,
      zeros.shape.dimensions == outer + [groups, rows * bits / 32]
    else { throw misfit(scales, nil) }
    let columns = words * 32 / bits
    let index = try groupIndex(companion("g_idx"), columns: columns)
    // The first version stores zero points minus one.
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
        "\(groups) groups of scales do not match rows of \(columns)"
          + (stated.map { " and the group_size \($0) of the configuration" } ?? ""))
    }
    guard let shape = TensorShape(checking: codes.shape.dimensions.dropLast(2) + [rows, columns]) else {
      throw unread("it has too many elements")
    }
    return ScaledCodes(
      name: name, codes: codes, packing: packing, scales: scales, zeros: zeros, groupIndex: index,
      shape: shape,
      scaleHeight: 1, groupLength: length, groups: groups)
  }
}
