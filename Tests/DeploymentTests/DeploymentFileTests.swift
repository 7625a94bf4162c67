import ByteStreams
import CheckpointTesting
import Deployment
import TensorFormats
import Testing

@Suite struct DeploymentFileTests {
  private static let card =
    "{name: X, price: 2, bf16: 1e15, bandwidth: 3.35 TB/s, memory: 80GiB, network: 400 Gbps}"

  @Test func aCompleteFileIsRead() throws {
    let request = try DeploymentRequest(
      yaml: """
        accelerators:
          - {name: 7, price: 0.5, bf16: 989 TFLOP/s, fp8: 1.98e15, bandwidth: 3.35e12, memory: 141 GB, network: 50 GB/s}
          - \(Self.card)
        attention: 7
        ffn: X
        context: 32K
        batch: 6144
        time_per_token: 0.04
        stages: 4
        precision: {compute: BF16, cache: bf16, weights: fp8}
        cards_per_machine: 16
        efficiency: 0.5
        memory_share: 0.8
        """, path: "d.yaml")
    #expect(
      request
        == DeploymentRequest(
          accelerators: [
            Accelerator(
              name: "7", pricePerHour: 0.5, bf16: 9.89e14, fp8: 1.98e15, bandwidth: 3.35e12, memory: 1.41e11,
              network: 5e10),
            Accelerator(
              name: "X", pricePerHour: 2, bf16: 1e15, bandwidth: 3.35e12, memory: 80 * 1_073_741_824,
              network: 5e10),
          ], attention: "7", feedForward: "X", context: 32_768, batch: 6144,
          pipeline: Pipeline(secondsPerToken: 0.04, stages: 4), compute: .bf16, cache: .bf16, weights: .fp8,
          cardsPerMachine: 16, efficiency: 0.5, memoryShare: 0.8))
  }

  @Test(arguments: ["report", "h200", "2A2F"])
  func theManualsExamplesAreRead(name: String) throws {
    let request = try DeploymentRequest(file: InputFile("\(Fixtures.root)/Manuals/examples/\(name).yaml"))
    #expect(!request.accelerators.isEmpty && request.context >= 4096)
  }

  /// Each bad file with the start of its message and a part of the remedy.
  @Test(arguments: [
    ("context: 8K", "line 1, column 1: 'accelerators' is missing", "at least one card"),
    ("accelerators: []\ncontext: 8K", "line 1, column 15: 'accelerators' is an empty list", ""),
    ("accelerators: [CARD]", "line 1, column 1: 'context' is missing", "the number of tokens"),
    (
      "accelerators: [CARD]\ncontex: 8K", "line 2, column 1: unknown key 'contex'",
      "did you mean context? there are accelerators"
    ),
    (
      "accelerators: [CARD]\ncontext: 8K\nfoo: 1", "line 3, column 1: unknown key 'foo'",
      "there are accelerators"
    ),
    ("accelerators: [CARD, CARD]\ncontext: 1", "line 1, column 105: 'X' appears twice", ""),
    (
      "accelerators: [CARD]\ncontext: 8 K", "line 2, column 10: '8 K' is not a number of tokens", "1K is 1024"
    ),
    ("accelerators: [CARD]\ncontext: 0", "line 2, column 10: '0' is not a number of tokens", ""),
    ("accelerators: [CARD]\ncontext: -1K", "line 2, column 10: '-1K' is not a number of tokens", ""),
    (
      "accelerators: [CARD]\ncontext: 9999999999999999999", "line 2, column 10: '9999999999999999999' is no",
      ""
    ),
    (
      "accelerators: [CARD]\ncontext: 8K\nffn: Y", "line 3, column 6: 'Y' is not one of the accelerators",
      "there are X"
    ),
    ("accelerators: [CARD]\ncontext: 8K\nbatch: 0", "line 3, column 8: 0 is not from 1 to", ""),
    (
      "accelerators: [CARD]\ncontext: 8K\nbatch: many", "line 3, column 8: 'batch' must be a whole number", ""
    ),
    ("accelerators: [CARD]\ncontext: 8K\nstages: 65", "line 3, column 9: 65 is not from 1 to 64", ""),
    ("accelerators: [CARD]\ncontext: 8K\nefficiency: 2", "line 3, column 13: 2.0 is not a share", ""),
    (
      "accelerators: [CARD]\ncontext: 8K\nefficiency: nan",
      "line 3, column 13: 'nan' is not a number above 0",
      ""
    ),
    (
      "accelerators: [CARD]\ncontext: 8K\ntime_per_token: 50 MB",
      "line 3, column 17: '50 MB' is not a quantity",
      "50 ms"
    ),
    (
      "accelerators: [CARD]\ncontext: 8K\nprecision: {compute: fp4}",
      "line 3, column 22: 'fp4' is not a supported precision", "bf16, fp8"
    ),
    (
      "accelerators: [CARD]\ncontext: 8K\nprecision: fp8", "line 3, column 12: 'precision' must be a mapping",
      ""
    ),
    ("accelerators: [{name: X}]\ncontext: 8K", "line 1, column 16: 'price' is missing", "US dollars"),
    (
      "accelerators: [{name: X, price: -1}]\ncontext: 8K", "line 1, column 33: '-1' is not a number above 0",
      ""
    ),
    (
      "accelerators: [{name: X, price: 1, bf16: 5 TB/s}]\ncontext: 8K",
      "line 1, column 42: '5 TB/s' is not a quantity", "TFLOP/s"
    ),
    (
      "accelerators: [{name: X, price: 1, bf16: 1e999}]\ncontext: 8K",
      "line 1, column 42: '1e999' is not a quantity", ""
    ),
    (
      "accelerators: [{name: ~}]\ncontext: 8K",
      "line 1, column 23: 'name' must be a number or a string, not '~'", ""
    ),
    ("a: &a [1]\nb: *a", "line 2, column 4: the alias *a is not supported", "write out"),
  ])
  func badFilesAreRefusedWithARemedy(yaml: String, message: String, remedy: String) {
    let text = yaml.replacing("CARD", with: Self.card)
    let error = #expect(throws: CheckpointError.self) { try DeploymentRequest(yaml: text, path: "d.yaml") }
    #expect(error?.code == .malformed && error?.path == "d.yaml")
    #expect(error?.message.hasPrefix(message) == true, "\(error?.message ?? "no message")")
    #expect(remedy.isEmpty || error?.remedy?.contains(remedy) == true, "\(error?.remedy ?? "no remedy")")
  }

  @Test func hostileFilesAreRefused() {
    let large = MemorySource([UInt8](repeating: 32, count: (1 << 20) + 1))
    #expect(throws: CheckpointError.self) { try DeploymentRequest(file: large) }
    #expect(throws: CheckpointError.self) { try DeploymentRequest(file: MemorySource([0xFF, 0xFE])) }
    let nested = MemorySource(Array(String(repeating: "[", count: 100_000).utf8))
    #expect(throws: CheckpointError.self) { try DeploymentRequest(file: nested) }
  }

  /// Files with bytes changed, removed and doubled: refused with a position, or planned for with finite numbers.
  @Test(arguments: 0..<40)
  func randomlyChangedFilesAreRefusedOrPlanned(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let texts = try ["report", "h200", "2A2F"].map {
      try InputFile("\(Fixtures.root)/Manuals/examples/\($0).yaml")
    }.map { try $0.readBytes(0..<$0.byteCount).filter { $0 < 128 } }
    for _ in 0..<50 {
      var text = try #require(texts.randomElement(using: &random))
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let place = Int.random(in: 0..<text.count, using: &random)
        switch Int.random(in: 0...2, using: &random) {
        case 0: text[place] = UInt8.random(in: 32...126, using: &random)
        case 1: text.remove(at: place)
        default: text.insert(contentsOf: text[place...].prefix(8), at: place)
        }
      }
      do throws(CheckpointError) {
        let request = try DeploymentRequest(yaml: String(decoding: text, as: UTF8.self), path: "d.yaml")
        for shape in DecoderShape.reported {
          let plan = try DeploymentPlan(shape, request)
          #expect(plan.disaggregated.cost > 0 && plan.disaggregated.cost.isFinite)
          #expect(plan.costs.count == request.accelerators.count)
        }
      } catch {
        #expect(error.code == .malformed && error.path == "d.yaml", "\(error)")
      }
    }
  }

  @Test(arguments: [
    (Quantity.bytes, "141 GB", 1.41e11), (.bytes, "80GiB", 85_899_345_920), (.bytes, "5", 5),
    (.bytes, "1.5e9 B", 1.5e9), (.bytes, "1EB", 1e18), (.bytesPerSecond, "400 Gb/s", 5e10),
    (.bytesPerSecond, "400Gbps", 5e10), (.bytesPerSecond, "50 GB/s", 5e10),
    (.bytesPerSecond, "2 MiB/s", 2_097_152),
    (.operationsPerSecond, "1.98 PFLOP/s", 1.98e15), (.operationsPerSecond, "989 TFLOPS", 9.89e14),
    (.seconds, "50ms", 0.05), (.seconds, "250 us", 0.00025), (.seconds, "2 s", 2),
  ])
  func quantitiesAreParsedWithTheirUnits(unit: Quantity, text: String, value: Double) throws {
    let parsed = try #require(unit.parse(text))
    #expect(abs(parsed / value - 1) < 1e-12)
  }

  @Test(arguments: [
    (Quantity.bytes, "GB"), (.bytes, "5 Gb"), (.bytes, "-5 GB"), (.bytes, "0"), (.bytes, "5 XB"),
    (.bytes, "inf"),
    (.bytes, "0x10"), (.bytes, "5 GB/s"), (.bytesPerSecond, "5 GB"), (.operationsPerSecond, "5 GiFLOP/s"),
    (.seconds, "5 Gs"), (.seconds, "1e999 s"), (.bytes, "1.2.3"), (.bytes, ""), (.bytes, "5 GiGB"),
  ])
  func whatIsNotAQuantityIsRefused(unit: Quantity, text: String) { #expect(unit.parse(text) == nil) }

  @Test func tokenCountsAreParsed() {
    #expect(TokenCount("32K")?.tokens == 32_768 && TokenCount("32k")?.tokens == 32_768)
    #expect(TokenCount("1M")?.tokens == 1 << 20 && TokenCount("8000")?.tokens == 8000)
    for text in ["", "K", "0", "-1", "1.5K", "32 K", "32KB", "2000M", "99999999999999999999K", "٣"] {
      #expect(TokenCount(text) == nil, "\(text)")
    }
  }
}
