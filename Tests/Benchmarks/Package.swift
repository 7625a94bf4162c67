// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "step3-benchmarks",
  platforms: [.macOS(.v15)],
  dependencies: [.package(name: "step3-toolkit", path: "../..")],
  targets: [
    .systemLibrary(
      name: "CBenchBLAS", pkgConfig: "openblas",
      providers: [.apt(["libopenblas-dev"]), .brew(["openblas"])]),
    .executableTarget(
      name: "codec-bench",
      dependencies: [
        .product(name: "Quantization", package: "step3-toolkit"),
        .product(name: "ByteStreams", package: "step3-toolkit"),
        .product(name: "TensorFormats", package: "step3-toolkit"),
      ],
      swiftSettings: [.enableExperimentalFeature("Lifetimes")]),
    .executableTarget(
      name: "remote-bench",
      dependencies: [
        .product(name: "RemoteFiles", package: "step3-toolkit"),
        .product(name: "ByteStreams", package: "step3-toolkit"),
        .product(name: "TensorFormats", package: "step3-toolkit"),
      ],
      swiftSettings: [.enableExperimentalFeature("Lifetimes")]),
    .executableTarget(
      name: "archive-bench",
      dependencies: [
        .product(name: "Archives", package: "step3-toolkit"),
        .product(name: "ByteStreams", package: "step3-toolkit"),
        .product(name: "TensorFormats", package: "step3-toolkit"),
      ],
      swiftSettings: [.enableExperimentalFeature("Lifetimes")]),
    .executableTarget(
      name: "runtime-bench",
      dependencies: [
        .product(name: "Step3Runtime", package: "step3-toolkit"),
        .product(name: "StoredWeights", package: "step3-toolkit"),
        .product(name: "Checkpoint", package: "step3-toolkit"),
        .product(name: "GGUF", package: "step3-toolkit"),
        .product(name: "Safetensors", package: "step3-toolkit"),
        .product(name: "Quantization", package: "step3-toolkit"),
        .product(name: "TensorFormats", package: "step3-toolkit"),
        .target(name: "CBenchBLAS", condition: .when(platforms: [.linux])),
      ],
      swiftSettings: [.enableExperimentalFeature("Lifetimes")]),
  ],
  swiftLanguageModes: [.v6]
)
