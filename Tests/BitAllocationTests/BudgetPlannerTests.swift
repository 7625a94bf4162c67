import Checkpoint
import CheckpointTesting
import Foundation
import ParallelWork
import QuantizationRecipes
import ShardPlanning
import Synchronization
import TensorFormats
import Testing

import BitAllocation

/// Plans the small checkpoints for a target.
struct BudgetPlannerTests {
  static func plan(
    _ target: ShardPlan.Budget.Target, of name: String = "tiny", base: String = "Q4_K",
    pins: [TensorTypeOverride] = [], candidates: [ElementType]? = nil, threads: Int = 2,
    begin: (Int) -> WorkMonitor = { _ in WorkMonitor() }
  ) throws -> PlannedConversion {
    try BudgetPlanner(
      Checkpoint.open(Fixtures.path("checkpoints/\(name)")),
      request: ShardPlan.Request(format: .gguf, recipe: "budget"),
      base: Recipe.named(base, for: .gguf).overriding(with: pins), pins: pins.count, importance: nil,
      target: target, candidates: candidates
    ).plan(threads: threads, begin: begin)
  }

  static func types(_ planned: PlannedConversion) -> [String: ElementType] {
    Dictionary(uniqueKeysWithValues: planned.plan.files.flatMap(\.tensors).map { ($0.name, $0.elementType) })
  }

