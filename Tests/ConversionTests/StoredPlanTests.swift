import BitAllocation
import PlanTesting
import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import ParallelWork
import Quantization
import QuantizationRecipes
import ShardPlanning
import TensorFormats
import Testing

/// A stored plan gives what the direct conversion gives, or is refused with the fault.
@Suite struct StoredPlanTests {
  private let harness: ConversionHarness
  private let tiny = Fixtures.path("checkpoints/tiny")

  init() throws { harness = try ConversionHarness() }

  private func path(_ name: String) -> String { harness.directory.path(name) }

  /// Converts directly and by a stored plan, and compares every byte, manifests included.
  private func compare(_ source: String, _ request: ConversionHarness.Request, imatrix: String? = nil)
    async throws
  {
    let direct = path("direct"), stored = path("stored"), file = path("plan.json")
    for old in [direct, stored, file, "\(file).headers"] { try? FileManager.default.removeItem(atPath: old) }
    let recipe = try Recipe.named(
      request.recipe, for: request.format == .gguf ? .gguf : .safetensors, scope: request.scope)
    let planned = try ShardPlanner.plan(
      Checkpoint.open(source),
      request: ShardPlan.Request(
        format: request.format, recipe: recipe.name, partition: request.partition,
        maximumShardBytes: request.maximumShardBytes, scaleSearch: request.scaleSearch),
      recipe: recipe, importance: imatrix.map { try ImportanceFile($0) })
    let options = ConversionOptions(threads: 2)
    _ = try await Conversion(planned, options: options).run(into: direct)
    try StoredPlan.write(planned, to: file, source: source, importance: imatrix)
    let plan = try StoredPlan(reading: file)
    #expect(plan.plan == planned.plan && plan.source == source && plan.importance == imatrix)
    let again = try plan.conversion(
      of: Checkpoint.open(plan.source), importance: plan.importance.map { try ImportanceFile($0) })
    #expect(again.headers == planned.headers)
    _ = try await Conversion(again, options: options).run(into: stored)
    #expect(try contents(of: direct) == contents(of: stored), "\(request)")
  }

  @Test("output and manifest equal those of the direct conversion, byte for byte")
  func equal() async throws {
    let afd = ShardPlan.Partition.afd(.init(ffnEP: 2, ffnTP: 2, router: .ffn))
    for request: ConversionHarness.Request in [
      .init(), .init(recipe: "F16", maximumShardBytes: 300_000), .init(format: .gguf, recipe: "Q4_K_M"),
      .init(recipe: "NVFP4A16", scope: .linear), .init(recipe: "NVFP4A16", partition: afd),
      .init(recipe: "W4A16_G32", partition: .afd(.init(ffnTP: 2))), .init(recipe: "keep", partition: afd),
      .init(format: .gguf, recipe: "Q8_0", partition: .afd(.init(ffnEP: 2))), .init(recipe: "FP8_BLOCK"),
    ] { try await compare(tiny, request) }
  }

  @Test("conversions and partition sets as sources give the direct conversion's bytes")
  func chained() async throws {
    try await harness.convert(tiny, .init(recipe: "NVFP4A16", scope: .linear), into: "nvfp4")
    for request: ConversionHarness.Request in [
      .init(), .init(recipe: "NVFP4A16_MODELOPT", scope: .linear), .init(format: .gguf, recipe: "NVFP4"),
      .init(recipe: "NVFP4A16", scope: .linear), .init(recipe: "BF16"), .init(recipe: "W4A16"),
    ] { try await compare(path("nvfp4"), request) }
    try await harness.convert(tiny, .init(format: .gguf, recipe: "NVFP4"), into: "gguf")
    for request: ConversionHarness.Request in [
      .init(format: .gguf), .init(recipe: "NVFP4A16"), .init(recipe: "keep"),
    ] { try await compare(path("gguf"), request) }
    try await harness.convert(
      tiny, .init(recipe: "W4A16_G32", partition: .afd(.init(ffnEP: 2, ffnTP: 2))), into: "set")
    for request: ConversionHarness.Request in [
      .init(), .init(recipe: "BF16"), .init(recipe: "W4A16_G32"), .init(recipe: "FP8_DYNAMIC"),
    ] { try await compare(path("set"), request) }
    try await compare(
      Fixtures.path("checkpoints/odd-fp8"), .init(recipe: "BF16", partition: .afd(.init(ffnEP: 2))))
    try await compare(Fixtures.path("checkpoints/odd-fp8"), .init(recipe: "keep"))
  }

