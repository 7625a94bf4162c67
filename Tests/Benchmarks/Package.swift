// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "step3-benchmarks",
  platforms: [.macOS(.v15)],
  dependencies: [.package(name: "step3-toolkit", path: "../..")],
  targets: [
    .executableTarget(
      name: "codec-bench",
      dependencies: [
        .product(name: "Quantization", package: "step3-toolkit"),
        .product(name: "TensorFormats", package: "step3-toolkit"),
      ],
      swiftSettings: [.enableExperimentalFeature("Lifetimes")])
  ],
  swiftLanguageModes: [.v6]
)
