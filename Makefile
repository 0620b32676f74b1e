# make setup | demo | test | test-all | bench — all in one environment, .venv, from the lock file.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-all check bench lock

setup: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "hkbench needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup
	$(BIN)/hkbench search --space distill

# What CI runs: style, types, the direction of imports, then the tests that take under ten minutes together.
test: check
	$(BIN)/python -m pytest -m "not slow"

test-all: check
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m benchmarks

# Renews requirements.lock from pyproject.toml; needs uv. The newest torch that is known to install is held.
lock:
	printf 'torch==2.14.1\ntorchvision==0.29.1\n' > .lock-constraints
	uv pip compile --universal --python-version 3.11 pyproject.toml --group dev \
	  --constraint .lock-constraints --no-header --no-annotate --output-file requirements.lock
	rm .lock-constraints
