# Every target makes the environment it needs in .venv, from the hash-locked files in requirements/.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
# The tests mostly wait for servers and processes, so four workers pay off on two cores. 0: one after the other.
WORKERS ?= 4
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---------------------------------------------------------------- environments

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "remediator needs Python 3.11 or newer: install it, or make PYTHON=/path/to/python3.12"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "remediator needs Python 3.11 or newer; $(PYTHON) is $$("$(PYTHON)" -V 2>&1): make PYTHON=/path/to/python3.12"; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }

# The lock decides what is installed; the project itself is built with what the lock brought.
$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(BIN)/python
	@echo "making the environment in $(VENV) (a minute or two, once)"
	@$(INSTALL) --require-hashes -r requirements/demo.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "making the environment for development in $(VENV) (a few minutes, once)"
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.demo

.PHONY: install
install: $(VENV)/.demo  ## the environment with a working .venv/bin/remediator

# ---------------------------------------------------------------- use

.PHONY: demo
demo: $(VENV)/.demo  ## the main job on real parts, in under a minute (KEEP=1: stays up)
	@KEEP="$(KEEP)" $(BIN)/python -m demo

.PHONY: run
run: $(VENV)/.demo  ## the daemon on http://127.0.0.1:8080, with settings of its own in .run/
	@test -f .run/remediator.yaml || (mkdir -p .run && cd .run && ../$(BIN)/remediator init)
	@cd .run && exec ../$(BIN)/remediator serve --config remediator.yaml

# ---------------------------------------------------------------- develop

.PHONY: test
test: $(VENV)/.dev  ## all tests, on real servers (ARGS="-k name")
	@.ci/servers
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: simulate
simulate: $(VENV)/.dev  ## random histories on virtual time against the invariants (SECONDS=60 FIRST=n SEEDS=n)
	@$(BIN)/python -m tests.simulation run --first $(or $(FIRST),$(shell date +%s)) \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEEDS),--seeds $(SEEDS))

.PHONY: lint
lint: $(VENV)/.dev  ## style, types, layers, policies, lock files
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/yamllint --strict .
	@.ci/policies $(BIN)
	@.ci/locks

.PHONY: format
format: $(VENV)/.dev  ## rewrite the code in the project's format
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

.PHONY: docs
docs: $(VENV)/.dev  ## write the generated reference pages and check every example and link
	@$(BIN)/python -m docs.generate
	@$(BIN)/python -m pytest -q tests/test_docs.py

.PHONY: bench
bench: $(VENV)/.dev  ## measure, print the table and keep it in docs/performance.md
	@$(BIN)/python -m bench

SEED ?=
STORE ?= both
ALERTS ?= 1000
KILLS ?= 50
CONTROLS ?=

.PHONY: crash
crash: $(VENV)/.dev  ## kill and stop real daemons under load on both stores, and judge (SEED= STORE= ALERTS= KILLS= CONTROLS=1)
	@$(BIN)/python -m tests.crash --store $(STORE) --alerts $(ALERTS) --kills $(KILLS) \
		$(if $(SEED),--seed $(SEED)) $(if $(CONTROLS),--controls)

.PHONY: image
image: $(VENV)/.dev  ## build the image and run the try-out with it; as root, with podman (BASE=pull)
	@.ci/servers
	@BASE=$(BASE) $(BIN)/python -m tests.deploy.built

.PHONY: lock
lock: $(VENV)/.dev  ## newest versions into requirements/
	@.ci/lock $(BIN)/uv

.PHONY: clean
clean:  ## remove the environment and everything made by these targets
	@rm -rf $(VENV) .run .image .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist ./*.egg-info
