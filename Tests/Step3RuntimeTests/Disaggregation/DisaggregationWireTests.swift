import Checkpoint
import Foundation
import ShardPlanning
import Step3Model
import Step3Runtime
import Synchronization
import TensorFormats
import Testing

/// The protocol between attention and the FFN ranks, spoken by a second implementation.
@Suite("Disaggregation wire", .serialized)
struct DisaggregationWireTests {
  /// Layer 1 of `tiny` has 8 experts, 3 per token, and 256 elements.
  struct Request {
    var number: UInt64 = 7
    var layer: UInt32 = 1
    var tokens: UInt32 = 2
    var hidden: UInt32 = 256
    var perToken: UInt32 = 3
    var format: UInt8 = 0
    var results: UInt8 = 0
    var experts: [Int32] = [0, 5, 7, 2, 1, 0]
    var weights: [Float] = [0.5, 0.25, 0.125, 0.5, 0.25, 0.125]
    var body: [UInt8] = RawWire.bytes((0..<512).map { Float($0 % 17) / 8 - 1 })

    var payload: [UInt8] {
      var bytes = RawWire.little(number)
      for value in [layer, tokens, hidden, perToken] { bytes += RawWire.little(value) }
      bytes += [format, results, 0, 0]
      for expert in experts { bytes += RawWire.little(expert) }
      bytes += RawWire.bytes(weights)
      bytes += body
      return bytes
    }
  }

  /// A server after the greeting: it is welcomed as whatever it claims to be.
  private func greeted(_ part: String, finished: (@Sendable ((any Error)?) -> Void)? = nil) throws -> RawWire
  {
    let wire = try serve(part, finished: finished)
    let hello = try #require(wire.receive())
    #expect(hello.kind == 1)
    let said = try #require(try JSONSerialization.jsonObject(with: Data(hello.payload)) as? [String: Any])
    let welcome = ["dimensions": said["dimensions"], "identity": said["identity"]].compactMapValues { $0 }
    wire.send(2, Array(try JSONSerialization.data(withJSONObject: welcome)))
    return wire
  }

  private func answer(_ wire: RawWire, _ request: Request) throws -> [UInt8] {
    wire.send(3, request.payload)
    let reply = try #require(wire.receive())
    try #require(reply.kind == 4)
    #expect(RawWire.integer(reply.payload, 0, 8) == 7 && RawWire.integer(reply.payload, 8, 8) > 0)
    #expect(RawWire.integer(reply.payload, 16, 4) == 2 && RawWire.integer(reply.payload, 20, 4) == 256)
    #expect(reply.payload[28] == request.results)
    return Array(reply.payload.dropFirst(32))
  }

