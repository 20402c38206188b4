PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
EXTRAS := mpi,slurm,sweep,dev,docs

.DEFAULT_GOAL := help
.PHONY: help setup demo study replication test-quick test test-slurm test-faults lint bench clean-demo

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(VENV)/.complete  ## make .venv with the pinned dependencies

$(VENV)/.complete: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	@touch $@

demo: setup  ## simulate, preprocess, train, evaluate, predict and report, into runs/demo
	@PYTHON=$(RUN) sh launch/demo.sh

study: setup  ## which model learns how much from how many simulated subjects, into runs/study (an hour or more)
	@PYTHON=$(RUN) sh launch/study.sh

replication: setup  ## the study's question in other simulated populations, into runs/replication (half an hour)
	@PYTHON=$(RUN) sh launch/replication.sh

# Two workers; the tests of a file stay together. Ranks of a test have a thread each.
PYTEST := $(RUN) -m pytest --numprocesses=2 --no-loadscope-reorder

test-quick: setup  ## unit and property tests without the slow ones: the inner loop, minutes
	$(PYTEST) -m "not slow and not faults" tests/unit tests/property

test: lint  ## all tests
	$(PYTEST) -m "not faults"

test-slurm: setup  ## the tests on a real Slurm alone, with the time of each part
	$(RUN) -m pytest tests/slurm --durations=0 -rs

test-faults: setup  ## long fault-injection matrix and slower proofs
	$(RUN) -m pytest -m faults

bench: setup  ## measure speed beside the alternatives (ONLY="name ..." for some), into runs/bench
	$(RUN) -m tests.benchmarks $(ONLY)

lint: setup  ## ruff, mypy, import-linter, links of the documentation
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(RUN) -m pytest tests/unit/docs/test_pages.py

.PHONY: docs
docs: setup  ## this documentation as a site, into runs/docs (warnings are errors)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

clean-demo:  ## remove runs/demo
	rm -rf runs/demo
