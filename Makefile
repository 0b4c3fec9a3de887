# Every target is a line or two that make echoes. `make demo` and `make test` install what they need.
SHELL := /bin/bash
# The cross headers are what `make portable` compiles the kernels against; the browser looks at reports in the tests;
# the fortunes are the demo's text in seven languages.
PACKAGES := libomp-dev libopenblas-dev libopenmpi-dev openmpi-bin iproute2 libc6-dev-arm64-cross chromium fonts-dejavu-core \
  fortunes fortunes-de fortunes-es fortunes-it fortunes-pl fortunes-cs fortunes-ru
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
MOE := .build/release/moe
# The bench is a package of its own, built in our folder so that what both need is compiled once. Without the flag, SwiftPM
# would reuse the plan of our own package that it finds there.
BENCH := swift build -c release --package-path bench --scratch-path .build --disable-build-manifest-caching
SITE := site
# Every folder of the kernels, however deep.
KERNELS := $(sort $(shell find CKernels -name '*.c'))
KERNEL_HEADERS := $(sort $(shell find CKernels -name '*.h'))
DOCUMENTED := MoE MoECore MoECheckpoints ExpertParallel MoETraining MoERun MoEPlan MoEReport MoEReference
SHIM := $(foreach shim,Sources/CCommunicator bench/Sources/CBlockingAllToAll,$(shim)/*.c $(shim)/include/*.h)
FORTUNES := /usr/share/games/fortunes
ENGLISH := literature people politics wisdom science computers humorists work definitions cookie
TEXT := $(foreach l,de es it pl cs ru,$l=$(FORTUNES)/$l) $(foreach f,$(ENGLISH),en=$(FORTUNES)/$f)
# About a minute for each of the two models on two cores: 560 steps of 4096 bytes.
TRAIN := --text $(TEXT) --hidden 128 --ffn 512 --context 128 --batch 32 --steps 560 --learning-rate 0.003
RUNS := runs

.PHONY: setup demo test mpi-test downstream portable bench fuzz sanitize tsan format lint docs results tree rules clean
ASAN := -c release --sanitize=address -Xcc -fsanitize=undefined -Xcc -fno-sanitize-recover=undefined --scratch-path .build-asan
TSAN := -c release --sanitize=thread --scratch-path .build-tsan
MPI := -c release --traits MPI --scratch-path .build-mpi
ARCHER := /usr/lib/llvm-14/lib/libarcher.so

# Debian packages, once: quiet when all are there.
setup:
	@dpkg -s $(PACKAGES) >/dev/null 2>&1 || \
	  { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends $(PACKAGES); }

# The main jobs on real input: every committed checkpoint, and one of them over four ranks with the same bytes; a plan of a
# cluster; one large layer stage by stage; then a language model with eight experts, trained on seven languages beside the
# dense one of equal FLOPs and steps, and the report of both.
demo: setup
	swift build -c release --product seed-example
	swift build -c release --product moe
	.build/release/seed-example
	$(MOE) info
	$(MOE) apply Tests/Fixtures/mixtral --layer 1 --input Tests/Fixtures/mixtral/expected.safetensors \
	  --tensor layers.1.input --output .build/demo.safetensors
	$(MOE) apply Tests/Fixtures/mixtral --layer 1 --input Tests/Fixtures/mixtral/expected.safetensors \
	  --tensor layers.1.input --output .build/demo-ranks.safetensors --ranks 4
	cmp .build/demo.safetensors .build/demo-ranks.safetensors
	$(MOE) check --fixtures Tests/Fixtures
	$(MOE) plan --experts 64 --hidden 1024 --ffn 512 --layers 16 --hosts 4 --ranks-per-host 2 --link 10gbit:50us \
	  --flops 250G --memory 32GiB --svg .build/plan.svg
	$(BENCH)
	.build/release/moe-bench layer --shape S2 --dtype f32,bf16 --tokens 2048
	rm -rf $(RUNS)/switch $(RUNS)/dense && mkdir -p $(RUNS)
	$(MOE) train $(TRAIN) --preset switch --out $(RUNS)/switch
	$(MOE) train $(TRAIN) --preset dense --out $(RUNS)/dense
	$(MOE) generate $(RUNS)/switch --prompt "Der Mensch " --bytes 300
	$(MOE) report $(RUNS)/switch $(RUNS)/dense

test: setup
	swift build --build-tests -c release
	swift test -c release --skip-build
	.build/release/moe-fuzz --count 2000 --documents 2000 --calls 60 --moe $(MOE) Tests/Fixtures
	$(MAKE) --no-print-directory portable mpi-test downstream

# Ranks as processes of Open MPI: properties and layers with the bits of threads, the bytes they put on the wire, and what
# the others say of a rank that is late, dies or is cut off. Several hosts are network namespaces, which take root.
mpi-test: setup
	swift build $(MPI)
	Tests/MPI/check.sh .build-mpi/release
	Tests/MPI/train.sh .build-mpi/release/moe $(FORTUNES)/de
	Tests/MPI/hosts.sh .build-mpi/release

# A package that depends on this one by version builds with plain `swift build` and uses all cores.
downstream: setup
	Tests/Downstream/check.sh

# Every kernel compiles for a machine without x86 intrinsics.
portable:
	for kernel in $(KERNELS); do \
	  clang -target aarch64-linux-gnu -fsyntax-only -Wall -Werror -std=gnu17 -isystem /usr/aarch64-linux-gnu/include $$kernel || exit 1; done

bench: setup
	$(BENCH)
	.build/release/moe-bench kernels
	.build/release/moe-bench layer --shape S2 --tokens 1,16,512,2048

# 100 000 damaged checkpoints and as many documents through the readers, and 3000 calls with damaged options.
fuzz: setup
	swift build -c release
	.build/release/moe-fuzz --count 100000 --documents 100000 --calls 3000 --moe $(MOE) Tests/Fixtures

# Kernels, layers over ranks and readers under the address and undefined-behaviour sanitizers. XCTest leaks of itself, and libomp keeps its
# teams until exit; idle threads wait, because two cores have no time for spinning.
sanitize: setup
	swift build --build-tests $(ASAN)
	LSAN_OPTIONS=suppressions=Tests/leaks.supp OMP_WAIT_POLICY=passive swift test --skip-build --disable-xctest \
	  --no-parallel $(ASAN) --filter "^(MoETests|ExpertParallelTests|MoECheckpointsTests)\\."

# The same under the thread sanitizer, which learns of OpenMP's joins from Archer.
tsan: setup
	swift build --build-tests $(TSAN)
	OMP_WAIT_POLICY=passive OMP_TOOL_LIBRARIES=$(ARCHER) \
	  TSAN_OPTIONS="ignore_noninstrumented_modules=1 report_thread_leaks=0" \
	  swift test --skip-build --disable-xctest --no-parallel $(TSAN) \
	  --filter "^(MoETests|ExpertParallelTests|MoECheckpointsTests)\\."

format:
	swift format -i -r Package.swift Sources Tests Examples bench/Package.swift bench/Sources
	clang-format-19 -i $(KERNELS) $(KERNEL_HEADERS) $(SHIM)

lint:
	swift format lint -r --strict Package.swift Sources Tests Examples bench/Package.swift bench/Sources
	clang-format-19 --dry-run -Werror $(KERNELS) $(KERNEL_HEADERS) $(SHIM)

# One site of all public modules; a link that leads nowhere is an error.
docs: setup
	swift package --allow-writing-to-directory $(SITE) generate-documentation $(DOCUMENTED:%=--target %) \
	  --enable-experimental-combined-documentation --warnings-as-errors --disable-indexing \
	  --transform-for-static-hosting --hosting-base-path swift-moe --output-path $(SITE)

# bench/RESULTS.md from bench/results, the folder tree of CONTRIBUTING, and the page of published rules from
# Tests/Documents/rules.json; `make test` checks all three.
results tree rules:
	swift run -c release moe-documents $@

clean:
	rm -rf .build .build-* $(SITE) $(RUNS)