  @Test("an output begun by the direct conversion is completed by its stored plan") func resumed()
    async throws
  {
    let planned = try harness.plan(tiny, .init(format: .gguf, recipe: "Q8_0"))
    try StoredPlan.write(planned, to: path("plan.json"), source: tiny)
    let task = Task {
      try await Conversion(planned, options: ConversionOptions(threads: 1)).run(into: path("output")) { _ in
        withUnsafeCurrentTask { $0?.cancel() }
      }
    }
    _ = try? await task.value
    let stored = try StoredPlan(reading: path("plan.json")).conversion(of: Checkpoint.open(tiny))
    let outcome = try await Conversion(stored, options: ConversionOptions(threads: 2, resume: true))
      .run(into: path("output"))
    #expect(!outcome.wasComplete && outcome.reusedUnits > 0)
    let again = try await Conversion(planned, options: ConversionOptions(threads: 2, resume: true))
      .run(into: path("output"))
    #expect(again.wasComplete)
  }

  // MARK: - Changed files

  /// A plan of a copy of tiny, which may be changed.
  private func storedPlan(_ request: ConversionHarness.Request = .init(recipe: "F16")) throws -> (
    source: String, plan: StoredPlan
  ) {
    let source = path("source")
    try? FileManager.default.removeItem(atPath: source)
    try FileManager.default.copyItem(atPath: tiny, toPath: source)
    try? FileManager.default.removeItem(atPath: path("plan.json"))
    try? FileManager.default.removeItem(atPath: path("plan.json.headers"))
    try StoredPlan.write(harness.plan(source, request), to: path("plan.json"), source: source)
    return (source, try StoredPlan(reading: path("plan.json")))
  }

  private func refusal(_ plan: StoredPlan, _ source: String) -> CheckpointError? {
    #expect(throws: CheckpointError.self) { try plan.conversion(of: Checkpoint.open(source)) }
  }

