internal import CBlockKernels
public import TensorFormats

/// Turns rows of F32 into the codes and scales of a ``StoredScheme`` and back. For the schemes whose rows are
/// independent: all but block-FP8, which ``BlockFP8`` handles.
///
/// Like a ``BlockCodec`` it has a readable definition in Swift and C kernels that agree with it bit for bit. Scales
/// are chosen by ``ScaleSearch``. `absmax` gives, bit for bit, what the scheme's own library gives for a weight *that
/// is stored in BF16*:
///
/// | scheme | scale (stored as) | code of x |
/// |---|---|---|
/// | `fp8Channel` | BF16(amax / 448) (F32) | F8_E4M3(BF16(x / scale)) |
/// | `int8Channel` | BF16(amax / 127.5) (F32) | round(BF16(x / scale)) in -128 ... 127 |
/// | `int8Channel`, `w8a8_int8` | BF16(amax / 127) (F32) | the same in -127 ... 127 |
/// | `int4Group` | BF16(amax / 7.5) (BF16) | round(BF16(x / scale)) in -8 ... 7, stored with 8 added |
/// | `nvfp4` | F8_E4M3(global · BF16(amax / 6)) | E2M1(x / (scale / global)) |
/// | `nvfp4`, ModelOpt | F8_E4M3(amax / (6 · scale2)) | E2M1(x / (scale · scale2)) |
/// | `mxfp4` | 2^(⌊log2 amax⌋ - 2), one more from 1.75 · 2^n on | E2M1(BF16(x / scale)) |
/// | `mxfp4`, `quant_method: mxfp4` | 2^(⌊log2 amax⌋ - 2) | E2M1(x / scale) |
///
/// All other operations are in F32. Everything rounds to nearest, ties to even, and saturates. amax is the largest
/// magnitude of the group, or of the row. Where a scale would be 0, it is 2^-7 (BF16's machine epsilon) for F32 and
/// BF16, 0.125 for `nvfp4`, 1 for ModelOpt (which keeps scales above 0 otherwise from 2^-9 on), and 2^-127 for
/// `mxfp4`.
///
/// A value of another type (F32, or decoded from FP8) is not rounded to BF16 first; its scales and quotients are
/// rounded as above. For a library's result on a BF16 copy of such a weight, round it to BF16 first.
///
/// Deliberate differences from the libraries: `w8a8_int8` has no rule for a row whose scale is 0 (the library
/// divides by it; here it is 2^-7), torchao divides by 2^-126 where it stores 2^-127, and compressed-tensors stores
/// 1 as the MXFP4 scale of a group from 1.75 · 2^127 on (here it is 2^126, which holds it).
///
/// Sources: compressed-tensors 0.20 (`calculate_qparams`, `generate_gparam`, `generate_mx_scales`, its compressors);
/// NVIDIA ModelOpt 0.47 (`NVFP4QTensor`); the OCP Microscaling Formats specification 1.0, section 6.3, as torchao 0.18
/// has it (`ScaleCalculationMode.FLOOR`), for `quant_method: mxfp4`; the converter published with SGLang's INT8 model
/// DeepSeek-R1-Channel-INT8 for `w8a8_int8`.
public struct RowScheme: Hashable, Sendable {
  /// The scheme that is read and written.
  public let stored: StoredScheme

  let rule: SchemeRule

  /// Prepares for one scheme.
  ///
  /// - Throws: `.unsupported` for block-FP8, for a scheme that the library does not have, and for groups whose
  ///   length is not one of 16, 32, 48 ... 256.
  public init(_ stored: StoredScheme) throws(CheckpointError) {
    guard let rule = Self.rule(stored) else {
      throw CheckpointError(
        .unsupported,
        "\(stored.scheme) under the names of \(stored.method.rawValue) cannot be read or written row by row")
    }
    if let length = rule.groupLength, length % 16 != 0 || !(16...256).contains(length) {
      throw CheckpointError(
        .unsupported, "groups of \(length) elements", remedy: "choose groups of 32, 64 or 128 elements")
    }
    self.stored = stored
    self.rule = rule
  }

  private static func rule(_ stored: StoredScheme) -> SchemeRule? {
    switch (stored.scheme, stored.method) {
    case (.fp8Channel, .compressedTensors):
      SchemeRule(codes: .e4m3, scales: .f32(divisor: 448), roundsQuotients: true)
    case (.int8Channel, .compressedTensors):
      SchemeRule(codes: .int8(lowest: -128), scales: .f32(divisor: 127.5), roundsQuotients: true)
    case (.int8Channel, .w8a8Int8):
      SchemeRule(codes: .int8(lowest: -127), scales: .f32(divisor: 127), roundsQuotients: true)
    case (.int4Group(let length), .compressedTensors):
      SchemeRule(codes: .int4, scales: .bf16(divisor: 7.5), groupLength: length, roundsQuotients: true)
    case (.nvfp4, .compressedTensors):
      SchemeRule(codes: .e2m1, scales: .dividedE4M3, groupLength: 16, roundsQuotients: false)
    case (.nvfp4, .modelOpt):
      SchemeRule(codes: .e2m1, scales: .multipliedE4M3, groupLength: 16, roundsQuotients: false)
    case (.mxfp4, .compressedTensors):
      SchemeRule(codes: .e2m1, scales: .e8m0(roundsUp: true), groupLength: 32, roundsQuotients: true)
    case (.mxfp4, .mxfp4):
      SchemeRule(
        codes: .e2m1, scales: .e8m0(roundsUp: false), groupLength: 32, roundsQuotients: false,
        signsZeros: true)
    default: nil
    }
  }

