// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that users of the toolkit never build with a fuzzer. Run it with `./run.sh`.

/// libFuzzer brings its own main loop, and has to be linked into each executable. Linux's default linker, gold, stops
/// with an internal error on the debug information of this build.
let fuzzer: [LinkerSetting] = [
  .unsafeFlags(["-sanitize=fuzzer,address"]),
  .unsafeFlags(["-use-ld=lld"], .when(platforms: [.linux])),
]

func target(_ name: String, parser: String) -> Target {
  .executableTarget(
    name: name,
    dependencies: [
      "FuzzSupport",
      .product(name: parser, package: "step3-toolkit"),
      .product(name: "ByteStreams", package: "step3-toolkit"),
      .product(name: "TensorFormats", package: "step3-toolkit"),
    ],
    linkerSettings: fuzzer)
}

let package = Package(
  name: "fuzz",
  platforms: [.macOS(.v15)],
  dependencies: [.package(name: "step3-toolkit", path: "../..")],
  targets: [
    .target(name: "CFuzzer"),
    .target(name: "FuzzSupport", dependencies: ["CFuzzer"]),
    target("FuzzSafetensors", parser: "Safetensors"),
    target("FuzzIndex", parser: "Safetensors"),
    target("FuzzJSON", parser: "JSON"),
    target("FuzzGGUF", parser: "GGUF"),
    target("FuzzArchive", parser: "Archives"),
  ],
  swiftLanguageModes: [.v6]
)
