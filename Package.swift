// swift-tools-version: 6.2
import PackageDescription

/// Settings of every Swift target: spans may be stored and returned, and imports say whether they are part of the
/// public interface. Tests do without strict memory safety, because macro expansions warn under it.
let testing: [SwiftSetting] = [
  .enableExperimentalFeature("Lifetimes"),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
]

/// Settings of the product: every use of raw memory is marked as well.
let strict: [SwiftSetting] = testing + [.strictMemorySafety()]

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let collections = Target.Dependency.product(name: "OrderedCollections", package: "swift-collections")
let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")

let package = Package(
  name: "step3-toolkit",
  platforms: [.macOS(.v15)],
  products: [
    .executable(name: "step3-inspect", targets: ["step3-inspect"]),
    .executable(name: "step3-convert", targets: ["step3-convert"]),
    .executable(name: "step3-verify", targets: ["step3-verify"]),
    .library(name: "TensorFormats", targets: ["TensorFormats"]),
    .library(name: "ByteStreams", targets: ["ByteStreams"]),
    .library(name: "JSON", targets: ["JSON"]),
    .library(name: "RemoteFiles", targets: ["RemoteFiles"]),
    .library(name: "Safetensors", targets: ["Safetensors"]),
    .library(name: "GGUF", targets: ["GGUF"]),
    .library(name: "Archives", targets: ["Archives"]),
    .library(name: "Checkpoint", targets: ["Checkpoint"]),
    .library(name: "Quantization", targets: ["Quantization"]),
    .library(name: "QuantizationRecipes", targets: ["QuantizationRecipes"]),
    .library(name: "Step3Model", targets: ["Step3Model"]),
    .library(name: "StoredWeights", targets: ["StoredWeights"]),
    .library(name: "Step3Runtime", targets: ["Step3Runtime"]),
    .library(name: "Calibration", targets: ["Calibration"]),
    .library(name: "ShardPlanning", targets: ["ShardPlanning"]),
    .library(name: "Conversion", targets: ["Conversion"]),
    .library(name: "Tokenization", targets: ["Tokenization"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    // MARK: C: system libraries, system calls, SIMD kernels
    .systemLibrary(
      name: "CXXHash", pkgConfig: "libxxhash",
      providers: [.apt(["libxxhash-dev"]), .brew(["xxhash"])]),
    .systemLibrary(
      name: "CPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"]), .brew(["libpng"])]),
    .systemLibrary(
      name: "CTurboJPEG", pkgConfig: "libturbojpeg",
      providers: [.apt(["libturbojpeg0-dev"]), .brew(["jpeg-turbo"])]),
    .systemLibrary(
      name: "CPCRE2", pkgConfig: "libpcre2-8",
      providers: [.apt(["libpcre2-dev"]), .brew(["pcre2"])]),
    .systemLibrary(
      name: "COnig", pkgConfig: "oniguruma",
      providers: [.apt(["libonig-dev"]), .brew(["oniguruma"])]),
    .systemLibrary(
      name: "CCurl", pkgConfig: "libcurl",
      providers: [.apt(["libcurl4-openssl-dev"]), .brew(["curl"])]),
    .systemLibrary(
      name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"]), .brew(["zstd"])]),
    .target(name: "CFileShims", cSettings: [.define("_GNU_SOURCE")]),
    // Runs before `main`, so only tools may be linked with it.
    .target(name: "CStartCheck", dependencies: ["CFileShims"], cSettings: [.define("_GNU_SOURCE")]),
    .target(name: "CSanitizerNotes"),
    // No unsafe flags here: they would keep others from depending on the package. Every kernel file switches
    // floating-point contraction off for itself.
    .target(name: "CBlockKernels"),
    .target(name: "CImageShims", dependencies: ["CPNG"]),

    // MARK: Values and bytes: no Foundation up to Quantization
    .target(
      name: "TensorFormats", swiftSettings: strict,
      linkerSettings: [.linkedLibrary("m", .when(platforms: [.linux]))]),
    .target(
      name: "ByteStreams", dependencies: ["TensorFormats", "CFileShims", "CXXHash", crypto, system],
      swiftSettings: strict),
    .target(name: "ParallelWork", dependencies: ["CSanitizerNotes"], swiftSettings: strict),
    .target(name: "Patterns", dependencies: ["TensorFormats", "CPCRE2", "COnig"], swiftSettings: strict),

    // MARK: Formats and codecs: know nothing of any model
    .target(name: "JSON", dependencies: ["TensorFormats", collections], swiftSettings: strict),
    .target(
      name: "RemoteFiles", dependencies: ["TensorFormats", "ByteStreams", "JSON", "CCurl"],
      swiftSettings: strict),
    .target(
      name: "Safetensors", dependencies: ["TensorFormats", "ByteStreams", "JSON"], swiftSettings: strict),
    .target(name: "GGUF", dependencies: ["TensorFormats", "ByteStreams"], swiftSettings: strict),
    .target(
      name: "Checkpoint", dependencies: ["TensorFormats", "ByteStreams", "JSON", "Safetensors", "GGUF"],
      swiftSettings: strict),
    .target(
      name: "Quantization", dependencies: ["TensorFormats", "CBlockKernels"], swiftSettings: strict),
    .target(
      name: "Archives",
      dependencies: [
        "TensorFormats", "ByteStreams", "JSON", "ParallelWork", "Quantization", "CXXHash", "CZstd",
      ],
      swiftSettings: strict),
    .target(name: "YAML", dependencies: ["TensorFormats", "ByteStreams", yams], swiftSettings: strict),
    .target(
      name: "QuantizationRecipes",
      dependencies: [
        "TensorFormats", "ByteStreams", "GGUF", "Checkpoint", "Quantization", "Patterns", "YAML",
      ],
      swiftSettings: strict),

    // What a user names as a source, wherever it lies and however it is kept.
    .target(
      name: "Locations",
      dependencies: ["TensorFormats", "ByteStreams", "Archives", "RemoteFiles", "Checkpoint"],
      swiftSettings: strict),

    // MARK: The model
    .target(
      name: "Step3Model",
      dependencies: ["TensorFormats", "ByteStreams", "JSON", "GGUF", "Checkpoint"],
      swiftSettings: strict),

    .target(
      name: "Tokenization",
      dependencies: ["TensorFormats", "ByteStreams", "JSON", "GGUF", "Checkpoint", "Step3Model", "Patterns"],
      swiftSettings: strict),
    .target(
      name: "ImageInput", dependencies: ["TensorFormats", "ByteStreams", "CImageShims", "CTurboJPEG"],
      swiftSettings: strict),
    .target(
      name: "StoredWeights",
      dependencies: [
        collections,
        "TensorFormats", "ByteStreams", "JSON", "GGUF", "Checkpoint", "Quantization",
        "Step3Model",
      ],
      swiftSettings: strict),
    .target(
      name: "ServingEngines",
      dependencies: [
        collections,
        "TensorFormats", "ByteStreams", "JSON", "Safetensors", "Checkpoint", "Quantization", "Step3Model",
        "Patterns",
      ],
      swiftSettings: strict),
    .target(
      name: "Step3Runtime",
      dependencies: [
        "TensorFormats", "ByteStreams", "JSON", "Safetensors", "Checkpoint", "Quantization", "Step3Model",
        "StoredWeights", "ImageInput", "ParallelWork", "CFileShims",
      ],
      swiftSettings: strict,
      linkerSettings: [.linkedFramework("Accelerate", .when(platforms: [.macOS]))]),

    .target(
      name: "Comparison",
      dependencies: [
        "TensorFormats", "ByteStreams", "GGUF", "Checkpoint", "Quantization", "StoredWeights", "ParallelWork",
      ],
      swiftSettings: strict),

    // MARK: One verb each
    .target(
      name: "ShardPlanning",
      dependencies: [
        collections,
        "TensorFormats", "ByteStreams", "JSON", "Safetensors", "GGUF", "Checkpoint", "Quantization",
        "QuantizationRecipes", "Step3Model", "StoredWeights", "ServingEngines", "Patterns", "Tokenization",
      ],
      swiftSettings: strict),
    .target(
      name: "BitAllocation",
      dependencies: [
        "TensorFormats", "ByteStreams", "Checkpoint", "Quantization", "QuantizationRecipes", "Step3Model",
        "StoredWeights", "ShardPlanning", "Patterns", "ParallelWork",
      ],
      swiftSettings: strict),
    .target(
      name: "Conversion",
      dependencies: [
        collections,
        "TensorFormats", "ByteStreams", "JSON", "GGUF", "Checkpoint", "Archives", "Quantization",
        "QuantizationRecipes", "StoredWeights", "ShardPlanning", "ParallelWork",
      ],
      swiftSettings: strict),
    .target(
      name: "Deployment",
      dependencies: [
        "TensorFormats", "ByteStreams", "Checkpoint", "Step3Model", "ShardPlanning", "YAML",
      ],
      swiftSettings: strict),
    .target(
      name: "Calibration",
      dependencies: [
        "TensorFormats", "ByteStreams", "Safetensors", "GGUF", "Checkpoint", "Quantization",
        "QuantizationRecipes", "Step3Model",
        "StoredWeights", "Step3Runtime", "ShardPlanning", "Conversion", "ParallelWork",
      ],
      swiftSettings: strict),
    .target(
      name: "Archiving",
      dependencies: [
        "Archives", "TensorFormats", "ByteStreams", "JSON", "Safetensors", "GGUF", "Checkpoint", "Conversion",
        "ParallelWork",
      ],
      swiftSettings: strict),
    .target(
      name: "Verification",
      dependencies: [
        "Comparison", "TensorFormats", "ByteStreams", "JSON", "Safetensors", "Checkpoint", "Quantization",
        "Step3Model",
        "StoredWeights", "Step3Runtime", "ShardPlanning", "Conversion", "ParallelWork",
        "Patterns",
      ],
      swiftSettings: strict),
    .target(
      name: "Signatures",
      dependencies: [
        "TensorFormats", "ByteStreams", "JSON", "Checkpoint", "Locations", "ShardPlanning", "Conversion",
        "ParallelWork", crypto,
      ],
      swiftSettings: strict),
    .target(
      name: "Inspection",
      dependencies: [
        "Comparison", "TensorFormats", "ByteStreams", "JSON", "GGUF", "Checkpoint", "Quantization",
        "Step3Model",
        "StoredWeights", "ParallelWork",
      ],
      swiftSettings: strict),

    .target(
      name: "CheckpointReport",
      dependencies: [
        "TensorFormats", "ByteStreams", "JSON", "Checkpoint", "Step3Model", "Comparison", "Inspection",
        "Conversion", "Verification",
      ],
      swiftSettings: strict),

    // MARK: Commands
    .target(
      name: "CommandSupport",
      dependencies: [
        "TensorFormats", "JSON", "CFileShims", "CStartCheck", "RemoteFiles", "Checkpoint", "Locations",
        argumentParser,
      ],
      swiftSettings: strict),
    .executableTarget(
      name: "step3-inspect",
      dependencies: [
        "ParallelWork", "CommandSupport", "CheckpointReport", "Inspection", "Verification", "Conversion",
        "Locations", "Checkpoint", "ByteStreams", "JSON", "TensorFormats", "Patterns",
        argumentParser,
      ],
      swiftSettings: strict),
    .executableTarget(
      name: "step3-convert",
      dependencies: [
        "Archives", "Archiving", "BitAllocation", "Calibration", "Comparison", "Deployment", "Locations",
        "ParallelWork",
        "CommandSupport",
        "Conversion", "ShardPlanning", "ServingEngines", "Checkpoint", "Quantization", "QuantizationRecipes",
        "Step3Model",
        "Step3Runtime", "StoredWeights", "Tokenization", "Signatures", "ByteStreams", "TensorFormats",
        argumentParser,
      ],
      swiftSettings: strict),
    .executableTarget(
      name: "step3-verify",
      dependencies: [
        "Comparison", "ParallelWork", "CommandSupport", "Verification", "Locations", "ServingEngines",
        "Checkpoint", "ByteStreams", "TensorFormats", "Step3Model", "StoredWeights", "Step3Runtime",
        "Tokenization", "ImageInput", "Signatures",
        "Patterns", argumentParser,
      ],
      swiftSettings: strict),

    // MARK: Tests
    .target(
      name: "CheckpointTesting",
      dependencies: ["TensorFormats", "ByteStreams", "Step3Model", "Tokenization"],
      path: "Tests/CheckpointTesting", swiftSettings: testing),
    .target(
      name: "PlanTesting",
      dependencies: ["Checkpoint", "Quantization", "QuantizationRecipes", "ShardPlanning"],
      path: "Tests/PlanTesting", swiftSettings: testing),
    .executableTarget(
      name: "checkpoint-generator",
      dependencies: ["CheckpointTesting", "Step3Model", argumentParser],
      path: "Tests/checkpoint-generator", swiftSettings: testing),
    .executableTarget(
      name: "pattern-probe", dependencies: ["Patterns", "TensorFormats"], path: "Tests/pattern-probe",
      swiftSettings: testing),
    .testTarget(name: "TensorFormatsTests", dependencies: ["TensorFormats"], swiftSettings: testing),
    .testTarget(name: "ParallelWorkTests", dependencies: ["ParallelWork"], swiftSettings: testing),
    .testTarget(name: "JSONTests", dependencies: ["JSON", "TensorFormats"], swiftSettings: testing),
    .testTarget(
      name: "PatternsTests", dependencies: ["Patterns", "TensorFormats"], swiftSettings: testing),
    .testTarget(
      name: "ByteStreamsTests",
      dependencies: ["ByteStreams", "TensorFormats", "CheckpointTesting", "CFileShims"],
      swiftSettings: testing),
    .testTarget(
      name: "RemoteFilesTests",
      dependencies: ["RemoteFiles", "ByteStreams", "TensorFormats", "CheckpointTesting"],
      swiftSettings: testing),
    .testTarget(
      name: "SafetensorsTests",
      dependencies: ["Safetensors", "ByteStreams", "TensorFormats", "CheckpointTesting"],
      swiftSettings: testing),
    .testTarget(
      name: "GGUFTests", dependencies: ["GGUF", "ByteStreams", "TensorFormats", "CheckpointTesting"],
      swiftSettings: testing),
    .testTarget(
      name: "CheckpointTests",
      dependencies: [
        "Checkpoint", "Safetensors", "GGUF", "TensorFormats", "ByteStreams", "CheckpointTesting",
      ],
      swiftSettings: testing),
    .testTarget(
      name: "ArchivesTests",
      dependencies: [
        "Archives", "Safetensors", "GGUF", "ByteStreams", "TensorFormats", "CheckpointTesting",
      ],
      swiftSettings: testing),
    .testTarget(
      name: "QuantizationTests",
      dependencies: ["Quantization", "TensorFormats", "CheckpointTesting"],
      swiftSettings: testing),
    .testTarget(
      name: "QuantizationRecipesTests",
      dependencies: [
        "QuantizationRecipes", "Quantization", "Checkpoint", "TensorFormats", "ByteStreams",
        "Patterns",
      ],
      swiftSettings: testing),
    .testTarget(
      name: "Step3ModelTests",
      dependencies: [
        "Step3Model", "Tokenization", "Checkpoint", "GGUF", "JSON", "ByteStreams", "TensorFormats",
        "CheckpointTesting",
      ],
      swiftSettings: testing),
    .testTarget(
      name: "TokenizationTests",
      dependencies: [
        "Tokenization", "Step3Model", "GGUF", "ByteStreams", "TensorFormats", "CheckpointTesting",
      ],
      swiftSettings: testing),
    .testTarget(
      name: "ImageInputTests",
      dependencies: ["ImageInput", "Safetensors", "ByteStreams", "TensorFormats", "CheckpointTesting"],
      swiftSettings: testing),
    .testTarget(
      name: "StoredWeightsTests",
      dependencies: [
        "StoredWeights", "Checkpoint", "Quantization", "TensorFormats", "ByteStreams", "CheckpointTesting",
      ],
      swiftSettings: testing),
    .testTarget(
      name: "ServingEnginesTests",
      dependencies: [
        "ServingEngines", "Checkpoint", "JSON", "Step3Model", "ByteStreams", "TensorFormats",
        "CheckpointTesting",
      ],
      swiftSettings: testing),
    .testTarget(
      name: "Step3RuntimeTests",
      dependencies: [
        "Step3Runtime", "StoredWeights", "ImageInput", "Checkpoint", "Safetensors",
        "Step3Model",
        "Conversion", "ShardPlanning", "QuantizationRecipes", "TensorFormats", "ByteStreams",
        "CheckpointTesting", "step3-verify",
      ],
      swiftSettings: testing),
    .testTarget(
      name: "ShardPlanningTests",
      dependencies: [
        "PlanTesting", "ShardPlanning", "QuantizationRecipes", "Quantization", "Checkpoint", "Step3Model",
        "TensorFormats", "CheckpointTesting",
      ],
      swiftSettings: testing),
    .testTarget(
      name: "BitAllocationTests",
      dependencies: [
        "BitAllocation", "ShardPlanning", "QuantizationRecipes", "Quantization", "Checkpoint", "ParallelWork",
        "TensorFormats", "CheckpointTesting",
      ],
      swiftSettings: testing),
    .testTarget(
      name: "ConversionTests",
      dependencies: [
        "BitAllocation", "ParallelWork", "PlanTesting", "Conversion", "ShardPlanning", "Verification",
        "Archives", "Archiving", "Locations",
        "Checkpoint", "Step3Model", "Quantization",
        "QuantizationRecipes", "Safetensors", "GGUF", "TensorFormats", "ByteStreams", "Tokenization",
        "CheckpointTesting", "step3-convert",
      ],
      swiftSettings: testing),
    .testTarget(
      name: "CheckpointReportTests",
      dependencies: ["CheckpointReport", "TensorFormats", "CheckpointTesting"],
      swiftSettings: testing),
    .testTarget(
      name: "DeploymentTests",
      dependencies: [
        "Deployment", "PlanTesting", "ShardPlanning", "Checkpoint", "Step3Model", "TensorFormats",
        "ByteStreams", "CheckpointTesting",
      ],
      swiftSettings: testing),
    .testTarget(
      name: "CalibrationTests",
      dependencies: [
        "Calibration", "Quantization", "QuantizationRecipes", "Step3Runtime", "TensorFormats",
        "CheckpointTesting",
      ],
      swiftSettings: testing),
    .testTarget(
      name: "ArchivingTests",
      dependencies: [
        "Archives", "Archiving", "ByteStreams", "TensorFormats", "CheckpointTesting",
        "step3-convert",
      ],
      swiftSettings: testing),
    .testTarget(
      name: "VerificationTests",
      dependencies: [
        "Verification", "Conversion", "ShardPlanning", "Checkpoint", "JSON", "Step3Model",
        "Step3Runtime", "QuantizationRecipes", "StoredWeights", "Safetensors", "TensorFormats",
        "ByteStreams",
        "CheckpointTesting",
      ],
      swiftSettings: testing),
    .testTarget(
      name: "SignaturesTests",
      dependencies: [
        "PlanTesting", "Signatures", "Conversion", "ShardPlanning", "Checkpoint", "JSON", "ByteStreams",
        "TensorFormats", "CheckpointTesting", crypto,
      ],
      swiftSettings: testing),
    .testTarget(
      name: "ComparisonTests",
      dependencies: [
        "Comparison", "StoredWeights", "Checkpoint", "Quantization", "QuantizationRecipes", "ShardPlanning",
        "Conversion", "ParallelWork", "TensorFormats", "CheckpointTesting",
      ],
      swiftSettings: testing),
    .testTarget(
      name: "InspectionTests",
      dependencies: [
        "Inspection", "Checkpoint", "QuantizationRecipes", "ShardPlanning", "Conversion", "ParallelWork",
        "TensorFormats", "CheckpointTesting",
      ],
      swiftSettings: testing),
    .testTarget(
      name: "CommandTests",
      dependencies: [
        "PlanTesting", "CommandSupport", "Checkpoint", "JSON", "TensorFormats", "ByteStreams", "GGUF",
        "Conversion",
        "ShardPlanning", "QuantizationRecipes", "Step3Model", "CheckpointTesting", "step3-inspect",
        "step3-convert", "step3-verify", "checkpoint-generator",
      ],
      swiftSettings: testing),
  ],
  swiftLanguageModes: [.v6],
  cLanguageStandard: .c17
)