  @Test("a changed source is refused, naming the file") func changedSources() throws {
    let shard = "model-00002-of-00004.safetensors"
    var (source, plan) = try storedPlan()
    #expect(throws: Never.self) { try plan.conversion(of: Checkpoint.open(source)) }
    let copy = path("elsewhere")
    try FileManager.default.copyItem(atPath: source, toPath: copy)
    #expect(throws: Never.self) { try plan.conversion(of: Checkpoint.open(copy)) }

    // The same size, another header: a tensor of another type.
    var bytes = try Data(contentsOf: URL(filePath: "\(source)/\(shard)"))
    let type = try #require(bytes.firstRange(of: Data(#""BF16""#.utf8)))
    bytes.replaceSubrange(type, with: Data(#""F16" "#.utf8))
    try bytes.write(to: URL(filePath: "\(source)/\(shard)"))
    let header = refusal(plan, source)
    #expect(header?.code == .sourceChanged && header?.path == "\(source)/\(shard)", "\(header as Any)")

    (source, plan) = try storedPlan()
    let text = try Data(contentsOf: URL(filePath: "\(source)/config.json"))
    try Data(String(decoding: text, as: UTF8.self).replacing("\n", with: "\n\n").utf8)
      .write(to: URL(filePath: "\(source)/config.json"))
    let configuration = refusal(plan, source)
    #expect(configuration?.code == .sourceChanged && configuration?.path == "\(source)/config.json")

    (source, plan) = try storedPlan()
    try Data("{}".utf8).write(to: URL(filePath: "\(source)/tokenizer.json"))
    let tokenizer = refusal(plan, source)
    #expect(tokenizer?.code == .sourceChanged && tokenizer?.path == "\(source)/tokenizer.json")

    (source, plan) = try storedPlan()
    try StoredPlanTests.rewrite("\(source)/\(shard)")
    let longer = refusal(plan, source)
    #expect(longer?.code == .sourceChanged && longer?.path == "\(source)/\(shard)", "\(longer as Any)")
    #expect(refusal(plan, Fixtures.path("checkpoints/odd"))?.code == .sourceChanged)
  }

  /// The same tensors behind a longer header.
  private static func rewrite(_ path: String) throws {
    let data = [UInt8](try Data(contentsOf: URL(filePath: path)))
    let length = (0..<8).reduce(0) { $0 | Int(data[$1]) << ($1 * 8) }
    let longer = length + 8
    let prefix = (0..<8).map { UInt8(truncatingIfNeeded: longer >> ($0 * 8)) }
    let spaces = [UInt8](repeating: 0x20, count: 8)
    try Data(prefix + data[8..<8 + length] + spaces + data[(8 + length)...]).write(to: URL(filePath: path))
  }

  @Test("a headers file that is not the plan's is refused") func headers() throws {
    let (source, plan) = try storedPlan()
    let file = path("plan.json.headers")
    let intact = try Data(contentsOf: URL(filePath: file))
    for change: (inout Data) -> Void in [
      { $0[20] ^= 1 }, { $0.removeLast() }, { $0.append(0) }, { $0 = Data() },
    ] {
      var data = intact
      change(&data)
      try data.write(to: URL(filePath: file))
      let error = refusal(plan, source)
      #expect(error?.code == .malformed && error?.path == file)
    }
    try FileManager.default.removeItem(atPath: file)
    #expect(refusal(plan, source)?.code == .notFound)
  }

  @Test("an importance matrix other than the plan's is refused") func importance() async throws {
    let matrix = path("imatrix.dat")
    try LegacyMatrix.write(["blk.1.ffn_up_exps.weight": 8 * 256, "blk.0.ffn_down.weight": 512], to: matrix)
    try await compare(tiny, .init(format: .gguf, recipe: "Q4_K"), imatrix: matrix)
    let plan = try StoredPlan(reading: path("plan.json"))
    let missing = refusal(plan, tiny)
    #expect(missing?.code == .invalidRequest && missing?.remedy?.contains("--imatrix") == true)
    try LegacyMatrix.write(["blk.1.ffn_up_exps.weight": 8 * 256], to: matrix)
    let other = #expect(throws: CheckpointError.self) {
      try plan.conversion(of: Checkpoint.open(tiny), importance: ImportanceFile(matrix))
    }
    #expect(other?.code == .sourceChanged && other?.path == matrix)
    let (source, without) = try storedPlan()
    let useless = #expect(throws: CheckpointError.self) {
      try without.conversion(of: Checkpoint.open(source), importance: ImportanceFile(matrix))
    }
    #expect(useless?.code == .invalidRequest)
  }

