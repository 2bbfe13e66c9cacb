# The two commands of the README: `make demo` and `make test`. Each makes what it needs and works on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-slow lint types docs bench bench-rules clean

demo: .venv/.demo  ## find out, on real data, why a weight-merging transformer outputs duplicates
	@$(BIN)/pitprop diagnose model_merging || test $$? -eq 1

test: .venv/.dev lint  ## the fast suite
	$(BIN)/python -m pytest -m "not slow" -n 2

test-slow: .venv/.dev  ## statistics, whole cases, the notebook
	$(BIN)/python -m pytest -m slow -n 2

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: .venv/.dev
	$(BIN)/pyright

docs: .venv/.dev  ## build the site from the files' own docstrings
	$(BIN)/python docs/generate.py
	$(BIN)/zensical build --strict

bench: .venv/.dev  ## overhead of watching, of storing and of trials, side by side
	$(BIN)/python bench/overhead.py
	$(BIN)/python bench/trace_store.py
	$(BIN)/python bench/trials.py

bench-rules: .venv/.dev  ## score cards of the rules; ARGS="--only loss-spike", "--quick" or "--development"
	PYTHONPATH=bench $(BIN)/python -m score_cards $(ARGS)

clean:
	rm -rf .venv site runs

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml constraints.txt | .venv/bin/python
	@echo "making the environment in .venv (about a minute)"
	@$(PIP) --editable ".[cases]"
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	@echo "making the development environment in .venv (about two minutes)"
	@$(PIP) --editable ".[dev]"
	@touch $@ .venv/.demo
