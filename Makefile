# One environment, .venv: `demo` creates it with the base install and the demo photos; the others add what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests of what most changes touch, in under a minute: equations, files, errors, architecture. `test` runs all.
CHECKED := tests/methods tests/io $(addprefix tests/test_,architecture.py errors.py format.py metrics.py plugins.py validation.py vectors.py)
# One process more than processors: the tests wait for other programs for a quarter of their time.
PROCESSES = $(shell $(BIN)/python -c 'import os; print(os.cpu_count() + 1)')
# Tests with more cases under TIP_ADAPTER_SOAK: more damage, more interruptions, more random examples.
SOAKED := tests/distributed tests/faults tests/features tests/methods tests/model/test_incremental.py tests/cli/test_teach_commands.py tests/test_metrics.py tests/io/test_files.py tests/test_vectors.py tests/serve
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo setup fix check test coverage docs bench mutants results soak
export NO_MKDOCS_2_WARNING := 1

demo: $(VENV)/.has-base
	$(BIN)/tip-adapter demo

setup: $(VENV)/.has-dev

# Formats, and fixes what ruff can fix.
fix: $(VENV)/.has-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: $(VENV)/.has-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest $(CHECKED) -m "not slow and not data" --quiet --numprocesses auto

test: $(VENV)/.has-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/mkdocs build --strict --quiet
	$(BIN)/pytest --numprocesses $(PROCESSES) --dist loadgroup

# The fast tests, and how much of the code they run. Not a part of `test`: measuring takes half as long again as the tests.
coverage: $(VENV)/.has-dev
	$(BIN)/pytest --numprocesses $(PROCESSES) --dist loadgroup -m "not slow and not data" --cov --cov-report=term:skip-covered

# The site in site/, from docs/ and the docstrings; a warning is an error.
docs: $(VENV)/.has-dev
	$(BIN)/mkdocs build --strict

# Writes docs/results/speed.json; run by hand, on an otherwise idle machine.
bench: $(VENV)/.has-dev
	$(BIN)/python -m benchmarks

# Writes docs/results/mutants.json: how many small changes of the code the tests notice. Takes ten minutes on two idle cores.
mutants: $(VENV)/.has-dev
	$(BIN)/python -m benchmarks.mutants
	$(BIN)/python -m benchmarks.render

# Measures what docs/results lacks, and renders its pages: hours on two idle cores; the same command resumes.
results: $(VENV)/.has-dev
	$(BIN)/python -m benchmarks.results

soak: $(VENV)/.has-dev
	TIP_ADAPTER_SOAK=1 $(BIN)/pytest $(SOAKED)

$(VENV)/.has-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "tip-adapter needs Python 3.11 or newer: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.has-base: $(VENV)/.has-python pyproject.toml constraints.txt
	$(PIP) --editable '.[demo]'
	@touch $@

# torch and torchvision in one command: pip must choose them together.
$(VENV)/.has-dev: $(VENV)/.has-python pyproject.toml constraints.txt tests/browser/package-lock.json
	$(PIP) --editable '.[dev]'
	if command -v npm >/dev/null; then npm ci --prefix tests/browser --ignore-scripts --silent; fi
	@touch $@ $(VENV)/.has-base
