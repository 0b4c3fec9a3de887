// swift-tools-version: 6.2
import PackageDescription

// No target carries `unsafeFlags`, so a package may depend on this one by version. Instruction sets are
// chosen per function by `#pragma clang attribute push(target)` in CKernels/isa/foreach.h, not by -m flags,
// and OpenMP is reached through the runtime's own C ABI (CKernels/team.c), not by -fopenmp.

/// Every C call is marked `unsafe` at its one wrapper line, and imports are internal unless said otherwise.
let swiftSettings: [SwiftSetting] = [
  .strictMemorySafety(),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
  name: "swift-moe",
  products: [
    .library(name: "MoE", targets: ["MoE"]),
    .library(name: "MoECore", targets: ["MoECore"]),
    .library(name: "MoECheckpoints", targets: ["MoECheckpoints"]),
    .library(name: "CKernels", targets: ["CKernels"]),
    .library(name: "MoETraining", targets: ["MoETraining"]),
    .library(name: "ExpertParallel", targets: ["ExpertParallel"]),
    .library(name: "MoEReport", targets: ["MoEReport"]),
    .library(name: "MoERun", targets: ["MoERun"]),
    .library(name: "MoEPlan", targets: ["MoEPlan"]),
    .library(name: "MoEReference", targets: ["MoEReference"]),
    .executable(name: "moe", targets: ["MoECommand"]),
  ],
  traits: [.trait(name: "MPI", description: "Ranks on many machines, by Open MPI (libopenmpi-dev)")],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    .package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.5.0"),
    // SHA-256 of checkpoints: training and the command build it, users of the layers do not.
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
  ],
  targets: [
    .target(
      name: "CKernels",
      path: "CKernels",
      linkerSettings: [
        // The `-l:file` form finds the runtime in the default library folder, where `-lomp` does not.
        .linkedLibrary(":libomp.so.5", .when(platforms: [.linux])),
        .linkedLibrary("m", .when(platforms: [.linux])),
      ]),
    .target(name: "MoECore", swiftSettings: swiftSettings),
    .target(name: "MoEReference", dependencies: ["MoECore"], swiftSettings: swiftSettings),
    .target(name: "MoE", dependencies: ["MoECore", "CKernels"], swiftSettings: swiftSettings),
    .target(name: "MoECheckpoints", dependencies: ["MoECore"], swiftSettings: swiftSettings),
    // Without the trait, neither MPI's headers nor its library are asked for.
    .systemLibrary(
      name: "CMPI", path: "Sources/CMPI", pkgConfig: "ompi-c", providers: [.apt(["libopenmpi-dev"])]),
    .target(
      name: "CCommunicator", dependencies: [.target(name: "CMPI", condition: .when(traits: ["MPI"]))],
      cSettings: [.define("MOE_MPI", .when(traits: ["MPI"]))]),
    .target(
      name: "ExpertParallel",
      dependencies: [
        "CCommunicator", "MoE", "MoECore", .product(name: "HeapModule", package: "swift-collections"),
      ],
      swiftSettings: swiftSettings),
    // The files of a training run: MoETraining writes them, MoEReport and MoEPlan read them.
    .target(name: "MoERun", swiftSettings: swiftSettings),
    .target(name: "MoEReport", dependencies: ["MoERun"], swiftSettings: swiftSettings),
    .target(
      name: "MoEPlan", dependencies: ["MoE", "MoECore", "ExpertParallel", "MoEReport", "MoERun"],
      swiftSettings: swiftSettings),
    .systemLibrary(name: "COpenBLAS", path: "Sources/COpenBLAS", providers: [.apt(["libopenblas-dev"])]),
    .target(
      name: "MoETraining",
      dependencies: [
        "ExpertParallel", "MoE", "MoECore", "MoECheckpoints", "MoERun", "CKernels", "COpenBLAS",
        .product(name: "Crypto", package: "swift-crypto"),
      ],
      swiftSettings: swiftSettings),
    .executableTarget(
      name: "MoECommand",
      dependencies: [
        "MoE", "MoECheckpoints", "MoETraining", "ExpertParallel", "MoEPlan", "MoEReference", "MoEReport",
        "MoERun",
        "COpenBLAS",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Crypto", package: "swift-crypto"),
      ],
      swiftSettings: swiftSettings),
    .executableTarget(
      name: "seed-example", dependencies: ["MoE"], path: "Examples/SeedExample", swiftSettings: swiftSettings),
    .executableTarget(
      name: "train-layer-example", dependencies: ["MoE", "MoETraining"], path: "Examples/TrainLayer",
      swiftSettings: swiftSettings),

    // Tests: a folder a module, and what they share.
    .target(
      name: "LayerCases", dependencies: ["MoECore"], path: "Tests/LayerCases", swiftSettings: swiftSettings),
    .target(
      name: "TestSupport", dependencies: ["LayerCases", "MoECore"], path: "Tests/Support",
      swiftSettings: swiftSettings),
    .target(name: "AllocationCounter", dependencies: ["CKernels"], path: "Tests/AllocationCounter"),
    .testTarget(
      name: "MoEReferenceTests", dependencies: ["MoECore", "MoEReference", "TestSupport"],
      swiftSettings: swiftSettings),
    .testTarget(
      name: "MoETests",
      dependencies: ["MoE", "MoECore", "CKernels", "MoEReference", "TestSupport", "AllocationCounter"],
      swiftSettings: swiftSettings),
    .testTarget(
      name: "MoECheckpointsTests", dependencies: ["MoECheckpoints", "MoECore", "MoEReference"],
      swiftSettings: swiftSettings),
    .testTarget(
      name: "MoETrainingTests",
      dependencies: [
        "MoETraining", "MoERun", "ExpertParallel", "MoE", "MoECheckpoints", "MoECore", "MoEReference",
        "TestSupport", "train-layer-example",
      ],
      swiftSettings: swiftSettings),
    .testTarget(
      name: "MoEReportTests", dependencies: ["MoEReport", "MoERun", "MoECore", "MoECommand"],
      swiftSettings: swiftSettings),
    .testTarget(
      name: "MoEPlanTests", dependencies: ["MoEPlan", "MoECore", "MoE", "ExpertParallel"],
      swiftSettings: swiftSettings),
    .testTarget(
      name: "MoECommandTests",
      dependencies: ["MoECommand", "MoE", "MoECore", "MoECheckpoints", "MoETraining", "ExpertParallel"],
      swiftSettings: swiftSettings),
    .target(
      name: "CommunicatorProperties", dependencies: ["ExpertParallel", "MoECore"],
      path: "Tests/CommunicatorProperties", swiftSettings: swiftSettings),
    .target(
      name: "SpreadPasses",
      dependencies: ["ExpertParallel", "CommunicatorProperties", "LayerCases", "MoE", "MoECore"],
      path: "Tests/SpreadPasses", swiftSettings: swiftSettings),
    .testTarget(
      name: "ExpertParallelTests",
      dependencies: [
        "ExpertParallel", "CommunicatorProperties", "SpreadPasses", "LayerCases", "MoE", "MoECore",
        "TestSupport",
      ],
      swiftSettings: swiftSettings),
    .executableTarget(
      name: "moe-mpi-probe",
      dependencies: [
        "ExpertParallel", "CommunicatorProperties", "SpreadPasses", "LayerCases", "MoE", "MoECore",
      ],
      path: "Tests/CommunicatorProbe", swiftSettings: swiftSettings),
    .executableTarget(
      name: "moe-documents", path: "Tests/Documents", exclude: ["rules.json"], swiftSettings: swiftSettings),
    // The examples that these tests compile import the library's modules.
    .testTarget(
      name: "DocumentsTests",
      dependencies: [
        "moe-documents", "MoE", "MoECore", "MoECheckpoints", "ExpertParallel", "MoETraining", "MoEPlan",
        "MoEReport", "MoERun", "MoEReference",
      ],
      swiftSettings: swiftSettings),
    .executableTarget(
      name: "moe-fuzz",
      dependencies: ["MoE", "MoECheckpoints", "MoECore", "MoEPlan", "MoEReport", "MoERun", "MoETraining"],
      path: "Tests/Fuzz", swiftSettings: swiftSettings),
  ],
  cLanguageStandard: .gnu17
)
