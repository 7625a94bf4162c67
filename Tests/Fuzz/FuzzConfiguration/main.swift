import ByteStreams
import Checkpoint
import CheckpointTesting
import Foundation
import FuzzFiles
import FuzzSupport
import ServingEngines
import Step3Model
import StoredWeights
import TensorFormats

/// The weights beside the configurations: sound ones, in two precisions.
let models: [MemoryFiles] = ["tiny", "tiny-fp8"].map { name in
  do {
    return try MemoryFiles(folder: Fixtures.path("checkpoints/\(name)"))
  } catch {
    fatalError("the fixtures cannot be read: \(error)")
  }
}

/// Any bytes as the `config.json` of a checkpoint, `quantization_config` included: refused with an error, or understood
/// alike by everything that reads it.
func check(_ document: [UInt8]) {
  let read = try? Step3Configuration(configJSON: document)
  if let read {
    require((try? Step3Configuration(configJSON: document)) == read, "it reads differently again")
  }
  for model in models {
    var files = model
    files["config.json"] = document
    guard let checkpoint = try? Checkpoint.open(in: files) else { continue }
    if let weights = try? ModelWeights(checkpoint, unread: .refused) {
      require(weights.names.count <= checkpoint.tensors.count, "more weights than tensors")
      require(
        weights.configuration == nil || weights.configuration == read, "the weights are of another model")
    }
    guard let subject = try? EngineSubject(checkpoint) else { continue }
    for engine in Engine.allCases {
      guard let report = try? EngineReport(subject, engine: engine, tensorParallel: 2) else { continue }
      let isBad = report.findings.contains { $0.severity == .error }
      require(!report.ok || !isBad, "an error is found, and the engine is said to load it")
    }
  }
}

exit(
  runFuzzer { bytes, count in
    check(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
  })
