internal import ByteStreams
public import Checkpoint
public import Quantization
public import TensorFormats

/// How one weight, or a box of it, lies in a checkpoint's files: as one tensor of values, or as codes with scales in
/// tensors of their own.
public struct StoredWeight: Hashable, Sendable {
  /// How codes and scales make values; `nil` for a tensor that holds the values itself. (GGUF's NVFP4 is one that can
  /// have ``matrixScales`` beside it, which are multiplied in.)
  public let scheme: StoredScheme?
  /// The values or codes.
  public let codes: Checkpoint.Tensor
  /// The scales of tiles, rows or groups.
  public let scales: Checkpoint.Tensor?
  /// The scales of whole matrices.
  public let matrixScales: Checkpoint.Tensor?
  /// The shape of the values, row-major.
  public let shape: TensorShape

  /// Every tensor it is made of.
  public var components: [Checkpoint.Tensor] { [codes] + [scales, matrixScales].compactMap { $0 } }

  /// The bytes of all of it.
  public var byteCount: Int { components.reduce(0) { $0 + $1.byteRange.count } }

  /// A tensor that holds its values.
  init(values tensor: Checkpoint.Tensor) {
    scheme = nil
    codes = tensor
    scales = nil
    matrixScales = nil
    shape = tensor.shape
  }

  private init(
    _ scheme: StoredScheme?, _ codes: Checkpoint.Tensor, _ shape: TensorShape, scales: Checkpoint.Tensor?,
    matrixScales: Checkpoint.Tensor? = nil
  ) {
    self.scheme = scheme
    self.codes = codes
    self.scales = scales
    self.matrixScales = matrixScales
    self.shape = shape
  }

  /// The same weight in a checkpoint that has so many files before its own.
  func shiftingFiles(by count: Int) -> StoredWeight {
    StoredWeight(
      scheme, codes.shiftingFile(by: count), shape, scales: scales?.shiftingFile(by: count),
      matrixScales: matrixScales?.shiftingFile(by: count))
  }
}

// MARK: - Recognising

extension StoredWeight {
  /// The names of codes.
  static let codesSuffixes = [".weight_packed", ".weight"]
  /// The names of everything that only says how to read codes.
  static let companionSuffixes = [
    ".weight_scale_inv", ".weight_scale", ".weight_global_scale", ".weight_scale_2", shapeSuffix,
    ".weight_zero_point",
  ]
  /// The name of the shape before packing.
  static let shapeSuffix = ".weight_shape"

  /// The name of the scales of whole matrices beside NVFP4 blocks in GGUF.
  static let blockScaleSuffix = ".scale"

  /// Recognises how a module's weight is stored, by the names, types and shapes of its tensors.
  ///
  /// - Parameters:
  ///   - stem: The module's name: `model.layers.4.moe.gate_proj`.
  ///   - holder: The checkpoint, or the part of a partition set, that has the tensors.
  /// - Returns: `nil` if the module has no weight there.
  /// - Throws: `.malformed` if scales do not fit their codes, `.unsupported` for schemes that are not read.
  init?(
    _ stem: String, in holder: Checkpoint, _ settings: QuantizationSettings
  ) throws(CheckpointError) {
    guard let codes = Self.codesSuffixes.lazy.compactMap({ holder[stem + $0] }).first else { return nil }
    let module = Module(stem: stem, codes: codes, holder: holder)
    if let found = try module.recognised(settings) {
      self = found
    } else {
      self.init(values: codes)
    }
  }

  /// The shape of the values that a tensor holds: its own, unless it packs several codes into one element.
  ///
  /// Asks nothing but names, types and shapes, and the shape before packing where one is stated: what does not add up
  /// is taken as it is stored.
  ///
  /// - Parameter holder: The checkpoint, or the part of a partition set, that has the tensor.
  /// - Complexity: O(1).
  public static func valuesShape(of tensor: Checkpoint.Tensor, in holder: Checkpoint) -> TensorShape {
    guard let suffix = codesSuffixes.first(where: { tensor.name.hasSuffix($0) }),
      let codes = holder[tensor.name]
    else { return tensor.shape }
    let module = Module(stem: String(tensor.name.dropLast(suffix.count)), codes: codes, holder: holder)
    do throws(CheckpointError) {
      return try module.valuesShape() ?? tensor.shape
    } catch {
      return tensor.shape
    }
  }

