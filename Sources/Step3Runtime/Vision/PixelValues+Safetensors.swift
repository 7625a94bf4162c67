internal import ByteStreams
internal import Quantization
internal import Safetensors
public import TensorFormats

extension PixelValues {
  /// Reads `pixel_values` [n, 3, S, S], `patch_pixel_values` [m, 3, S', S'] and `num_patches` [n] from a safetensors
  /// file, under the names that the published processor gives them. Crops and their counts may be omitted together;
  /// other tensors are ignored.
  ///
  /// - Parameter path: The file. Pixels may be F32, BF16 or F16, counts I32 or I64.
  /// - Throws: `.notFound` without pictures, `.malformed` for other types and shapes, and what reading throws.
  /// - Complexity: O(file); memory is that of the pixels as F32.
  public init(safetensors path: String) throws(CheckpointError) {
    let file = try PixelFile(path)
    do throws(CheckpointError) {
      guard let images = try file.images(Self.imagesName) else {
        throw CheckpointError(
          .notFound, "is missing", tensor: Self.imagesName,
          remedy: "write the processor's output with safetensors.torch.save_file")
      }
      try self.init(
        images, crops: try file.images(Self.cropsName), cropCounts: try file.counts(Self.countsName))
    } catch {
      throw error.at(path: path)
    }
  }
}

/// A safetensors file with pixels in it.
private struct PixelFile {
  let source: InputFile
  let header: SafetensorsHeader

  init(_ path: String) throws(CheckpointError) {
    source = try InputFile(path)
    header = try SafetensorsHeader.read(from: source)
  }

  /// A stack of square pictures; `nil` if the file has none of that name.
  func images(_ name: String) throws(CheckpointError) -> SquareImages? {
    guard let tensor = header.tensor(named: name) else { return nil }
    let shape = tensor.shape.dimensions
    guard shape.count == 4, shape[1] == 3, shape[2] == shape[3], shape[2] > 0 else {
      throw CheckpointError(
        .malformed, "has the shape \(tensor.shape); expected [pictures, 3, side, side]", tensor: name)
    }
    guard [.f32, .bf16, .f16].contains(tensor.elementType),
      let codec = BlockCodec.codec(for: tensor.elementType)
    else {
      throw CheckpointError(
        .malformed, "is \(tensor.elementType); pixels are F32, BF16 or F16", tensor: name)
    }
    let bytes = try source.readBytes(tensor.byteRange)
    var values = [Float](repeating: 0, count: tensor.shape.elementCount)
    var span = values.mutableSpan
    try unsafe codec.decode(bytes.span.bytes, into: &span)
    return SquareImages(count: shape[0], side: shape[2], values)
  }

  /// A vector of numbers; `nil` if the file has none of that name.
  func counts(_ name: String) throws(CheckpointError) -> [Int]? {
    guard let tensor = header.tensor(named: name) else { return nil }
    guard tensor.shape.rank == 1, [.i32, .i64].contains(tensor.elementType) else {
      throw CheckpointError(
        .malformed,
        "is \(tensor.elementType) \(tensor.shape); expected a vector of I32 or I64, one number for each picture",
        tensor: name)
    }
    let bytes = try source.readBytes(tensor.byteRange)
    let span = unsafe bytes.span.bytes
    return (0..<tensor.shape.elementCount).map { index in
      tensor.elementType == .i32
        ? Int(Int32(littleEndian: unsafe span.unsafeLoadUnaligned(fromByteOffset: 4 * index, as: Int32.self)))
        : Int(Int64(littleEndian: unsafe span.unsafeLoadUnaligned(fromByteOffset: 8 * index, as: Int64.self)))
    }
  }
}
