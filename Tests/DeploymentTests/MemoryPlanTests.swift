import Checkpoint
import CheckpointTesting
import Deployment
import Foundation
import PlanTesting
import ShardPlanning
import Step3Model
import TensorFormats
import Testing

/// Memory of whole models, against figures worked out by hand and against every other way to distribute them.
@Suite struct MemoryPlanTests {
  /// Runs `body` on a whole model of full size.
  private static func withModel<Result>(
    _ family: ModelFamily, _ body: (String, Step3Configuration) throws -> Result
  ) throws -> Result {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("memory-\(UUID())")
    defer { try? FileManager.default.removeItem(at: directory) }
    let configuration = Step3Configuration.published(family)
    try SparseCheckpoint.write(configuration, to: directory)
    return try body(directory.path, configuration)
  }

  private static func plan(
    _ source: String, _ recipe: String = "keep", _ partition: ShardPlan.Partition = .none,
    format: Checkpoint.Format = .safetensors
  ) throws -> ShardPlan {
    try PlanRequest(format: format, recipe: recipe, partition: partition).plan(source).plan
  }

  // MARK: The cache

  /// Elements per token and layer times the tokens that are cached, worked out by hand.
  @Test(arguments: [
    // 61 layers x 2 x 256.
    (ModelFamily.step3, 61 * 512 * 32_768 * 2),
    // 12 full and 33 sliding layers of 2 x 8 x 128.
    (.step3p5, 2048 * 2 * (12 * 32_768 + 33 * 512)), (.step3p7, 2048 * 2 * (12 * 32_768 + 33 * 512)),
    // 23 full and 69 sliding layers of 2 x 4 x 192, and one byte for each of the 256 elements of a region's summary.
    (.step5, 1536 * 2 * (23 * 32_768 + 69 * 512) + 23 * 4096 * 256),
    // 36 layers of 2 x 8 x 128.
    (.step3VL10B, 36 * 2048 * 2 * 32_768),
  ])
  func cachePerSequenceIsThatWorkedOutByHand(family: ModelFamily, bytes: Int) {
    let cache = CacheMemory(.published(family), predicting: false)
    #expect(cache.bytes(context: 32_768, stored: .bf16) == Double(bytes))
  }

  @Test func kvHeadsAreDividedBetweenRanks() {
    let step3 = CacheMemory(.published, predicting: false)
    // Its only KV head is on every rank.
    #expect(step3.bytes(context: 8192, stored: .fp8, tensorParallel: 8) == 61 * 512 * 8192)
    let flash = CacheMemory(.published(.step3p5), predicting: false)
    let whole = flash.bytes(context: 8192, stored: .fp8)
    #expect(flash.bytes(context: 8192, stored: .fp8, tensorParallel: 8) == whole / 8)
    #expect(flash.bytes(context: 8192, stored: .fp8, tensorParallel: 32) == whole / 8)
    // Three further sliding layers.
    let predicting = CacheMemory(.published(.step3p5), predicting: true)
    #expect(predicting.bytes(context: 8192, stored: .fp8) == whole + 3 * 2048 * 512)
    // Shorter than the sliding window.
    #expect(flash.bytes(context: 100, stored: .fp8) == 45 * 2048 * 100)
  }

  // MARK: Weights

