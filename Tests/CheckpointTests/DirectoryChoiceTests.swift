import ByteStreams
import Checkpoint
import CheckpointTesting
import Foundation
import GGUF
import Safetensors
import TensorFormats
import Testing

/// Directories that hold more than one model, or less than one.
@Suite struct DirectoryChoiceTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  private func write(_ bytes: [UInt8], _ name: String) throws {
    var parent = ""
    for part in name.split(separator: "/").dropLast() {
      parent += (parent.isEmpty ? "" : "/") + part
      try FileSystem.createDirectory(directory.path(parent))
    }
    try FileSystem.writeAtomically(bytes, to: directory.path(name))
  }

  private func safetensors(_ names: [String], _ file: String) throws {
    let items = names.map { SafetensorsLayout.Item(name: $0, elementType: .f32, shape: TensorShape([2, 3])) }
    let layout = try SafetensorsLayout(items)
    let data = [UInt8](repeating: 1, count: layout.fileByteCount - layout.headerBytes.count)
    try write(layout.headerBytes + data, file)
  }

  private func index(_ map: [String: String], _ file: String) throws {
    try write(SafetensorsIndex(weightMap: map, totalSize: nil).serialized(), file)
  }

  private func gguf(_ names: [String], _ entries: [(String, GGUFValue)], _ file: String) throws {
    var metadata = GGUFMetadata()
    for (key, value) in entries { metadata.set(key, value) }
    let layout = try GGUFLayout(
      metadata: metadata,
      tensors: names.map { GGUFLayout.Tensor(name: $0, elementType: .f32, shape: TensorShape([2, 32])) })
    let data = [UInt8](repeating: 0, count: layout.byteCount - layout.headerBytes.count)
    try write(layout.headerBytes + data, file)
  }

  private func link(_ name: String, to destination: String) throws {
    try FileManager.default.createSymbolicLink(
      atPath: directory.path(name), withDestinationPath: destination)
  }

  private func error(_ path: String? = nil) -> CheckpointError? {
    #expect(throws: CheckpointError.self) { try Checkpoint.open(path ?? directory.path) }
  }

  // MARK: Safetensors

  @Test(
    "other files beside model.safetensors are left out with a warning",
    arguments: ["consolidated.safetensors", "adapter_model.safetensors", "model.fp16.safetensors"])
  func besideTheModel(other: String) throws {
    try safetensors(["a", "b"], "model.safetensors")
    try safetensors(other == "model.fp16.safetensors" ? ["a", "b"] : ["c"], other)
    try safetensors(["z"], "original/consolidated.safetensors")
    let checkpoint = try Checkpoint.open(directory.path)
    #expect(checkpoint.tensors.map(\.name) == ["a", "b"])
    #expect(checkpoint.warnings.count == 1)
    #expect(checkpoint.warnings.first?.contains(other) == true)
  }

  @Test("an adapter is recognised by its tensors, whatever its name") func adapterByContent() throws {
    try safetensors(["x.lora_A.weight", "x.lora_B.weight"], "first.safetensors")
    try safetensors(["x.weight"], "weights.safetensors")
    let checkpoint = try Checkpoint.open(directory.path)
    #expect(checkpoint.tensors.map(\.name) == ["x.weight"])
    #expect(checkpoint.warnings.first?.contains("first.safetensors") == true)
    // On its own it is the model.
    #expect(try Checkpoint.open(directory.path("first.safetensors")).tensors.count == 2)
  }

  @Test("a numbered set is chosen over other files, and ambiguity is an error") func severalDivisions() throws
  {
    for number in 1...2 { try safetensors(["t\(number)"], "model-0000\(number)-of-00002.safetensors") }
    try safetensors(["old"], "consolidated.00.safetensors")
    #expect(try Checkpoint.open(directory.path).tensors.map(\.name) == ["t1", "t2"])
    try safetensors(["t1", "t2"], "model.safetensors")
    #expect(error()?.message.contains("not clear which files are the model") == true)
    try FileManager.default.removeItem(atPath: directory.path("model.safetensors"))
    try safetensors(["t3"], "model-00001-of-00003.safetensors")
    #expect(error()?.message.contains("one of 3") == true)
  }

  @Test("a numbered set with a missing shard is refused", arguments: [[1, 3], [2], [0, 2]]) func holes(
    numbers: [Int]
  )
    throws
  {
    for number in numbers { try safetensors(["t\(number)"], "model-0000\(number)-of-00003.safetensors") }
    let missing = error()
    #expect(missing?.code == .notFound)
    #expect(
      missing?.message.hasPrefix("\(3 - numbers.count) of 3 shards") == true, "\(missing?.message ?? "")")
    let first = numbers == [1, 3] ? 2 : 1
    #expect(missing?.message.contains("model-0000\(first)-of-00003.safetensors") == true)
    let one = try Checkpoint.open(directory.path("model-0000\(numbers[0])-of-00003.safetensors"))
    #expect(one.warnings.first?.contains("one of 3 shards") == true)
  }

  @Test("missing shards of an index are counted and named") func missingOfAnIndex() throws {
    var map: [String: String] = [:]
    for number in 1...173 { map["t\(number)"] = "model-\(1000 + number)-of-1173.safetensors" }
    try index(map, "model.safetensors.index.json")
    for number in 1...112 { try safetensors(["t\(number)"], "model-\(1000 + number)-of-1173.safetensors") }
    // A link into a cache whose blob is gone counts as missing.
    try link("model-1113-of-1173.safetensors", to: "nowhere")
    let missing = error()
    #expect(missing?.code == .notFound)
    #expect(missing?.message.hasPrefix("61 of 173 shards are missing: model-1113-of") == true)
    #expect(missing?.message.hasSuffix(", ...") == true)
    #expect(missing?.path == directory.path("model.safetensors.index.json"))
    try safetensors(["t1"], "model.safetensors")
    #expect(error()?.remedy?.contains(directory.path("model.safetensors")) == true)
  }

  @Test func theIndexOfTheModelWinsOverOthers() throws {
    try safetensors(["a"], "a.safetensors")
    try safetensors(["b"], "consolidated.safetensors")
    try index(["b": "consolidated.safetensors"], "consolidated.safetensors.index.json")
    #expect(try Checkpoint.open(directory.path).tensors.map(\.name) == ["a"])
    try index(["a": "a.safetensors"], "model.safetensors.index.json")
    let checkpoint = try Checkpoint.open(directory.path)
    #expect(checkpoint.tensors.map(\.name) == ["a"])
    #expect(checkpoint.warnings.contains { $0.contains("consolidated.safetensors.index.json") })
    let named = try Checkpoint.open(directory.path("consolidated.safetensors.index.json"))
    #expect(named.tensors.map(\.name) == ["b"])
  }

  @Test("the index of another framework's files is ignored") func otherFrameworks() throws {
    try safetensors(["a"], "model.safetensors")
    try write(Array("{\"weight_map\": {\"a\": \"pytorch_model.bin\"}}".utf8), "pytorch_model.bin.index.json")
    #expect(try Checkpoint.open(directory.path).tensors.map(\.name) == ["a"])
  }

  @Test func aDirectoryWithoutAModelNamesWhatIsNearby() throws {
    try write([1], "pytorch_model.bin")
    #expect(error()?.remedy?.contains("pytorch_model.bin") == true)
    try safetensors(["a"], "original/model.safetensors")
    #expect(error()?.remedy?.contains(directory.path("original")) == true)
  }

  // MARK: GGUF

  @Test(
    "files beside a GGUF model are told apart by their metadata",
    arguments: ["mmproj-model-f16.gguf", "Model.mmproj-f16.gguf", "vision.gguf"])
  func companions(vision: String) throws {
    try gguf(
      ["a"], [("general.architecture", .string("step3")), ("general.type", .string("model"))], "m.gguf")
    try gguf(["v"], [("general.architecture", .string("clip")), ("general.type", .string("mmproj"))], vision)
    try gguf(["a.in_sum2"], [("general.type", .string("imatrix"))], "imatrix.gguf")
    try gguf(["a.counts"], [("imatrix.chunk_count", .uint32(1))], "calibration.gguf")
    try gguf(["l"], [("general.type", .string("adapter"))], "lora.gguf")
    let checkpoint = try Checkpoint.open(directory.path)
    #expect(checkpoint.files.map(\.name) == ["m.gguf", vision])
    #expect(checkpoint.architecture == "step3")
    for name in ["imatrix.gguf", "calibration.gguf", "lora.gguf"] {
      #expect(checkpoint.warnings.contains { $0.contains(name) }, "\(name)")
    }
    try gguf(["b"], [("general.architecture", .string("step3"))], "m2.gguf")
    #expect(error()?.message == "there are several models: m.gguf, m2.gguf")
  }

  @Test func severalVisionCompanionsAreRefused() throws {
    try gguf(["a"], [("general.architecture", .string("step3"))], "m.gguf")
    for name in ["mmproj-f16.gguf", "mmproj-f32.gguf"] {
      try gguf(["v"], [("general.architecture", .string("clip"))], name)
    }
    #expect(error()?.message.contains("several vision companions") == true)
    #expect(try Checkpoint.open(directory.path("m.gguf")).tensors.count == 1)
  }

  @Test("a split set without its first file is refused") func splitWithoutFirst() throws {
    try gguf(["a"], [("general.architecture", .string("step3"))], "m-00002-of-00003.gguf")
    let missing = error()
    #expect(missing?.code == .notFound)
    #expect(missing?.message.hasPrefix("2 of 3 parts are missing: m-00001-of-00003.gguf") == true)
  }

  // MARK: Hugging Face's cache

  @Test func foldersOfTheHubCacheOpenTheMainRevision() throws {
    let root = "models--org--name"
    try safetensors(["a"], "\(root)/blobs/aa11")
    try safetensors(["b"], "\(root)/blobs/bb22")
    for (revision, blob) in [("1111", "aa11"), ("2222", "bb22")] {
      try write(Array("{\"model_type\": \"m\(revision)\"}".utf8), "\(root)/snapshots/\(revision)/config.json")
      try link("\(root)/snapshots/\(revision)/model.safetensors", to: "../../blobs/\(blob)")
    }
    let ambiguous = error(directory.path(root))
    #expect(ambiguous?.code == .unsupported)
    #expect(ambiguous?.message.contains("1111, 2222") == true)
    try write(Array("2222\n".utf8), "\(root)/refs/main")
    for path in [root, "\(root)/", "\(root)/blobs", "\(root)/snapshots", "\(root)/refs"] {
      #expect(try Checkpoint.open(directory.path(path)).architecture == "m2222", "\(path)")
    }
    // A blob is opened as the file that links to it, beside its configuration.
    #expect(try Checkpoint.open(directory.path("\(root)/blobs/aa11")).architecture == "m1111")
    try write(Array("3333".utf8), "\(root)/refs/main")
    #expect(error(directory.path(root))?.message.contains("3333") == true)
    #expect(error(directory.path)?.remedy?.contains(root) == true)
    try FileManager.default.removeItem(atPath: directory.path("\(root)/refs/main"))
    try FileManager.default.removeItem(atPath: directory.path("\(root)/snapshots/1111"))
    #expect(try Checkpoint.open(directory.path(root)).architecture == "m2222")
  }

  // MARK: In place of weights

  @Test(
    "pointers and web pages in place of weights are recognised",
    arguments: [
      "model.safetensors", "model.safetensors.index.json", "model.gguf", "model-00001-of-00002.gguf",
    ])
  func inPlaceOfWeights(name: String) throws {
    if name.hasPrefix("model-") { try write([1], "model-00002-of-00002.gguf") }
    let texts = [
      ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "git lfs pull"),
      ("<!doctype html><title>Sign in</title>", "log"), ("Repository not found", "download it again"),
    ]
    for (text, remedy) in texts {
      try write(Array(text.utf8), name)
      for path in [directory.path, directory.path(name)] {
        let error = error(path)
        #expect(error?.path == directory.path(name), "\(error.map(String.init(describing:)) ?? "")")
        #expect(error?.remedy?.contains(remedy) == true, "\(error.map(String.init(describing:)) ?? "")")
      }
    }
  }
}
