import Checkpoint
import CheckpointTesting
import Foundation
import Quantization
import QuantizationRecipes
import PlanTesting
import ShardPlanning
import TensorFormats

/// Plans, and creates checkpoints from plans without converting anything.
struct PlanningHarness {
  let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  typealias Request = PlanRequest

  func plan(_ source: String, _ request: Request) throws -> PlannedConversion { try request.plan(source) }

  /// The output of a conversion of tiny, with all weights zero: enough for reading headers.
  func source(_ name: String, _ request: Request) throws -> String {
    let planned = try plan(Fixtures.path("checkpoints/tiny"), request)
    let root = directory.path(name)
    try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
    for part in planned.plan.parts {
      if !part.directory.isEmpty {
        try FileManager.default.createDirectory(
          atPath: "\(root)/\(part.directory)", withIntermediateDirectories: true)
      }
      for file in part.files {
        let path = "\(root)/\(file.path)"
        _ = FileManager.default.createFile(atPath: path, contents: Data(planned.headers[file.path] ?? []))
        let handle = try FileHandle(forUpdating: URL(filePath: path))
        try handle.truncate(atOffset: UInt64(file.bytes))
        // Readers compare the shape before packing with the codes.
        for tensor in file.tensors where tensor.operation.part == .shape {
          let matrix = (tensor.sources.first?.extent ?? []).suffix(2)
          let numbers = (0..<tensor.bytes / 16).flatMap { _ in matrix.map { Int64($0).littleEndian } }
          try handle.seek(toOffset: UInt64(tensor.offset))
          try handle.write(contentsOf: numbers.withUnsafeBytes { Data($0) })
        }
        try handle.close()
      }
      for document in part.documents {
        try Data(document.text.utf8).write(to: URL(filePath: "\(root)/\(document.path)"))
      }
      for copy in part.copies {
        try FileManager.default.copyItem(
          atPath: Fixtures.path("checkpoints/tiny/\(copy.from)"), toPath: "\(root)/\(copy.path)")
      }
    }
    return root
  }
}

extension ShardPlan {
  /// The tensor of that name in the first part that has it.
  func tensor(_ name: String) -> Tensor? { files.flatMap(\.tensors).first { $0.name == name } }
}
