package import ByteStreams
internal import Quantization
internal import Safetensors
public import TensorFormats

/// Logits computed by another program: a safetensors file with `input_ids` and `logits`, or a `.npy` file with only
/// logits.
///
/// Opening reads the header and the tokens; rows are read on demand.
public struct LogitsFile: Sendable {
  /// The file.
  public let path: String
  /// The input tokens; `nil` if the file does not have them.
  public let tokens: [Int]?
  /// Positions.
  public let rows: Int
  /// Logits per position.
  public let vocabulary: Int
  /// How the logits are stored.
  public let elementType: ElementType
  private let source: any ByteSource
  private let dataOffset: Int
  private let codec: BlockCodec

  /// A limit beyond any text that would be compared.
  private static let largestTokenCount = 1 << 24

  /// Opens a file of either kind, recognised by its first bytes.
  ///
  /// - Throws: `.notFound`, `.truncated`, `.malformed`, `.unsupported`.
  public init(_ path: String) throws(CheckpointError) { try self.init(of: InputFile(path)) }

  /// The same for an open source.
  ///
  /// - Throws: `.truncated`, `.malformed`, `.unsupported`.
  package init(of source: any ByteSource) throws(CheckpointError) {
    let first = try source.readBytes(0..<min(NumPyHeader.magic.count, source.byteCount))
    if first == NumPyHeader.magic {
      let header = try NumPyHeader(source)
      try self.init(source, header.elementType, header.shape, header.dataOffset, tokens: nil)
      return
    }
    let header = try SafetensorsHeader.read(from: source)
    guard let logits = header.tensor(named: "logits") else {
      throw CheckpointError(
        .malformed, "has no tensor 'logits'", path: source.path,
        remedy: "a logits file has 'input_ids' [T] and 'logits' [T, V]")
    }
    guard let ids = header.tensor(named: "input_ids") else {
      throw CheckpointError(
        .malformed, "has no tensor 'input_ids'", path: source.path,
        remedy: "the tokens are needed to compute the same logits")
    }
    try self.init(
      source, logits.elementType, logits.shape, logits.byteRange.lowerBound,
      tokens: try Self.tokens(ids, in: source))
  }

  /// Whether a path names a logits file, valid or not, rather than a checkpoint: by its suffix, or the tensor `logits`.
  public static func isMeant(by path: String) -> Bool {
    if path.hasSuffix(".npy") { return true }
    guard path.hasSuffix(".safetensors"), let source = try? InputFile(path),
      let header = try? SafetensorsHeader.read(from: source)
    else { return false }
    return header.tensor(named: "logits") != nil
  }

  private init(
    _ source: any ByteSource, _ elementType: ElementType, _ shape: TensorShape, _ dataOffset: Int,
    tokens: [Int]?
  ) throws(CheckpointError) {
    func failure(_ code: CheckpointError.Code, _ message: String) -> CheckpointError {
      CheckpointError(code, message, path: source.path, tensor: tokens == nil ? nil : "logits")
    }
    // A batch of one counts as a single text.
    let inner = shape.dimensions.drop { $0 == 1 }
    let dimensions = shape.rank <= 2 ? shape.dimensions[...] : inner.count == 1 ? [1] + inner : inner
    guard dimensions.count == 2, dimensions[dimensions.startIndex] > 0, shape.columns > 0 else {
      throw failure(
        .malformed, "the shape \(shape) is not that of logits: positions and, for each, the vocabulary")
    }
    guard [.f32, .f16, .bf16, .f64].contains(elementType), let codec = BlockCodec.codec(for: elementType)
    else {
      throw failure(
        .unsupported, "logits of type \(elementType) are not supported, only F32, F16, BF16 and F64")
    }
    if let tokens {
      guard tokens.count == dimensions[dimensions.startIndex] else {
        throw failure(
          .malformed,
          "there are \(dimensions[dimensions.startIndex]) rows of logits for \(tokens.count) tokens")
      }
      if let wrong = tokens.first(where: { !(0..<shape.columns).contains($0) }) {
        throw failure(.malformed, "the token \(wrong) has no logit among \(shape.columns)")
      }
    }
    path = source.path
    rows = dimensions[dimensions.startIndex]
    vocabulary = shape.columns
    self.tokens = tokens
    self.elementType = elementType
    self.source = source
    self.dataOffset = dataOffset
    self.codec = codec
  }

  private static func tokens(
    _ tensor: SafetensorsHeader.Tensor, in source: any ByteSource
  ) throws(CheckpointError) -> [Int] {
    guard tensor.elementType == .i64 || tensor.elementType == .i32,
      tensor.shape.rank == 1 || tensor.shape.rank == 2 && tensor.shape.dimensions[0] == 1,
      tensor.shape.elementCount <= largestTokenCount
    else {
      throw CheckpointError(
        .malformed, "is \(tensor.elementType) \(tensor.shape), not a list of tokens in I64",
        path: source.path,
        tensor: tensor.name)
    }
    let bytes = try source.readBytes(tensor.byteRange)
    let span = unsafe bytes.span.bytes
    return (0..<tensor.shape.elementCount).map { index in
      tensor.elementType == .i64
        ? Int(
          Int64(littleEndian: unsafe span.unsafeLoadUnaligned(fromByteOffset: index * 8, as: Int64.self)))
        : Int(
          Int32(littleEndian: unsafe span.unsafeLoadUnaligned(fromByteOffset: index * 4, as: Int32.self)))
    }
  }

  /// The token after a position; `nil` after the last, and if the file does not have tokens.
  public func next(after row: Int) -> Int? {
    guard let tokens, row + 1 < tokens.count else { return nil }
    return tokens[row + 1]
  }

  /// Reads the logits of a position, F64 rounded to F32.
  ///
  /// - Parameters:
  ///   - row: The position.
  ///   - values: Receives ``vocabulary`` values.
  /// - Throws: `.truncated`, `.inputOutput`.
  public func read(_ row: Int, into values: inout MutableSpan<Float>) throws(CheckpointError) {
    precondition((0..<rows).contains(row) && values.count == vocabulary, "no such row")
    let bytesPerRow = vocabulary * elementType.block.bytes
    let start = dataOffset + row * bytesPerRow
    let bytes = try source.readBytes(start..<start + bytesPerRow)
    try unsafe codec.decode(bytes.span.bytes, into: &values)
  }

  /// The logits of a position.
  ///
  /// - Throws: As ``read(_:into:)``.
  public func row(_ row: Int) throws(CheckpointError) -> [Float] {
    var values = [Float](repeating: 0, count: vocabulary)
    var span = values.mutableSpan
    try read(row, into: &span)
    return values
  }
}
