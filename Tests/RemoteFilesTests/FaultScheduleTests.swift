import ByteStreams
import CheckpointTesting
import Dispatch
import Foundation
import RemoteFiles
import Synchronization
import TensorFormats
import Testing

/// Random schedules of faults. In every case the bytes are right or there is an error, and the read ends.
@Suite(
  .enabled(if: HubServer.isThere, "build it: swift build -c release --package-path Tests/HubServer"),
  .timeLimit(.minutes(10)))
struct FaultScheduleTests {
  private struct Schedule {
    let settings: String
    let isHub: Bool
    /// Whether reads are stored in a cache, which must then be right.
    let isKept: Bool
    let name: String
    let reads: [Range<Int>]

    init(seed: UInt64, sizes: [String: Int]) {
      var generator = SeededGenerator(seed: seed)
      isHub = .random(using: &generator)
      isKept = isHub && Int.random(in: 0..<3, using: &generator) == 0
      name = [HubServer.second, HubServer.large, "weights.gguf"].randomElement(using: &generator)!
      let size = sizes[name]!
      reads = (0..<Int.random(in: 1...4, using: &generator)).map { _ in
        let start = Int.random(in: 0..<size, using: &generator)
        let isLong = Bool.random(using: &generator)
        let most = isLong ? size - start : min(2000, size - start)
        return start..<start + Int.random(in: 1...most, using: &generator)
      }
      var faults: [String] = []
      // Another version of the file may be served only once: if it stayed, it would simply be the file.
      var hasVersion = false
      for _ in 0..<Int.random(in: 0...7, using: &generator) {
        let number = Int.random(in: 0...size, using: &generator)
        let passing = [
          "ok", "drop:\(number)", "trim:\(number)", "close", "status:503", "status:500", "status:429",
          "later:0", "quota:0",
          "shorter:\(number)", "chunked", "whole", "drop:\(number % 100)",
        ]
        let ending = [
          "stall:\(number)", "wrongRange", "wrongLabel", "noLabel", "longer", "gzip", "page", "toFile",
          "loop", "longHead",
          "status:404", "status:403", "status:418", "later:9999",
        ]
        // A hub names content by its commit, so another version of the same size could not be detected there.
        let versions = ["grown:\(1 + number % 9)", "pointer"] + (isHub ? ["expired"] : ["changed"])
        switch Int.random(in: 0..<20, using: &generator) {
        case 0..<14: faults.append(passing.randomElement(using: &generator)!)
        case 14..<18: faults.append(ending.randomElement(using: &generator)!)
        default:
          if !hasVersion { faults.append(versions.randomElement(using: &generator)!) }
          hasVersion = true
        }
      }
      var parts = ["faults=\(faults.joined(separator: ","))"]
      if isHub, Int.random(in: 0..<3, using: &generator) == 0 {
        parts.append("uses=\(Int.random(in: 1...3, using: &generator))")
      }
      if isHub, Int.random(in: 0..<4, using: &generator) == 0 {
        parts.append("hub=close,status:502,ok,status:429")
      }
      if Int.random(in: 0..<4, using: &generator) == 0 { parts.append("head=0") }
      if Int.random(in: 0..<8, using: &generator) == 0 { parts.append("tree=0") }
      settings = parts.joined(separator: "~")
    }
  }

  /// 1000 seeds; others by `STEP3_FAULT_SCHEDULES=20000`, or one by `=17:18`.
  private static var seeds: Range<Int> {
    let bounds = (ProcessInfo.processInfo.environment["STEP3_FAULT_SCHEDULES"] ?? "1000").split(
      separator: ":"
    )
    .compactMap { Int($0) }
    return bounds.count == 2 ? bounds[0]..<bounds[1] : 0..<(bounds.first ?? 1000)
  }

  @Test func bytesAreRightOrThereIsAnError() throws {
    let server = try HubServer.shared
    let sizes = server.files.mapValues(\.count)
    let counts = Mutex((right: 0, refused: 0))
    let group = DispatchGroup()
    let seeds = Self.seeds
    let next = Atomic(seeds.lowerBound)
    // On threads that may block: a stall costs only time.
    for worker in 0..<12 {
      DispatchQueue(label: "schedules.\(worker)").async(group: group) {
        while true {
          let seed = next.wrappingAdd(1, ordering: .relaxed).oldValue
          guard seed < seeds.upperBound else { return }
          let schedule = Schedule(seed: UInt64(seed), sizes: sizes)
          let session = server.session(schedule.settings, "schedule-\(seed)")
          do {
            var directory = try RemoteDirectory(
              schedule.isHub ? "hf://owner/model" : "\(session.plain)/\(schedule.name)",
              options: session.options())
            let cache = try schedule.isKept ? TemporaryDirectory() : nil
            if let cache { directory = try directory.keeping(in: cache.path) }
            let source = try directory.open(schedule.name)
            for range in schedule.reads {
              let isRight = try source.readBytes(range).elementsEqual(server.files[schedule.name]![range])
              #expect(isRight, "seed \(seed): \(schedule.settings), bytes \(range) of \(schedule.name)")
            }
            if let cache {
              try directory.completeKept(schedule.name)
              let kept = cache.path("models--owner--model/snapshots/\(server.commit)/\(schedule.name)")
              #expect(
                try Data(contentsOf: URL(filePath: kept)) == Data(server.files[schedule.name]!),
                "seed \(seed): \(schedule.settings), what was kept of \(schedule.name)")
            }
            counts.withLock { $0.right += 1 }
          } catch let error as CheckpointError {
            #expect(!error.message.isEmpty && error.path != nil, "seed \(seed)")
            counts.withLock { $0.refused += 1 }
          } catch {
            Issue.record("seed \(seed): \(error)")
          }
        }
      }
    }
    group.wait()
    let (right, refused) = counts.withLock { $0 }
    #expect(right + refused == seeds.count)
    // The schedules are chosen so that both occur.
    #expect(
      seeds.count < 100 || (right > seeds.count / 3 && refused > seeds.count / 5),
      "\(right) right, \(refused) refused")
  }
}
