// swift-tools-version: 6.2
import PackageDescription

// A user's package: it sees only the public API, which targets of the toolkit's own package
// would not verify.
let package = Package(
  name: "step3-toolkit-examples",
  platforms: [.macOS(.v15)],
  dependencies: [.package(name: "step3-toolkit", path: "../..")],
  targets: [
    example("read-checkpoint", "Checkpoint", "StoredWeights"),
    example("read-rows", "Checkpoint", "StoredWeights", "TensorFormats"),
    example("encode-tensor", "Quantization", "TensorFormats"),
    example("encode-scheme", "Quantization", "TensorFormats"),
    example("write-gguf", "GGUF", "Quantization", "TensorFormats"),
    example("convert-checkpoint", "Checkpoint", "Conversion", "QuantizationRecipes", "ShardPlanning"),
    example("run-logits", "Checkpoint", "Step3Runtime", "StoredWeights", "Tokenization"),
  ],
  swiftLanguageModes: [.v6]
)

func example(_ name: String, _ libraries: String...) -> Target {
  .executableTarget(name: name, dependencies: libraries.map { .product(name: $0, package: "step3-toolkit") })
}