// MARK: Examples

// Tests/Examples is a package of its own, as a user would have one. Built by itself it would build all of this a second time;
// here its sources are built beside the tests, and see what is public and nothing else just the same.
func example(_ name: String, _ libraries: Target.Dependency...) -> Target {
  .executableTarget(
    name: name, dependencies: libraries, path: "Tests/Examples/Sources/\(name)", packageAccess: false)
}
package.targets += [
  example("read-checkpoint", "Checkpoint", "StoredWeights"),
  example("read-rows", "Checkpoint", "StoredWeights", "TensorFormats"),
  example("encode-tensor", "Quantization", "TensorFormats"),
  example("encode-scheme", "Quantization", "TensorFormats"),
  example("write-gguf", "GGUF", "Quantization", "TensorFormats"),
  example("convert-checkpoint", "Checkpoint", "Conversion", "QuantizationRecipes", "ShardPlanning"),
  example("run-logits", "Checkpoint", "Step3Runtime", "StoredWeights", "Tokenization"),
]

// MARK: Fuzzers

// Only for Tests/Fuzz/run.sh: they link libFuzzer, which brings its own main loop, by flags that would keep others from
// depending on the package. Linux's default linker, gold, stops with an internal error on their debug information.
if Context.environment["STEP3_FUZZERS"] != nil {
  func fuzzer(_ name: String, of parsers: Target.Dependency...) -> Target {
    .executableTarget(
      name: name, dependencies: ["FuzzSupport", "ByteStreams", "TensorFormats"] + parsers,
      path: "Tests/Fuzz/\(name)", swiftSettings: testing,
      linkerSettings: [
        .unsafeFlags(["-sanitize=fuzzer,address"]),
        .unsafeFlags(["-use-ld=lld"], .when(platforms: [.linux])),
      ])
  }
  package.targets += [
    .target(name: "CFuzzer", path: "Tests/Fuzz/CFuzzer"),
    .target(
      name: "FuzzSupport", dependencies: ["CFuzzer"], path: "Tests/Fuzz/FuzzSupport", swiftSettings: testing),
    .target(
      name: "FuzzFiles", dependencies: ["ByteStreams", "TensorFormats"], path: "Tests/Fuzz/FuzzFiles",
      swiftSettings: testing),
    fuzzer("FuzzSafetensors", of: "Safetensors"),
    fuzzer("FuzzIndex", of: "Safetensors"),
    fuzzer("FuzzJSON", of: "JSON"),
    fuzzer("FuzzGGUF", of: "GGUF"),
    fuzzer("FuzzArchive", of: "Archives"),
    fuzzer("FuzzTokenizer", of: "Tokenization"),
    fuzzer(
      "FuzzConfiguration", of: "Step3Model", "Checkpoint", "StoredWeights", "ServingEngines", "FuzzFiles",
      "CheckpointTesting"),
    fuzzer("FuzzRecipe", of: "QuantizationRecipes", "Checkpoint"),
    fuzzer("FuzzDeployment", of: "Deployment"),
    fuzzer("FuzzImportance", of: "QuantizationRecipes"),
    fuzzer("FuzzManifest", of: "Conversion", "Checkpoint", "FuzzFiles"),
    fuzzer("FuzzJournal", of: "Conversion"),
    fuzzer("FuzzSignature", of: "Signatures", "JSON"),
    fuzzer("FuzzPicture", of: "ImageInput"),
    fuzzer("FuzzLogits", of: "Verification"),
    fuzzer("FuzzMessages", of: "Step3Runtime", "Step3Model", "CheckpointTesting"),
  ]
}

// MARK: Documentation

// Only for `make docs`: whoever depends on the package needs no plugin for it.
if Context.environment["STEP3_DOCS"] != nil {
  package.dependencies.append(.package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.5.0"))
}
