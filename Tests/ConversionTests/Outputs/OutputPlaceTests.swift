import CheckpointTesting
import Conversion
import Foundation
import Synchronization
import TensorFormats
import Testing

@Suite("the place of an output") struct OutputPlaceTests {
  private let scratch: TemporaryDirectory

  init() throws { scratch = try TemporaryDirectory() }

  /// Shares of a conversion that start together find OUTPUT made between two looks at it.
  @Test("a directory that others make and remove meanwhile is not an obstacle") func racing() throws {
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

  @Test("what is not a directory, or is a dangling symbolic link, is") func obstacles() throws {
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
