# `make` says what can be asked. Everything runs in .venv, which `make setup` makes and the other targets make when needed.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup ovd tiny test lint bench clean

VENV ?= .venv
# The tested versions need Python 3.11 or newer; another one: make setup PYTHON=/path/to/python
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(shell $(p) -c 'print("$(p)")' 2>/dev/null)))
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input
STAMP := $(VENV)/.installed
CODE := fgclip2 adapters apps $(wildcard demos) $(wildcard benchmarks)
ARGS ?=

help: ## this text
	@echo "FG-CLIP 2 toolkit. Targets:"
	@sed -nE 's/^([a-z]+):.*## (.*)/\1:\2/p' $(MAKEFILE_LIST) | while IFS=: read -r name text; do \
	  printf '  make %-6s %s\n' "$$name" "$$text"; done
	@echo "Variables: PYTHON (to make .venv with), ARGS (passed on: make ovd ARGS='--help', make test ARGS='-k coco')"

setup: $(STAMP) ## make .venv with everything, at the tested versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@if [ ! -x $(PY) ]; then \
	  '$(or $(PYTHON),python3.11)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "error: the tested versions need Python 3.11 or newer, but '$(or $(PYTHON),python3)' is" \
	      "$$('$(or $(PYTHON),python3)' --version 2>&1 | head -n 1). Install python3.11, or name one: make setup PYTHON=/path/to/python3.11" >&2; \
	    exit 2; }; \
	  echo "making $(VENV) with $(PYTHON)"; '$(PYTHON)' -m venv $(VENV); \
	fi
	$(PIP) install --no-compile -c constraints.txt -e '.[all]'
# detectron2's upstream offers no wheel; this copy of it is tagged for Python 3.10 but all that is used of it is Python.
	$(PIP) install --no-compile --no-deps --upgrade --only-binary=:all: --python-version 3.10 -c constraints.txt \
	  --target "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" sal-detectron2
# mmdet asks for both builds of OpenCV, which share one folder; the one with windows needs libGL from the system.
	$(PIP) install --no-compile --no-deps --force-reinstall -c constraints.txt opencv-python-headless
# Compiles the bytecode of what will be imported (pip's --no-compile saves a minute on all the rest) and checks the whole.
	PYTHONDONTWRITEBYTECODE= $(PY) -c 'import fgclip2, fgclip2_mmdet, transformers.models.siglip2.modeling_siglip2, \
	  mmdet.apis, mmdet.models, detectron2.modeling, cv2, gradio, faiss, ray, pyarrow, webdataset, playwright, pytest'
	@touch $@
	@echo "$(VENV) is ready"

ovd: $(STAMP) ## train, evaluate and draw an open-vocabulary detector on the embedded model and world
	$(PY) apps/ovd_train.py $(ARGS)

# The scenes are composed beside the training: threads that spin long for each other take the processor from that.
tiny: export GOMP_SPINCOUNT ?= 10000
tiny: $(STAMP) ## train the embedded model from scratch into work_dirs/tiny (one and a half to two hours on 2 cores)
	$(PY) apps/train_tiny.py $(ARGS)

# In two processes: one that has run the first group may end in a segmentation fault when a later test starts a program. One
# OpenVINO core made that rarer; of three runs of all tests at once one still lost a process. pytest's 5: ARGS chose none here.
APART := adapters apps data demos evaluation search
# On one thread each: what the tests compute is so small that threads wait for each other longer than they work.
test: export OMP_NUM_THREADS ?= 1
test: $(STAMP) ## run all tests
	$(PY) -m pytest $(ARGS) $(APART:%=tests/%) || [ $$? = 5 ]
	$(PY) -m pytest $(ARGS) $(APART:%=--ignore=tests/%) tests || [ $$? = 5 ]

lint: $(STAMP) ## ruff (rules and format), mypy, codespell
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy $(CODE)
	$(PY) -m codespell_lib

bench: $(STAMP) ## run every benchmark but the ablation (an hour); each prints a table and writes benchmarks/results/NAME.csv
	@failed=; for name in $(filter-out ablation,$(notdir $(basename $(wildcard benchmarks/[a-z]*.py)))); do \
	  $(PY) -m benchmarks.$$name || failed="$$failed $$name"; done; \
	  [ -z "$$failed" ] || { echo "error: these did not run to their end:$$failed (fusion needs make ovd first)" >&2; exit 1; }

clean: ## remove caches and build products (keeps .venv and work_dirs)
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find fgclip2 adapters apps tests $(wildcard demos benchmarks) -name __pycache__ -type d -prune -exec rm -rf {} +