  /// Step-3 in BF16, worked out by hand: weights cut between 8 ranks, and weights replicated on each.
  @Test func weightsPerRankAreThoseWorkedOutByHand() throws {
    try Self.withModel(.step3) { source, configuration in
      let plan = try Self.plan(source)
      func weights(_ layout: (tp: Int, cards: Int, expert: Bool)) throws -> Double {
        let request = MemoryRequest(
          cardBytes: 1 << 50, context: 1, batch: 1, cards: layout.cards, tensorParallel: layout.tp,
          expertParallel: layout.expert)
        return Double(
          try #require(try MemoryPlan(plan, configuration, request).asked?.sides.first).rank.weights)
      }
      // Every product times two bytes per element.
      let (hidden, layers, sparse) = (7168, 61, 56)
      let words = 128_815 * hidden
      let low = layers * hidden * (2048 + 2 * 256)
      let heads = layers * (2048 * 16_384 + 16_384 * hidden)
      let norms = layers * (2 * hidden + 2048) + hidden
      let router = sparse * 48 * hidden
      let dense = 5 * 3 * hidden * 18_432
      let shared = sparse * 3 * hidden * 5120
      let routed = sparse * 48 * 3 * hidden * 5120
      // The vision tower's layers: q, k, v and fc1 are cut with their biases, out and fc2 without theirs.
      let (width, inner, tower) = (1792, 15_360, 63)
      let visionCut = tower * (4 * width * width + 3 * width + 2 * width * inner + inner)
      let vision = 4_616_654_336 + 58_720_256 - visionCut
      func rank(_ tp: Int, _ experts: Int) -> Double {
        let cut = (heads + dense + shared + visionCut) / tp + 2 * (words / tp) + experts
        return 2 * Double(low + norms + router + vision + cut)
      }
      #expect(try weights((1, 1, false)) == rank(1, routed))
      #expect(2 * Double(320_969_912_832) == rank(1, routed))
      #expect(abs(try weights((8, 8, false)) - rank(8, routed / 8)) <= 4)
      #expect(abs(try weights((8, 16, false)) - rank(8, routed / 16)) <= 4)
      #expect(abs(try weights((8, 16, true)) - rank(8, routed / 16)) <= 4)
      // 48 experts on 32 ranks: at most two on a rank.
      #expect(abs(try weights((4, 32, true)) - rank(4, routed / 24)) <= 4)
    }
  }

  /// Blocks with scales allow fewer ranks than plain weights do, and the reason says so.
  @Test func scaleTilesLimitTheRanks() throws {
    try Self.withModel(.step3) { source, configuration in
      let plan = try Self.plan(source, "FP8_BLOCK")
      func request(_ tp: Int) -> MemoryRequest {
        MemoryRequest(
          cardBytes: 141_000_000_000, context: 8192, batch: 8, cardsPerMachine: 16, tensorParallel: tp)
      }
      #expect(try MemoryPlan(plan, configuration, request(8)).fits)
      let error = #expect(throws: CheckpointError.self) { try MemoryPlan(plan, configuration, request(16)) }
      #expect(error?.code == .invalidRequest)
      #expect(error?.message.contains("cannot be divided") == true)
      let odd = #expect(throws: CheckpointError.self) { try MemoryPlan(plan, configuration, request(3)) }
      #expect(odd?.message.hasPrefix("--tp 3: ") == true)
      #expect(odd?.remedy == "--tp 1, 2, 4, 8 would work")
    }
  }

  // MARK: The smallest number of cards

  /// Every number of cards and every distribution over them, one at a time.
  @Test(arguments: [
    (ModelFamily.step3, "keep", 80, 32_768, 64), (.step3, "FP8_BLOCK", 141, 65_536, 32),
    (.step3p5, "keep", 80, 131_072, 100), (.step3p7, "keep", 48, 8192, 10),
    (.step5, "keep", 192, 262_144, 24),
    (.step3VL10B, "keep", 24, 32_768, 16),
  ])
  func oneCardFewerIsNotEnough(
    family: ModelFamily, recipe: String, gigabytes: Int, context: Int, batch: Int
  ) throws {
    try Self.withModel(family) { source, configuration in
      let plan = try Self.plan(source, recipe)
      let request = MemoryRequest(cardBytes: gigabytes * 1_000_000_000, context: context, batch: batch)
      let smallest = try #require(try MemoryPlan(plan, configuration, request).smallest)
      #expect(smallest.fits)
      for cards in 1...smallest.cards {
        var fits = false
        for ranks in 1...8 where cards % ranks == 0 {
          for expert in [false, true] {
            var one = request
            (one.cards, one.tensorParallel, one.expertParallel) = (cards, ranks, expert)
            guard let side = try? MemoryPlan(plan, configuration, one).asked?.sides.first else { continue }
            #expect(side.fits == (Double(side.rank.total) <= Double(gigabytes) * 0.9e9))
            fits = fits || side.fits
          }
        }
        #expect(fits == (cards == smallest.cards), "\(cards) cards")
      }
    }
  }

  @Test func moreMemoryNeverTakesMoreCards() throws {
    try Self.withModel(.step3) { source, configuration in
      let plan = try Self.plan(source, "W4A16")
      var last = Int.max
      for gigabytes in [24, 48, 80, 96, 141, 192, 288] {
        let request = MemoryRequest(cardBytes: gigabytes * 1_000_000_000, context: 32_768, batch: 64)
        guard let smallest = try MemoryPlan(plan, configuration, request).smallest else { continue }
        #expect(smallest.cards <= last)
        last = smallest.cards
      }
      #expect(last < 8)
    }
  }

  @Test func aRequestThatNeverFitsSaysWhy() throws {
    try Self.withModel(.step3) { source, configuration in
      // One sequence of a million tokens alone is 65 GB.
      let request = MemoryRequest(cardBytes: 24_000_000_000, context: 1 << 20, batch: 1)
      let memory = try MemoryPlan(try Self.plan(source), configuration, request)
      #expect(!memory.fits && memory.smallest == nil && memory.asked == nil)
      #expect(memory.obstacle?.contains("no rank becomes small enough") == true)
    }
  }

  /// Sums that overflow fit nowhere.
  @Test func overflowingSizesNeverFit() throws {
    try Self.withModel(.step3VL10B) { source, configuration in
      let request = MemoryRequest(
        cardBytes: .max, memoryShare: 1, context: TokenCount.largest, batch: 1 << 30, cards: 1)
      let memory = try MemoryPlan(try Self.plan(source), configuration, request)
      #expect(memory.asked?.fits == false)
    }
  }

  /// Two cards are too few, and the smallest sufficient number is given.
  @Test func tooFewCardsAreReportedWithTheSmallestNumber() throws {
    try Self.withModel(.step3) { source, configuration in
      let request = MemoryRequest(cardBytes: 141_000_000_000, context: 32_768, batch: 64, cards: 2)
      let memory = try MemoryPlan(try Self.plan(source, "FP8_BLOCK"), configuration, request)
      #expect(!memory.fits && memory.asked?.fits == false && memory.asked?.cards == 2)
      #expect((memory.smallest?.cards ?? 0) > 2)
    }
  }

  // MARK: Partitions

  @Test func thePartsOfAPartitionAreTheRanks() throws {
    try Self.withModel(.step3) { source, configuration in
      let layout = ShardPlan.AFDLayout(ffnEP: 4)
      let plan = try Self.plan(source, "FP8_BLOCK", .afd(layout))
      let request = MemoryRequest(cardBytes: 80_000_000_000, context: 32_768, batch: 256, cache: .fp8)
      let memory = try MemoryPlan(partitioned: plan, configuration, request) { cut throws(CheckpointError) in
        try Self.replan(source, cut)
      }
      let sides = try #require(memory.asked?.sides)
      #expect(sides.map(\.side) == [.attention, .feedForward, .vision])
      // 76 GB per part exceed 72 GB; 304.1 GB on five cards are 61.6 GB with the tenth expert.
      #expect(!memory.fits && !sides[1].fits && sides[1].cards == 4)
      #expect(memory.obstacle == "a rank of ffn does not fit on a card")
      let smallest = try #require(memory.smallest)
      let ffn = try #require(smallest.sides.first { $0.side == .feedForward })
      // 18432 and 5120 divide by 8, not by 5, 6 or 7.
      #expect(ffn.cards == 8 && ffn.fits && ffn.cut?.expertParallel == 8)
      #expect(abs(Double(ffn.rank.weights) - 304.1e9 / 8) < 0.2e9)
      // By hand: 1,023,410,176 bytes per sequence beside 14.1 GB of weights.
      let attention = try #require(smallest.sides.first { $0.side == .attention })
      let each = 61.0 * 512 * 32_768
      #expect(Double(attention.rank.cache) == Double(attention.rank.sequences) * each)
      #expect(attention.replicas == 5 && attention.rank.sequences == 52)
      #expect(abs(Double(attention.rank.weights) - 14.06e9) < 0.1e9)
      // With four instances each has 64 sequences, and 65.5 GB of cache are too much.
      #expect(Double(attention.rank.weights) + 64 * each > 72e9)
      #expect(smallest.cards == 13 && smallest.machines == 2)
    }
  }

  @Test func aPartitionIsFittedIntoTheGivenCards() throws {
    try Self.withModel(.step3) { source, configuration in
      let plan = try Self.plan(source, "FP8_BLOCK", .afd(.init(ffnEP: 4, ffnTP: 2)))
      func memory(_ cards: Int) throws -> MemoryPlan {
        let request = MemoryRequest(
          cardBytes: 80_000_000_000, context: 32_768, batch: 256, cache: .fp8, cards: cards)
        return try MemoryPlan(partitioned: plan, configuration, request) { cut throws(CheckpointError) in
          try Self.replan(source, cut)
        }
      }
      let fits = try memory(16)
      #expect(fits.fits && fits.asked?.sides[0].replicas == 8)
      #expect(try memory(13).fits)
      #expect(try !memory(12).fits)
      let few = try memory(8)
      #expect(!few.fits && few.obstacle == "this cut needs 9 cards at least, and there are 8")
    }
  }

  private static func replan(
    _ source: String, _ cut: ShardPlan.AFDLayout
  ) throws(CheckpointError) -> ShardPlan {
    do {
      let plan = try plan(source, "FP8_BLOCK", .afd(cut))
      try plan.requireRecipe()
      return plan
    } catch let error as CheckpointError {
      throw error
    } catch {
      throw CheckpointError(.invalidRequest, "\(error)")
    }
  }
}
