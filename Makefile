# What one does with this repository; `make` lists it. Each target installs and builds what it needs, and only that: stamps
# below .venv remember what was done, and what changed since. Needs GNU make, Rust, a C compiler and a Python of at least 3.11.
#
#   .venv/.python ──▶ .venv/.build-tools ──▶ .venv/.core        the interpreter, maturin, the package with its core
#                 ├─▶ .venv/.check-tools                        what only the checks need
#                 └─▶ .venv/.installs                           the package was installed elsewhere, and worked

# The interpreter that .venv is made of; without one the first that fits (scripts/find-python).
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
CARGO ?= cargo

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# maturin and clippy must see the same interpreter, else each builds the bindings again.
export PYO3_PYTHON := $(abspath $(BIN)/python)
# With --cfg loom everything is built anew; a folder of its own keeps that from taking the place of the other builds.
LOOM_TARGET := target/loom

# The core's tests run optimised, but are not linked as slowly as what is shipped, and check their own arithmetic.
TESTED := CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
	CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true

# The link finds libzmq where pyzmq has it; its tests have no Python to ask.
WITH_LIBZMQ = RAINBAND_LIBZMQ=$$($(BIN)/python scripts/find-libzmq)

# How many times its usual cases `make fuzz` runs, and how many seeds `make simulate`.
CASES ?= 200
SEEDS ?= 10000

# How many processes `make chaos` kills.
KILLS ?= 1000

RUST_SOURCES := $(shell find rust -name '*.rs' -o -name Cargo.toml)
CORE_INPUTS := pyproject.toml Cargo.toml Cargo.lock $(RUST_SOURCES)
# Modules are packed whatever they are called; what else lies beside them might be forgotten.
PACKAGE_DATA := $(shell find python -type f -not -name '*.py' -not -name '*.pyc' -not -name '*.so')

.DEFAULT_GOAL := help
.PHONY: help demo chaos test check-rust test-core test-faults simulate fuzz test-loom test-link figures-link check-python test-python test-install bench wheel docs clean
.DELETE_ON_ERROR:

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  PYTHON=python3.12 make …   chooses the interpreter of a new .venv"

demo: $(VENV)/.core ## Build everything and count the words of Python's standard library
	$(BIN)/rainband run topologies/wordcount.yaml

test: check-python check-rust test-core test-faults test-loom test-link test-install test-python ## Run every check (about 5 minutes from nothing)

check-rust: $(VENV)/.python ## Format and lints of the Rust code
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --workspace --all-targets --quiet -- -D warnings

test-core: ## Unit, property and documentation tests of the core
	$(TESTED) $(CARGO) test --locked --release --package rainband-core --quiet

test-faults: ## Faults planted in the core: each must be found
	$(TESTED) $(CARGO) test --locked --release --package rainband-core --quiet --features fault --test faults

simulate: ## Several workers under faults and deaths, SEEDS=10000 runs; RAINBAND_SEED=… shows one
	RAINBAND_SEEDS=$(SEEDS) $(TESTED) $(CARGO) test --locked --release --package rainband-core --quiet --test simulate -- --nocapture

fuzz: ## 10 million damaged frames for the decoder (CASES=200 times 50,000)
	RAINBAND_CASES=$(CASES) $(TESTED) $(CARGO) test --locked --release --package rainband-core --quiet --test decoder -- --nocapture

test-loom: ## The queue under every order of its threads
	$(TESTED) RUSTFLAGS="--cfg loom" $(CARGO) test --locked --release --package rainband-core --quiet --target-dir $(LOOM_TARGET) --test loom_queue

test-link: $(VENV)/.core ## Sockets, the I/O thread and the watch on the parent, with the libzmq of pyzmq
	$(WITH_LIBZMQ) $(TESTED) $(CARGO) test --locked --release --package rainband-link --quiet

figures-link: $(VENV)/.core ## Measure the link between workers (about a minute)
	$(WITH_LIBZMQ) $(CARGO) test --locked --release --package rainband-link --quiet --test link -- figures --ignored --nocapture

chaos: $(VENV)/.core $(VENV)/.check-tools ## Every fault test, and KILLS=1000 kills of workers and supervisors (about 20 minutes)
	$(BIN)/python -m pytest -m 'chaos or not chaos' tests/cluster/chaos
	$(BIN)/python tests/cluster/chaos/long.py --kills $(KILLS)

check-python: $(VENV)/.core $(VENV)/.check-tools ## Format, lints and types of the Python code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict python tests
	$(BIN)/mypy --strict topologies

test-python: $(VENV)/.core $(VENV)/.check-tools ## Tests of the Python code, topologies, stub, schema and documents
	$(BIN)/python -m pytest

test-install: $(VENV)/.installs ## `pip install .` in an empty environment gives a working command

bench: $(VENV)/.core $(VENV)/.check-tools ## Measure (about 14 minutes); benches/README.md has earlier results
	$(BIN)/python benches/run.py

wheel: $(VENV)/.build-tools ## Build dist/*.whl for the interpreter of .venv
	$(BIN)/maturin build --release --locked --interpreter $(BIN)/python --out dist

docs: $(VENV)/.core ## Write the generated documents: settings and JSON Schema
	$(BIN)/python scripts/generate-docs

clean: ## Remove what was built and installed here
	$(CARGO) clean --quiet
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find python tests topologies -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f python/rainband/_core.*.so

# -- stamps --------------------------------------------------------------------------------------------------------

$(VENV)/.python:
	@python=$$(PYTHON='$(PYTHON)' scripts/find-python) && echo "$$python -m venv $(VENV)" && "$$python" -m venv $(VENV)
	@touch $@

$(VENV)/.build-tools: $(VENV)/.python requirements-build.txt constraints.txt
	@scripts/check-tools
	$(PIP_INSTALL) --requirement requirements-build.txt
	@touch $@

$(VENV)/.check-tools: $(VENV)/.python requirements-dev.txt constraints.txt
	$(PIP_INSTALL) --requirement requirements-dev.txt
	@touch $@

# Installed in place: a change of a .py file needs no new installation.
$(VENV)/.core: $(VENV)/.build-tools $(CORE_INPUTS)
	VIRTUAL_ENV=$(abspath $(VENV)) PIP_CONSTRAINT=$(abspath constraints.txt) PIP_DISABLE_PIP_VERSION_CHECK=1 \
		$(BIN)/maturin develop --release --locked
	@touch $@

$(VENV)/.installs: $(VENV)/.python $(CORE_INPUTS) $(PACKAGE_DATA) README.md scripts/check-install
	scripts/check-install $(BIN)/python
	@touch $@
