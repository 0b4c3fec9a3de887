#!/usr/bin/env bash
# Builds a package that depends on this one by version tag, with plain `swift build`, and runs the seed example in
# it: no flag of ours may be unsafe, and the kernels must find their threads.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

git -c advice.detachedHead=false clone -q "$root" "$work/swift-moe"
git -C "$work/swift-moe" -c user.name=test -c user.email=test@localhost tag -f 1.0.0 >/dev/null
mkdir -p "$work/client/Sources/client"
cp "$root/Examples/SeedExample/main.swift" "$work/client/Sources/client/main.swift"
cat >> "$work/client/Sources/client/main.swift" <<'SWIFT'
print("threads \(try Execution.automatic().threadCount)")
SWIFT
cat > "$work/client/Package.swift" <<SWIFT
// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "client",
  dependencies: [.package(url: "file://$work/swift-moe", from: "1.0.0")],
  targets: [.executableTarget(name: "client", dependencies: [.product(name: "MoE", package: "swift-moe")])])
SWIFT

swift build --package-path "$work/client" 2>&1 | tee "$work/log" | tail -1
if grep -q "warning:" "$work/log"; then
  grep "warning:" "$work/log"
  exit 1
fi
"$work/client/.build/debug/client" | tee "$work/output"
grep -q "output \[4, 16, 512\]" "$work/output"
grep -q "threads ${OMP_NUM_THREADS:-$(nproc)}$" "$work/output"
