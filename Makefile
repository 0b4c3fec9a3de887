# Every target is a line or two that make echoes. `make demo` and `make test` install what they need.
SHELL := /bin/bash
# The last one has the C headers that `make portable` compiles the kernels against.
PACKAGES := libomp-dev libopenblas-dev libc6-dev-arm64-cross
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
MOE := .build/release/moe
SITE := site

.PHONY: setup demo test downstream portable bench fuzz sanitize tsan format lint docs clean

# Debian packages, once: quiet when all are there.
setup:
	@dpkg -s $(PACKAGES) >/dev/null 2>&1 || \
	  { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends $(PACKAGES); }

# The main job on real input: every committed checkpoint, then one large layer stage by stage.
demo: setup
	swift build -c release
	swift build -c release --package-path bench
	$(MOE) info
	.build/release/seed-example
	$(MOE) apply Tests/Fixtures/mixtral --layer 1 --input Tests/Fixtures/mixtral/expected.safetensors \
	  --tensor layers.1.input --output .build/demo.safetensors
	$(MOE) check --fixtures Tests/Fixtures
	bench/.build/release/moe-bench layer --shape S2 --dtype f32,bf16 --tokens 2048

test: setup
	swift build --build-tests -c release
	swift test -c release --skip-build
	$(MAKE) --no-print-directory portable downstream

# A package that depends on this one by version builds with plain `swift build` and uses all cores.
downstream: setup
	Tests/Downstream/check.sh

# Every kernel compiles for a machine without x86 intrinsics.
portable:
	for kernel in CKernels/*.c CKernels/isa/*.c; do \
	  clang -target aarch64-linux-gnu -fsyntax-only -Wall -Werror -std=gnu17 -isystem /usr/aarch64-linux-gnu/include $$kernel || exit 1; done

bench: setup
	swift build -c release --package-path bench
	bench/.build/release/moe-bench kernels
	bench/.build/release/moe-bench layer --shape S2 --tokens 1,16,512,2048

# 100 000 damaged checkpoints through the readers.
fuzz: setup
	swift run -c release moe-fuzz --count 100000 Tests/Fixtures

format:
	swift format -i -r Package.swift Sources Tests Examples bench/Package.swift bench/Sources
	clang-format-19 -i CKernels/*.[ch] CKernels/isa/*.[ch] CKernels/include/*.h

lint:
	swift format lint -r --strict Package.swift Sources Tests Examples bench/Package.swift bench/Sources
	clang-format-19 --dry-run -Werror CKernels/*.[ch] CKernels/isa/*.[ch] CKernels/include/*.h

docs: setup
	swift package --allow-writing-to-directory $(SITE) generate-documentation --target MoE --disable-indexing \
	  --transform-for-static-hosting --hosting-base-path swift-moe --output-path $(SITE)

clean:
	rm -rf .build .build-* bench/.build $(SITE)
