# A thin front for CMake and the scripts: each target does all that it needs, on a fresh machine too.

BUILD   ?= build
PREFIX  ?= /usr/local
WERROR  ?= OFF
JOBS    ?= $(shell nproc)
MINUTES ?= 60
KILLS   ?= 100
TRACE   ?= $(BUILD)/demo.moetrace

# A preloaded library's path has no space in it: what runs programs does not work where ours has one.
ifneq ($(words $(abspath $(BUILD)x)),1)
    ifneq ($(filter-out all install clean help,$(or $(MAKECMDGOALS),all)),)
        $(error the path of this checkout, or of BUILD, has a space in it. `make` and `make install` work there, \
            but not what traces programs, as LD_PRELOAD cannot name a library in such a folder: move it)
    endif
endif

.DEFAULT_GOAL := all
.PHONY: all engine engines models models-full demo demo-live check test test-in-tree configure-tests bench privacy \
        soak fuzz train model-card engine-table screenshot live-picture picture-of-top install clean help

all: ## build the library and the command
	@scripts/install-deps.sh build
	@scripts/fetch-plotting.sh "$(BUILD)/plotting" || true # it says what is missing then
	@cmake -S . -B "$(BUILD)" -DCMAKE_INSTALL_PREFIX="$(PREFIX)" -DEXPERT_TRACER_WERROR=$(WERROR) >/dev/null
	@cmake --build "$(BUILD)" -j $(JOBS) -- --no-print-directory --quiet

engine: ## put stock llama.cpp programs into build/engine/bin (LLAMA_CPP_BIN=DIR: your own)
	@scripts/fetch-engine.sh $(BUILD)/engine

engines: engine ## and the older releases into build/engines
	@scripts/install-deps.sh test
	@scripts/fetch-old-engines.sh $(BUILD)/engines

models: all ## write the models whose routing is known on paper
	@cmake -S . -B $(BUILD) -DEXPERT_TRACER_MODELS=ON >/dev/null
	@cmake --build $(BUILD) -j $(JOBS) --target models -- --no-print-directory --quiet

models-full: models ## and models of published size, sparse files of 223 MB together
	@cmake --build $(BUILD) -j $(JOBS) --target models-full -- --no-print-directory --quiet

demo: engine all ## trace llama-cli and show what it did
	@BUILD=$(BUILD) scripts/demo.sh

demo-live: engine all ## watch a llama-server while it answers, in the terminal and as a page
	@BUILD=$(BUILD) scripts/demo-live.sh

configure-tests: engines models-full
	@scripts/fetch-source.sh $(BUILD)/llama.cpp-0.5.0
	@cmake -S . -B $(BUILD) -DEXPERT_TRACER_TESTS=ON -DEXPERT_TRACER_EXAMPLES=ON \
	    -DLLAMA_CPP_DIR=$(abspath $(BUILD))/llama.cpp-0.5.0 \
	    -DLLAMA_CPP_LIB_DIR=$(abspath $(BUILD))/engines/0.5.0/lib >/dev/null
	@cmake --build $(BUILD) -j $(JOBS) -- --no-print-directory --quiet

# Without an engine and without the network. With sanitizers in a build folder of its own. Twice as many tests as
# processors: some wait more than they compute.
CHECK_BUILD = $(BUILD)$(if $(SANITIZE),/check-$(subst $(COMMA),-,$(SANITIZE)))
COMMA      := ,

check: ## run what needs no engine and no network, in a minute (SANITIZE=address,undefined or thread)
	@scripts/install-deps.sh check
	@cmake -S . -B $(CHECK_BUILD) -DEXPERT_TRACER_TESTS=ON -DEXPERT_TRACER_WERROR=$(WERROR) \
		-DEXPERT_TRACER_SANITIZE="$(SANITIZE)" >/dev/null
	@cmake --build $(CHECK_BUILD) -j $(JOBS) -- --no-print-directory --quiet
	@ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0 \
		ctest --test-dir $(CHECK_BUILD) -L check --output-on-failure --timeout 300 -j $$((2 * $(JOBS))) \
		--quiet -O $(CHECK_BUILD)/check.log || { cat $(CHECK_BUILD)/check.log; exit 1; }
	@tail -n 3 $(CHECK_BUILD)/check.log | grep 'Total Test time' | sed 's/^/check: passed. /'

test: configure-tests ## run all tests on stock programs and old releases
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS) --timeout 300

test-in-tree: configure-tests ## build llama.cpp with the tracer in it, and test that alone
	@ctest --test-dir $(BUILD) --output-on-failure -R in-tree

