import ByteStreams
import Checkpoint
import CheckpointTesting
import Foundation
import GGUF
import Safetensors
import TensorFormats
import Testing

/// Small checkpoints, written with the package's own layouts, for every way of naming one.
@Suite struct OpeningTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  private func write(_ bytes: [UInt8], _ name: String) throws {
    try FileSystem.writeAtomically(bytes, to: directory.path(name))
  }

  private func safetensors(_ names: [String]) throws -> [UInt8] {
    let items = names.map { SafetensorsLayout.Item(name: $0, elementType: .f32, shape: TensorShape([2, 3])) }
    let layout = try SafetensorsLayout(items)
    return layout.headerBytes + [UInt8](repeating: 1, count: layout.fileByteCount - layout.headerBytes.count)
  }

  private func gguf(_ names: [String], _ entries: [(String, GGUFValue)] = []) throws -> [UInt8] {
    var metadata = GGUFMetadata()
    metadata.set("general.architecture", .string("test"))
    for (key, value) in entries { metadata.set(key, value) }
    let layout = try GGUFLayout(
      metadata: metadata,
      tensors: names.map { GGUFLayout.Tensor(name: $0, elementType: .q8_0, shape: TensorShape([2, 32])) })
    return layout.headerBytes + [UInt8](repeating: 0, count: layout.byteCount - layout.headerBytes.count)
  }

  private func error(_ path: String) -> CheckpointError? {
    #expect(throws: CheckpointError.self) { try Checkpoint.open(path) }
  }

  @Test(
    "every fixture in the published layout opens",
    arguments: [("tiny", 88), ("odd", 78), ("tiny-fp8", 126), ("odd-fp8", 108)])
  func fixtures(name: String, tensors: Int) throws {
    let checkpoint = try Checkpoint.open(Fixtures.path("checkpoints/\(name)"))
    #expect(checkpoint.format == .safetensors)
    #expect(checkpoint.architecture == "step3_vl")
    #expect(checkpoint.files.count == 4)
    #expect(checkpoint.tensors.count == tensors)
    #expect(checkpoint.warnings.isEmpty)
    let first = try #require(checkpoint["model.embed_tokens.weight"])
    #expect(first.byteRange.count == first.shape.byteCount(as: first.elementType))
  }

  @Test func aFileAndItsDirectoryOpenAlike() throws {
    try write(safetensors(["b", "a"]), "model.safetensors")
    for path in [directory.path, directory.path("model.safetensors")] {
      let checkpoint = try Checkpoint.open(path)
      #expect(checkpoint.tensors.map(\.name) == ["a", "b"])
      #expect(checkpoint["b"]?.shape == TensorShape([2, 3]))
      #expect(checkpoint["c"] == nil)
      let tensor = try #require(checkpoint["b"])
      var bytes = [UInt8](repeating: 0, count: 4)
      do {
        var elements = bytes.mutableSpan
        var span = elements.mutableBytes
        try checkpoint.read(tensor, 20..<24, into: &span)
      }
      #expect(bytes == [1, 1, 1, 1])
    }
  }

  @Test("shards open without an index, with a warning") func withoutIndex() throws {
    try write(safetensors(["a"]), "x-1.safetensors")
    try write(safetensors(["b"]), "x-2.safetensors")
    let checkpoint = try Checkpoint.open(directory.path)
    #expect(checkpoint.tensors.map(\.name) == ["a", "b"])
    #expect(checkpoint.warnings.count == 1)
    try write(safetensors(["b"]), "x-3.safetensors")
    #expect(error(directory.path)?.message == "is in two shards, x-2.safetensors and x-3.safetensors")
  }

  @Test("an index under another name is found") func otherIndexName() throws {
    try write(safetensors(["a"]), "x-1.safetensors")
    let index = try SafetensorsIndex(weightMap: ["a": "x-1.safetensors"], totalSize: 24)
    try write(index.serialized(), "diffusion.safetensors.index.json")
    #expect(try Checkpoint.open(directory.path).warnings.isEmpty)
    #expect(try Checkpoint.open(directory.path("diffusion.safetensors.index.json")).tensors.count == 1)
    try write(index.serialized(), "second.safetensors.index.json")
    #expect(error(directory.path)?.message.contains("several indexes") == true)
  }

  @Test func theIndexIsComparedWithTheShards() throws {
    try write(safetensors(["a"]), "x-1.safetensors")
    func index(_ map: [String: String], _ size: Int) throws {
      try write(
        SafetensorsIndex(weightMap: map, totalSize: size).serialized(), "model.safetensors.index.json")
    }
    try index(["a": "x-1.safetensors"], 25)
    #expect(try Checkpoint.open(directory.path).warnings.count == 1)
    try index(["a": "x-1.safetensors", "b": "x-1.safetensors"], 48)
    #expect(error(directory.path)?.tensor == "b")
    try index(["a": "x-1.safetensors", "b": "x-2.safetensors"], 48)
    let missing = error(directory.path)
    #expect(missing?.code == .notFound)
    #expect(missing?.message == "1 of 2 shards is missing: x-2.safetensors")
    try write(safetensors(["stray"]), "x-3.safetensors")
    try index(["a": "x-1.safetensors"], 24)
    #expect(try Checkpoint.open(directory.path).warnings.first?.contains("x-3.safetensors") == true)
  }

  @Test("links into a blob folder are followed, as in Hugging Face's cache") func symbolicLinks() throws {
    try FileSystem.createDirectory(directory.path("blobs"))
    try FileSystem.createDirectory(directory.path("snapshot"))
    try write(safetensors(["a"]), "blobs/0123abcd")
    try FileManager.default.createSymbolicLink(
      atPath: directory.path("snapshot/model.safetensors"), withDestinationPath: "../blobs/0123abcd")
    #expect(try Checkpoint.open(directory.path("snapshot")).tensors.count == 1)
    #expect(try Checkpoint.open(directory.path("blobs/0123abcd")).tensors.count == 1)
  }

  @Test func ggufOpensAloneAndWithItsVisionCompanion() throws {
    try write(gguf(["a", "b"]), "model.gguf")
    #expect(try Checkpoint.open(directory.path("model.gguf")).architecture == "test")
    try write(gguf(["v.patch"]), "mmproj.gguf")
    let both = try Checkpoint.open(directory.path)
    #expect(both.tensors.map(\.name) == ["a", "b", "v.patch"])
    #expect(both.files.map(\.name) == ["model.gguf", "mmproj.gguf"])
    try write(gguf(["c"]), "other.gguf")
    #expect(error(directory.path)?.message.contains("several models") == true)
    try write(Array("GGML".utf8), "broken.gguf")
    #expect(error(directory.path("broken.gguf"))?.message.contains("magic") == true)
  }

  @Test func aSplitSetOpensFromItsFirstFile() throws {
    let items = ["a", "b", "c"].map {
      GGUFLayout.Tensor(name: $0, elementType: .f32, shape: TensorShape([8]))
    }
    let plan = try GGUFSplitPlan(prefix: "m", metadata: GGUFMetadata(), tensors: items, limit: .tensors(2))
    for part in plan.parts {
      let padding = [UInt8](repeating: 0, count: part.layout.byteCount - part.layout.headerBytes.count)
      try write(part.layout.headerBytes + padding, part.name.path)
    }
    for path in [directory.path, directory.path("m-00001-of-00002.gguf")] {
      let checkpoint = try Checkpoint.open(path)
      #expect(checkpoint.tensors.map(\.name) == ["a", "b", "c"])
      #expect(checkpoint.tensors.map(\.file) == [0, 0, 1])
    }
  }

  @Test func aPartitionSetOpensWithAllItsParts() throws {
    for part in ["attention", "ffn"] {
      try FileSystem.createDirectory(directory.path(part))
      try write(safetensors([part]), "\(part)/model.safetensors")
      try write(Array(#"{"model_type": "m", "step3_partition": {"role": "x"}}"#.utf8), "\(part)/config.json")
    }
    try FileSystem.createDirectory(directory.path("unrelated"))
    let set = try Checkpoint.open(directory.path)
    #expect(set.parts.map(\.name) == ["attention", "ffn"])
    #expect(set.files.map(\.name) == ["attention/model.safetensors", "ffn/model.safetensors"])
    #expect(set.tensors.map(\.file) == [0, 1])
    #expect(set.architecture == "m")
  }

  @Test func unfinishedOutputsAreRecognised() throws {
    try write(Array("{}".utf8), OutputMarkers.journal)
    try write(safetensors(["a"]), "model.safetensors")
    #expect(error(directory.path)?.code == .unfinished)
    #expect(error(directory.path("model.safetensors"))?.code == .unfinished)
    try write(Array("{}".utf8), OutputMarkers.manifest)
    #expect(try Checkpoint.open(directory.path).tensors.count == 1)
  }

  @Test func pathsWithoutACheckpointAreRefused() throws {
    #expect(error(directory.path("missing"))?.code == .notFound)
    #expect(error(directory.path)?.message.contains("no .safetensors and no .gguf") == true)
    try write([], "empty.safetensors")
    #expect(error(directory.path("empty.safetensors"))?.code == .truncated)
  }
}
