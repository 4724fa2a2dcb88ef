# Everything a newcomer needs: `make demo` and `make test`. Both set up .venv first.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready
export HF_HUB_OFFLINE ?= 1
export PYTHONUNBUFFERED := 1
# Test workers share the cores: tests/conftest.py gives each one thread.
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)
XDIST := -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-medium test-slow check format trl-ppo clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## create .venv with the pinned packages and the project itself

$(STAMP): pyproject.toml constraints.txt
	@echo "== setting up .venv (the first time takes a few minutes) =="
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP) ## run the whole loop on the embedded world (about 5 minutes)
	@echo "== sft -> reward -> dpo -> evaluate -> ppo -> evaluate on the embedded world =="
	$(BIN)/python -m align stage=pipeline

check: $(STAMP) ## style, types and the fast tests
	@echo "== ruff =="
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@echo "== mypy (strict) =="
	$(BIN)/mypy
	@echo "== fast tests =="
	$(BIN)/pytest $(XDIST) -q -m "not slow and not medium and not realdata"

test: $(STAMP) ## all tests but the long ones
	@echo "== tests =="
	$(BIN)/pytest $(XDIST) -q -m "not slow"

test-medium: $(STAMP) ## of these, the ones that `make check` leaves out
	@echo "== tests of real models and real runs =="
	$(BIN)/pytest $(XDIST) -q -m "(medium or realdata) and not slow"

test-slow: $(STAMP) ## the long tests: kills, whole pipelines
	@echo "== long tests =="
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -q -m slow

trl-ppo: $(STAMP) ## put trl 1.12.0, the last with PPO, beside .venv for experiments/speed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .trl-1.12 trl==1.12.0

format: $(STAMP) ## let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove .venv, .trl-1.12 and caches (runs/ stays)
	rm -rf .venv .trl-1.12 .mypy_cache .ruff_cache .pytest_cache .hypothesis