  /// The bytes of a row's codes.
  ///
  /// - Throws: `.malformed` if rows of `columns` elements are not whole groups.
  public func codeBytes(columns: Int) throws(CheckpointError) -> Int {
    try groups(columns: columns) * (rule.groupLength ?? columns) / rule.codesPerByte
  }

  /// The bytes of a row's scales.
  ///
  /// - Throws: `.malformed` if rows of `columns` elements are not whole groups.
  public func scaleBytes(columns: Int) throws(CheckpointError) -> Int {
    try groups(columns: columns) * rule.scaleBytes
  }

  private func groups(columns: Int) throws(CheckpointError) -> Int {
    let length = rule.groupLength ?? columns
    guard columns > 0, columns % length == 0 else {
      throw CheckpointError(
        .malformed, "rows of \(columns) elements are not whole groups of \(length) (\(stored.scheme))")
    }
    return columns / length
  }
}

// MARK: - Encoding

extension RowScheme {
  /// Encodes rows.
  ///
  /// - Parameters:
  ///   - values: Rows of `columns` values, row-major. NaN and infinity must have been handled before.
  ///   - columns: The length of a row, whole groups.
  ///   - importance: `columns` finite weights from 0 on, the same for every row; `nil` for none. `absmax` ignores it.
  ///   - matrixScale: For schemes that have one: the scale of the matrix *as it is stored* (a divisor under the names
  ///     of compressed-tensors, a multiplier under those of ModelOpt). See ``matrixScale(amax:)``.
  ///   - search: How scales are chosen.
  ///   - codes: Receives ``codeBytes(columns:)`` for each row.
  ///   - scales: Receives ``scaleBytes(columns:)`` for each row, little-endian.
  ///   - tier: The kernels to use.
  /// - Returns: What the search has gained; `nil` for `absmax`, where nothing is measured (see ``ErrorSums``).
  /// - Throws: `.malformed` if the sizes do not match, or the scale of the matrix is not a positive number; nothing
  ///   is written then.
  /// - Complexity: O(*n*); allocates nothing.
  @discardableResult
  public func encode(
    _ values: Span<Float>, columns: Int, importance: Span<Float>? = nil, matrixScale: Float = 1,
    search: ScaleSearch, codes: inout MutableRawSpan, scales: inout MutableRawSpan, tier: KernelTier = .active
  ) throws(CheckpointError) -> SearchErrors? {
    try check(
      values: values.count, columns: columns, codes: codes.byteCount, scales: scales.byteCount, matrixScale)
    try check(importance: importance?.count, columns: columns)
    let rows = values.count / columns
    var kernel = rule.kernel(matrixScale: matrixScale)
    var errors = cbk_search_errors()
    unsafe values.withUnsafeBufferPointer { values in
      unsafe codes.withUnsafeMutableBytes { codes in
        unsafe scales.withUnsafeMutableBytes { scales in
          guard let from = values.baseAddress,
            let codes = unsafe codes.baseAddress?.assumingMemoryBound(to: UInt8.self),
            let scales = unsafe scales.baseAddress?.assumingMemoryBound(to: UInt8.self)
          else { return }
          guard search == .mse else {
            unsafe cbk_scheme_encode(tier.kernelValue, &kernel, from, rows, columns, codes, scales)
            return
          }
          guard let importance else {
            unsafe cbk_scheme_search(
              tier.kernelValue, &kernel, from, nil, rows, columns, codes, scales, &errors)
            return
          }
          unsafe importance.withUnsafeBufferPointer {
            unsafe cbk_scheme_search(
              tier.kernelValue, &kernel, from, $0.baseAddress, rows, columns, codes, scales, &errors)
          }
        }
      }
    }
    guard search == .mse else { return nil }
    return SearchErrors(before: errors.before, after: errors.after)
  }

  /// Encodes with the Swift twin: the readable definition that the kernels must match.
  ///
  /// - Throws: As ``encode(_:columns:importance:matrixScale:search:codes:scales:tier:)``.
  @discardableResult
  public func encodeReference(
    _ values: Span<Float>, columns: Int, importance: Span<Float>? = nil, matrixScale: Float = 1,
    search: ScaleSearch, codes: inout MutableRawSpan, scales: inout MutableRawSpan
  ) throws(CheckpointError) -> SearchErrors? {
    try check(
      values: values.count, columns: columns, codes: codes.byteCount, scales: scales.byteCount, matrixScale)
    try check(importance: importance?.count, columns: columns)
    let twin = SchemeTwin(rule: rule, matrixScale: matrixScale, columns: columns)
    return twin.encode(values, importance, search, &codes, &scales)
  }
}

