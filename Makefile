# Everything here needs python3 (3.11 or later) and make; the rest installs itself into .venv on first use.

PYTHON ?= python3
PRESET ?= quick
FIGURES ?= figures
RUNS ?= runs
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# Tests that between them call every dependency, for `make test-oldest` and `make test-newest`.
ESSENTIALS := tests/core tests/data tests/test_losses.py tests/test_optimizers.py tests/test_records.py tests/test_schedules.py \
	tests/analysis/test_tables.py tests/gallery/test_curves.py tests/gallery/test_readme.py tests/models/test_every_model.py \
	tests/scaling/test_any_module.py tests/spectrum/test_extremal.py tests/studies/test_autolrs.py tests/sweep/store/test_layout.py \
	tests/sweep/store/test_store_damage.py tests/sweep/test_notes.py tests/sweep/test_runner.py \
	tests/tracking/test_checkpoint_spectra.py tests/training/test_checkpoints.py tests/commands/test_config_file.py \
	tests/commands/test_table_verdict.py \
	tests/commands/test_command_line.py::test_help_lists_each_command_with_the_beginning_of_its_own
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Bytecode is kept, in .venv and beside the sources, also where this is set, as in many containers: without it each start
# of a process compiles all that it imports, which takes three seconds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup figures gallery redraw report docs test test-long test-browser test-faults test-oldest test-newest lint package audit bench bench-spectrum bench-memory bench-sweep bench-figure1 bench-waits clean

ifeq ($(filter $(PRESET),smoke quick full paper),)
$(error PRESET is '$(PRESET)': give smoke (seconds), quick (minutes, the default), full (up to an hour and a half a figure on two cores) or paper (hours, wants a GPU))
endif

help: ## List these targets
	@echo "usage: make TARGET [PRESET=smoke|quick|full|paper] [FIGURES=figures] [RUNS=runs] [PYTHON=python3]"
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { sub("%", "NAME", $$1); printf "  %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## Install everything into .venv, at the exact versions of constraints.txt (1-3 minutes, once)

# Written last: an install that was cut short leaves no stamp and starts over.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "'$(PYTHON)' was not found: install Python 3.11 or later, or give its path, as in make $(MAKECMDGOALS) PYTHON=/path/to/python3." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) -V 2>&1), sharplab needs Python 3.11 or later: give one, as in make $(MAKECMDGOALS) PYTHON=python3.12." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) lacks its venv module: install it (Debian, Ubuntu: apt install python3-venv) or give another, as in make $(MAKECMDGOALS) PYTHON=/path/to/python3." >&2; exit 1; }
	@echo "sharplab: installing into $(VENV) (about 1 GB; 1-3 minutes, once; later calls reuse it)"
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --no-compile -c constraints.txt -e '.[dev]'
	@touch $@
	@echo "sharplab: installed in $(VENV)"

figures: $(STAMP) ## Make the headline figures into figures/, and its README (quick: minutes on a 2-core machine)
	$(PY) -m sharplab figures --preset $(PRESET) --folder $(FIGURES) --store $(RUNS)

gallery: $(STAMP) ## Make every figure there is, and the README with the verdict on every claim
	$(PY) -m sharplab figures --all --preset $(PRESET) --folder $(FIGURES) --store $(RUNS)

figure-%: $(STAMP) ## Make one figure, that of experiments/NAME.py
	$(PY) -m sharplab figure $* --preset $(PRESET) --folder $(FIGURES) --store $(RUNS)

redraw: $(STAMP) ## Draw and judge all that is made again, from the runs kept with it; nothing is trained (a minute)
	$(PY) -m sharplab redraw --folder $(FIGURES)

report: $(STAMP) ## Put all that is made on one page with curves to zoom, figures/report.html (seconds)
	$(PY) -m sharplab report --folder $(FIGURES)

docs: $(VENV)/.docs ## Make the documentation, site/index.html, which opens from its file (a minute)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet --strict

$(VENV)/.docs: $(STAMP)
	@$(PY) -m pip install --quiet -c constraints.txt -e '.[docs]'
	@touch $@

# Each of the two processes has a core, which threads of linear algebra would fight for.
test test-long: export OPENBLAS_NUM_THREADS := 1

test: $(STAMP) ## Run the tests and the docstrings' examples (minutes)
	$(PY) -m pytest -n 2 --dist loadfile

test-long: $(STAMP) ## Run the tests of whole commands, figures, processes, simulations and the documentation's code
	$(PY) -m pytest -n 2 --dist loadfile -m 'long and not slow'

test-browser: $(STAMP) ## Read the report in a headless Chromium (Debian: apt install chromium chromium-driver)
	$(PY) -m pytest -m browser tests/browser

test-faults: $(STAMP) ## Kill sweeps and damage their stores at random, and count what is lost (10 minutes)
	$(PY) -m pytest -m faults tests/faults

test-oldest: $(STAMP) ## Test the essentials with the oldest dependencies that pyproject.toml admits (3 minutes)
	$(call in_new_environment,oldest,--resolution lowest-direct,-W ignore::DeprecationWarning)

test-newest: $(STAMP) ## Test the essentials with the newest dependencies that there are (3 minutes)
	$(call in_new_environment,newest)

# Made anew each time, for what the index has changes; uv keeps what it has downloaded.
define in_new_environment
$(PY) -m uv venv --quiet --clear --python $(PY) .venv-$(1)
$(PY) -m uv pip install --quiet --python .venv-$(1) $(2) -e '.[dev]'
.venv-$(1)/bin/python -m pytest -n 2 --dist loadfile $(3) $(ESSENTIALS)
endef

package: $(STAMP) ## Build dist/, install the wheel into an empty environment elsewhere, and use it there (1-2 minutes)
	rm -rf dist
	$(PY) -m build --quiet
	$(PY) -m pytest -m package tests/packaging

audit: $(STAMP) ## Look the versions of constraints.txt up among known vulnerabilities (needs the network)
	$(PY) -m uv tool run --quiet pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

lint: $(STAMP) ## Check style, formatting and types
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

bench: $(STAMP) ## Time training and tracking against a plain loop
	$(PY) experiments/benchmarks/training_speed.py

bench-spectrum: $(STAMP) ## Time the eigenvalue solvers; beside others where the extra 'peers' is installed (hours)
	$(PY) experiments/benchmarks/spectrum.py

bench-memory: $(STAMP) ## Count products, vectors and bytes of the largest eigenvalue in bases of few vectors (minutes)
	$(PY) experiments/benchmarks/memory.py

bench-sweep: $(STAMP) ## Time sweeps against a plain loop and a pool; cost of 100 to 10,000 runs (half an hour)
	$(PY) experiments/benchmarks/sweep_speed.py

bench-figure1: $(STAMP) ## Time the paper's Figure-1 study against a plain port of its script (a quarter of an hour)
	$(PY) experiments/benchmarks/figure1.py

bench-waits: $(STAMP) ## Time first calls, commands, figures and tests beside an earlier version (an hour)
	$(PY) experiments/benchmarks/waits.py

clean: ## Remove .venv and caches; keep figures/ and the stored runs/
	rm -rf $(VENV) .venv-oldest .venv-newest build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
