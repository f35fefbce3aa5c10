# Every target does the set-up it needs; `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One more than cores for all tests, since some wait for servers and starting processes.
ifndef JOBS
JOBS := $(shell echo $$(( $$(nproc 2>/dev/null || echo 2) + $(if $(FAST),0,1) )))
endif
export JOBS
# Settings for other Pythons could keep this one from starting, or turn warnings of its packages into errors.
unexport PYTHONHOME PYTHONOPTIMIZE PYTHONPATH PYTHONSTARTUP PYTHONWARNINGS
# Pass command-line variables (TIER=shapes ...) through the environment: neither make nor the shell then expands them.
STUDY := $(BIN)/python -m study
# Some shells set HOST to the machine's name, so only a HOST on make's command line is an address to listen on.
ADDRESS := $(if $(filter command,$(origin HOST)),--host "$$HOST")

.DEFAULT_GOAL := help
CRF := pydensecrf2==1.1
.PHONY: help setup install install-large install-small crf install-crf repro explore retry force status stop compare verify new-tier preview rehearse gpu-check submission gc ui replay dashboard test check docs format mutants bench lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# `ready` is a copy of the installed lock: file times mean nothing in a copied or restored clone. An environment holds
# its own path and its Python's, so it is useless once it was moved or its Python is gone.
setup: ## make the virtual environment and install the locked dependencies
	@made="$$(sed -n 's/^command = .* -m venv \(--[a-z-]* \)*//p' $(VENV)/pyvenv.cfg 2>/dev/null)"; \
	if ! test -e $(VENV); then set -- new; \
	elif ! $(BIN)/python -Ic $(HAS_PACKAGES) 2>/dev/null; then \
	  set -- again "$(VENV) is made again: the Python that made it is gone or was moved"; \
	elif test -n "$$made" && ! test "$$made/bin" -ef $(BIN); then \
	  set -- again "$(VENV) is made again: it was made as $$made, and works only there"; \
	elif ! cmp -s requirements.lock $(VENV)/ready; then set -- changed; \
	else exit 0; fi; \
	test "$$1" != again || ! test -L $(VENV) || { echo "error: $(VENV) must be an environment that works here (what it" \
	  "leads to is not ours to clear), got a link to $$(readlink $(VENV)); remove the link" >&2; exit 2; }; \
	test -z "$$2" || echo "note: $$2"; \
	$(MAKE) --no-print-directory install CLEAR="$$(test "$$1" != again || echo --clear)"

HAS_PACKAGES := 'import os, sys; \
  os.listdir("{}/lib/python{}.{}/site-packages".format(sys.prefix, *sys.version_info))'

install:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: Python must be 3.11, 3.12 or 3.13, got $$($(PYTHON) --version); name one with PYTHON=..." >&2; exit 2; }
	@rm -f $(VENV)/ready
	$(PYTHON) -m venv $(CLEAR) $(VENV)
	@# Two at a time: half of the work is CUDA's libraries. The order is free, as the lock lists every dependency.
	@$(MAKE) --no-print-directory -j 2 install-large install-small
	@# The command `study`, which runs the code in this folder.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m pip check > $(VENV)/check || { cat $(VENV)/check >&2; exit 1; }
	@# Compile on all cores, which pip does not do, and skip modules that nobody imports. Otherwise each process would
	@# compile at import wherever PYTHONDONTWRITEBYTECODE is set. Some packages bring templates for other Pythons that do
	@# not compile; this is no failure.
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/|site-packages/pip/' $(VENV)/lib || true
	@$(MAKE) --no-print-directory install-crf || \
	  echo "note: without a C++ compiler there is no dense CRF; its cells will say so (make crf tries again)"
	@cp requirements.lock $(VENV)/ready

INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps -r /dev/stdin
LARGE := ^nvidia|^torch=|^triton

install-large:
	@grep -E '$(LARGE)' requirements.lock | $(INSTALL)

install-small:
	@grep -vE '$(LARGE)' requirements.lock | $(INSTALL)

crf: setup install-crf ## build and install the dense CRF (needs a C++ compiler)

install-crf:
	@$(BIN)/python -c 'import pydensecrf.densecrf' 2>/dev/null || { \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check 'cython==3.3.1' && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps '$(CRF)'; }