  @Test("writing a plan does not overwrite other files") func writing() throws {
    let planned = try harness.plan(tiny, .init())
    let file = path("plan.json")
    func write(_ to: String, source: String? = nil, overwriting: Bool = false) throws {
      try StoredPlan.write(planned, to: to, source: source ?? tiny, overwriting: overwriting)
    }
    func refused(_ to: String, overwriting: Bool = false) -> CheckpointError? {
      #expect(throws: CheckpointError.self) { try write(to, overwriting: overwriting) }
    }
    try write(file)
    #expect(refused(file)?.code == .cannotCreate)
    try write(file, overwriting: true)
    let thesis = path("thesis.txt")
    try Data("mine".utf8).write(to: URL(filePath: thesis))
    #expect(refused(thesis, overwriting: true)?.code == .cannotCreate)
    let headers = path("other.json.headers")
    try Data("mine".utf8).write(to: URL(filePath: headers))
    #expect(refused(path("other.json"), overwriting: true)?.path == headers)
    #expect(try String(contentsOfFile: thesis, encoding: .utf8) == "mine")
    #expect(try String(contentsOfFile: headers, encoding: .utf8) == "mine")
    #expect(refused(path("nowhere/plan.json"))?.code == .cannotCreate)
    try #expect(FileSystem.kind(of: path("other.json")) == nil)
    // Inside the source it would become part of the model.
    let copy = path("copy")
    try FileManager.default.copyItem(atPath: tiny, toPath: copy)
    let own = try harness.plan(copy, .init())
    let inside = #expect(throws: CheckpointError.self) {
      try StoredPlan.write(own, to: "\(copy)/plan.json", source: copy)
    }
    #expect(inside?.code == .cannotCreate && inside?.message.contains("source") == true)
    try #expect(FileSystem.kind(of: "\(copy)/plan.json") == nil)
  }

  @Test("a file that is not a stored plan is refused") func strangers() async throws {
    try await harness.convert(tiny, .init())
    for (name, text) in [
      ("empty", ""), ("null", "null"), ("list", "[1]"), ("object", "{}"),
      ("manifest", try String(contentsOfFile: path("output/manifest.json"), encoding: .utf8)),
      ("bare", String(decoding: try JSONEncoder().encode(harness.plan(tiny, .init()).plan), as: UTF8.self)),
    ] {
      try Data(text.utf8).write(to: URL(filePath: path(name)))
      let error = #expect(throws: CheckpointError.self) { try StoredPlan(reading: path(name)) }
      #expect([.malformed, .unsupported, .truncated].contains(error?.code), "\(name): \(error as Any)")
      #expect(error?.path == path(name))
    }
    #expect(throws: CheckpointError.self) { try StoredPlan(reading: path("nothing")) }
  }

  // MARK: - Edited plans

  /// The plan as JSON, changed and written back; its headers stay beside it.
  private func changed(_ change: (inout [String: Any]) throws -> Void) throws -> String {
    let text = try Data(contentsOf: URL(filePath: path("plan.json")))
    var root = try #require(try JSONSerialization.jsonObject(with: text) as? [String: Any])
    try change(&root)
    let file = path("changed.json")
    try JSONSerialization.data(withJSONObject: root).write(to: URL(filePath: file))
    return file
  }

  private func outcome(_ file: String, _ source: String) -> CheckpointError? {
    do {
      _ = try StoredPlan(reading: file).conversion(of: Checkpoint.open(source))
      return nil
    } catch {
      return error
    }
  }

  /// Changes the tensor of that name in the first file that has it.
  private static func edit(
    _ root: inout [String: Any], _ name: String, _ change: (inout [String: Any]) -> Void
  ) {
    guard var plan = root["plan"] as? [String: Any], var parts = plan["parts"] as? [[String: Any]] else {
      return
    }
    for part in parts.indices {
      guard var files = parts[part]["files"] as? [[String: Any]] else { continue }
      for file in files.indices {
        guard var tensors = files[file]["tensors"] as? [[String: Any]] else { continue }
        for index in tensors.indices where tensors[index]["name"] as? String == name {
          change(&tensors[index])
        }
        files[file]["tensors"] = tensors
      }
      parts[part]["files"] = files
    }
    plan["parts"] = parts
    root["plan"] = plan
  }

  @Test("edits that would give wrong bytes are refused with the fault") func edited() throws {
    let (source, _) = try storedPlan(.init(recipe: "NVFP4A16"))
    let module = "model.layers.1.moe.up_proj"
    let norm = "model.layers.1.input_layernorm.weight"
    func expect(
      _ part: String, tensor: String? = nil, _ change: (inout [String: Any]) throws -> Void
    ) throws {
      let error = try outcome(changed(change), source)
      #expect(error?.code == .malformed, "\(part): \(error as Any)")
      #expect(error?.message.contains(part) == true, "\(part): \(error as Any)")
      if let tensor { #expect(error?.tensor == tensor) }
    }
    func operation(_ name: String, _ key: String, _ value: Any?) -> (inout [String: Any]) -> Void {
      { root in
        Self.edit(&root, name) { tensor in
          var operation = tensor["operation"] as? [String: Any] ?? [:]
          operation[key] = value
          tensor["operation"] = operation
        }
      }
    }
    try expect("made in different ways", operation("\(module).weight_scale", "search", "absmax"))
    try expect("no scale group", operation("\(module).weight_packed", "scaleGroup", nil))
    try expect("scale group", operation("\(module).weight_packed", "scaleGroup", 3))
    try expect("not", operation("\(module).weight_packed", "part", "scales"))
    try expect("does not have one scale for each") { root in
      Self.edit(&root, "\(module).weight_scale") {
        $0["operation"] = ["kind": "carry", "part": "matrixScales"]
      }
    }
    try expect("the codes of BF16 are not", tensor: norm, operation(norm, "kind", "pack"))
    try expect("a copy of", tensor: norm) { root in
      Self.edit(&root, norm) { $0["elementType"] = "F16" }
    }
    try expect("not after the previous tensor", tensor: norm) { root in
      Self.edit(&root, norm) { $0["offset"] = ($0["offset"] as? Int ?? 0) - 64 }
    }
    try expect("describes another file") { root in
      Self.edit(&root, norm) { $0["name"] = "model.norm2.weight" }
    }
    try expect("no such weight", tensor: "elsewhere") { root in
      Self.edit(&root, norm) { tensor in
        var sources = tensor["sources"] as? [[String: Any]] ?? []
        sources[0]["tensor"] = "elsewhere"
        tensor["sources"] = sources
      }
    }
    // The bytes of another weight of the same shape.
    try expect("does not store it as the plan says", tensor: norm) { root in
      Self.edit(&root, norm) { tensor in
        var sources = tensor["sources"] as? [[String: Any]] ?? []
        sources[0]["offset"] = (sources[0]["offset"] as? Int ?? 0) - 512
        tensor["sources"] = sources
      }
    }
    func plan(_ change: @escaping (inout [String: Any]) -> Void) -> (inout [String: Any]) -> Void {
      { root in
        var plan = root["plan"] as? [String: Any] ?? [:]
        change(&plan)
        root["plan"] = plan
      }
    }
    try expect("drops it", tensor: norm, plan { $0["absorbed"] = [["tensor": norm, "reason": "why not"]] })
    try expect(
      "leaves out different tensors", tensor: norm,
      plan { $0["excluded"] = [["tensor": norm, "pattern": "norm"]] })
    let tool = try outcome(changed(plan { $0["tool"] = "0.0.1" }), source)
    #expect(tool?.code == .unsupported && tool?.message.contains("0.0.1") == true)
    let old = try outcome(changed(plan { $0["version"] = 3 }), source)
    #expect(old?.code == .unsupported && old?.message.contains("version 3") == true)
  }

  // MARK: - Budgets and calibrations

  /// A stored plan whose formats were chosen for a budget.
  private func budgeted(_ target: ShardPlan.Budget.Target) throws -> String {
    let source = path("source")
    try? FileManager.default.removeItem(atPath: source)
    try FileManager.default.copyItem(atPath: tiny, toPath: source)
    for old in [path("plan.json"), path("plan.json.headers")] {
      try? FileManager.default.removeItem(atPath: old)
    }
    let planned = try BudgetPlanner(
      Checkpoint.open(source), request: ShardPlan.Request(format: .gguf, recipe: "budget"),
      base: Recipe.named("Q4_K", for: .gguf), pins: 0, importance: nil, target: target, candidates: nil
    ).plan(threads: 2) { _ in WorkMonitor() }
    try StoredPlan.write(planned, to: path("plan.json"), source: source)
    #expect(throws: Never.self) {
      try StoredPlan(reading: path("plan.json")).conversion(of: Checkpoint.open(source))
    }
    return source
  }

  /// Changes the request.
  private static func request(
    _ change: @escaping (inout [String: Any]) -> Void
  ) -> (inout [String: Any]) -> Void {
    { root in
      var plan = root["plan"] as? [String: Any] ?? [:]
      var request = plan["request"] as? [String: Any] ?? [:]
      change(&request)
      plan["request"] = request
      root["plan"] = plan
    }
  }

  @Test("an edited budget is refused") func budgets() throws {
    let source = try budgeted(.bytes(3_200_000))
    func refused(_ what: String, _ change: @escaping (inout [String: Any]) -> Void) throws {
      let file = try changed(
        Self.request { request in
          var budget = request["budget"] as? [String: Any] ?? [:]
          change(&budget)
          request["budget"] = budget
        })
      let error = outcome(file, source)
      #expect([.malformed, .unsupported].contains(error?.code), "\(what): \(error as Any)")
    }
    func number(_ key: String, _ change: @escaping (Double) -> Double) -> (inout [String: Any]) -> Void {
      { $0[key] = change(($0[key] as? NSNumber)?.doubleValue ?? 0) }
    }
    try refused("less than its size", { $0["target"] = ["bytes": ["_0": 1000]] })
    try refused("another kind", { $0["target"] = ["bitsPerWeight": ["_0": 0.5]] })
    try refused("an estimate of nothing", { $0["target"] = ["klDivergence": ["_0": 1e-12]] })
    try refused("no target", { $0["target"] = nil })
    try refused("another size", number("bytes") { $0 + 32 })
    try refused("another estimate", number("estimatedKL") { $0 * 0.9 })
    try refused("a negative multiplier", number("multiplier") { _ in -1 })
    try refused("negative rows", number("sampledRows") { _ in -1 })
    try refused("negative bytes", number("sampledBytes") { _ in -5 })
    try refused("no digest", { $0["basis"] = "0123" })
    try refused("another recipe", { $0["recipe"] = "name: other\nrules: [{select: all, format: Q4_K}]\n" })
    try refused("no recipe", { $0["recipe"] = "budget" })
    for change: (inout [String: Any]) -> Void in [
      { $0["format"] = "F32" }, { $0["tensor"] = "blk.0.none.weight" }, { $0["estimatedKL"] = 1 },
      { $0["relativeError"] = -1 },
    ] {
      try refused("a choice") { budget in
        var choices = budget["choices"] as? [[String: Any]] ?? []
        change(&choices[0])
        budget["choices"] = choices
      }
    }
    try refused("a choice left out") { $0["choices"] = ($0["choices"] as? [Any] ?? []).dropLast() as [Any] }
    try refused("a choice twice") {
      let choices = $0["choices"] as? [Any] ?? []
      $0["choices"] = choices + [choices[0]]
    }
    let renamed = try outcome(changed(Self.request { $0["recipe"] = "other" }), source)
    #expect(renamed?.code == .malformed)
  }

  @Test("a stored plan with a calibration is refused, however it is described") func calibrations() throws {
    let (source, _) = try storedPlan(.init(recipe: "W4A16_G32"))
    let sound: [String: Any] = [
      "method": "gptq", "damping": 0.01, "minimumExpertTokens": 128, "datasets": ["a.txt"], "tokens": 1000,
      "xxh3": String(repeating: "0", count: 32),
    ]
    func refusal(_ calibration: Any) throws -> CheckpointError? {
      try outcome(changed(Self.request { $0["calibration"] = calibration }), source)
    }
    let plain = try refusal(sound)
    #expect(plain?.code == .unsupported && plain?.remedy?.contains("--method gptq") == true)
    for (key, value): (String, Any) in [
      ("method", "awq"), ("damping", 0), ("damping", -1), ("damping", "x"), ("minimumExpertTokens", -1),
      ("datasets", "a"), ("tokens", 0), ("tokens", -3), ("xxh3", "0"),
      ("xxh3", "g" + String(repeating: "0", count: 31)),
    ] {
      var other = sound
      other[key] = value
      #expect(try refusal(other)?.code == .malformed, "\(key): \(value)")
      other[key] = nil
      #expect(try refusal(other)?.code == .malformed, "without \(key)")
    }
    #expect(try refusal("gptq")?.code == .malformed)
    // Without the calibration the plan is sound.
    #expect(try outcome(changed(Self.request { $0["calibration"] = nil }), source) == nil)
  }

  @Test("a randomly changed plan is refused or gives a sound output", arguments: 0..<8)
  func mutations(seed: UInt64) async throws {
    let requests: [ConversionHarness.Request] = [
      .init(recipe: "F16"), .init(format: .gguf, recipe: "Q8_0"), .init(recipe: "NVFP4A16"),
      .init(recipe: "W4A16_G32", partition: .afd(.init(ffnEP: 2, ffnTP: 2))), .init(),
      .init(format: .gguf, recipe: "Q4_K", partition: .afd(.init(attentionTP: 2))),
    ]
    // The last two are plans with formats chosen for a budget.
    let targets: [ShardPlan.Budget.Target] = [.bytes(3_200_000), .klDivergence(0.02)]
    let source =
      seed < requests.count
      ? try storedPlan(requests[Int(seed)]).source : try budgeted(targets[Int(seed) - requests.count])
    let opened = try Checkpoint.open(source)
    let text = try Data(contentsOf: URL(filePath: path("plan.json")))
    let root = try JSONSerialization.jsonObject(with: text)
    var generator = SeededGenerator(seed: seed + 1)
    var (refused, sound) = (0, 0)
    // Recipes take time to read.
    let rounds = seed < requests.count ? 400 : 150
    for round in 0..<rounds {
      var mutated = root
      for _ in 0..<Int.random(in: 1...2, using: &generator) {
        mutated = Mutation.random(of: mutated, &generator)
      }
      let file = path("mutated.json")
      try JSONSerialization.data(withJSONObject: mutated, options: .fragmentsAllowed)
        .write(to: URL(filePath: file))
      do {
        let planned = try StoredPlan(reading: file).conversion(of: opened)
        sound += 1
        guard sound % 12 == 1 else { continue }
        let output = path("output-\(round)")
        let manifest = try await Conversion(planned, options: ConversionOptions(threads: 2)).run(into: output)
          .manifest
        #expect(try Manifest.read(from: output) == manifest)
        #expect(try Checkpoint.open(output).tensors.count == manifest.tensors.count)
        try FileManager.default.removeItem(atPath: output)
      } catch let error as CheckpointError {
        #expect(!error.message.isEmpty)
        refused += 1
      }
    }
    #expect(refused > rounds / 4 && sound > 0, "\(refused) refused, \(sound) sound")
  }
}

