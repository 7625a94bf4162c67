import ByteStreams
import GGUF
import TensorFormats
import Testing

@Suite struct SplitNameTests {
  @Test func splitNamesAreParsed() throws {
    let name = try #require(GGUFSplitName(path: "/models/Step3-Q4_K_M-00002-of-00015.gguf"))
    #expect(name.prefix == "/models/Step3-Q4_K_M")
    #expect(name.index == 1)
    #expect(name.count == 15)
    #expect(name.path == "/models/Step3-Q4_K_M-00002-of-00015.gguf")
    #expect(name.sibling(14).path == "/models/Step3-Q4_K_M-00015-of-00015.gguf")
    #expect(GGUFSplitName(path: "a-00001-of-00002-00003-of-00004.gguf")?.prefix == "a-00001-of-00002")
    #expect(GGUFSplitName(path: "a-100000-of-123456.gguf")?.index == 99_999)
  }

  @Test(
    arguments: [
      "model.gguf", "model-00001-of-00002", "model-1-of-2.gguf", "model-00000-of-00002.gguf",
      "model-00003-of-00002.gguf",
      "model-0000a-of-00002.gguf", "model00001-of-00002.gguf", "model-00001-of-0000２.gguf", "-of-.gguf",
      ".gguf", "",
      "model-00001-of-00002.GGUF", "m-000001-of-00002.gguf", "m-00001-of-99999999999999999999.gguf",
    ])
  func otherNamesAreNotSplitNames(path: String) {
    #expect(GGUFSplitName(path: path) == nil)
  }
}

@Suite struct SplitPlanTests {
  private let metadata: GGUFMetadata = ["general.architecture": .string("step3"), "split.no": .uint32(9)]

  /// Tensors of 64, 32, 100 (padded to 128), 32 and 0 bytes.
  private let tensors = [(64, "a"), (32, "b"), (100, "c"), (32, "d"), (0, "e")].map {
    GGUFLayout.Tensor(name: $0.1, elementType: .i8, shape: TensorShape([$0.0]))
  }

  private func plan(
    _ limit: GGUFSplitPlan.Limit, metadataOnlyFirst: Bool = false, alignment: Int? = nil
  ) throws(CheckpointError) -> GGUFSplitPlan {
    try GGUFSplitPlan(
      prefix: "out/m", metadata: metadata, tensors: tensors, limit: limit,
      metadataOnlyFirst: metadataOnlyFirst,
      alignment: alignment)
  }