  /// A module's tensors, being recognised.
  private struct Module {
    let stem: String
    let codes: Checkpoint.Tensor
    let holder: Checkpoint

    func companion(_ suffix: String) -> Checkpoint.Tensor? { holder[stem + suffix] }

    /// The shape of the values of packed codes, whether or not their scheme is read; `nil` for codes that are not
    /// packed.
    func valuesShape() throws(CheckpointError) -> TensorShape? {
      guard [.i32, .u8].contains(codes.elementType) else { return nil }
      if codes.elementType == .i32, let stated = companion(StoredWeight.shapeSuffix),
        stated.elementType == .i64, let columns = try integers(stated).last,
        let words = codes.shape.dimensions.last, words > 0, columns >= words, columns / words <= 32,
        let shape = TensorShape(checking: codes.shape.dimensions.dropLast() + [columns])
      {
        // Words of any number of codes, the last word of a row perhaps not full.
        return shape
      }
      return try recognised(QuantizationSettings())?.shape
    }

    func recognised(_ settings: QuantizationSettings) throws(CheckpointError) -> StoredWeight? {
      let scales = companion(".weight_scale")
      switch codes.elementType {
      case .nvfp4:
        guard let factors = companion(StoredWeight.blockScaleSuffix) else { return nil }
        let matrices = codes.shape.rank == 3 ? codes.shape.dimensions[0] : 1
        guard factors.elementType == .f32, factors.shape.elementCount == matrices else {
          throw misfit(factors, "[\(matrices)] of F32")
        }
        return StoredWeight(nil, codes, codes.shape, scales: nil, matrixScales: factors)
      case .f8E4M3:
        if let inverse = companion(".weight_scale_inv") {
          let tiles = WeightScheme.fp8Block(rows: settings.tile.rows, columns: settings.tile.columns)
          return try weight(StoredScheme(tiles, .fp8), codes.shape, inverse)
        }
        guard let scales else { return nil }
        return try eightBitFloats(scales, settings)
      case .i8:
        guard let scales else { return nil }
        let method: StoredScheme.Method = settings.method == "w8a8_int8" ? .w8a8Int8 : .compressedTensors
        return try weight(StoredScheme(.int8Channel, method), codes.shape, scales)
      case .i32:
        guard let scales else { return nil }
        return try packedIntegers(scales)
      case .u8:
        guard let scales else { return nil }
        return try packedFloats(scales)
      default: return nil
      }
    }

    private func eightBitFloats(
      _ scales: Checkpoint.Tensor, _ settings: QuantizationSettings
    ) throws(CheckpointError) -> StoredWeight {
      let method: StoredScheme.Method = settings.method == "fp8" ? .fp8 : .compressedTensors
      let shape = codes.shape
      let matrices = shape.rank == 3 ? shape.dimensions[0] : 1
      if shape.rank >= 2, scales.shape.elementCount == matrices, shape.dimensions[shape.rank - 2] != 1 {
        // One scale for a whole matrix: a tile of its size.
        let all = WeightScheme.fp8Block(
          rows: max(1, shape.dimensions[shape.rank - 2]), columns: max(1, shape.columns))
        return StoredWeight(StoredScheme(all, method), codes, shape, scales: scales)
      }
      if scales.shape == WeightScheme.fp8Channel.scales(of: shape)?.shape {
        return try weight(StoredScheme(.fp8Channel, method), shape, scales)
      }
      let tiles = WeightScheme.fp8Block(rows: settings.tile.rows, columns: settings.tile.columns)
      return try weight(StoredScheme(tiles, method), shape, scales)
    }

    private func packedIntegers(_ scales: Checkpoint.Tensor) throws(CheckpointError) -> StoredWeight {
      guard companion(".weight_zero_point") == nil else {
        throw unsupported("its zero points make it asymmetric, which is not read")
      }
      let shape = unpacked(by: 8)
      if let stated = companion(StoredWeight.shapeSuffix), stated.elementType == .i64 {
        let numbers = try integers(stated)
        guard numbers.suffix(2) == shape.dimensions.suffix(2) else {
          throw unsupported(
            "its weight_shape says \(numbers.suffix(2)), but \(codes.shape) words of eight codes are "
              + "\(shape.dimensions.suffix(2)); only codes of four bits are read")
        }
      }
      let groups = scales.shape.columns
      guard groups > 0, shape.columns % groups == 0 else { throw misfit(scales, nil) }
      let length = shape.columns / groups
      guard length % 16 == 0, (16...256).contains(length) else {
        throw unsupported(
          "groups of \(length) elements share a scale, which is not read; 32, 64 and 128 are usual")
      }
      return try weight(
        StoredScheme(.int4Group(length), .compressedTensors), shape, scales)
    }