  @Test("tokens and results are exchanged in every format")
  func formats() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2))
    let wire = try greeted(parts.part("ffn-ep0"))
    // Codes of every finite magnitude and both signs, and a separate scale for each 128 elements.
    let codes = (0..<512).map { (index: Int) -> UInt8 in
      let sign: UInt8 = index % 3 == 0 ? 0x80 : 0
      return sign | UInt8(index * 37 % 126)
    }
    let scales: [Float] = [0.01, 0.002, 0.003, 0.0005]
    var request = Request()
    request.format = 2
    request.body = RawWire.bytes(scales) + codes
    let eightBit = try answer(wire, request)
    // The same values in F32.
    let values = codes.indices.map { (index: Int) -> Float in Self.e4m3(codes[index]) * scales[index / 128] }
    request.format = 0
    request.body = RawWire.bytes(values)
    let exact = try answer(wire, request)
    #expect(eightBit == exact && RawWire.floats(exact).contains { abs($0) > 1e-3 })
    // And in BF16, which rounds to other values.
    let short = values.map { Self.bf16($0) }
    request.format = 1
    request.body = short.flatMap { RawWire.little($0) }
    let fromShort = try answer(wire, request)
    request.format = 0
    request.body = RawWire.bytes(short.map { Float(bitPattern: UInt32($0) << 16) })
    #expect(try answer(wire, request) == fromShort && fromShort != exact)
    // Results in BF16 are those in F32, rounded.
    request.body = RawWire.bytes(values)
    request.results = 1
    #expect(try answer(wire, request) == RawWire.floats(exact).flatMap { RawWire.little(Self.bf16($0)) })
    wire.send(6, [])
    #expect(wire.receive() == nil)
  }

  /// OCP E4M3, finite codes.
  private static func e4m3(_ code: UInt8) -> Float {
    let exponent = Int(code >> 3) & 15
    let mantissa = Float(code & 7)
    let power = Float(sign: .plus, exponent: max(exponent, 1) - 7, significand: 1)
    let magnitude: Float = (exponent == 0 ? mantissa / 8 : 1 + mantissa / 8) * power
    return code & 0x80 == 0 ? magnitude : -magnitude
  }

  private static func bf16(_ value: Float) -> UInt16 {
    let bits: UInt32 = value.bitPattern
    let odd: UInt32 = (bits >> 16) & 1
    return UInt16((bits + 0x7FFF + odd) >> 16)
  }

  @Test("invalid requests are refused with a reply")
  func badRequests() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2))
    var bad: [Request] = []
    func add(_ change: (inout Request) -> Void) {
      var request = Request()
      change(&request)
      bad.append(request)
    }
    add { $0.layer = 4 }
    add { $0.layer = .max }
    add { $0.hidden = 128 }
    add { $0.perToken = 2 }
    add { $0.perToken = 0 }
    add { $0.layer = 0 }
    add { $0.tokens = .max }
    add { $0.tokens = 1 }
    add { $0.format = 3 }
    add { $0.results = 2 }
    add { $0.experts[4] = 8 }
    add { $0.experts[4] = -1 }
    add { $0.body.removeLast() }
    add { $0.body.append(0) }
    add { $0.body = [] }
    for request in bad {
      let wire = try greeted(parts.part("ffn-ep0"))
      wire.send(3, request.payload)
      let failure = try #require(wire.receive())
      #expect(failure.kind == 5)
      let said = try #require(try JSONSerialization.jsonObject(with: Data(failure.payload)) as? [String: Any])
      #expect(said["code"] as? String == "malformed")
      #expect(wire.receive() == nil)
      wire.close()
    }
  }

  @Test("invalid messages are refused")
  func badMessages() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2))
    let whole = RawWire.header(3, Request().payload.count) + Request().payload
    let cases: [([UInt8], CheckpointError.Code)] = [
      (RawWire.header(3, 0, magic: "HTTP"), .malformed), (RawWire.header(3, 0, version: 2), .unsupported),
      (RawWire.header(9, 0), .malformed), (RawWire.header(3, .max), .malformed),
      (RawWire.header(3, 1 << 30 + 1), .malformed), (RawWire.header(6, 1), .malformed),
      // A gigabyte is announced and never arrives.
      (RawWire.header(3, 1 << 30), .truncated), (Array(whole.dropLast()), .truncated),
      (Array(whole.prefix(5)), .truncated), (RawWire.header(2, 2) + Array("{}".utf8), .malformed),
    ]
    for (bytes, code) in cases {
      let result = Outcome()
      let wire = try greeted(parts.part("ffn-ep0"), finished: { result.set($0) })
      wire.write(bytes)
      shutdown(wire.descriptor, Int32(SHUT_WR))
      #expect((result.wait() as? CheckpointError)?.code == code)
      wire.close()
    }
    // Before the welcome nothing is computed, and a welcome for another part does not count.
    for message in [
      RawWire.Message(kind: 3, payload: Request().payload), .init(kind: 2, payload: Array("{}".utf8)),
    ] {
      let wire = try serve(parts.part("ffn-ep0"))
      _ = wire.receive()
      wire.send(message)
      #expect(wire.receive()?.kind == 5)
      wire.close()
    }
  }

  private final class Outcome: Sendable {
    private let error = Mutex<(any Error)?>(nil)
    private let done = DispatchSemaphore(value: 0)
    func set(_ error: (any Error)?) {
      self.error.withLock { $0 = error }
      done.signal()
    }
    func wait() -> (any Error)? {
      done.wait()
      return error.withLock { $0 }
    }
  }

  @Test("an attention part, a vision part or a whole model is not served")
  func wrongRole() async throws {
    let parts = try await PartitionFixture("tiny", .init())
    for name in ["attention", "vision"] {
      let error = #expect(throws: CheckpointError.self) { try serve(parts.part(name)) }
      #expect(error?.code == .invalidRequest && error?.message.contains(name) == true)
    }
  }

  // MARK: The session's side

  private func start(
    _ parts: PartitionFixture, tokens: TokenWireFormat = .f32,
    _ connect: @escaping @Sendable (String) throws -> Int32
  ) throws -> AFDSession {
    try parts.start {
      $0.tokens = tokens
      $0.connect = { try connect(URL(filePath: $0).lastPathComponent) }
    }
  }

  @Test("FP8 tokens have one scale per 128 elements and codes rounded to nearest")
  func encoding() async throws {
    let parts = try await PartitionFixture("odd", .init())
    final class Seen: Sendable { let payload = Mutex<[UInt8]>([]) }
    func tokens(_ format: TokenWireFormat) throws -> [UInt8] {
      let seen = Seen()
      let session = try start(parts, tokens: format) { name in
        try proxy(
          serve(parts.part(name)),
          request: { message in
            seen.payload.withLock { if $0.isEmpty, message.kind == 3 { $0 = message.payload } }
            return message
          })
      }
      defer { session.close() }
      _ = try parts.logits(session.model)
      return seen.payload.withLock { $0 }
    }
    // Layer 0 of `odd` routes 71 tokens of 192 elements to 2 experts each.
    let header = 8 + 16 + 4 + 71 * 2 * 8
    let exact = RawWire.floats(try tokens(.f32).dropFirst(header))
    let eightBit = try tokens(.fp8).dropFirst(header)
    try #require(exact.count == 71 * 192 && eightBit.count == 71 * 2 * 4 + exact.count)
    let scales = RawWire.floats(eightBit.prefix(71 * 2 * 4))
    let codes = Array(eightBit.dropFirst(71 * 2 * 4))
    for token in 0..<71 {
      for (group, columns) in [0..<128, 128..<192].enumerated() {
        let values = columns.map { exact[token * 192 + $0] }
        let scale = scales[token * 2 + group]
        #expect(scale == (values.map(abs).max() ?? 0) / 448)
        for (column, value) in zip(columns, values) {
          let error = abs(Self.e4m3(codes[token * 192 + column]) * scale - value)
          #expect(error <= max(abs(value) / 16, scale / 1024) * 1.0001)
        }
      }
    }
  }

  @Test("the sum does not depend on the order of replies")
  func order() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 4))
    /// Releases replies only in a given order of the ranks, request by request.
    final class Gate: Sendable {
      private let turn = Mutex(0)
      private let order: [Int]
      init(_ order: [Int]) { self.order = order }
      func pass(_ rank: Int, _ send: () -> Void) {
        while true {
          let isNext = turn.withLock { turn in
            guard order[turn % order.count] == rank else { return false }
            turn += 1
            return true
          }
          if isNext { return send() }
          usleep(500)
        }
      }
    }
    func logits(_ order: [Int]) throws -> [Float] {
      let gate = Gate(order)
      let session = try start(parts) { name in
        let rank = Int(name.dropFirst("ffn-ep".count)) ?? 0
        return try proxy(
          serve(parts.part(name)),
          reply: { message in
            if message.kind == 4 { gate.pass(rank) {} }
            return message
          })
      }
      defer { session.close() }
      return try parts.logits(session.model).array
    }
    let first = try logits([0, 1, 2, 3])
    #expect(try logits([3, 2, 1, 0]) == first)
    #expect(try logits([2, 0, 3, 1]) == first)
  }

  @Test("a rank that serves the wrong part is refused")
  func wrongPart() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2))
    var error = try #require(throws: CheckpointError.self) {
      try start(parts) { name in try serve(parts.part(name == "ffn-ep0" ? "ffn-ep1" : "ffn-ep0")).descriptor }
    }
    #expect(error.message == "FFN part ffn-ep0 claims to be ffn-ep1, rank 1 of 2")
    error = try #require(throws: CheckpointError.self) {
      try start(parts) { _ in try serve(parts.part("ffn-ep0")).descriptor }
    }
    #expect(error.message == "FFN part ffn-ep1 claims to be ffn-ep0, rank 0 of 2")
  }

  @Test("invalid replies are refused with the part's name")
  func badReplies() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2, router: .ffn))
    let changes: [@Sendable (inout RawWire.Message) -> Void] = [
      { $0.payload[0] ^= 1 }, { $0.payload[16] ^= 1 }, { $0.payload[20] ^= 1 }, { $0.payload[24] ^= 1 },
      { $0.payload[28] = 1 }, { $0.payload.removeLast() }, { $0.payload.append(0) }, { $0.payload = [] },
      { $0.kind = 3 }, { $0.kind = 5 }, { $0.payload = Array($0.payload.prefix(40)) },
    ]
    for change in changes {
      let session = try start(parts) { name in
        try proxy(
          serve(parts.part(name)),
          reply: { message in
            var changed = message
            if message.kind == 4, name == "ffn-ep1" { change(&changed) }
            return changed
          })
      }
      let error = try #require(throws: CheckpointError.self) { try parts.logits(session.model) }
      #expect(error.code == .malformed && error.message.hasPrefix("FFN part ffn-ep1: "), "\(error)")
      session.close()
    }
  }

  @Test("ranks that route the same tokens differently are detected")
  func otherRouting() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2, router: .ffn))
    let session = try start(parts) { name in
      try proxy(
        serve(parts.part(name)),
        reply: { message in
          var changed = message
          // The first expert of the first token of a MoE layer.
          if message.kind == 4, name == "ffn-ep1", message.payload[24] != 0 { changed.payload[32] ^= 1 }
          return changed
        })
    }
    defer { session.close() }
    let error = try #require(throws: CheckpointError.self) { try parts.logits(session.model) }
    #expect(error.message == "FFN parts ffn-ep0 and ffn-ep1 choose different experts for the same tokens")
  }
}
