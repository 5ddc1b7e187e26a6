# On a fresh machine two commands do everything: `make smoke` and `make test`.
#
#   PYTHON=python3       interpreter (3.11 to 3.14)
#   INTO=auto            auto: the active environment where it has torch or torch-neuronx, else .venv;
#                        venv: always .venv; active: always $(PYTHON) itself, as in a container
#   TORCH=2.13.0         torch for .venv; export it where several commands shall keep another one
#   TORCH_INDEX=         package index to take it from; the default index where empty
#   JOBS=2               tests that run side by side, each on one core
#
# Installing is in scripts/install.py, which does nothing where nothing changed.

PYTHON ?= python3
INTO ?= auto
TORCH ?= 2.13.0
TORCH_INDEX ?=

INSTALL = $(PYTHON) scripts/install.py --into "$(INTO)" --torch "$(TORCH)" --torch-index "$(TORCH_INDEX)"
# Programs are called by their paths, so no environment has to be active.
PY = "$(shell $(INSTALL) --where)"
PERWATT = "$(shell $(PY) -c 'import sysconfig; print(sysconfig.get_path("scripts"))')/perwatt"
PYTEST_ARGS ?=
JOBS ?= 2
INTO_GPU ?= results/runs/gpu
GPU_BUDGET ?= 25m

.DEFAULT_GOAL := help
.PHONY: help smoke test check lint format types perf gpu docs venv lock clean python run dev

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

smoke: run ## Install, then measure the suite `smoke` on this machine
	@$(PERWATT) run smoke

test: dev ## Run the tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

check: lint types test ## Everything a change must pass

lint: dev ## Check style
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: dev ## Correct style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: dev ## Check types
	$(PY) -m mypy

perf: dev ## Run the performance tests; wants a quiet machine
	$(PY) -m pytest tests/perf $(PYTEST_ARGS)

gpu: dev ## On a machine with a GPU: our timers against others, then the suite `full`; rows into results/measured and README
	$(PY) scripts/gpu.py --into "$(INTO_GPU)" --budget "$(GPU_BUDGET)" -- $(PYTEST_ARGS)

docs: python ## Build the documentation into site/
	@$(INSTALL) --extra docs
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build

venv: dev ## Make the environment, with all that the other targets need

lock: python ## Resolve requirements.lock again
	@test -x .cache/uv/bin/uv || { $(PYTHON) -m venv .cache/uv && .cache/uv/bin/pip install --quiet "uv>=0.13,<0.14"; }
	.cache/uv/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade --quiet \
	    --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" --output-file requirements.lock

clean: ## Remove .venv, caches and what was built; results stay
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks build dist site
	find bench kernels tests scripts -name __pycache__ -prune -exec rm -rf {} +

python:
	@command -v "$(PYTHON)" > /dev/null || { echo "perwatt: no $(PYTHON) here: install Python 3.11 or newer, or name it with PYTHON="; exit 1; }

run dev: python
	@$(INSTALL) --extra $@
