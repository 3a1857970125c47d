# Every target does its own set-up; the virtual environment is made once and again when its inputs change.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
QUICKSTART ?= quickstart
SAMPLE_FULL ?= sample-full
SAMPLE_BOTH ?= sample-both
# Processes of test-fast: auto for as many as there are cores, up to eight; 0 for this one. Each takes whole files, as
# the fixtures of a file are made once in a process.
PROCESSES ?= auto
# Tests of test-fast; `make test` takes the long ones too
FAST ?= not slow and not long

.PHONY: help venv quickstart sample-full sample-both test-fast test-jobs test-project test test-all test-s3 soak bench bench-gpu gpu-check lint clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' Makefile | sed 's/:.*## /|/' | column -t -s '|'

venv: $(STAMP)  ## the virtual environment .venv with all packages

$(STAMP): pyproject.toml constraints.txt
	"$$(command -v $(PYTHON) || command -v python3)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,lint]'
	@# for the tests; without torchvision, which of PyPI's builds only fits a torch for CUDA (tests/support/upscaling.py)
	$(BIN)/python -m pip install --quiet --no-deps 'spandrel==0.4.2'
	touch $@

quickstart: venv  ## sample table -> codes -> model -> pictures, through `ray job submit` on a local head
	@$(BIN)/python cluster/local_head.py run -- bash cluster/quickstart.sh "$$(realpath -m -- "$(QUICKSTART)")"

sample-full: venv  ## the same with 8,000 pictures and 3,000 updates: a better model in ten minutes
	@ROWS=8000 EPOCHS=6 $(BIN)/python cluster/local_head.py run -- bash cluster/quickstart.sh "$$(realpath -m -- "$(SAMPLE_FULL)")"

sample-both: venv  ## the same for a model that captions too: half of 6,000 updates for each direction, both scores
	ROWS=8000 EPOCHS=12 IMAGE_TO_TEXT=0.5 $(BIN)/python cluster/local_head.py run -- \
		bash cluster/quickstart.sh "$$(realpath -m -- "$(SAMPLE_BOTH)")"

test-fast: venv  ## the tests that need no Ray and no more than some seconds, on all cores: two minutes
	@# compiled modules are kept whatever the environment says: all these processes import the same ones
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) --maxprocesses 8 \
		--dist loadfile -m '$(FAST)' \
		--ignore tests/jobs --ignore tests/project

test-jobs: venv  ## the jobs on Ray
	$(BIN)/python -m pytest -m 'not slow' tests/jobs

test-project: venv  ## the project's own files: documents, wheel, cluster files, benchmarks
	$(BIN)/python -m pytest -m 'not slow' tests/project

test: venv  ## the tests that CI runs: test-jobs, and beside it test-fast and then test-project
	+$(MAKE) --no-print-directory --jobs=2 --output-sync=target PROCESSES=0 FAST='not slow' test-jobs test-fast test-project

test-all: venv  ## all tests, the slow ones too
	$(BIN)/python -m pytest

test-s3: venv  ## the jobs on a real S3 gateway, Ceph's (apt-get install ceph-mon ceph-osd radosgw): six minutes
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[s3]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/jobs/on_s3.py

soak: venv  ## a job whose driver and workers are killed 20 times at random; prints what came of it
	$(BIN)/python -m pytest -s tests/jobs/test_soak.py

bench: venv  ## speed of the parts and jobs beside baselines, on the CPU: benchmarks.json and a table
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks --device cpu

bench-gpu: venv  ## the same on the first GPU
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks --device cuda

gpu-check: venv  ## whether the GPU path is right on this machine; gpu-check.json, a table, recommended flags
	$(BIN)/python -m benchmarks.gpu_check

lint: venv  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## removes what quickstart, sample-full and sample-both made, and nothing else
	bash cluster/quickstart.sh --clean "$(QUICKSTART)" "$(SAMPLE_FULL)" "$(SAMPLE_BOTH)"
