import Checkpoint
import CheckpointTesting
import Foundation
import StoredWeights
import TensorFormats
import Testing

/// One module of an unknown model, stored by hand in various forms, and its expected values.
///
/// Every form is written from its definition, element by element, without any code of the product.
@Suite struct StoredFormTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  private static let module = "model.layers.0.mlp.up_proj"
  private static let (rows, columns) = (64, 128)

  /// Codes and zero points that look random.
  private static func code(_ row: Int, _ column: Int, _ limit: Int) -> Int {
    var state = UInt64(row) &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(column) &* 0xD1B5_4A32_D192_ED03 &+ 7
    state ^= state >> 29
    state = state &* 0xBF58_476D_1CE4_E5B9
    return Int((state ^ state >> 32) % UInt64(limit))
  }

  private static func scale(_ row: Int, _ group: Int) -> Float {
    // Exact in F16 and BF16.
    Float(1 + code(row, group + 1000, 127)) / 1024
  }

  private func open(_ file: WeightFile, _ configuration: String = "{}") throws -> Checkpoint {
    var file = file
    file.add("model.norm.weight", "BF16", WeightFile.bfloat16([1, 1, 1, 1]))
    try file.write(to: directory.path("model.safetensors"))
    let rest = configuration == "{}" ? "}" : ", " + configuration.dropFirst()
    try Data(#"{"model_type": "llama"\#(rest)"#.utf8)
      .write(to: URL(filePath: directory.path("config.json")))
    return try Checkpoint.open(directory.path)
  }

  private func read(_ file: WeightFile, _ configuration: String) throws -> (shape: [Int], values: [Float]) {
    let weights = try ModelWeights(open(file, configuration))
    let weight = try #require(weights["\(Self.module).weight"])
    #expect(Set(weights.names) == ["\(Self.module).weight", "model.norm.weight"])
    return (weight.shape.dimensions, try weights.values(of: weight))
  }

  private func expect(
    _ file: WeightFile, _ configuration: String, _ value: (Int, Int) -> Float,
    at location: SourceLocation = #_sourceLocation
  ) throws {
    let (shape, values) = try read(file, configuration)
    #expect(shape == [Self.rows, Self.columns], sourceLocation: location)
    var wrong = 0
    for row in 0..<Self.rows {
      for column in 0..<Self.columns where values[row * Self.columns + column] != value(row, column) {
        wrong += 1
      }
    }
    #expect(wrong == 0, "\(wrong) elements are wrong", sourceLocation: location)
  }

  private func grid<T>(_ rows: Int, _ columns: Int, _ value: (Int, Int) -> T) -> [T] {
    (0..<rows).flatMap { row in (0..<columns).map { value(row, $0) } }
  }

  private static func half(_ value: Float) -> UInt16 { Float16(value).bitPattern }

  // MARK: Eight bits

  /// E5M2 codes of small numbers: sign, five bits of exponent, two of mantissa.
  private func e5m2(_ code: Int) -> (byte: UInt8, value: Float) {
    let (exponent, mantissa) = (12 + code / 4 % 8, code % 4)
    return (
      UInt8(exponent << 2 | mantissa),
      Float(sign: .plus, exponent: exponent - 15, significand: 1 + Float(mantissa) / 4)
    )
  }

  /// E4M3 codes; with a bias of 8 their values are half as large.
  private func e4m3(_ code: Int) -> (byte: UInt8, value: Float) {
    let (exponent, mantissa) = (4 + code / 8 % 8, code % 8)
    return (
      UInt8(exponent << 3 | mantissa),
      Float(sign: .plus, exponent: exponent - 7, significand: 1 + Float(mantissa) / 8)
    )
  }

  @Test(
    "eight-bit floats are decoded with scales of every shape and type",
    arguments: ["F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"], ["F32", "BF16", "F16", "F8_E8M0"])
  func eightBits(type: String, scaleType: String) throws {
    let small = { (row: Int, column: Int) in
      type.hasPrefix("F8_E5M2")
        ? self.e5m2(Self.code(row, column, 32)) : self.e4m3(Self.code(row, column, 64))
    }
    let bias: Float = type.hasSuffix("FNUZ") ? 0.5 : 1
    let codes = grid(Self.rows, Self.columns) { small($0, $1).byte }
    let power = { (row: Int, column: Int) in
      Float(sign: .plus, exponent: Self.code(row, column, 6) - 3, significand: 1)
    }
    func scales(_ rows: Int, _ columns: Int) -> Data {
      let values = grid(rows, columns, power)
      switch scaleType {
      case "F32": return values.withUnsafeBytes { Data($0) }
      case "BF16": return WeightFile.bfloat16(values).withUnsafeBytes { Data($0) }
      case "F16": return values.map(Self.half).withUnsafeBytes { Data($0) }
      default: return Data(values.map { UInt8(127 + Int($0.exponent)) })
      }
    }
    func file(_ suffix: String, _ shape: [Int], _ data: Data) -> WeightFile {
      var file = WeightFile()
      file.add("\(Self.module).weight", type, [Self.rows, Self.columns], codes)
      file.add("\(Self.module).\(suffix)", scaleType, shape, data)
      return file
    }
    let tiled = #"{"quantization_config": {"quant_method": "fp8", "weight_block_size": [32, 32]}}"#
    let plain = #"{"quantization_config": {"quant_method": "fp8"}}"#
    for shape in [[], [1], [1, 1]] {
      for suffix in ["weight_scale", "weight_scale_inv"] {
        try expect(file(suffix, shape, scales(1, 1)), plain) { small($0, $1).value * bias * power(0, 0) }
      }
    }
    for shape in [[Self.rows], [Self.rows, 1]] {
      try expect(file("weight_scale", shape, scales(Self.rows, 1)), plain) {
        small($0, $1).value * bias * power($0, 0)
      }
    }
    for shape in [[2, 4], [2, 1, 4, 1]] {
      try expect(file("weight_scale_inv", shape, scales(2, 4)), tiled) {
        small($0, $1).value * bias * power($0 / 32, $1 / 32)
      }
    }
    let grouped =
      #"{"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"group_size": 64}}}}}"#
    try expect(file("weight_scale", [Self.rows, 2], scales(Self.rows, 2)), grouped) {
      small($0, $1).value * bias * power($0, $1 / 64)
    }
  }

  @Test("MXFP8 is decoded, with its scales stored as U8") func mxfp8() throws {
    for suffix in ["weight_scale", "weight_scale_inv"] {
      var file = WeightFile()
      file.add(
        "\(Self.module).weight", "F8_E4M3", [Self.rows, Self.columns],
        grid(Self.rows, Self.columns) { e4m3(Self.code($0, $1, 64)).byte })
      file.add(
        "\(Self.module).\(suffix)", "U8", [Self.rows, 4],
        grid(Self.rows, 4) { UInt8(120 + Self.code($0, $1, 8)) })
      try expect(file, #"{"quantization_config": {"quant_method": "mxfp8"}}"#) {
        e4m3(Self.code($0, $1, 64)).value
          * Float(sign: .plus, exponent: Self.code($0, $1 / 32, 8) - 7, significand: 1)
      }
    }
  }

  @Test("INT8 is decoded with zero points, by row and by group") func int8() throws {
    for groups in [1, 4] {
      var file = WeightFile()
      file.add(
        "\(Self.module).weight", "I8", [Self.rows, Self.columns],
        grid(Self.rows, Self.columns) { Int8(Self.code($0, $1, 256) - 128) })
      file.add(
        "\(Self.module).weight_scale", "F32", [Self.rows, groups], grid(Self.rows, groups, Self.scale))
      file.add(
        "\(Self.module).weight_zero_point", "I8", [Self.rows, groups],
        grid(Self.rows, groups) { Int8(Self.code($0, $1 + 500, 256) - 128) })
      let configuration =
        #"{"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 8, "symmetric": false, "group_size": \#(Self.columns / groups)}}}}}"#
      try expect(file, configuration) { row, column in
        let group = column * groups / Self.columns
        return Float(Self.code(row, column, 256) - Self.code(row, group + 500, 256)) * Self.scale(row, group)
      }
    }
  }

  // MARK: Packed

  private func words(_ codes: [Int], bits: Int, isDense: Bool) -> [UInt32] {
    if isDense {
      var words = [UInt32](repeating: 0, count: (codes.count * bits + 31) / 32)
      for (index, code) in codes.enumerated() {
        for bit in 0..<bits where code >> bit & 1 == 1 {
          words[(index * bits + bit) / 32] |= 1 << UInt32((index * bits + bit) % 32)
        }
      }
      return words
    }
    let perWord = 32 / bits
    return stride(from: 0, to: codes.count, by: perWord).map { start in
      codes[start..<min(start + perWord, codes.count)].enumerated().reduce(UInt32(0)) {
        $0 | UInt32($1.element) << UInt32($1.offset * bits)
      }
    }
  }

  struct Packing: Sendable, CustomTestStringConvertible {
    var bits = 4
    var groups = 4
    var hasZeros = false
    var isOrdered = false
    var statesShape = true
    var scaleType = "BF16"
    /// Whether codes cross word boundaries.
    var isDense = false
    var testDescription: String {
      "\(bits) bits, \(groups) groups, zeros \(hasZeros), order \(isOrdered), shape \(statesShape), \(scaleType), dense \(isDense)"
    }
  }

  static let packings: [Packing] =
    (2...8).map { Packing(bits: $0) } + [
      Packing(hasZeros: true), Packing(bits: 8, hasZeros: true), Packing(isOrdered: true),
      Packing(bits: 8, hasZeros: true, isOrdered: true), Packing(groups: 1),
      Packing(bits: 8, statesShape: false),
      Packing(statesShape: false), Packing(scaleType: "F16"), Packing(hasZeros: true, scaleType: "F32"),
    ] + [3, 5, 6, 7].map { Packing(bits: $0, hasZeros: true, isDense: true) }

  @Test("integers packed by compressed-tensors are decoded", arguments: packings) func packed(
    _ packing: Packing
  )
    throws
  {
    let bits = packing.bits
    let limit = 1 << bits
    func group(_ column: Int) -> Int {
      packing.isOrdered ? column * 7 % packing.groups : column * packing.groups / Self.columns
    }
    func zero(_ row: Int, _ group: Int) -> Int {
      packing.hasZeros ? Self.code(row, group + 500, limit) : limit / 2
    }
    var file = WeightFile()
    let codes = (0..<Self.rows).flatMap { row in
      words((0..<Self.columns).map { Self.code(row, $0, limit) }, bits: bits, isDense: packing.isDense)
    }
    file.add("\(Self.module).weight_packed", "I32", [Self.rows, codes.count / Self.rows], codes)
    let scales = grid(Self.rows, packing.groups, Self.scale)
    switch packing.scaleType {
    case "BF16":
      file.add(
        "\(Self.module).weight_scale", "BF16", [Self.rows, packing.groups], WeightFile.bfloat16(scales))
    case "F16":
      file.add("\(Self.module).weight_scale", "F16", [Self.rows, packing.groups], scales.map(Self.half))
    default: file.add("\(Self.module).weight_scale", "F32", [Self.rows, packing.groups], scales)
    }
    if packing.statesShape {
      file.add("\(Self.module).weight_shape", "I64", [Self.rows, Self.columns])
    }
    if packing.hasZeros {
      // Along the rows.
      let columns = (0..<packing.groups).map { group in
        words((0..<Self.rows).map { zero($0, group) }, bits: bits, isDense: packing.isDense)
      }
      let height = columns[0].count
      let packed = grid(height, packing.groups) { columns[$1][$0] }
      file.add("\(Self.module).weight_zero_point", "I32", [height, packing.groups], packed)
    }
    if packing.isOrdered {
      file.add("\(Self.module).weight_g_idx", "I32", (0..<Self.columns).map { Int32(group($0)) })
    }
    let weights =
      #"{"num_bits": \#(bits), "type": "int", "symmetric": \#(!packing.hasZeros), "group_size": \#(Self.columns / packing.groups)}"#
    try expect(
      file,
      #"{"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": \#(weights)}}}}"#
    ) { row, column in
      Float(Self.code(row, column, limit) - zero(row, group(column))) * Self.scale(row, group(column))
    }
  }

  // MARK: Transposes

  /// Codes one after the other, lowest bits first.
  private func dense(_ codes: [Int], bits: Int) -> [UInt32] {
    var words = [UInt32](repeating: 0, count: codes.count * bits / 32)
    for (index, code) in codes.enumerated() {
      for bit in 0..<bits where code >> bit & 1 == 1 {
        words[(index * bits + bit) / 32] |= 1 << UInt32((index * bits + bit) % 32)
      }
    }
    return words
  }

  @Test(
    "GPTQ is decoded in both versions, with and without activation order", arguments: [2, 3, 4, 8],
    [false, true])
  func gptq(bits: Int, isOrdered: Bool) throws {
    let (groups, limit) = (4, 1 << bits)
    func group(_ column: Int) -> Int { isOrdered ? column * 5 % groups : column * groups / Self.columns }
    for (key, version) in [
      ("checkpoint_format", "gptq"), ("checkpoint_format", "gptq_v2"), ("format", "gptq_v2"),
    ] {
      let added = version == "gptq" ? 1 : 0
      var file = WeightFile()
      let columns = (0..<Self.rows).map { row in
        dense((0..<Self.columns).map { Self.code(row, $0, limit) }, bits: bits)
      }
      let height = Self.columns * bits / 32
      file.add(
        "\(Self.module).qweight", "I32", [height, Self.rows], grid(height, Self.rows) { columns[$1][$0] })
      file.add(
        "\(Self.module).qzeros", "I32", [groups, Self.rows * bits / 32],
        (0..<groups).flatMap { group in
          dense((0..<Self.rows).map { Self.code($0, group + 500, limit) }, bits: bits)
        })
      file.add(
        "\(Self.module).scales", "F16", [groups, Self.rows],
        grid(groups, Self.rows) { Self.half(Self.scale($1, $0)) })
      file.add("\(Self.module).g_idx", "I32", (0..<Self.columns).map { Int32(group($0)) })
      let settings =
        #"{"quant_method": "gptq", "bits": \#(bits), "group_size": \#(Self.columns / groups), "\#(key)": "\#(version)"}"#
      try expect(file, #"{"quantization_config": \#(settings)}"#) { row, column in
        Float(Self.code(row, column, limit) - Self.code(row, group(column) + 500, limit) - added)
          * Self.scale(row, group(column))
      }
    }
  }

  @Test("AWQ is decoded, as single matrices and stacks") func awq() throws {
    let groups = 4
    let order = [0, 2, 4, 6, 1, 3, 5, 7]
    func words(_ code: (Int) -> Int) -> [UInt32] {
      (0..<Self.rows / 8).map { word in
        order.enumerated().reduce(UInt32(0)) {
          $0 | UInt32(code(word * 8 + $1.element)) << UInt32($1.offset * 4)
        }
      }
    }
    let settings =
      #"{"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}}"#
    for stack in [1, 3] {
      var file = WeightFile()
      let outer = stack == 1 ? [] : [stack]
      var (codes, zeros, scales): ([UInt32], [UInt32], [UInt16]) = ([], [], [])
      for matrix in 0..<stack {
        for column in 0..<Self.columns { codes += words { Self.code($0 + matrix * 99, column, 16) } }
        for group in 0..<groups {
          zeros += words { Self.code($0 + matrix * 99, group + 500, 16) }
          scales += (0..<Self.rows).map { Self.half(Self.scale($0 + matrix * 99, group)) }
        }
      }
      file.add("\(Self.module).qweight", "I32", outer + [Self.columns, Self.rows / 8], codes)
      file.add("\(Self.module).qzeros", "I32", outer + [groups, Self.rows / 8], zeros)
      file.add("\(Self.module).scales", "F16", outer + [groups, Self.rows], scales)
      let (shape, values) = try read(file, settings)
      #expect(shape == outer + [Self.rows, Self.columns])
      var index = 0
      for matrix in 0..<stack {
        for row in 0..<Self.rows {
          for column in 0..<Self.columns {
            let (own, group) = (row + matrix * 99, column / 32)
            let expected =
              Float(Self.code(own, column, 16) - Self.code(own, group + 500, 16)) * Self.scale(own, group)
            if values[index] != expected { Issue.record("\(matrix) \(row) \(column)") }
            index += 1
          }
        }
      }
    }
  }

  // MARK: Unsupported forms

  struct Refusal: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// Suffix after the module's name, type and shape; all bytes are zero.
    let tensors: [(String, String, [Int])]
    var configuration = "{}"
    let names: String
  }

  static let refusals: [Refusal] = [
    Refusal(
      testDescription: "a scale under the module's name",
      tensors: [(".weight", "F8_E4M3", [64, 64]), ("_scale_inv", "F32", [1, 1])], names: "_scale_inv"),
    Refusal(
      testDescription: "an order that is stated and lost",
      tensors: [(".weight_packed", "I32", [64, 8]), (".weight_scale", "BF16", [64, 2])],
      configuration:
        #"{"quantization_config": {"config_groups": {"a": {"weights": {"num_bits": 4, "group_size": 32, "actorder": "group"}}}}}"#,
      names: "there is no index of columns"),
    Refusal(
      testDescription: "zero points that are denied",
      tensors: [
        (".weight_packed", "I32", [64, 8]), (".weight_scale", "BF16", [64, 2]),
        (".weight_zero_point", "I32", [8, 2]),
      ],
      configuration:
        #"{"quantization_config": {"config_groups": {"a": {"weights": {"num_bits": 4, "group_size": 32, "symmetric": true}}}}}"#,
      names: "says that it has none"),
    Refusal(
      testDescription: "GPTQ in Marlin's order",
      tensors: [(".qweight", "I32", [8, 64]), (".qzeros", "I32", [1, 8]), (".scales", "F16", [1, 64])],
      configuration: #"{"quantization_config": {"quant_method": "gptq", "bits": 4, "format": "marlin"}}"#,
      names: "marlin"),
    Refusal(
      testDescription: "a scale under another name",
      tensors: [(".weight", "F8_E4M3", [64, 64]), (".scale", "F32", [1])],
      names: ".scale"),
    Refusal(
      testDescription: "scales of stacked and fused experts",
      tensors: [("", "F8_E4M3", [2, 64, 64]), ("_scale_inv", "F32", [2, 1, 1])], names: "_scale_inv"),
    Refusal(
      testDescription: "blocks and scales as gpt-oss has them",
      tensors: [("_blocks", "U8", [2, 64, 2, 16]), ("_scales", "U8", [2, 64, 2])], names: "_scales"),
    Refusal(
      testDescription: "a quantity that smooths the inputs",
      tensors: [
        (".weight_packed", "I32", [64, 8]), (".weight_scale", "BF16", [64, 2]),
        (".pre_quant_scale", "BF16", [64]),
      ],
      configuration:
        #"{"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 4}}}}}"#,
      names: "pre_quant_scale"),
    Refusal(
      testDescription: "a shape before packing that cannot be",
      tensors: [
        (".weight_packed", "I32", [64, 8]), (".weight_scale", "BF16", [64, 2]), (".weight_shape", "I64", [2]),
      ],
      configuration:
        #"{"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 4}}}}}"#,
      names: "weight_shape says"),
    Refusal(
      testDescription: "codes that are declared and have no scales",
      tensors: [(".weight", "F8_E4M3", [64, 64])],
      configuration: #"{"quantization_config": {"quant_method": "fp8"}}"#, names: "without scales"),
    Refusal(
      testDescription: "bitsandbytes",
      tensors: [
        (".weight", "U8", [2048, 1]), (".weight.absmax", "F32", [64]), (".weight.quant_map", "F32", [16]),
      ],
      configuration: #"{"quantization_config": {"quant_method": "bitsandbytes"}}"#, names: "absmax"),
    Refusal(
      testDescription: "MLX",
      tensors: [(".weight", "U32", [64, 8]), (".scales", "BF16", [64, 1]), (".biases", "BF16", [64, 1])],
      configuration: #"{"quantization": {"bits": 4, "group_size": 64}}"#, names: ".scales"),
    Refusal(
      testDescription: "codes of no known width",
      tensors: [(".weight_packed", "I32", [64, 16]), (".weight_scale", "BF16", [64, 1])],
      names: "the number of codes per word"),
    Refusal(
      testDescription: "zero points that are declared and not there",
      tensors: [(".weight_packed", "I32", [64, 8]), (".weight_scale", "BF16", [64, 1])],
      configuration:
        #"{"quantization_config": {"config_groups": {"a": {"weights": {"num_bits": 4, "symmetric": false}}}}}"#,
      names: "zero points"),
    Refusal(
      testDescription: "AWQ in another order",
      tensors: [(".qweight", "I32", [64, 8]), (".qzeros", "I32", [1, 8]), (".scales", "F16", [1, 64])],
      configuration: #"{"quantization_config": {"quant_method": "awq", "bits": 4, "version": "gemv"}}"#,
      names: "gemv"),
    Refusal(
      testDescription: "codes that somebody else packed",
      tensors: [(".qweight", "I32", [8, 64]), (".qzeros", "I32", [1, 8]), (".scales", "F16", [1, 64])],
      names: "does not say which"),
    Refusal(
      testDescription: "scales of a shape that is nobody's",
      tensors: [(".weight", "F8_E4M3", [64, 64]), (".weight_scale", "F32", [3, 5])], names: "[3, 5]"),
    Refusal(
      testDescription: "values with a scale in a quantised model",
      tensors: [(".weight", "BF16", [64, 64]), (".weight_scale", "F32", [64, 1])],
      configuration: #"{"quantization_config": {"quant_method": "fp8"}}"#, names: "the purpose of the scale"),
  ]

  @Test("unsupported codes are refused, as are their companions", arguments: refusals)
  func refusing(_ refusal: Refusal) throws {
    let sizes = ["F8_E4M3": 1, "U8": 1, "BF16": 2, "F16": 2, "F32": 4, "I32": 4, "U32": 4, "I64": 8]
    var file = WeightFile()
    for (suffix, type, shape) in refusal.tensors {
      let bytes = shape.reduce(1, *) * (sizes[type] ?? 1)
      file.add(Self.module + suffix, type, shape, Data(count: bytes))
    }
    let checkpoint = try open(file, refusal.configuration)
    let error = #expect(throws: CheckpointError.self) { try ModelWeights(checkpoint) }
    #expect(error?.code == .unsupported || error?.code == .malformed)
    #expect(error?.description.contains(refusal.names) == true, "\(error?.description ?? "")")
    #expect(error?.tensor?.hasPrefix(Self.module) == true)
    #expect(error?.path?.hasSuffix("model.safetensors") == true)
    // For inspection every well-formed tensor is available as stored.
    guard error?.code == .unsupported else { return }
    let seen = try ModelWeights(checkpoint, unread: .asStored)
    for tensor in refusal.tensors { #expect(seen.checkpoint[Self.module + tensor.0] != nil) }
  }

  @Test("integer buffers and masks are not taken for codes") func buffers() throws {
    var file = WeightFile()
    file.add("embeddings.position_ids", "I64", [1, 4], [0, 1, 2, 3] as [Int64])
    file.add("counters.steps", "I32", [1], [7] as [Int32])
    file.add("embeddings.weight", "F8_E4M3", [4, 4], [UInt8](repeating: 0x38, count: 16))
    let weights = try ModelWeights(open(file))
    #expect(weights.names.count == 4)
    let weight = try #require(weights["embeddings.weight"])
    #expect(try weights.values(of: weight) == [Float](repeating: 1, count: 16))
  }
}
