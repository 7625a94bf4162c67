import CheckpointTesting
import Deployment
import Step3Model
import Testing

/// Properties that hold for any model on any cards.
@Suite struct DeploymentPropertyTests {
  /// A model and cards of random sizes.
  struct Sample {
    let shape: DecoderShape
    let request: DeploymentRequest

    init(_ seed: UInt64) {
      var random = SeededGenerator(seed: seed)
      func pick(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }
      func scale(_ low: Double, _ high: Double) -> Double { Double.random(in: low...high, using: &random) }
      let hidden = pick(8...64) * 128
      let heads = pick(1...16)
      shape = DecoderShape(
        name: "sample", hiddenSize: hidden, vocabularySize: pick(1000...200_000),
        attention: [
          AttentionLayers(
            count: pick(1...40),
            .grouped(
              queryHeads: heads * pick(1...8), keyValueHeads: heads, dimension: 128,
              window: pick(0...1) == 0 ? nil : pick(64...4096)),
            projectionWeights: hidden * pick(128...16_384)),
          AttentionLayers(
            count: pick(1...40), .latent(heads: heads * 8, dimension: 576),
            projectionWeights: hidden * pick(128...16_384)),
        ],
        feedForward: [
          FeedForwardLayers(count: pick(1...8), width: pick(1...100) * 256),
          FeedForwardLayers(
            count: pick(1...60), experts: pick(8...256), chosen: pick(1...8), width: pick(1...16) * 256,
            shared: pick(0...8) * 256),
        ])
      let cards = (0..<3).map { index in
        Accelerator(
          name: "card \(index)", pricePerHour: scale(0.1, 8), bf16: scale(1e14, 2e15),
          fp8: index == 0 ? nil : scale(1e14, 4e15), bandwidth: scale(3e11, 8e12),
          memory: scale(2.4e10, 2e11),
          network: scale(1e9, 1e11))
      }
      request = DeploymentRequest(
        accelerators: cards, context: pick(1...200_000), batch: pick(1...20_000),
        pipeline: Pipeline(secondsPerToken: scale(0.02, 0.5), stages: pick(2...4)))
    }
  }

  private static let seeds = Array(0..<200).map(UInt64.init)

  @Test(arguments: seeds)
  func betterCardsNeverCostMore(seed: UInt64) throws {
    let sample = Sample(seed)
    let before = try DeploymentPlan(sample.shape, sample.request)
    let changes: [(inout Accelerator) -> Void] = [
      { $0.bandwidth *= 2 }, { $0.bf16 *= 2 }, { $0.fp8 = $0.fp8.map { $0 * 2 } },
    ]
    for change in changes {
      var request = sample.request
      for index in request.accelerators.indices { change(&request.accelerators[index]) }
      let after = try DeploymentPlan(sample.shape, request)
      for (old, new) in zip(before.costs, after.costs) {
        #expect(new.attentionCost <= old.attentionCost && new.feedForwardCost <= old.feedForwardCost)
      }
      #expect(after.disaggregated.cost <= before.disaggregated.cost)
    }
  }

  @Test(arguments: seeds)
  func costsScaleWithPricesAndContexts(seed: UInt64) throws {
    let sample = Sample(seed)
    let before = try DeploymentPlan(sample.shape, sample.request)
    var request = sample.request
    for index in request.accelerators.indices { request.accelerators[index].pricePerHour *= 2 }
    let dearer = try DeploymentPlan(sample.shape, request)
    #expect(dearer.disaggregated.cost == 2 * before.disaggregated.cost)
    #expect(dearer.disaggregated.tokensPerSecondPerCard == before.disaggregated.tokensPerSecondPerCard)
    request = sample.request
    request.context *= 2
    let longer = try DeploymentPlan(sample.shape, request)
    for (old, new) in zip(before.costs, longer.costs) {
      #expect(new.attentionCost >= old.attentionCost && new.feedForwardCost == old.feedForwardCost)
    }
  }

