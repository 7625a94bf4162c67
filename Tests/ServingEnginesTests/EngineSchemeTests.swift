import ServingEngines
import Testing

@Suite("Schemes that engines load")
struct EngineSchemeTests {
  @Test(
    "A sound checkpoint with quantised experts passes exactly the engines that load its scheme",
    arguments: SyntheticScheme.allCases)
  func experts(scheme: SyntheticScheme) throws {
    let checkpoint = try SyntheticCheckpoint(scheme)
    let (vllm, sglang) = (try checkpoint.report(.vllm), try checkpoint.report(.sglang))
    #expect(vllm.ok == scheme.isLoaded.vllm, "\(vllm.findings)")
    #expect(sglang.ok == scheme.isLoaded.sglang, "\(sglang.findings)")
    if scheme.isLoaded.vllm { #expect(vllm.findings.isEmpty && vllm.checksSkipped.isEmpty) }
    if scheme.isLoaded.sglang { #expect(sglang.findings.filter { $0.code != .lmHeadNotListed }.isEmpty) }
  }

  @Test("So does one whose linear layers are all quantised", arguments: SyntheticScheme.allCases)
  func allLinear(scheme: SyntheticScheme) throws {
    let checkpoint = try SyntheticCheckpoint(scheme, expertsOnly: false)
    let (vllm, sglang) = (try checkpoint.report(.vllm), try checkpoint.report(.sglang))
    #expect(vllm.ok == scheme.isLoaded.vllm, "\(vllm.findings)")
    #expect(sglang.ok == scheme.isLoaded.sglang, "\(sglang.findings)")
  }

  @Test(
    "Fused attention passes both engines in every scheme that they load", arguments: SyntheticScheme.allCases)
  func fusedAttention(scheme: SyntheticScheme) throws {
    let checkpoint = try SyntheticCheckpoint(scheme, expertsOnly: false, fusedAttention: true)
    #expect(try checkpoint.report(.vllm).ok == scheme.isLoaded.vllm)
    #expect(try checkpoint.report(.sglang).ok == scheme.isLoaded.sglang)
  }

  @Test("The report names the scheme of each kind of module and the largest degree its blocks allow")
  func schemes() throws {
    let report = try SyntheticCheckpoint(.fp8Block).report(.vllm)
    #expect(report.schemes.map(\.kind) == [.experts, .shared, .dense, .attention, .lmHead])
    #expect(report.schemes.first?.scheme == "FP8 in blocks of 128 x 128")
    #expect(report.schemes.dropFirst().allSatisfy { $0.scheme == "BF16" })
    #expect(report.schemes.map(\.modules) == [2, 4, 4, 12, 1])
    #expect(report.schemes.first?.largestTP == 8)
    #expect(report.largestTP == 8)
  }

  @Test(
    "The largest degree follows from group and block: 1024 inner columns",
    arguments: [
      (SyntheticScheme.bf16, 16), (.w4a16, 8), (.nvfp4A16, 16), (.fp8Dynamic, 16), (.fp8BlockCT, 8),
    ])
  func largestDegree(scheme: SyntheticScheme, degree: Int) throws {
    // 16 heads, in the language model and in the vision tower, allow at most 16 ranks.
    #expect(try SyntheticCheckpoint(scheme).report(.vllm).largestTP == degree)
  }

  @Test("SGLang's NVFP4 experts need 64 rows per rank")
  func rowsOfNVFP4() throws {
    let checkpoint = try SyntheticCheckpoint(.nvfp4A16)
    #expect(try checkpoint.report(.sglang).schemes.first?.largestTP == 16)
    #expect(try checkpoint.report(.vllm).schemes.first?.largestTP == 64)
  }

  @Test("Sixteen ranks cut blocks of 128 in half")
  func sixteenRanks() throws {
    let checkpoint = try SyntheticCheckpoint(.fp8Block)
    for engine in Engine.allCases {
      let report = try checkpoint.report(engine, tensorParallel: 16)
      #expect(report.faults == [.tensorParallel])
      #expect(report.findings.first?.tensor == "model.layers.1.moe")
      #expect(try checkpoint.report(engine, tensorParallel: 8).ok)
    }
    #expect(try checkpoint.report(.vllm, tensorParallel: 3).faults == [.tensorParallel])
  }

  @Test("Scales whose data cannot be read are listed as unchecked")
  func unreadable() throws {
    var checkpoint = try SyntheticCheckpoint(.nvfp4A16)
    checkpoint.canRead = false
    let report = try checkpoint.report(.vllm)
    #expect(report.ok)
    #expect(report.checksSkipped.count == 1)
  }
}
