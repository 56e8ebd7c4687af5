# The Translational Workbench. `make` alone lists what there is; every target sets up what it needs.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
BENCH ?= $(filter-out _%,$(basename $(notdir $(wildcard workbench/benches/*.py))))
# JupyterLab asks nobody outside: no news, no look for updates, no extension catalogue.
QUIET_LAB := --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate --LabApp.extension_manager=readonly
QUIET_SETTINGS := {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test lab lint format bench lock clean

# One stamp names the lock, the project file and the place (a virtual environment cannot be moved).
STAMP := $(VENV)/.stamp-$(shell { cat requirements.lock pyproject.toml; pwd; } | git hash-object --stdin | cut -c1-16)

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /\1\t/' | expand -t 8 | sed 's/^/  make /'

setup: $(STAMP) ## the environment alone, in .venv (2 to 6 minutes the first time)
	@echo "$(VENV) is ready"

$(STAMP):
	@command -v $(PYTHON) >/dev/null || { \
	  echo "make: found no $(PYTHON). The workbench needs CPython 3.11: install it (Debian: apt-get install python3.11-venv,"; \
	  echo "macOS: brew install python@3.11), or name yours: make setup PYTHON=/path/to/python3.11"; exit 1; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "make: $(PYTHON) is $$($(PYTHON) --version 2>&1), the workbench needs CPython 3.11. Name one: make setup PYTHON=/path/to/python3.11"; \
	  exit 1; } >&2
	@if [ -e $(VENV)/.unfinished ]; then echo "set-up was interrupted last time: starting again"; rm -rf $(VENV); fi
	@if [ -e $(VENV)/.place ] && [ "$$(cat $(VENV)/.place)" != "$(CURDIR)" ]; then \
	  echo "the checkout has moved, its $(VENV) cannot: starting again"; rm -rf $(VENV); fi
	@if [ ! -x $(BIN)/python ]; then \
	  echo "creating $(VENV) with $$($(PYTHON) --version)"; rm -rf $(VENV); mkdir $(VENV); touch $(VENV)/.unfinished; \
	  $(PYTHON) -m venv $(VENV) || { \
	    echo "make: $(PYTHON) has no venv module (Debian: apt-get install python3.11-venv)" >&2; exit 1; }; \
	fi
	@mkdir -p build; touch $(VENV)/.unfinished; rm -f $(VENV)/.stamp-*; echo "$(CURDIR)" > $(VENV)/.place
	@set -o pipefail; total=$$(grep -c == requirements.lock); n=0; \
	  echo "installing $$total packages of requirements.lock with pip (log: build/setup.log)"; \
	  PYTHONUNBUFFERED=1 $(BIN)/python -m pip install --disable-pip-version-check --no-input --progress-bar off \
	    -r requirements.lock 'setuptools>=78' 2>&1 | tee build/setup.log | while IFS= read -r line; do case $$line in \
	      Collecting*|Processing*|Requirement\ already*) n=$$((n + 1)); [ $$((n % 20)) -ne 0 ] || echo "  $$n of $$total found" ;; \
	      Installing\ collected*) echo "  unpacking them: a minute or two without a word" ;; \
	    esac; done \
	  || { tail -n 15 build/setup.log >&2; echo "make: pip failed, see above and build/setup.log; then make setup again" >&2; exit 1; }
	@rm -f $(VENV)/.unfinished
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## the main job on real data: fetch, build, train, judge, record, report
	@$(BIN)/workbench demo

test: $(STAMP) ## the tests (SLOW=1 or CI=true: the slow ones too; T=path or -k words: some)
	@mkdir -p build
	@$(BIN)/pytest --junitxml=build/junit.xml $(T)

lab: $(STAMP) ## JupyterLab on notebooks/, with MLflow and the Panel pages in its launcher
	@mkdir -p $(VENV)/etc/jupyter/labconfig
	@echo '$(QUIET_SETTINGS)' > $(VENV)/etc/jupyter/labconfig/default_setting_overrides.json
	@$(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks $(QUIET_LAB) $(LAB)

lint: $(STAMP) ## ruff, mypy and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## rewrite the code as lint wants it
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## the benchmarks (BENCH=name: one), figures in build/bench-<name>.json
	@mkdir -p build
	@for name in $(BENCH); do $(BIN)/workbench bench $$name --json build/bench-$$name.json; done

# The lock holds no hashes (the torch file differs from machine to machine), no local tags such as torch's +cpu, and none
# of the accelerator libraries: pip adds what the torch it finds asks for.
lock: ## bring requirements.lock up to pyproject.toml (LOCK=--upgrade: the newest of all; needs uv)
	@mkdir -p build; cp requirements.lock build/requirements.lock
	@uv pip compile pyproject.toml --extra dev --extra clustering --extra federation --python-version 3.11 --no-header --no-annotate --quiet \
	  --no-emit-index-url --no-emit-find-links $(LOCK) -o build/requirements.lock >/dev/null
	@sed -E '/^(#|--|$$)/d; /^(nvidia-|cuda-|triton=|setuptools=)/d; s/\+[A-Za-z0-9.]+$$//' build/requirements.lock > requirements.lock

clean: ## remove .venv, caches and build/; studies and runs in .workbench stay
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find workbench widgets tests -name __pycache__ -type d -prune -exec rm -rf {} +
