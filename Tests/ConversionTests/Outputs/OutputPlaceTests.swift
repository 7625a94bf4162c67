import CheckpointTesting
import Conversion
import Foundation
import Synchronization
import TensorFormats
import Testing

@Suite("resolving the output directory") struct OutputPlaceTests {
  private let scratch: TemporaryDirectory

  init() throws { scratch = try TemporaryDirectory() }

  /// Shares that start together may see OUTPUT appear between two checks.
  @Test("a directory that other processes create and remove meanwhile is accepted") func racing() throws {
    let path = scratch.path("output")
    let flag = Flag()
    let hasStopped = DispatchSemaphore(value: 0)
    Thread.detachNewThread {
      while !flag.isRaised {
        mkdir(path, 0o755)
        rmdir(path)
      }
      hasStopped.signal()
    }
    defer {
      flag.raise()
      hasStopped.wait()
    }
    for _ in 0..<20_000 { _ = try OutputPlace(path) }
  }

  @Test("a file, a dangling link or a missing parent is refused") func obstacles() throws {
    try Data([1]).write(to: URL(fileURLWithPath: scratch.path("file")))
    try FileManager.default.createSymbolicLink(
      atPath: scratch.path("nowhere"), withDestinationPath: scratch.path("missing"))
    try FileManager.default.createSymbolicLink(
      atPath: scratch.path("link"), withDestinationPath: scratch.path("file"))
    for (name, words) in [
      ("file", "is not a directory"), ("link", "is not a directory"),
      ("nowhere", "is a dangling symbolic link"),
      ("missing/output", "no directory to create it in"),
    ] {
      let error = #expect(throws: CheckpointError.self) { try OutputPlace(scratch.path(name)) }
      #expect(
        error?.code == .cannotCreate && error?.message.contains(words) == true, "\(name): \(error as Any)")
    }
  }
}

private final class Flag: Sendable {
  private let raised = Atomic(false)
  var isRaised: Bool { raised.load(ordering: .acquiring) }
  func raise() { raised.store(true, ordering: .releasing) }
}
