public import TensorFormats

/// What safetensors knows of element types.
extension ElementType {
  /// Every type that a safetensors file can hold, in the order in which the reference writer ranks them: by rising
  /// alignment, and within one alignment as declared there.
  ///
  /// Source: `Dtype` in safetensors 0.8, `safetensors/src/tensor.rs`.
  public static let safetensorsTypes: [ElementType] = [
    .bool, .f4, .f6E2M3, .f6E3M2, .u8, .i8, .f8E5M2, .f8E4M3, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ,
    .i16, .u16, .f16, .bf16,
    .i32, .u32, .f32,
    .c64, .f64, .i64, .u64,
  ]

  private static let safetensorsRanks: [ElementType: Int] = Dictionary(
    uniqueKeysWithValues: safetensorsTypes.enumerated().map { ($1, $0) })

  private static let safetensorsTypesByName: [String: ElementType] = Dictionary(
    uniqueKeysWithValues: safetensorsTypes.map { ($0.rawValue, $0) })

  /// The type of this name; `nil` if safetensors has none. Names are case-sensitive, and GGML's block formats are
  /// not among them.
  public init?(safetensorsName name: String) {
    guard let type = Self.safetensorsTypesByName[name] else { return nil }
    self = type
  }

  /// Whether a safetensors file can hold this type.
  public var isSafetensorsType: Bool { safetensorsRank != nil }

  /// The type's place in ``safetensorsTypes``; `nil` if safetensors cannot hold it. The reference writer puts
  /// tensors of higher rank first.
  public var safetensorsRank: Int? { Self.safetensorsRanks[self] }

  /// The alignment in bytes that the reference writer's order gives a tensor of this type: the size of its elements,
  /// or 1 for sub-byte types. `nil` if safetensors cannot hold it.
  public var safetensorsAlignment: Int? {
    guard isSafetensorsType else { return nil }
    return block.elements == 1 ? block.bytes : 1
  }
}
