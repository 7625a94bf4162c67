internal import CBlockKernels
public import TensorFormats

/// Turns rows of F32 into the bytes of one element type and back.
///
/// A codec has two implementations: the *reference twin* in Swift, which is the readable specification, and the C
/// kernels, chosen at run time. They agree bit for bit; tests hold them to it.
///
/// Codecs are stateless values: use one from as many threads as you like. They allocate nothing per call.
@safe public struct BlockCodec: Sendable {
  /// What an encoder does with an importance matrix.
  public enum ImportanceUse: Sendable {
    /// The format has no use for one; it is ignored.
    case ignored
    /// The search is weighted by it if it is given.
    case optional
    /// The format cannot be encoded sensibly without one.
    case required
  }

  /// The element type read and written.
  public let elementType: ElementType
  /// What the encoder does with an importance matrix.
  public let importanceUse: ImportanceUse

  let decodeKernel: cbk_decode_fn
  let encodeKernel: cbk_encode_fn?
  let decodeTwin: @Sendable (_ blocks: RawSpan, _ values: inout MutableSpan<Float>) -> Void
  let encodeTwin:
    (
      @Sendable (
        _ values: Span<Float>, _ importance: Span<Float>?, _ columns: Int, _ blocks: inout MutableRawSpan
      ) -> Void
    )?

  /// Whether the type can be written; some are only read.
  public var canEncode: Bool { unsafe encodeKernel != nil }

  /// The codec of an element type; `nil` for types that hold no real numbers (integers, booleans, complex).
  ///
  /// - Complexity: O(1).
  public static func codec(for type: ElementType) -> BlockCodec? { registry[type] }

  private static let registry: [ElementType: BlockCodec] = {
    let all = flatCodecs + kQuantCodecs + iQuantCodecs
    return Dictionary(uniqueKeysWithValues: all.map { ($0.elementType, $0) })
  }()
}

// MARK: - Decoding

extension BlockCodec {
  /// Decodes whole blocks to F32.
  ///
  /// - Parameters:
  ///   - blocks: *n* blocks.
  ///   - values: Receives *n* × `elementType.block.elements` values, in block order.
  ///   - tier: The kernels to use.
  /// - Throws: `.malformed` if the sizes do not match; `values` is then untouched.
  /// - Complexity: O(*n*); allocates nothing.
  public func decode(
    _ blocks: RawSpan, into values: inout MutableSpan<Float>, tier: KernelTier = .active
  ) throws(CheckpointError) {
    try checkSizes(bytes: blocks.byteCount, elements: values.count)
    let count = values.count
    unsafe blocks.withUnsafeBytes { source in
      unsafe values.withUnsafeMutableBufferPointer { target in
        guard let from = source.baseAddress, let to = target.baseAddress else { return }
        unsafe decodeKernel(tier.kernelValue, from.assumingMemoryBound(to: UInt8.self), to, count)
      }
    }
  }

  /// Decodes with the Swift twin: the readable definition that the kernels must match.
  ///
  /// - Throws: As ``decode(_:into:tier:)``.
  public func decodeReference(_ blocks: RawSpan, into values: inout MutableSpan<Float>)
    throws(CheckpointError)
  {
    try checkSizes(bytes: blocks.byteCount, elements: values.count)
    decodeTwin(blocks, &values)
  }
}

// MARK: - Encoding

extension BlockCodec {
  /// Encodes rows of F32, giving the bytes of the format's reference encoder.
  ///
  /// - Parameters:
  ///   - values: Rows of `columns` values, row-major. NaN and infinity must have been handled before.
  ///   - columns: The length of a row, a multiple of the block's elements.
  ///   - importance: `columns` non-negative weights, the same for every row; `nil` for none.
  ///   - blocks: Receives the encoded rows.
  ///   - tier: The kernels to use.
  /// - Throws: `.malformed` if the sizes do not match, `.unsupported` if this type cannot be written or needs an
  ///   importance matrix and has none. `blocks` is then untouched.
  public func encode(
    _ values: Span<Float>, columns: Int, importance: Span<Float>? = nil, into blocks: inout MutableRawSpan,
    tier: KernelTier = .active
  ) throws(CheckpointError) {
    try checkEncode(values.count, columns: columns, importance: importance?.count, bytes: blocks.byteCount)
    guard let encodeKernel = unsafe encodeKernel, !values.isEmpty else { return }
    let rows = values.count / columns
    unsafe values.withUnsafeBufferPointer { source in
      unsafe blocks.withUnsafeMutableBytes { target in
        guard let from = source.baseAddress,
          let to = unsafe target.baseAddress?.assumingMemoryBound(to: UInt8.self)
        else { return }
        if let importance, importanceUse != .ignored {
          unsafe importance.withUnsafeBufferPointer {
            unsafe encodeKernel(tier.kernelValue, from, $0.baseAddress, rows, columns, to)
          }
        } else {
          unsafe encodeKernel(tier.kernelValue, from, nil, rows, columns, to)
        }
      }
    }
  }

  /// Encodes with the Swift twin: the readable definition that the kernels must match.
  ///
  /// - Throws: As ``encode(_:columns:importance:into:tier:)``.
  public func encodeReference(
    _ values: Span<Float>, columns: Int, importance: Span<Float>? = nil, into blocks: inout MutableRawSpan
  ) throws(CheckpointError) {
    try checkEncode(values.count, columns: columns, importance: importance?.count, bytes: blocks.byteCount)
    guard let encodeTwin, !values.isEmpty else { return }
    encodeTwin(values, importanceUse == .ignored ? nil : importance, columns, &blocks)
  }
}

// MARK: - Checking

extension BlockCodec {
  private func checkSizes(bytes: Int, elements: Int) throws(CheckpointError) {
    guard elementType.block.byteCount(ofElements: elements) == bytes else {
      throw CheckpointError(
        .malformed,
        "\(elements) \(elementType) elements do not take \(bytes) bytes (blocks of \(elementType.block.elements) "
          + "elements in \(elementType.block.bytes) bytes)")
    }
  }

  private func checkEncode(
    _ elements: Int, columns: Int, importance: Int?, bytes: Int
  ) throws(CheckpointError) {
    guard canEncode else {
      throw CheckpointError(.unsupported, "\(elementType) can be read but not written")
    }
    guard columns > 0, columns % elementType.block.elements == 0, elements % columns == 0 else {
      throw CheckpointError(
        .malformed,
        "rows of \(columns) elements are not a whole number of \(elementType) blocks (\(elementType.block.elements) "
          + "elements each)")
    }
    try checkSizes(bytes: bytes, elements: elements)
    if let importance {
      guard importance == columns else {
        throw CheckpointError(.malformed, "\(importance) importance weights for rows of \(columns) elements")
      }
    } else if importanceUse == .required {
      throw CheckpointError(
        .unsupported, "\(elementType) needs an importance matrix",
        remedy: "give one, or choose another format")
    }
  }
}
