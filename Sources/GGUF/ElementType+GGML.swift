public import TensorFormats

/// GGML's numbers for element types, as a GGUF file's tensor table has them.
///
/// Source: `enum ggml_type` in `ggml/include/ggml.h`.
extension ElementType {
  /// GGML's number for this type; `nil` for a type that GGUF cannot hold, such as safetensors' `F8_E4M3`.
  public var ggmlTypeID: UInt32? {
    switch self {
    case .f32: 0
    case .f16: 1
    case .q4_0: 2
    case .q4_1: 3
    case .q5_0: 6
    case .q5_1: 7
    case .q8_0: 8
    case .q8_1: 9
    case .q2K: 10
    case .q3K: 11
    case .q4K: 12
    case .q5K: 13
    case .q6K: 14
    case .q8K: 15
    case .iq2XXS: 16
    case .iq2XS: 17
    case .iq3XXS: 18
    case .iq1S: 19
    case .iq4NL: 20
    case .iq3S: 21
    case .iq2S: 22
    case .iq4XS: 23
    case .i8: 24
    case .i16: 25
    case .i32: 26
    case .i64: 27
    case .f64: 28
    case .iq1M: 29
    case .bf16: 30
    case .tq1_0: 34
    case .tq2_0: 35
    case .mxfp4: 39
    case .nvfp4: 40
    case .q1_0: 41
    case .q2_0: 42
    case .bool, .u8, .u16, .u32, .u64, .c64, .f8E5M2, .f8E4M3, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ, .f4,
      .f6E2M3,
      .f6E3M2:
      nil
    }
  }

  /// The type with GGML's number `id`; `nil` for numbers that are unknown or were removed.
  ///
  /// - Complexity: O(1).
  public init?(ggmlTypeID id: UInt32) {
    guard id < ElementType.byGGMLTypeID.count, let type = ElementType.byGGMLTypeID[Int(id)] else {
      return nil
    }
    self = type
  }

  /// Why `id` is not a type, for a message: `removed type 4 (Q4_2)` or `unknown type 43`.
  static func objection(toGGMLTypeID id: UInt32) -> String {
    guard let name = removedGGMLTypes[id] else {
      return "unknown type \(id), the highest known is \(byGGMLTypeID.count - 1)"
    }
    return "removed type \(id) (\(name))"
  }

  private static let byGGMLTypeID: [ElementType?] = {
    var table: [ElementType?] = []
    for type in allCases {
      guard let id = type.ggmlTypeID else { continue }
      while table.count <= id { table.append(nil) }
      table[Int(id)] = type
    }
    return table
  }()

  private static let removedGGMLTypes: [UInt32: String] = [
    4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
  ]
}