repro: setup ## train, evaluate and report (TIER=shapes|smoke|..., TUNE=yes: also search learning rates)
	@$(STUDY) repro

explore: setup ## search for better networks, then train the best with new seeds (TIER=..., TRIALS=60, ANEW=yes)
	@$(STUDY) explore

retry: setup ## repeat a tier's failed trainings, then report (TIER=...)
	@$(STUDY) retry

force: setup ## train one cell's trainings again, then report (CELL=T1/score/15, TIER=...)
	@$(STUDY) force

status: setup ## show which trainings are done, running, failed and left, from any terminal (TIER=...)
	@$(STUDY) status

report: setup ## render the report of an unfinished run, with missing results marked (TIER=...)
	@$(STUDY) report

stop: setup ## stop a tier's trainings on all machines, after they save checkpoints (TIER=...)
	@$(STUDY) stop

compare: setup ## put reports side by side in one PDF (WITH="shapes camvid shapes@EXPERIMENT")
	@$(STUDY) compare

verify: setup ## recompute every number of a report from the stored counts, and check its digests (TIER=...)
	@$(STUDY) verify

submission: setup ## write the archive to submit to a benchmark's server (TIER=...)
	@$(STUDY) submission

gc: setup ## list what no current plan references in the run store (FREE=yes: delete it, KEEP_DAYS=7)
	@$(STUDY) gc

new-tier: setup ## print a tier's block for a folder of images and masks (FOLDER=..., WRITE=yes: append it)
	@$(STUDY) new-tier

preview: setup ## show what a tier would run, its time on this machine, and faults in its data (TIER=..., HOURS=1)
	@$(STUDY) preview

rehearse: setup ## run every stage with two steps per training, at full resolution, on stand-in data (TIER=...)
	@$(STUDY) rehearse

gpu-check: setup ## check a GPU in 8 minutes: numbers, resuming, memory, loaders, speed; small sizes on a CPU (OUT=file)
	@$(BIN)/python -m study.gpu_check $(if $(OUT),--out "$$OUT")

ui: setup ## serve the MLflow UI on this machine until Ctrl-C (TIER=..., PORT=5000, HOST=127.0.0.1)
	@$(STUDY) ui $(ADDRESS)

replay: setup ## write those of a tier's runs to MLflow that are missing there (TIER=...)
	@$(STUDY) replay

dashboard: setup ## serve the Optuna dashboard on this machine until Ctrl-C (TIER=..., PORT=8080, HOST=127.0.0.1)
	@$(STUDY) dashboard $(ADDRESS)

test: setup ## run the tests (FAST=1: without the slow ones, LONG=1: with the longest, JOBS=1: on one core)
	@# Compile once for all processes, and for the copies of the project that they make.
	@$(BIN)/python -m compileall -q study pipelines benchmarks
	@unset PYTHONDONTWRITEBYTECODE; $(BIN)/python -m pytest -n "$$JOBS" --dist loadfile --no-loadscope-reorder $(if $(FAST),-m "not slow",$(if $(LONG),,-m "not long"))

check: setup ## check format, lint, types, imports between packages, and prose
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > $(VENV)/imports || { cat $(VENV)/imports; exit 1; }
	@$(BIN)/python docs/tools/prose.py

docs: setup ## build the pages of docs/ as a site with search and an API page, in site/
	@$(BIN)/mkdocs build --quiet --strict

format: setup ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

mutants: setup ## plant known faults in copies of the project; the tests must find each
	@$(BIN)/python -m benchmarks.mutants --suite

bench: setup ## measure overhead beside the trainings (TIER=...), time estimates, steps, loaders, error rates
	@$(BIN)/python -m benchmarks.overhead $(if $(TIER),--tier "$$TIER")
	@$(BIN)/python -m benchmarks.progress
	@$(BIN)/python -m benchmarks.preview
	@$(BIN)/python -m benchmarks.images
	@$(BIN)/python -m benchmarks.throughput
	@$(BIN)/python -m benchmarks.loader
	@$(BIN)/python -m benchmarks.calibration

lock: setup ## resolve requirements.in again into requirements.lock
	@$(BIN)/uv pip compile --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url requirements.in -o requirements.lock