/// A change of a JSON value at a random place.
private enum Mutation {
  static func random(of value: Any, _ generator: inout SeededGenerator) -> Any {
    // Most places are deep: the path is chosen step by step, so that shallow ones are hit as often.
    switch value {
    case var object as [String: Any] where !object.isEmpty:
      let keys = object.keys.sorted()
      let key = keys[Int.random(in: keys.indices, using: &generator)]
      if Int.random(in: 0..<30, using: &generator) == 0 {
        object[key] = nil
      } else {
        object[key] = object[key].map { random(of: $0, &generator) }
      }
      return object
    case var array as [Any] where !array.isEmpty:
      let index = Int.random(in: array.indices, using: &generator)
      switch Int.random(in: 0..<30, using: &generator) {
      case 0: array.remove(at: index)
      case 1: array.append(array[index])
      case 2: array.swapAt(index, 0)
      default: array[index] = random(of: array[index], &generator)
      }
      return array
    case let number as NSNumber where String(cString: number.objCType) == "c":
      return !number.boolValue
    case let number as NSNumber:
      let old = number.intValue
      let others: [Int] = [
        -1, 0, 1, old &+ 1, old &- 1, old &* 2, old / 2, old ^ 1 << 20, Int.max, Int.min, 1 << 40, 4096,
      ]
      return others.randomElement(using: &generator) ?? 0
    case let text as String:
      let others = [
        "", "../\(text)", "/\(text)", text + "x", String(text.dropLast()), "copy", "convert", "encode",
        "pack",
        "unpack", "carry", "shape", "codes", "scales", "matrixScales", "mse", "absmax", "BF16", "F32", "Q8_0",
        "nvfp4", "mxfp4", "int4_group_32", "fp8_block_128x128", "modelopt",
        "model.layers.1.moe.up_proj.weight",
        "gguf", "safetensors", "\u{0}", text.uppercased(),
      ]
      return others.randomElement(using: &generator) ?? ""
    default: return 0
    }
  }
}

/// Importance matrices in the legacy form.
private enum LegacyMatrix {
  /// Writes the given number of positive values for each name.
  static func write(_ counts: [String: Int], to path: String) throws {
    func number(_ value: Int) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }
    var bytes = number(counts.count)
    for (name, count) in counts.sorted(by: { $0.key < $1.key }) {
      bytes += number(name.utf8.count) + Array(name.utf8) + number(7) + number(count)
      for index in 0..<count {
        bytes += (0..<4).map { UInt8(truncatingIfNeeded: Float(1 + index % 13).bitPattern >> ($0 * 8)) }
      }
    }
    try FileSystem.writeAtomically(bytes, to: path)
  }
}
