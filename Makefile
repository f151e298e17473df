# Everything Remit needs, from a clean clone: python3 (3.11 or newer, with venv), git and make.
# `make` alone prints this list.

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install run test test-agents check verify generate lock lock-peers bench bench-peers soak screenshots docs clean

help: ## print what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk 'BEGIN {FS = ":.*## "} {printf "  %-11s %s\n", $$1, $$2}'

install: $(STAMP) ## make .venv with everything in it (.venv/bin/remit)

$(STAMP): requirements.lock bootstrap.lock pyproject.toml client/pyproject.toml
	@sh tests/packaging/preflight.sh $(PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install --require-hashes -r bootstrap.lock
	@$(BIN)/uv pip sync --quiet --require-hashes --python $(BIN)/python requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e client -e .
	@touch $(STAMP)

run: install ## start the engine on a demo repository under .remit/ and watch it work (Ctrl-C ends it)
	@$(BIN)/remit run --demo

test: install ## lint, types, and every test
	@$(MAKE) --no-print-directory check
	@$(BIN)/python -m pytest -n 3 --dist loadgroup

check: install ## ruff, mypy strict, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

verify: install ## regenerate what is generated and fail if the tree is then dirty
	@$(MAKE) --no-print-directory generate
	@git diff --exit-code -- docs/reference schemas/generated manifests/crds || { echo "generated files are out of date: commit the result of 'make generate'" >&2; exit 1; }

generate: install ## rewrite the generated files (kind reference, JSON Schema)
	@$(BIN)/python -m cli.generate

lock: install ## resolve the dependencies again into requirements.lock, and those of an image into requirements-run.lock
	@$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-package remit-client -o requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --extra kubernetes --extra mcp --extra notify --extra postgres --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-package remit-client -c requirements.lock -o requirements-run.lock

bench: install ## run the benchmarks of tests/bench (ratios, never part of the tests); JSON=file writes them there
	@$(BIN)/python -m tests.bench $(if $(JSON),--json "$(JSON)")

bench-peers: install .peers/.installed ## compare the work engine with other queues (they are kept in .peers); PEERS="huey dbos" picks some
	@$(BIN)/python -m tests.bench.peers $(PEERS)

.peers/.installed: tests/bench/peers/requirements.lock
	@test -x .peers/bin/python || $(PYTHON) -m venv --without-pip .peers
	@$(BIN)/uv pip sync --quiet --require-hashes --python .peers/bin/python tests/bench/peers/requirements.lock
	@touch .peers/.installed

lock-peers: install ## resolve the queues that bench-peers compares with again
	@$(BIN)/uv pip compile tests/bench/peers/requirements.in --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -o tests/bench/peers/requirements.lock

test-agents: install ## try real coding agents from npm before the gate (they are kept in .agents)
	@$(BIN)/python -m tests.agents
	@$(BIN)/python -m pytest tests/agents/check_hooks.py tests/agents/check_plugins.py -q -p no:cacheprovider -rs

SEEDS ?= 1000
MISSIONS ?= 2000
DAYS ?= 7
soak: install ## play SEEDS=N seeds of the simulation; let a fleet work for DAYS=N; try new examples; kill two engines while they do MISSIONS=N
	@$(BIN)/python -m tests.simulation.soak --seeds $(SEEDS)
	@$(BIN)/python -m tests.simulation.week --days $(DAYS)
	@REMIT_NEW_EXAMPLES=1 $(BIN)/python -m pytest tests/property -q -p no:cacheprovider
	@REMIT_TEST_PLAIN=1 REMIT_TEST_MISSIONS=$(MISSIONS) $(BIN)/python -m pytest tests/e2e/test_two_engines.py -q -p no:cacheprovider

screenshots: install ## take the pictures of the dashboard in docs/images (needs Chromium)
	@$(BIN)/python -m tests.fakes.pictures docs/images

docs: generate ## rebuild the generated pages of docs/

clean: ## remove the environment and every cache (the .remit/ state stays)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