  @Test(
    "the output stays within the budget, and no useful step fits into the rest",
    arguments: ["tiny", "trained", "tiny-fp8"])
  func outputStaysWithinTheBudget(name: String) throws {
    let reachable = try #require(
      try Self.plan(.klDivergence(0.005), of: name).plan.request.budget?.reachable)
    var last = Double.infinity
    for part in 0...2 {
      let bytes = reachable.lowerBound + reachable.count * part / 3
      let plan = try Self.plan(.bytes(bytes), of: name).plan
      let budget = try #require(plan.request.budget)
      #expect(plan.outputBytes == budget.bytes && plan.outputBytes <= bytes)
      // More bytes never cost more.
      #expect(budget.estimatedKL <= last)
      last = budget.estimatedKL
      // By format sizes alone, the smallest step is that of the smallest tensor.
      let smallest =
        plan.files.flatMap(\.tensors).filter(\.elementType.isBlockQuantized).map(\.bytes).min() ?? 0
      #expect(bytes - plan.outputBytes <= 2 * smallest, "\(bytes - plan.outputBytes) left")
    }
  }

  @Test func outputStaysWithinBitsPerWeight() throws {
    for bits in [3.0, 4.2] {
      let plan = try Self.plan(.bitsPerWeight(bits), of: "trained").plan
      #expect(plan.bitsPerWeight <= bits && plan.bitsPerWeight > bits - 0.05)
    }
  }

  @Test func theEstimateStaysWithinItsLimit() throws {
    var last = Int.max
    for limit in [0.02, 0.001].reversed() {
      let plan = try Self.plan(.klDivergence(limit), of: "trained").plan
      let budget = try #require(plan.request.budget)
      #expect(budget.estimatedKL <= limit && budget.estimatedKL > limit * 0.8)
      #expect(plan.outputBytes < last)
      last = plan.outputBytes
      // Conversely, no plan of that size has a better estimate.
      let back = try #require(try Self.plan(.bytes(plan.outputBytes), of: "trained").plan.request.budget)
      #expect(back.estimatedKL <= budget.estimatedKL * 1.02)
    }
  }

  @Test func theChoiceIsDeterministic() throws {
    let plans = try [1, 2, 5].map { try Self.plan(.bytes(6_000_000), of: "trained", threads: $0).plan }
    #expect(plans.allSatisfy { $0 == plans[0] })
  }

  @Test("the recipe file alone plans the same files", arguments: ["tiny", "trained", "tiny-fp8", "odd"])
  func theRecipeFileGivesTheSamePlan(name: String) throws {
    let planned = try Self.plan(.bitsPerWeight(name == "odd" ? 9 : 5), of: name)
    let budget = try #require(planned.plan.request.budget)
    let again = try ShardPlanner.plan(
      Checkpoint.open(Fixtures.path("checkpoints/\(name)")),
      request: ShardPlan.Request(format: .gguf, recipe: "budget"),
      recipe: Recipe(yaml: budget.recipe, path: "recipe.yaml"))
    #expect(again.plan.parts == planned.plan.parts && again.headers == planned.headers)
    #expect(again.plan.fallbacks == planned.plan.fallbacks)
    let types = Self.types(planned)
    #expect(budget.choices.allSatisfy { types[$0.tensor] == $0.format })
    // An earlier run's choices are reused without reading anything.
    let planner = BudgetPlanner(
      try Checkpoint.open(Fixtures.path("checkpoints/\(name)")),
      request: ShardPlan.Request(format: .gguf, recipe: "budget"), base: try Recipe.named("Q4_K"), pins: 0,
      importance: nil, target: budget.target, candidates: nil)
    #expect(try planner.plan(taking: budget).plan == planned.plan)
    var other = budget
    other.basis = String(repeating: "0", count: 32)
    #expect(throws: CheckpointError.self) { try planner.plan(taking: other) }
  }

  @Test func pinnedAndPreciseTensorsAreNotChosenFor() throws {
    let pins = [
      try TensorTypeOverride(argument: "attn_v=Q8_0"),
      try TensorTypeOverride(argument: "^output\\.weight$=Q3_K"),
    ]
    let planned = try Self.plan(.bytes(4_500_000), of: "trained", pins: pins)
    let types = Self.types(planned)
    #expect(types.filter { $0.key.contains("attn_v") }.values.allSatisfy { $0 == .q8_0 })
    #expect(types["output.weight"] == .q3K)
    #expect(types["output_norm.weight"] == .f32 && types["blk.1.ffn_gate_inp.weight"] == .f32)
    let chosen = Set(planned.plan.request.budget?.choices.map(\.tensor) ?? [])
    #expect(!chosen.contains("output.weight") && chosen.contains("token_embd.weight"))
  }

  @Test func tensorsKeptPlainByTheBaseStayPlain() throws {
    let base = try Recipe(
      yaml: """
        name: mine
        rules:
          - {role: embedding, format: BF16}
          - {role: [vision, projector], format: keep, fallback: [BF16]}
          - {format: Q6_K}
        """, path: "mine.yaml")
    let planned = try BudgetPlanner(
      Checkpoint.open(Fixtures.path("checkpoints/trained")),
      request: ShardPlan.Request(format: .gguf, recipe: "budget"), base: base, pins: 0, importance: nil,
      target: .bytes(5_500_000), candidates: nil
    ).plan(threads: 2) { _ in WorkMonitor() }
    #expect(Self.types(planned)["token_embd.weight"] == .bf16)
    #expect(planned.plan.outputBytes <= 5_500_000)
  }

  @Test func onlyCandidateFormatsAreChosen() throws {
    let planned = try Self.plan(.bytes(6_500_000), of: "trained", candidates: [.q4K, .q6K])
    #expect(Set(planned.plan.request.budget?.choices.map(\.format) ?? []) == [.q4K, .q6K])
    // Without an importance matrix no format is chosen that needs one.
    let small = try Self.plan(.klDivergence(0.05), of: "trained")
    let formats = Set(small.plan.request.budget?.choices.map(\.format) ?? [])
    #expect(formats.isDisjoint(with: [.iq1S, .iq2XXS, .iq2XS, .iq2S, .iq3XXS]))
  }

  @Test("an unreachable budget is refused with the reachable range", arguments: [1, 1_000_000_000])
  func unreachableBudgets(bytes: Int) throws {
    let error = #expect(throws: CheckpointError.self) { try Self.plan(.bytes(bytes), of: "trained") }
    #expect(error?.code == .invalidRequest)
    let numbers = (error?.remedy ?? "").split { !$0.isNumber }.compactMap { Int($0) }.filter {
      $0 > 1_000_000
    }
    #expect(numbers.count == 2)
    // Both ends can be reached.
    for end in numbers { #expect(try Self.plan(.bytes(end), of: "trained").plan.outputBytes <= end) }
  }

  @Test func impossibleRequestsAreRefused() throws {
    for target in [ShardPlan.Budget.Target.bitsPerWeight(0.5), .klDivergence(1e-12), .klDivergence(100)] {
      let error = #expect(throws: CheckpointError.self) { try Self.plan(target, of: "trained") }
      #expect(error?.code == .invalidRequest && error?.remedy?.contains("range from") == true)
    }
    let error = #expect(throws: CheckpointError.self) {
      try Self.plan(.bytes(9_000_000), of: "trained", base: "BF16")
    }
    #expect(error?.message.contains("nothing to choose") == true)
    for text in ["", "Q4_K,", "XX", "keep", "FP8_BLOCK", "F8_E4M3", "IQ1_M"] {
      #expect(throws: CheckpointError.self) { try Candidates.parse(text) }
    }
    #expect(try Candidates.parse("q4_k, BF16,Q4_K") == [.q4K, .bf16])
  }

  @Test func asManyBytesAreReadAsWereAnnounced() throws {
    let announced = Mutex(0)
    let read = Mutex(0)
    let planned = try Self.plan(.bytes(6_000_000), of: "trained") { bytes in
      announced.withLock { $0 = bytes }
      return WorkMonitor(advance: { bytes in read.withLock { $0 += bytes } })
    }
    let bytes = announced.withLock { $0 }
    #expect(bytes > 0 && read.withLock { $0 } == bytes)
    #expect(planned.plan.request.budget?.sampledBytes == bytes)
  }

  /// A stored plan may have been tampered with.
  @Test func aStoredBudgetThatIsInconsistentIsRefused() throws {
    let plan = try Self.plan(.bytes(6_000_000), of: "trained").plan
    try PlanCheck(plan).run()
    let decoded = try JSONDecoder().decode(ShardPlan.self, from: JSONEncoder().encode(plan))
    #expect(decoded == plan)
    let changes: [(inout ShardPlan.Budget) -> Void] = [
      { $0.target = .bytes(0) }, { $0.target = .bitsPerWeight(-1) }, { $0.target = .klDivergence(.infinity) },
      { $0.basis = "x" }, { $0.recipe = "" }, { $0.recipe += "what: 1\n" },
      { $0.recipe = $0.recipe.replacing("name: \"budget\"", with: "name: \"other\"") },
      { $0.multiplier = -1 }, { $0.estimatedKL = .nan }, { $0.bytes = -1 }, { $0.sampledRows = -1 },
      { $0.sampledBytes = -1 }, { $0.choices[0].format = .q2K }, { $0.choices[0].tensor = "elsewhere" },
      { $0.choices.append($0.choices[0]) }, { $0.choices[1].relativeError = -1 },
      { $0.choices[1].estimatedKL = .infinity }, { $0.reachable = -5 ... -1 },
      { $0.fixed = [.init(recipe: "x", bytes: -1, estimatedKL: 0)] },
    ]
    for (number, change) in changes.enumerated() {
      var changed = plan
      guard var budget = changed.request.budget else { continue }
      change(&budget)
      changed.request.budget = budget
      #expect(throws: CheckpointError.self, "change \(number)") { try PlanCheck(changed).run() }
    }
  }
}