// MARK: - Decoding

extension RowScheme {
  /// Decodes rows: the code's number times the scale (with the matrix's: see ``RowScheme``), in F32.
  ///
  /// - Parameters:
  ///   - codes: Rows of ``codeBytes(columns:)``.
  ///   - scales: As many rows of ``scaleBytes(columns:)``.
  ///   - columns: The length of a row, whole groups.
  ///   - matrixScale: As stored; for schemes that have one.
  ///   - values: Receives `columns` values for each row. NaN codes and scales come out as NaN.
  ///   - tier: The kernels to use.
  /// - Throws: `.malformed` if the sizes do not match, or the scale of the matrix is not a positive number.
  /// - Complexity: O(*n*); allocates nothing.
  public func decode(
    codes: RawSpan, scales: RawSpan, columns: Int, matrixScale: Float = 1,
    into values: inout MutableSpan<Float>,
    tier: KernelTier = .active
  ) throws(CheckpointError) {
    try check(
      values: values.count, columns: columns, codes: codes.byteCount, scales: scales.byteCount, matrixScale)
    let rows = values.count / columns
    var kernel = rule.kernel(matrixScale: matrixScale)
    unsafe codes.withUnsafeBytes { codes in
      unsafe scales.withUnsafeBytes { scales in
        unsafe values.withUnsafeMutableBufferPointer { values in
          guard let to = values.baseAddress,
            let codes = unsafe codes.baseAddress?.assumingMemoryBound(to: UInt8.self),
            let scales = unsafe scales.baseAddress?.assumingMemoryBound(to: UInt8.self)
          else { return }
          unsafe cbk_scheme_decode(tier.kernelValue, &kernel, codes, scales, rows, columns, to)
        }
      }
    }
  }

  /// Decodes with the Swift twin: the readable definition that the kernels must match.
  ///
  /// - Throws: As ``decode(codes:scales:columns:matrixScale:into:tier:)``.
  public func decodeReference(
    codes: RawSpan, scales: RawSpan, columns: Int, matrixScale: Float = 1,
    into values: inout MutableSpan<Float>
  ) throws(CheckpointError) {
    try check(
      values: values.count, columns: columns, codes: codes.byteCount, scales: scales.byteCount, matrixScale)
    SchemeTwin(rule: rule, matrixScale: matrixScale, columns: columns).decode(codes, scales, &values)
  }
}

// MARK: - Checking

extension RowScheme {
  private func check(values: Int, columns: Int, codes: Int, scales: Int, _ matrixScale: Float)
    throws(CheckpointError)
  {
    let (rowCodes, rowScales) = (try codeBytes(columns: columns), try scaleBytes(columns: columns))
    let rows = values / columns
    guard values % columns == 0, codes == rows * rowCodes, scales == rows * rowScales else {
      throw CheckpointError(
        .malformed,
        "\(values) values in rows of \(columns) do not take \(codes) bytes of codes and \(scales) of scales "
          + "(\(rowCodes) and \(rowScales) a row, \(stored.scheme))")
    }
    guard !stored.scheme.geometry.hasMatrixScale || (matrixScale > 0 && matrixScale.isFinite) else {
      throw CheckpointError(
        .malformed, "the scale of the matrix is \(matrixScale), not a positive finite number")
    }
  }

  private func check(importance: Int?, columns: Int) throws(CheckpointError) {
    guard let importance, importance != columns else { return }
    throw CheckpointError(.malformed, "\(importance) importance weights for rows of \(columns) elements")
  }
}

// MARK: - Kernels

extension SchemeRule {
  /// The rule as the kernels take it.
  fileprivate func kernel(matrixScale: Float) -> cbk_scheme {
    var kernel = cbk_scheme()
    switch codes {
    case .e4m3: kernel.codes = CBK_CODES_E4M3
    case .e2m1: kernel.codes = CBK_CODES_E2M1
    case .int4: kernel.codes = CBK_CODES_INT4
    case .int8(let lowest):
      kernel.codes = CBK_CODES_INT8
      kernel.lowest = lowest
    }
    switch scales {
    case .f32(let divisor):
      kernel.scales = CBK_SCALES_F32
      kernel.divisor = divisor
    case .bf16(let divisor):
      kernel.scales = CBK_SCALES_BF16
      kernel.divisor = divisor
    case .dividedE4M3: kernel.scales = CBK_SCALES_E4M3_DIVIDED
    case .multipliedE4M3: kernel.scales = CBK_SCALES_E4M3_MULTIPLIED
    case .e8m0(let roundsUp): kernel.scales = roundsUp ? CBK_SCALES_E8M0_UP : CBK_SCALES_E8M0_DOWN
    }
    kernel.group = groupLength ?? 0
    kernel.matrix_scale = matrixScale
    kernel.rounds_quotients = roundsQuotients
    kernel.signs_zeros = signsZeros
    return kernel
  }
}
