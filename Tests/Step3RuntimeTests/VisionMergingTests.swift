import Checkpoint
import CheckpointTesting
import StoredWeights
import Step3Model
import Step3Runtime
import TensorFormats
import Testing

/// Picture features in place of token embeddings.
@Suite("Vision merging")
struct VisionMergingTests {
  private let weights: ModelWeights
  private let products = Products(threads: 1)
  private let path = Fixtures.path("checkpoints/tiny")
  private let imageToken: Int

  init() throws {
    weights = try ModelWeights(Checkpoint.open(path))
    imageToken = try #require(weights.configuration?.vision?.imageTokenID)
  }

  private func features() throws -> ImageFeatures {
    try VisionModel(weights, products: products).features(
      of: PixelValues(safetensors: "\(path)/reference/image.safetensors"))
  }

  @Test("picture features fill the image tokens in order across sequences; other tokens stay")
  func inOrder() throws {
    let model = try TextModel(weights, products: products)
    let features = try features()
    try #require(features.values.rows == 10)
    let batch = TokenBatch([
      [5] + [Int](repeating: imageToken, count: 3) + [6, imageToken], [7],
      [Int](repeating: imageToken, count: 6),
    ])
    let merged = try model.embed(batch, features)
    let plain = try model.embed(batch)
    var next = 0
    for (row, token) in batch.tokens.enumerated() {
      let expected =
        token == imageToken
        ? features.values.copy(rows: next..<next + 1) : plain.copy(rows: row..<row + 1)
      if token == imageToken { next += 1 }
      #expect(merged.copy(rows: row..<row + 1).array == expected.array)
    }
    #expect(next == 10)
  }

  @Test("one image token too few or too many is refused with both counts", arguments: [0, 9, 11])
  func countsMustMatch(places: Int) throws {
    let model = try TextModel(weights, products: products)
    let batch = TokenBatch([[5] + [Int](repeating: imageToken, count: places)])
    let features = try features()
    let error = #expect(throws: CheckpointError.self) { try model.embed(batch, features) }
    #expect(error?.code == .invalidRequest)
    #expect(error?.message.contains("\(places) tokens") == true)
    #expect(error?.message.contains("have 10 (") == true, "\(error.map { "\($0)" } ?? "")")
  }
}