bench: engine models-full ## measure what tracing costs, 25 minutes (BENCH=--quick: 5; BENCH=--help: more)
	@scripts/install-deps.sh bench
	@cmake -S . -B $(BUILD) -DEXPERT_TRACER_BENCH=ON >/dev/null
	@cmake --build $(BUILD) -j $(JOBS) --target bench-client bench-analysis expand-experts -- \
		--no-print-directory --quiet
	@BUILD=$(BUILD) PYTHONDONTWRITEBYTECODE=1 python3 bench/overhead.py $(BENCH)

privacy: engine all ## measure what a trace, statistics and a shared trace give away, 15 minutes (PRIVACY=--help: more)
	@scripts/install-deps.sh privacy
	@scripts/fetch-source.sh $(BUILD)/llama.cpp-0.5.0
	@python=python3; $$python -c 'import numpy' 2>/dev/null || python=/usr/bin/python3; \
	    BUILD=$(BUILD) PYTHONDONTWRITEBYTECODE=1 $$python bench/privacy.py $(PRIVACY)

soak: engines models ## run what takes hours: a busy server and its page (MINUTES=60), kills (KILLS=100), ...
	@scripts/install-deps.sh test
	@BUILD=$(BUILD) PYTHONDONTWRITEBYTECODE=1 python3 bench/soak.py --minutes $(MINUTES)
	@EXPERT_TRACER_BUILD=$(abspath $(BUILD)) PYTHONDONTWRITEBYTECODE=1 \
		python3 bench/soak-restarts.py --kills $(KILLS)
	@BUILD=$(BUILD) PYTHONDONTWRITEBYTECODE=1 python3 bench/soak-page.py --minutes $(MINUTES)
	@for test in memory endings live attach attach_programs; do \
		EXPERT_TRACER_SOAK=1 EXPERT_TRACER_BUILD=$(abspath $(BUILD)) PYTHONDONTWRITEBYTECODE=1 \
			python3 tests/engine/test_$$test.py || exit 1; \
	done
	@EXPERT_TRACER_SOAK=1 EXPERT_TRACER_CLI=$(abspath $(BUILD))/llama-expert-tracer \
		python3 tests/cli/test_cli.py BadInput Check.test_damaged_programs
	@EXPERT_TRACER_SOAK=1 EXPERT_TRACER_BUILD=$(abspath $(BUILD)) python3 tests/inject/test_inject.py Killed Library

FUZZERS = trace statistics gguf elf remote-object tree settings live-request live-memory

fuzz: configure-tests ## run every fuzzer for an hour (MINUTES=60), side by side at low priority
	@cd $(BUILD)/tests/fuzz && for name in $(FUZZERS); do \
		seeds=seeds/$$name; [ $$name != trace ] || seeds=$(CURDIR)/tests/fuzz/corpus; \
		nice ./fuzz-$$name -max_total_time=$$(($(MINUTES) * 60)) -max_len=16384 -timeout=60 \
			-print_final_stats=1 -artifact_prefix=./ \
			found-$$name $$seeds >log-$$name 2>&1 & running="$$running $$!"; \
	done; \
	for pid in $$running; do wait $$pid || failed=1; done; \
	for name in $(FUZZERS); do \
		echo "$$name: $$(grep -a 'number_of_executed_units' log-$$name || tail -n 3 log-$$name)"; \
	done; [ -z "$$failed" ]

train: engine ## train the small model, or go on with that, an hour on two cores (TRAIN="--steps 100")
	@scripts/install-deps.sh train
	@BUILD=$(BUILD) scripts/train.sh $(TRAIN)

model-card: engine ## print the numbers of models/babel-11m.md
	@scripts/install-deps.sh train
	@BUILD=$(BUILD) scripts/train.sh --card

engine-table: engines models ## try one binary on every release, print the table
	@python3 scripts/engine-table.py

picture-of-top: all ## make docs/top.png, of top on a stock llama-server with the small model
	@scripts/install-deps.sh picture
	@BUILD=$(BUILD) scripts/picture-of-top.sh

screenshot: all ## make docs/report.png, of a report on TRACE (default: the demo's)
	@scripts/install-deps.sh test
	@BUILD=$(BUILD) scripts/screenshot.sh $(TRACE)

live-picture: engine all ## make docs/live.png, of the live page beside a llama-server
	@scripts/install-deps.sh test
	@BUILD=$(BUILD) PYTHONDONTWRITEBYTECODE=1 python3 scripts/picture-of-live-page.py

install: all ## install to PREFIX (default /usr/local), below DESTDIR
	@cmake --install "$(BUILD)" --prefix "$(PREFIX)"

clean: ## remove what was built; engines and models stay
	@[ ! -f "$(BUILD)/Makefile" ] || cmake --build "$(BUILD)" --target clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14
