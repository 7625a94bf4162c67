internal import GGUF
internal import TensorFormats

extension Step3Configuration {
  /// The metadata of the vision side's GGUF file for llama.cpp's projector `step3vl`: the keys that its converter writes,
  /// in its order and with its types.
  ///
  /// Source: llama.cpp, `conversion/base.py` and `conversion/step3.py`. Mean and deviation are those of OpenAI's CLIP.
  func perceptionMetadata(name: String, fileType: UInt32?) -> GGUFMetadata? {
    guard let vision else { return nil }
    var result = GGUFMetadata()
    result.set("general.architecture", .string("clip"))
    result.set("general.type", .string("mmproj"))
    result.set("general.name", .string(name))
    result.set("general.file_type", .uint32(fileType ?? 0))
    result.set("clip.has_vision_encoder", .bool(true))
    func set(_ key: String, _ value: GGUFValue) { result.set("clip.vision.\(key)", value) }
    func set(_ key: String, _ value: Int) { set(key, .uint32(UInt32(value))) }
    set("projection_dim", text.hiddenSize)
    set("image_size", vision.imageSize)
    set("patch_size", vision.patchSize)
    set("embedding_length", vision.hiddenSize)
    set("feed_forward_length", vision.intermediateSize)
    set("block_count", vision.layerCount)
    set("attention.head_count", vision.headCount)
    set("image_mean", .array(.float32([0.48145466, 0.4578275, 0.40821073])))
    set("image_std", .array(.float32([0.26862954, 0.26130258, 0.27577711])))
    result.set("clip.projector_type", .string(ModelFamily.perceptionProjector))
    set("attention.layer_norm_epsilon", .float32(Float(vision.layerNormEpsilon)))
    set("projector.scale_factor", vision.projectorStride * vision.projectorStride)
    set("preproc_image_size", 3024)
    result.set("general.quantization_version", .uint32(2))
    return result
  }
}

extension Step3Configuration.Vision {
  /// Reads the metadata of such a file.
  init(perception metadata: GGUFMetadata) throws(CheckpointError) {
    let keys = GGUFKeys(metadata)
    func integer(_ key: String, _ range: ClosedRange<Int>) throws(CheckpointError) -> Int {
      try keys.integer("clip.vision.\(key)", in: range)
    }
    imageSize = try integer("image_size", 1...65_536)
    patchSize = try integer("patch_size", 1...imageSize)
    hiddenSize = try integer("embedding_length", 1...1_048_576)
    intermediateSize = try integer("feed_forward_length", 1...1_048_576)
    layerCount = try integer("block_count", 1...10_000)
    headCount = try integer("attention.head_count", 1...hiddenSize)
    guard imageSize % patchSize == 0, hiddenSize % headCount == 0 else {
      throw CheckpointError(
        .malformed,
        "clip.vision: expected image_size to be a multiple of patch_size and embedding_length one of head_count"
      )
    }
    try keys.expect("clip.vision.projector.scale_factor", 4)
    projectorStride = 2
    hasClassToken = false
    outputSize = 2 * hiddenSize
    layerNormEpsilon = try keys.positive("clip.vision.attention.layer_norm_epsilon")
  }
}