  @Test func splitsByNumberOfTensors() throws {
    #expect(try plan(.tensors(2)).parts.map(\.tensors) == [0..<2, 2..<4, 4..<5])
    #expect(try plan(.tensors(5)).parts.map(\.tensors) == [0..<5])
    #expect(try plan(.tensors(.max)).parts.map(\.tensors) == [0..<5])
    #expect(
      try plan(.tensors(2), metadataOnlyFirst: true).parts.map(\.tensors) == [0..<0, 0..<2, 2..<4, 4..<5])
    #expect(throws: CheckpointError.self) { try plan(.tensors(0)) }
  }

  @Test func splitsByBytes() throws {
    #expect(try plan(.bytes(128)).parts.map(\.tensors) == [0..<2, 2..<3, 3..<5])
    #expect(try plan(.bytes(96 + 128)).parts.map(\.tensors) == [0..<3, 3..<5])
    #expect(try plan(.bytes(.max)).parts.map(\.tensors) == [0..<5])
    for part in try plan(.bytes(128)).parts {
      #expect(part.layout.byteCount - part.layout.headerBytes.count <= 128)
    }
    do throws(CheckpointError) {
      _ = try plan(.bytes(127))
      Issue.record("a part of 127 bytes was promised for a tensor of 128")
    } catch {
      #expect(error.code == .invalidRequest)
      #expect(error.tensor == "c")
    }
  }

  @Test func partsHaveTheSplitMetadata() throws {
    let parts = try plan(.tensors(3), alignment: 64).parts
    #expect(parts.map(\.name.path) == ["out/m-00001-of-00002.gguf", "out/m-00002-of-00002.gguf"])
    #expect(
      parts[0].layout.header.metadata == [
        "general.architecture": .string("step3"), "split.no": .uint16(0), "general.alignment": .uint32(64),
        "split.count": .uint16(2), "split.tensors.count": .int32(5),
      ])
    #expect(
      parts[1].layout.header.metadata == [
        "general.alignment": .uint32(64), "split.no": .uint16(1), "split.count": .uint16(2),
        "split.tensors.count": .int32(5),
      ])
    #expect(try plan(.tensors(3)).parts[1].layout.header.metadata["general.alignment"] == nil)
  }

  @Test func aModelWithoutTensorsIsOneFile() throws {
    let plan = try GGUFSplitPlan(
      prefix: "m", metadata: metadata, tensors: [], limit: .bytes(1), metadataOnlyFirst: true)
    #expect(plan.parts.map(\.tensors) == [0..<0])
  }

  @Test func tooManyPartsAreRefused() {
    let many = (0..<65_536).map {
      GGUFLayout.Tensor(name: "\($0)", elementType: .i8, shape: TensorShape([1]))
    }
    let error = #expect(throws: CheckpointError.self) {
      try GGUFSplitPlan(prefix: "m", metadata: [:], tensors: many, limit: .tensors(1))
    }
    #expect(error?.message.contains("65536 parts") == true)
  }

  @Test func namesMustDifferAcrossParts() {
    let twice = [tensors[0], tensors[1], tensors[0]]
    #expect(throws: CheckpointError.self) {
      try GGUFSplitPlan(prefix: "m", metadata: [:], tensors: twice, limit: .tensors(1))
    }
  }

  @Test func plannedPartsAreReadAsOneModel() throws {
    let plan = try plan(.bytes(128), metadataOnlyFirst: true)
    let files = Dictionary(uniqueKeysWithValues: plan.parts.map { ($0.name.path, $0.layout.fileBytes) })
    let set = try GGUFSplitSet.read(firstPart: plan.parts[0].name.path) { path throws(CheckpointError) in
      guard let bytes = files[path] else {
        throw CheckpointError(.notFound, "there is no such file", path: path)
      }
      return MemorySource(bytes, path: path)
    }
    #expect(set.parts.map(\.header) == plan.parts.map(\.layout.header))
    #expect(set.parts.map(\.path) == plan.parts.map(\.name.path))
    #expect(set.tensorCount == 5)
    for (index, tensor) in tensors.enumerated() {
      let location = try #require(set.locate(tensor.name))
      #expect(plan.parts[location.part].tensors.lowerBound + location.tensor == index)
    }
  }
}

@Suite struct SplitSetTests {
  @Test func aSingleFileIsASet() throws {
    let layout = try GGUFLayout(
      metadata: [:], tensors: [GGUFLayout.Tensor(name: "w", elementType: .f32, shape: TensorShape([2]))])
    let set = try GGUFSplitSet.read(firstPart: "any name.gguf") { path throws(CheckpointError) in
      MemorySource(layout.fileBytes, path: path)
    }
    #expect(set.parts.map(\.header) == [layout.header])
    #expect(set.locate("w") == GGUFSplitSet.Location(part: 0, tensor: 0))
  }

  @Test func aMissingPartIsNamed() throws {
    let plan = try GGUFSplitPlan(
      prefix: "m", metadata: [:],
      tensors: ["a", "b"].map { GGUFLayout.Tensor(name: $0, elementType: .f32, shape: TensorShape([2])) },
      limit: .tensors(1))
    let first = plan.parts[0]
    do throws(CheckpointError) {
      _ = try GGUFSplitSet.read(firstPart: first.name.path) { path throws(CheckpointError) in
        guard path == first.name.path else { throw CheckpointError(.notFound, "there is no such file") }
        return MemorySource(first.layout.fileBytes, path: path)
      }
      Issue.record("a model was read without its second part")
    } catch {
      #expect(error.code == .notFound)
      #expect(error.path == "m-00002-of-00002.gguf")
      #expect(error.message.contains("part 2 of 2"))
    }
  }
}