  @Test(arguments: seeds)
  func twoKindsOfCardsNeverCostMoreThanOne(seed: UInt64) throws {
    let plan = try DeploymentPlan(Sample(seed).shape, Sample(seed).request)
    for cost in plan.costs { #expect(plan.disaggregated.cost <= cost.totalCost) }
    // The number of cards of each kind that give the same throughput.
    let (a, f) = (plan.disaggregated.attention, plan.disaggregated.feedForward)
    let rate = plan.disaggregated.ratio * a.attentionTokensPerSecond
    #expect(abs(rate / f.feedForwardTokensPerSecond - 1) < 1e-12)
  }

  /// With one machine fewer the batch does not fit or is too slow: recounted from the model's dimensions.
  @Test(arguments: seeds)
  func oneMachineFewerIsNotEnough(seed: UInt64) throws {
    let sample = Sample(seed)
    let request = sample.request
    let plan = try DeploymentPlan(sample.shape, request)
    guard let instances = plan.instances else { return }
    func card(_ name: String) throws -> Accelerator {
      try #require(request.accelerators.first { $0.name == name })
    }
    let stage = request.pipeline.secondsPerToken / Double(request.pipeline.stages)
    let micro = Double(instances.microBatch)
    let f = try card(instances.feedForward.accelerator)
    func feeds(_ machines: Int) -> Bool {
      let cards = Double(machines * 8)
      let weights = sample.shape.feedForwardWeights / cards
      let seconds = max(
        weights / f.bandwidth, micro * plan.work.feedForwardFLOPs / f.operations(.fp8) / cards)
      return weights <= f.memory * 0.9 && seconds <= stage
    }
    #expect(feeds(instances.feedForward.machines) && !feeds(instances.feedForward.machines - 1))
    #expect(instances.attention.stageSeconds <= stage)
    #expect(instances.attention.bytesPerCard <= (try card(instances.attention.accelerator)).memory * 0.9)
    #expect(instances.batch == request.batch)
  }

  @Test(arguments: seeds)
  func lessEfficientCardsNeverTakeFewerMachines(seed: UInt64) throws {
    let sample = Sample(seed)
    var request = sample.request
    request.efficiency = 0.5
    guard let slow = try DeploymentPlan(sample.shape, request).instances else { return }
    let fast = try #require(try DeploymentPlan(sample.shape, sample.request).instances)
    #expect(slow.attention.machines >= fast.attention.machines)
    #expect(slow.feedForward.machines >= fast.feedForward.machines)
    #expect(slow.cost >= fast.cost)
  }

  /// The published dimensions, worked out by hand: the weights of one layer's projections, and all weights used per token.
  @Test func shapesOfTheFamilyAreThoseWorkedOutByHand() {
    let flash = DecoderShape(.published(.step3p5))
    #expect(flash.layerCount == 45 && flash.attention.map(\.count) == [12, 33])
    // q, k, v, o and the gate of each head.
    let full = 4096 * 128 * 144 + 4096 * 64
    let sliding = 4096 * 128 * 208 + 4096 * 96
    #expect(flash.attention.map(\.projectionWeights) == [full, sliding])
    #expect(flash.sparsity == 9.0 / 289)
    let work = flash.work(context: 32_768, cacheBytes: 2)
    let kept: Double = 12 * 32_768 + 33 * 512
    #expect(work.cacheBytes == 4096 * kept)
    let scores: Double = 12 * 64 * 32_768 + 33 * 96 * 512
    #expect(work.attentionFLOPs == 512 * scores)
    let widths: Double = 3 * 11_264 + 42 * 9 * 1280
    #expect(work.feedForwardFLOPs == 6 * 4096 * widths)
    // Full layers attend to at most 513 regions of 8 tokens, and to the summaries of all regions.
    let preview = DecoderShape(.published(.step5)).work(context: 1 << 20)
    let seen: Double = 23 * 4104 + 69 * 512
    let summaries: Double = 23 * 131_072
    #expect(preview.cacheBytes == 1536 * seen + 256 * summaries)
    #expect(preview.attentionFLOPs == 49_152 * seen + 8192 * summaries)
    let dense = DecoderShape(.published(.step3VL10B))
    #expect(dense.sparsity == 1)
    let projections: Double = 36 * 4096 * 128 * 80
    #expect(dense.projectionWeights == projections)
  }
}
