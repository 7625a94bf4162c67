import CheckpointTesting
import Foundation
import Testing

/// `step3-inspect stats`, against figures computed one value at a time.
@Suite("step3-inspect stats") struct InspectStatsTests {
  private func stats(_ file: WeightFile, _ arguments: [String] = []) throws -> [String: [String: Any]] {
    let directory = try TemporaryDirectory()
    let path = directory.path("w.safetensors")
    try file.write(to: path)
    let result = try runTool("step3-inspect", ["stats", path, "--json"] + arguments)
    #expect(result.status == 0, "\(result.error)")
    let tensors = try #require(try result.json()["tensors"] as? [[String: Any]])
    return Dictionary(uniqueKeysWithValues: tensors.map { ($0["name"] as? String ?? "", $0) })
  }

  @Test func statisticsOfRealNumbersMatchTheDefinition() throws {
    var file = WeightFile()
    var generator = SeededGenerator(seed: 11)
    // More than one unit of work, a length that is no multiple of any group, and a BF16 tensor beside it.
    let values = (0..<700_001).map { _ in Float.random(in: -3...5, using: &generator) }
    let halves = values.prefix(99_999).map { Float(bitPattern: $0.bitPattern & 0xFFFF_0000) }
    file.add("f32", "F32", values)
    file.add("bf16", "BF16", WeightFile.bfloat16(halves))
    file.add("f64", "F64", values.prefix(1001).map(Double.init))
    let results = try stats(file)
    for (name, expected) in [("f32", values), ("bf16", halves), ("f64", Array(values.prefix(1001)))] {
      let found = try #require(results[name])
      let doubles = expected.map(Double.init)
      let mean = doubles.reduce(0, +) / Double(doubles.count)
      let rms = (doubles.reduce(0) { $0 + $1 * $1 } / Double(doubles.count)).squareRoot()
      // Compared as Float, because JSONSerialization is occasionally off by one ulp of Double.
      #expect((found["minimum"] as? Double).map { Float($0) } == expected.min())
      #expect((found["maximum"] as? Double).map { Float($0) } == expected.max())
      #expect(abs((found["mean"] as? Double ?? .nan) - mean) < 1e-12, "\(name)")
      #expect(abs((found["rms"] as? Double ?? .nan) - rms) < 1e-12, "\(name)")
      #expect(found["zeros"] as? Int == doubles.filter { $0 == 0 }.count)
    }
  }

  @Test(
    "NaN and infinity are counted and left out of the statistics",
    arguments: [0, 7, 8, 500, 1023, 4095, 4099])
  func nonFinite(position: Int) throws {
    var values = [Float](repeating: 2, count: 4100)
    values[position] = .nan
    values[(position + 1) % 4100] = .infinity
    values[(position + 2) % 4100] = -.infinity
    values[(position + 3) % 4100] = 0
    values[(position + 4) % 4100] = -0.0
    values[(position + 5) % 4100] = -4
    var file = WeightFile()
    file.add("f32", "F32", values)
    file.add("bf16", "BF16", WeightFile.bfloat16(values))
    let results = try stats(file)
    for name in ["f32", "bf16"] {
      let found = try #require(results[name])
      #expect(found["nan"] as? Int == 1)
      #expect(found["infinite"] as? Int == 2)
      #expect(found["zeros"] as? Int == 2)
      #expect(found["minimum"] as? Double == -4)
      #expect(found["maximum"] as? Double == 2)
      // 4094 twos, two zeros and -4, of 4097 finite values.
      #expect(abs((found["mean"] as? Double ?? .nan) - Double(4094 * 2 - 4) / 4097) < 1e-14)
    }
  }

  @Test func integersAreExact() throws {
    var file = WeightFile()
    file.add("i64", "I64", [Int64.min, 0, .max])
    file.add("u64", "U64", [UInt64.max, 1])
    file.add("i8", "I8", [Int8](repeating: -128, count: 9) + [127, 0])
    file.add("u8", "U8", [UInt8](0...255))
    file.add("i32", "I32", [Int32](repeating: 7, count: 3))
    let results = try stats(file)
    #expect((results["i64"]?["minimum"] as? NSNumber)?.int64Value == .min)
    #expect((results["i64"]?["maximum"] as? NSNumber)?.int64Value == .max)
    #expect(results["i64"]?["zeros"] as? Int == 1)
    #expect((results["u64"]?["maximum"] as? NSNumber)?.uint64Value == .max)
    #expect(results["i8"]?["minimum"] as? Int == -128)
    #expect(results["i8"]?["maximum"] as? Int == 127)
    #expect(results["u8"]?["mean"] as? Double == 127.5)
    #expect(results["i32"]?["rms"] as? Double == 7)
  }

  @Test func emptyTensorsHaveADigestAndNoStatistics() throws {
    var file = WeightFile()
    file.add("empty", "F32", [0, 4], Data())
    let found = try #require(try stats(file)["empty"])
    // XXH3-128 of no bytes, from xxHash's own test vectors.
    #expect(found["xxh3"] as? String == "99aa06d3014798d86001c324468d497f")
    #expect(found["minimum"] is NSNull)
    #expect(found["mean"] is NSNull)
    #expect(found["zeros"] as? Int == 0)
  }

  @Test func statisticsDoNotDependOnTheNumberOfThreads() throws {
    var file = WeightFile()
    var generator = SeededGenerator(seed: 5)
    file.add("large", "BF16", (0..<3_000_000).map { _ in UInt16.random(in: 0...0x7000, using: &generator) })
    for index in 0..<600 {
      file.add("small.\(index)", "F32", [Float(index), .random(in: 0...1, using: &generator)])
    }
    let directory = try TemporaryDirectory()
    let path = directory.path("w.safetensors")
    try file.write(to: path)
    let outputs = try ["1", "2", "7"].map {
      try runTool("step3-inspect", ["stats", path, "--json", "--threads", $0]).output
    }
    #expect(outputs[0] == outputs[1])
    #expect(outputs[0] == outputs[2])
    #expect(outputs[0].contains("small.599"))
  }
}
