// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that nobody who depends on the library fetches what only its measurement needs.
// `strictMemorySafety` is left out: a bench talks to the C kernels directly, and every line would say `unsafe`.
let package = Package(
  name: "moe-bench",
  traits: [.trait(name: "MPI", description: "moe-bench exchange, by Open MPI (libopenmpi-dev)")],
  dependencies: [
    .package(
      name: "swift-moe", path: "..", traits: [.trait(name: "MPI", condition: .when(traits: ["MPI"]))]),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
  ],
  targets: [
    .systemLibrary(
      name: "CSystemMPI", path: "Sources/CSystemMPI", pkgConfig: "ompi-c",
      providers: [.apt(["libopenmpi-dev"])]
    ),
    .systemLibrary(
      name: "CSystemBLAS", path: "Sources/CSystemBLAS", providers: [.apt(["libopenblas-dev"])]),
    .target(
      name: "CBlockingAllToAll",
      dependencies: [.target(name: "CSystemMPI", condition: .when(traits: ["MPI"]))],
      cSettings: [.define("MOE_MPI", .when(traits: ["MPI"]))]),
    .executableTarget(
      name: "moe-bench",
      dependencies: [
        "CBlockingAllToAll", "CSystemBLAS",
        .product(name: "ExpertParallel", package: "swift-moe"),
        .product(name: "MoE", package: "swift-moe"),
        .product(name: "MoETraining", package: "swift-moe"),
        .product(name: "MoEReport", package: "swift-moe"),
        .product(name: "MoERun", package: "swift-moe"),
        .product(name: "CKernels", package: "swift-moe"),
        .product(name: "MoEReference", package: "swift-moe"),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: [
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
      ]),
  ]
)
