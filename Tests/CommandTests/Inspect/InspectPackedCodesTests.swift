import CheckpointTesting
import Foundation
import Testing

/// `step3-inspect` on codes and scales written here byte by byte, some of them damaged.
@Suite("step3-inspect on packed codes and scales") struct InspectPackedCodesTests {
  /// A file of one matrix of INT4 codes, 2 x 64 in groups of 32: code `i % 16 - 8` at element `i` of a row.
  private func packed(
    fourteenthWord: UInt32 = 0xFEDC_BA98, scales: [Float] = [1, 2, 0.5, 4],
    shape: [Int64] = [2, 64], zeroPoint: UInt32? = nil
  ) -> WeightFile {
    var words = (0..<16).map { UInt32($0 % 2 == 0 ? 0x7654_3210 : 0xFEDC_BA98) }
    words[13] = fourteenthWord
    var file = WeightFile()
    file.add("x.weight_packed", "I32", [2, 8], words.withUnsafeBytes { Data($0) })
    file.add(
      "x.weight_scale", "BF16", [2, 2], WeightFile.bfloat16(scales).withUnsafeBytes { Data($0) })
    file.add("x.weight_shape", "I64", [2], shape.withUnsafeBytes { Data($0) })
    if let zeroPoint {
      file.add("x.weight_zero_point", "I32", [1, 2], [zeroPoint, UInt32(0)].withUnsafeBytes { Data($0) })
    }
    return file
  }

  private func plain(_ values: [Float]) -> WeightFile {
    var file = WeightFile()
    file.add("x.weight", "F32", [2, 64], values.withUnsafeBytes { Data($0) })
    return file
  }

  private let values: [Float] = (0..<128).map { index in
    let scales: [Float] = [1, 2, 0.5, 4]
    return Float(index % 16 - 8) * scales[index / 32]
  }

  private func diff(_ a: WeightFile, _ b: WeightFile, _ arguments: [String] = []) throws
    -> (status: Int32, json: [String: Any])
  {
    let directory = try TemporaryDirectory()
    try a.write(to: directory.path("a.safetensors"))
    try b.write(to: directory.path("b.safetensors"))
    let result = try runTool(
      "step3-inspect",
      ["diff", directory.path("a.safetensors"), directory.path("b.safetensors"), "--json"] + arguments)
    #expect(result.error.isEmpty, "\(result.error)")
    return (result.status, try result.json())
  }

  private func errors(_ json: [String: Any]) throws -> [String: Any] {
    try #require((json["pairs"] as? [[String: Any]])?.first?["errors"] as? [String: Any])
  }

  @Test func valuesAreCodesTimesScales() throws {
    let (status, json) = try diff(packed(), plain(values))
    #expect(status == 0)
    #expect((json["summary"] as? [String: Int])?["sameValues"] == 1)
    var changed = values
    changed[85] += 3
    let (again, difference) = try diff(packed(), plain(changed))
    #expect(again == 1)
    #expect(try errors(difference)["firstIndex"] as? Int == 85)
    #expect(try errors(difference)["maxAbs"] as? Double == 3)
  }

  @Test func aChangedCodeAffectsOneElementAndAChangedScaleItsGroup() throws {
    // The fourth code of a word in the second group of the second row: 11 - 8 becomes 10 - 8, times 4.
    let code = try errors(
      diff(packed(), packed(fourteenthWord: 0xFEDC_AA98)).json)
    #expect(code["count"] as? Int == 1)
    #expect(code["firstIndex"] as? Int == 107)
    #expect(code["maxAbs"] as? Double == 4)
    let scale = try errors(diff(packed(), packed(scales: [1, 2, 0.5, 5])).json)
    // The numbers -8 ... 7, twice, change by their own value; the zeros stay the same.
    #expect(scale["count"] as? Int == 30)
    #expect(scale["firstIndex"] as? Int == 96)
    #expect(scale["maxAbs"] as? Double == 8)
  }

  @Test func differentBytesOfEqualValuesAreReported() throws {
    func file(_ code: UInt8, _ scale: Float) -> WeightFile {
      var file = WeightFile()
      file.add("x.weight", "I8", [2, 2], Data([code, code, code, code]))
      file.add("x.weight_scale", "F32", [2, 1], [scale, scale].withUnsafeBytes { Data($0) })
      return file
    }
    // 6 x 1 and 3 x 2.
    let (status, json) = try diff(file(6, 1), file(3, 2))
    #expect(status == 0)
    #expect((json["summary"] as? [String: Int])?["sameValues"] == 1)
    #expect(try diff(file(6, 1), file(3, 2), ["--exact"]).status == 1)
    #expect(try diff(file(6, 1), file(6, 1), ["--exact"]).status == 0)
    // The bytes of the codes agree, the values do not.
    #expect(try errors(diff(file(6, 1), file(6, 2)).json)["maxAbs"] as? Double == 6)
  }

  @Test func unsupportedSchemesAreComparedAsStored() throws {
    func strange(zeroPoint: UInt32) -> WeightFile {
      var file = packed(zeroPoint: zeroPoint)
      file.add("x.pre_quant_scale", "F32", [Float(1)])
      return file
    }
    let file = strange(zeroPoint: 1)
    let (status, json) = try diff(file, file, ["--exact"])
    #expect(status == 0)
    #expect((json["summary"] as? [String: Int])?["identical"] == 5)
    let (changed, difference) = try diff(file, strange(zeroPoint: 2))
    #expect(changed == 1)
    #expect((difference["summary"] as? [String: Int])?["different"] == 1)
    // Scales beside a weight that does not use them are ordinary tensors.
    var stray = plain(values)
    stray.add("x.weight_scale", "F32", [Float(1)])
    #expect(try diff(plain(values), stray).json["onlyInB"] as? [String] == ["x.weight_scale"])
  }

  @Test(
    "packed codes are counted, whether or not their scheme is supported",
    arguments: [
      (Int64(64), UInt32?.none, 128), (64, 1, 128), (63, nil, 126), (32, nil, 64), (1 << 40, nil, 16),
      (0, nil, 16),
    ])
  func elements(columns: Int64, zeroPoint: UInt32?, expected: Int) throws {
    let directory = try TemporaryDirectory()
    let path = directory.path("a.safetensors")
    try packed(shape: [2, columns], zeroPoint: zeroPoint).write(to: path)
    let result = try runTool("step3-inspect", [path, "--json"])
    #expect(result.error.isEmpty)
    let tensors = try #require(try result.json()["tensors"] as? [[String: Any]])
    #expect(tensors.first?["elements"] as? Int == expected)
    #expect(tensors.first?["shape"] as? [Int] == [2, 8])
  }
}
