import Checkpoint
import CheckpointTesting
import StoredWeights
import Step3Model
import Step3Runtime
import Synchronization
import TensorFormats
import Testing

/// The vision side against what the published modeling code computes in F64 on the same weights.
@Suite("Vision model")
struct VisionModelTests {
  @Test(
    "every layer, the encoded patches and the features match, at the native size and another",
    arguments: ["tiny", "odd"], ["native", "resized"])
  func matchesReference(_ model: String, _ size: String) throws {
    let path = Fixtures.path("checkpoints/\(model)")
    let reference = try ReferenceOutput("\(path)/reference/vision.safetensors")
    let recorder = VisionRecorder()
    let vision = try VisionModel(
      ModelWeights(Checkpoint.open(path)), products: Products(threads: 2), observer: recorder)
    let shape = try reference.shape("\(size).pixel_values")
    let side = try #require(shape.last)
    let images = SquareImages(
      count: shape[0], side: side, try reference.floats("\(size).pixel_values"))
    let features = try vision.features(of: PixelValues(images))
    func compare(_ name: String, _ values: Activations?) throws {
      let values = try #require(values)
      let difference = try reference.largestDifference("\(size).\(name)", values, 0..<values.rows)
      #expect(difference < 2e-4, "\(name)")
    }
    try compare("vision.embed", recorder.values(.embedding, nil))
    for layer in 0..<vision.vision.layerCount {
      try compare("vision.\(layer)", recorder.values(.layerOutput, layer))
    }
    try compare("encoded", recorder.values(.encoded, nil))
    try compare("features", recorder.values(.features, nil))
    try compare("features", features.values)
    #expect(features.counts == [try vision.featureCount(side: side)])
  }

  @Test(
    "a prompt with pictures matches in features, hidden states, router choices and logits",
    arguments: ["tiny", "odd", "tiny-fp8", "odd-fp8"])
  func promptWithImages(_ model: String) throws {
    let path = Fixtures.path("checkpoints/\(model)")
    try expectImagePrompt(of: ModelWeights(Checkpoint.open(path)), matches: path)
  }

  @Test("the number of threads changes nothing")
  func threadsDoNotMatter() throws {
    let path = Fixtures.path("checkpoints/odd")
    let weights = try ModelWeights(Checkpoint.open(path))
    let pixels = try PixelValues(safetensors: "\(path)/reference/image.safetensors")
    let results = try [1, 3].map {
      try VisionModel(weights, products: Products(threads: $0)).features(of: pixels).values.array
    }
    #expect(results[0] == results[1])
  }

  @Test("pictures that the model cannot process are refused", arguments: [(7, 3), (14, 3), (20, 3), (28, 1)])
  func refusesImages(side: Int, channels: Int) throws {
    let vision = try VisionModel(
      ModelWeights(Checkpoint.open(Fixtures.path("checkpoints/tiny"))), products: Products(threads: 1))
    let images = SquareImages(
      count: 1, channels: channels, side: side, [Float](repeating: 0, count: channels * side * side))
    let error = #expect(throws: CheckpointError.self) { try vision.features(of: PixelValues(images)) }
    #expect(error?.code == .invalidRequest)
    #expect(error?.message.contains(channels == 3 ? "\(side) pixels" : "1 channels") == true)
  }

  @Test("pictures of a single feature, and an empty batch, are processed")
  func smallest() throws {
    let vision = try VisionModel(
      ModelWeights(Checkpoint.open(Fixtures.path("checkpoints/tiny"))), products: Products(threads: 1))
    let one = SquareImages(count: 1, side: 28, [Float](repeating: 0.5, count: 3 * 28 * 28))
    #expect(try vision.features(of: PixelValues(one)).values.rows == 1)
    let none = SquareImages(count: 0, side: 28, [])
    #expect(try vision.features(of: PixelValues(none)).values.rows == 0)
  }
}

/// Runs the image prompt of a fixture and compares everything with the reference.
func expectImagePrompt(
  of weights: ModelWeights, matches path: String, sourceLocation: SourceLocation = #_sourceLocation
) throws {
  let reference = try ReferenceOutput("\(path)/reference/image.safetensors")
  let products = Products(threads: 2)
  let pixels = try PixelValues(safetensors: reference.path)
  let features = try VisionModel(weights, products: products).features(of: pixels)
  #expect(features.counts.count == pixels.images.count, sourceLocation: sourceLocation)
  func compare(_ name: String, _ values: Activations?) throws {
    let values = try #require(values, sourceLocation: sourceLocation)
    let difference = try reference.largestDifference(name, values, 0..<values.rows)
    #expect(difference < 2e-4, "\(name)", sourceLocation: sourceLocation)
  }
  try compare("image_features", features.values)

  let recorder = Recorder()
  let model = try TextModel(weights, products: products, observer: recorder)
  let batch = TokenBatch([try reference.integers("input_ids")])
  let hidden = try model.embed(batch, features)
  try compare("hidden.embed", hidden)
  for layer in 0..<model.text.layerCount {
    try model.run(layer: layer, hidden, batch)
    try compare("hidden.\(layer)", hidden)
    guard model.text.isMoE(layer: layer) else { continue }
    let routing = try #require(recorder.routing(layer), sourceLocation: sourceLocation)
    #expect(
      try routing.experts.map(Int.init) == reference.integers("router.\(layer).ids"),
      sourceLocation: sourceLocation)
  }
  let normalised = try model.finalNorm(hidden)
  try compare("hidden.norm", normalised)
  try compare("logits", model.logits(normalised))
}

/// Records everything observed in the vision tower.
final class VisionRecorder: VisionObserver {
  private struct Place: Hashable {
    let stage: VisionStage
    let layer: Int?
  }
  private let stages = Mutex<[Place: Activations]>([:])

  func note(_ stage: VisionStage, layer: Int?, _ values: Activations) {
    let copy = values.copy(rows: 0..<values.rows)
    stages.withLock { $0[Place(stage: stage, layer: layer)] = copy }
  }

  func values(_ stage: VisionStage, _ layer: Int?) -> Activations? {
    stages.withLock { $0[Place(stage: stage, layer: layer)] }
  }
}
