internal import GGUF
internal import TensorFormats

extension Step3Configuration {
  /// The metadata of a GGUF file of llama.cpp's architecture `qwen3`, which Step3-VL-10B's language model is written as:
  /// the keys that its converter writes, in its order and with its types.
  ///
  /// Source: llama.cpp, `conversion/base.py`.
  func qwen3Metadata(name: String, fileType: UInt32?) -> GGUFMetadata {
    var result = GGUFMetadata()
    result.set("general.architecture", .string("qwen3"))
    result.set("general.type", .string("model"))
    result.set("general.name", .string(name))
    func set(_ key: String, _ value: Int) { result.set("qwen3.\(key)", .uint32(UInt32(value))) }
    func set(_ key: String, _ value: Double) { result.set("qwen3.\(key)", .float32(Float(value))) }
    set("block_count", text.layerCount)
    set("context_length", text.contextLength)
    set("embedding_length", text.hiddenSize)
    set("feed_forward_length", text.intermediateSize)
    set("attention.head_count", text.headCount)
    set("attention.head_count_kv", text.keyValueHeadCount)
    set("rope.freq_base", text.ropeTheta)
    set("attention.layer_norm_rms_epsilon", text.rmsNormEpsilon)
    set("attention.key_length", text.headDimension)
    set("attention.value_length", text.headDimension)
    result.set("general.file_type", .uint32(fileType ?? 0))
    result.set("general.quantization_version", .uint32(2))
    return result
  }

  /// Reads the metadata of such a file, for a model whose vision side identifies it as Step3-VL-10B.
  init(qwen3 metadata: GGUFMetadata, vocabularySize: Int?) throws(CheckpointError) {
    let keys = GGUFKeys(metadata)
    func integer(_ key: String, _ range: ClosedRange<Int> = 1...1_048_576) throws(CheckpointError) -> Int {
      try keys.integer("qwen3.\(key)", in: range)
    }
    var text = Text()
    text.sharedQueryDimension = 0
    text.layerCount = try integer("block_count", 1...10_000)
    text.contextLength = try integer("context_length", 1...1_073_741_824)
    text.hiddenSize = try integer("embedding_length")
    text.intermediateSize = try integer("feed_forward_length")
    text.headCount = try integer("attention.head_count", 1...65_536)
    text.keyValueHeadCount = try integer("attention.head_count_kv", 1...text.headCount)
    text.headDimension = try integer("attention.key_length", 2...65_536)
    try keys.expect("qwen3.attention.value_length", text.headDimension)
    text.ropeTheta = try keys.positive("qwen3.rope.freq_base")
    text.rmsNormEpsilon = try keys.positive("qwen3.attention.layer_norm_rms_epsilon")
    text.setDense()
    if case .string(let name)? = metadata["qwen3.rope.scaling.type"], name != "none" {
      throw CheckpointError(
        .unsupported, "qwen3.rope.scaling.type: expected none, found '\(name.printable)'")
    }
    try self.init(family: .step3VL10B, text: text, vocabularySize: vocabularySize, vision: nil, metadata)
  }
}
