# Everything a developer or a user of a checkout runs. Each target does its own set-up: .ci/setup installs what the machine lacks,
# .ci/rocksdb compiles RocksDB once into a cache, and .cargo/config.toml (git-ignored) points cargo at it, so that no later build, also a
# plain `cargo build`, compiles it again. Build products stay outside the checkout; the binary is linked to target/<profile>/redraft.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build run test check sim sim-selftest chaos fuzz soak bench capacity fmt prepare test-tools simulator

REDRAFT_CACHE ?= $(HOME)/.cache/redraft
CARGO_TARGET_DIR ?= $(REDRAFT_CACHE)/target
export REDRAFT_CACHE CARGO_TARGET_DIR
PYTHON := $(REDRAFT_CACHE)/venv/bin/python
# Every call of cargo names the whole workspace: a part of it would have other features, and compile its dependencies again.
# Tests with nodes run one at a time (`.config/nextest.toml`). cargo's own runner knows no groups, so there all tests do.
TEST_RUNNER = $(if $(shell cargo nextest --version 2>/dev/null),cargo nextest run --locked --workspace,cargo test --locked --workspace --all-targets --no-fail-fast -- --test-threads=1)

# Several checkouts may share the target directory, so each keeps its own name for the binary it built.
define link_binary
	@mkdir -p target/$(1)
	@[ $(CARGO_TARGET_DIR)/$(1)/redraft -ef target/$(1)/redraft ] \
		|| ln -f $(CARGO_TARGET_DIR)/$(1)/redraft target/$(1)/redraft 2>/dev/null \
		|| cp --remove-destination $(CARGO_TARGET_DIR)/$(1)/redraft target/$(1)/redraft
endef

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: prepare ## Build the optimised binary: target/release/redraft
	cargo build --locked --release --workspace --exclude redraft-simulator --bins
	$(call link_binary,release)
	@echo "built target/release/redraft"

run: build ## Build, and run a three-node cluster in the foreground on ports 7001 to 7003
	@exec target/release/redraft cluster start --foreground

test: prepare test-tools ## Run all tests: Rust's, then those of the client libraries
	cargo build --locked --workspace --all-targets
	$(call link_binary,debug)
	REDRAFT_BIN=$(CURDIR)/target/debug/redraft $(TEST_RUNNER)
	cargo test --locked --workspace --doc
	REDRAFT_BIN=$(CURDIR)/target/debug/redraft $(PYTHON) -m pytest tests-py

check: prepare ## Check format, lints, and that docs and tables agree; edits nothing
	@bash .ci/setup check
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo test --locked --workspace docs_are_current

# SEEDS=, SEED_FROM= and SEED= choose what is simulated.
SIMULATOR = $(CARGO_TARGET_DIR)/sim/redraft-simulator
sim: simulator ## Simulate clusters with faults: SEEDS=300 SEED_FROM=0, or SEED= for one and its story
	$(SIMULATOR) $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),300) --seed-from $(or $(SEED_FROM),0))

sim-selftest: simulator ## See that the simulator finds every planted bug
	$(SIMULATOR) --selftest --seeds $(or $(SEEDS),300)

chaos: build ## Deal all faults to a cluster of processes under load: MINUTES=5 SEED=
	REDRAFT_BIN=$(CURDIR)/target/release/redraft $(CARGO_TARGET_DIR)/release/chaos --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED))

soak: build simulator ## Run the long rings in chunks that add up: ROUNDS=1
	@bash .ci/setup redis
	REDRAFT_BIN=$(CURDIR)/target/release/redraft tests/soak $(or $(ROUNDS),1)

fuzz: prepare ## Fuzz what reads bytes from outside, FUZZ_SECONDS=60 per target
	@bash tests/fuzz/run

bench: build ## Compare speed with redis-server: QUICK=1 for a look, WRITE_DOCS=1 to show it in docs/benchmarks.md
	@bash .ci/setup redis
	REDRAFT_BIN=$(CURDIR)/target/release/redraft $(CARGO_TARGET_DIR)/release/bench $(if $(QUICK),--quick) $(if $(WRITE_DOCS),--write-docs)

capacity: build ## Measure dataset, stalls, scale and recovery, about an hour and 40 GiB: PART= for one, ARGS="--gib 2 ..."
	REDRAFT_BIN=$(CURDIR)/target/release/redraft $(CARGO_TARGET_DIR)/release/capacity $(PART) $(ARGS)

fmt: ## Format the code
	@bash .ci/setup check
	cargo fmt --all

simulator: prepare
	cargo build --locked --workspace --profile sim --bin redraft-simulator

# What every build needs: a C++ compiler, libclang, the compiled RocksDB, and cargo's pointer to it.
prepare:
	@bash .ci/setup build
	@bash .ci/cargo-config

# What the tests need besides: redis-cli and its like, Python's client libraries, a browser, and Prometheus.
test-tools:
	@bash .ci/setup redis metrics python browser