    private func packedFloats(_ scales: Checkpoint.Tensor) throws(CheckpointError) -> StoredWeight {
      let shape = unpacked(by: 2)
      guard scales.elementType == .f8E4M3 else {
        let method: StoredScheme.Method = codes.name.hasSuffix("_packed") ? .compressedTensors : .mxfp4
        return try weight(StoredScheme(.mxfp4, method), shape, scales)
      }
      let method: StoredScheme.Method = companion(".weight_scale_2") == nil ? .compressedTensors : .modelOpt
      let stored = StoredScheme(.nvfp4, method)
      guard let suffix = stored.matrixScaleSuffix, let matrixScales = companion("." + suffix) else {
        throw CheckpointError(
          .malformed, "has scales of eight bits but none for the whole matrix", path: path, tensor: codes.name
        )
      }
      let matrices = shape.rank == 3 ? shape.dimensions[0] : 1
      guard matrixScales.elementType == .f32, matrixScales.shape.elementCount == matrices else {
        throw misfit(matrixScales, "[\(matrices)] of F32")
      }
      return try weight(stored, shape, scales, matrixScales)
    }

    private func weight(
      _ stored: StoredScheme, _ shape: TensorShape, _ scales: Checkpoint.Tensor,
      _ matrixScales: Checkpoint.Tensor? = nil
    ) throws(CheckpointError) -> StoredWeight {
      if let reason = stored.scheme.misfit(shape) { throw unsupported(reason) }
      guard let expected = stored.scheme.scales(of: shape), expected.shape == scales.shape else {
        var error = misfit(scales, stored.scheme.scales(of: shape)?.shape.description)
        if case .fp8Block = stored.scheme {
          error.remedy = "quantization_config.weight_block_size in config.json gives the size of the tiles"
        }
        throw error
      }
      guard stored.scheme.canHaveScales(of: scales.elementType) else {
        throw unsupported("its scales are \(scales.elementType), which \(stored.scheme) does not have")
      }
      return StoredWeight(stored, codes, shape, scales: scales, matrixScales: matrixScales)
    }

    private func unpacked(by factor: Int) -> TensorShape {
      // The bytes are there, so the number of elements cannot overflow.
      TensorShape(
        checking: codes.shape.dimensions.dropLast() + [codes.shape.columns * factor]) ?? codes.shape
    }

    private func integers(_ tensor: Checkpoint.Tensor) throws(CheckpointError) -> [Int] {
      guard tensor.byteRange.count <= 1 << 20 else { throw misfit(tensor, nil) }
      let bytes = try holder.files[tensor.file].source.readBytes(tensor.byteRange)
      let span = unsafe bytes.span.bytes
      return stride(from: 0, to: bytes.count, by: 8).map {
        Int(littleEndian: unsafe span.unsafeLoadUnaligned(fromByteOffset: $0, as: Int.self))
      }
    }

    private var path: String { holder.files[codes.file].source.path }

    private func unsupported(_ message: String) -> CheckpointError {
      CheckpointError(.unsupported, message, path: path, tensor: codes.name)
    }

    private func misfit(_ scales: Checkpoint.Tensor, _ expected: String?) -> CheckpointError {
      CheckpointError(
        .malformed,
        "has the shape \(scales.shape), which does not fit a weight stored as \(codes.elementType) \(codes.shape)"
          + (expected.map { "; expected \($0)" } ?? ""),
        path: holder.files[scales.file].source.path, tensor: scales.name)
    }
  }
}

extension WeightScheme {
  /// Whether scales stored as `type` are read; ``scales(of:)`` says how they are written.
  fileprivate func canHaveScales(of type: ElementType) -> Bool {
    switch self {
    case .fp8Block, .fp8Channel, .int8Channel: [.f32, .bf16, .f16].contains(type)
    case .int4Group: type == .bf16
    case .nvfp4: type == .f8E4M3
    case .mxfp4: type == .u8 || type == .f8E8M0
    }
  }
}
